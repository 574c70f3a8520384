/*
** Checks that running out of memory, at any allocation, raises Lua's memory error and
** nothing else: no crash, no leak, no lost wake-up, every barrier consistent. Afterwards
** the same scenario must succeed in the same Lua state. The same must hold if other code
** uses the barriers while the module calls the loop, as a finalizer might.
**
** From the project's folder, for any Lua version (test/run oom does it):
**   cc -std=c99 -g -fsanitize=address,undefined -I/usr/include/lua5.4 \
**     test/out_of_memory.c -llua5.4 -lm -o oom && ./oom [STRIDE [FIRST]]
** STRIDE 1, the default, fails every allocation in turn; 10 every tenth.
**
** The scenario is out_of_memory*.lua. It runs on the loop of small_loop.h, so that every run
** makes the same allocations.
*/
#define malloc failing_malloc /* stdlib.h declares it by this name, too */
#include "../src/core.c"
#undef malloc

#include <lualib.h>
#include <signal.h>

#include "failing_memory.h"
#include "invariants.h"
#include "latch.h"
#include "small_loop.h"

/* {=== the state === */

static long at; /* which allocation fails */
static enum mode current;
static long complaints;

static void forgive(void) { memory.forgiven = memory.fired; }

/* Reports what is wrong, and goes on. */
static void complain(lua_State *L, const char *what) {
  lua_rawgeti(L, 1, SECTION);
  fprintf(stderr, "%s %d, number %ld, section %s: %s\n", mode_names[current], loop.meddler, at,
          lua_isstring(L, -1) ? lua_tostring(L, -1) : "?", what);
  lua_pop(L, 1);
  complaints++;
}

/* If memory runs out while Lua 5.1 or 5.2 grows a table, elements of it may get lost. So
** the registry is large from the start. */
static void enlarge_registry(lua_State *L) {
#if LUA_VERSION_NUM <= 502
  int refs[100];
  for (int i = 0; i < 100; i++) {
    lua_pushboolean(L, 1);
    refs[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &refs[i]);
  }
  for (int i = 99; i >= 0; i--) {
    luaL_unref(L, LUA_REGISTRYINDEX, refs[i]);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &refs[i]);
  }
#else
  (void)L;
#endif
}

static const char *const files[] = {"test/out_of_memory.lua", "test/out_of_memory_waits.lua",
                                    "test/out_of_memory_others.lua"};

#define FILES ((int)(sizeof(files) / sizeof(files[0])))

/* The core, with a latch. */
static int open_core(lua_State *L) {
  luaopen_barrier_core(L);
  latch_open(L);
  lua_settop(L, 1);
  return 1;
}

static lua_State *open_state(void) {
  lua_State *L;
  open_loop();
  free_spare_blocks();
  memset(&memory, 0, sizeof(memory));
  L = lua_newstate(allocate, NULL);
  CHECK(L != NULL);
  luaL_openlibs(L);
  enlarge_registry(L);
  lua_getglobal(L, "package");
  lua_pushliteral(L, "lua/?/init.lua;lua/?.lua");
  lua_setfield(L, -2, "path");
  lua_getfield(L, -1, "loaded");
  lua_newtable(L);
  for (const luaL_Reg *f = uv; f->name; f++) {
    lua_pushcfunction(L, f->func);
    lua_setfield(L, -2, f->name);
  }
  lua_setfield(L, -2, "luv");
  lua_getfield(L, -2, "preload");
  lua_pushcfunction(L, open_core);
  lua_setfield(L, -2, "barrier.core");
  lua_settop(L, 0);
  lua_createtable(L, MEDDLE, 0); /* 1: the scenario's table */
  lua_pushvalue(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &loop);
  for (int i = 0; i < FILES; i++) { /* 2 and on */
    if (luaL_loadfile(L, files[i]) == LUA_OK) continue;
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
  return L;
}

/* Runs the scenario. Returns its error, or NULL. */
static const char *run_scenario(lua_State *L) {
  static char message[4096];
  int status;
  for (int i = 1; i <= MEDDLE; i++) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, 1, i);
  }
  lua_settop(L, FILES + 1);
  lua_pushvalue(L, 2);
  for (int i = 1; i <= FILES + 1; i++)
    if (i != 2) lua_pushvalue(L, i);
  status = lua_pcall(L, FILES, 0, 0);
  memory.forgiven = true;
  if (status == LUA_OK) return NULL;
  snprintf(message, sizeof(message), "%s",
           lua_isstring(L, -1) ? lua_tostring(L, -1) : "(an error that is no string)");
  lua_pop(L, 1);
  return message;
}

/* What was there when memory ran out while Lua 5.1 or 5.2 let a table grow makes lua_next go
** round for ever, so that tables are asked for each number instead. */
#define HIGHEST 512

/* The barrier on the top keeps nothing for a free node (unless a party could not come in for want
** of memory), and no error, as no party is on its way out. */
static void check_elements(lua_State *L, const struct barrier *b) {
  const struct nodes *nodes = &b->machine.nodes;
  room_push_elements(L, -1);
  for (int n = 1; n <= HIGHEST; n++) {
    lua_rawgeti(L, -1, n);
    if (lua_toboolean(L, -1) && ((uint32_t)n > nodes->used || nodes->at[n].place >= QUEUES))
      if (current == MODE_OFF) complain(L, "the element of a free node is left behind");
    lua_pop(L, 1);
  }
  lua_getfield(L, -1, "errors");
  for (int n = 1; lua_istable(L, -1) && n <= HIGHEST; n++) {
    lua_rawgeti(L, -1, n);
    if (lua_toboolean(L, -1)) complain(L, "an error is left behind");
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
}

/* True if the scheduler keeps the barrier alive. */
static bool is_anchored(lua_State *L, const struct barrier *b) {
  bool anchored;
  lua_rawgeti(L, LUA_REGISTRYINDEX, b->room.scheduler->anchors);
  lua_rawgeti(L, -1, b->room.anchor);
  anchored = lua_toboolean(L, -1);
  lua_pop(L, 2);
  return anchored;
}

/* Checks that the barrier on the top is consistent, with no party left to let out or in. */
static void check_barrier(lua_State *L, const struct barrier *b) {
  const struct machine *m = &b->machine;
  CHECK(check_machine(m) == 0 && m->nodes.parked == 0);
  CHECK(!m->held);
  for (uint32_t n = 1; n <= m->nodes.used; n++) CHECK(m->nodes.at[n].deadline == 0);
  CHECK(b->room.pins == 0 && b->room.deadline == 0);
  if (!memory.fired && !loop.meddler && nodes_empty(&m->nodes) && m->nodes.capacity > 64)
    complain(L, "the memory of a crowd is kept");
  check_elements(L, b);
  if (machine_busy(m)) complain(L, "a wake-up is lost");
  if (b->room.queued) complain(L, "a barrier is left in the run queue");
  if (is_anchored(L, b)) complain(L, "a barrier is kept alive");
}

/* If other code closed or stopped the timer, makes a trip, which starts it again. */
static void recover(lua_State *L) {
  if (!loop.tampered) return;
  loop.tampered = false;
  if (luaL_dostring(L, "require 'barrier'.new(1):wait(function() end)")) {
    complain(L, lua_tostring(L, -1));
    lua_pop(L, 1);
  }
}

/* Calls the functions that the scenario left behind: the drains of the option `schedule`.
** Returns whether there were any. */
static bool call_left_over(lua_State *L) {
  bool any = false;
  for (int i = 1; i <= MOST_BARRIERS; i++) {
    lua_rawgeti(L, 1, i);
    if (lua_isfunction(L, -1)) {
      any = true;
      lua_pushboolean(L, 0);
      lua_rawseti(L, 1, i);
      if (lua_pcall(L, 0, 0, 0) == LUA_OK) continue;
    }
    lua_pop(L, 1);
  }
  return any;
}

/* Checks that the scenario's barriers and the scheduler come to rest. */
static void check_state(lua_State *L) {
  const struct scheduler *s = NULL;
  loop.countdown = 0;
  recover(L);
  do run_loop(L);
  while (call_left_over(L));
  loop.report[0] = '\0';
  for (int i = 1; i <= MOST_BARRIERS; i++) {
    const struct barrier *b;
    lua_rawgeti(L, 1, i);
    b = barrier_at(L, -1);
    if (b) check_barrier(L, b);
    if (b) s = b->room.scheduler;
    lua_pop(L, 1);
  }
  if (s) CHECK(s->deadlines.count == 0);
  for (int i = 0; i < loop.count; i++) CHECK(!loop.handles[i]->is_active);
}

static void close_state(lua_State *L) {
  lua_close(L);
  CHECK(memory.bytes == 0 && memory.blocks == 0);
}

/* }=== */

static long requests; /* so many allocations does the scenario make when none fails, */
static long own;      /* so many of these the core itself, */
static long calls;    /* and so many calls of the loop */

static void count(void) {
  lua_State *L = open_state();
  const char *error;
  memory.requests = 0;
  error = run_scenario(L);
  requests = memory.requests;
  own = memory.own;
  calls = loop.calls;
  if (error) complain(L, error);
  check_state(L);
  close_state(L);
}

static bool is_memory_error(const char *error) {
  return strstr(error, "not enough memory") ||
         strstr(error, "stack overflow") || /* of luaL_checkstack if the stack cannot grow */
         strstr(error,
                "C core is not installed"); /* of a `require` that failed, as there is no file */
}

/* Fails the n-th allocation. */
static void fail_at(enum mode mode, long n, long counts[2]) {
  lua_State *L = open_state();
  const char *error;
  memory.mode = mode;
  memory.countdown = n;
  error = run_scenario(L);
  if (error) {
    if (!is_memory_error(error)) complain(L, error);
    if (mode == MODE_REQUEST && LUA_VERSION_NUM >= 502)
      complain(L, "collecting garbage and trying again did not help");
  }
  if (memory.fired) counts[error != NULL]++;
  memory.mode = MODE_OFF;
  check_state(L);
  lua_gc(L, LUA_GCCOLLECT, 0);
  error = run_scenario(L);
  if (error) complain(L, error);
  check_state(L);
  close_state(L);
}

/* At the n-th call of the loop, other code meddles. */
static void meddle_at(int meddler, long n) {
  lua_State *L = open_state();
  const char *error;
  loop.meddler = meddler;
  loop.countdown = n;
  run_scenario(L); /* what it finds out may be wrong now */
  check_state(L);
  error = run_scenario(L);
  if (error) complain(L, error);
  check_state(L);
  close_state(L);
}

static void tell(int number) {
  fprintf(stderr, "out_of_memory: %s %d, number %ld\n", mode_names[current], loop.meddler, at);
  signal(number, SIG_DFL);
  raise(number);
}

/* Every allocation fails once, or one in `stride` and each of the core itself. */
static void run_out_of_memory(long stride, long first) {
  for (current = MODE_REQUEST; current < MODES; current++) {
    long counts[2] = {0, 0};
    long last = current == MODE_OWN ? own : requests;
    for (at = first; at <= last; at += current == MODE_OWN ? 1 : stride)
      fail_at(current, at, counts);
    printf("  %s: %ld memory errors, %ld failures that Lua absorbed\n", mode_names[current],
           counts[1], counts[0]);
  }
}

/* Each meddler meddles once at every call of the loop, or at one in `stride`. */
static void run_meddlers(long stride, long first) {
  long meddled = 0;
  current = MODE_OFF;
  for (int meddler = 1; meddler <= MEDDLERS; meddler++)
    for (at = first; at <= calls; at += stride, meddled++) meddle_at(meddler, at);
  printf("  %ld calls of the loop at which other code meddled\n", meddled);
}

int main(int argc, char **argv) {
  long stride = argc > 1 ? atol(argv[1]) : 1;
  long first = argc > 2 ? atol(argv[2]) : 1;
  CHECK(stride > 0 && first > 0);
  signal(SIGABRT, tell);
  signal(SIGTERM, tell); /* it hangs */
  count();
  printf("out_of_memory: " LUA_RELEASE ", %ld allocations, of which one in %ld fails\n", requests,
         stride);
  run_out_of_memory(stride, first);
  run_meddlers(stride, first);
  return complaints != 0;
}
