/*
** Running out of memory at shared barriers: each allocation of a scenario, Lua's or the
** C core's own, fails once; or all from it on, until the error has come out; or each of the
** core's alone. That raises Lua's memory error and nothing else. Afterwards no party is lost, the
** loop comes to rest, and the same scenario runs through in the same Lua state.
**
** Usage: shared_memory [STRIDE]: one allocation in STRIDE (1) fails. test/run oom builds it.
** The scenario is shared_memory.lua; the loop is a small one of this program's own, with a
** clock that jumps.
*/
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/host/compat.h"

#include <lualib.h>

#define CHECK(condition) \
  ((condition) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #condition), abort()))

/* {=== memory === */

enum mode { MODE_ONCE, MODE_FROM, MODE_CORE, MODES };

static const char *const mode_names[MODES] = {"once", "from", "core"};

static struct {
  enum mode mode;
  long countdown; /* to the first that fails; 0: none does */
  bool fired, over;
  size_t blocks;
} memory;

static bool refuses(void) {
  if (memory.countdown == 0 || memory.over) return false;
  if (memory.fired) return memory.mode == MODE_FROM;
  memory.fired = --memory.countdown == 0;
  if (memory.fired) memory.countdown = 1;
  return memory.fired;
}

static void *allocate(void *ud, void *block, size_t osize, size_t nsize) {
  (void)ud;
  if (nsize == 0) {
    if (block) memory.blocks--;
    free(block);
    return NULL;
  }
  if ((block == NULL || nsize > osize) && memory.mode != MODE_CORE && refuses()) return NULL;
  if (block == NULL) memory.blocks++;
  block = realloc(block, nsize);
  CHECK(block);
  return block;
}

/* The C core is compiled with this in the place of malloc. */
void *failing_malloc(size_t size);
void *failing_malloc(size_t size) { return refuses() ? NULL : malloc(size); }

int luaopen_barrier_core(lua_State *L);

/* }=== */

/* {=== the loop === */

enum { MOST_HANDLES = 64 };

struct handle {
  int fd; /* -1: a timer, -2: an idle handle */
  bool is_active, is_closing, has_ref;
  uint64_t due, repeat;
};

static struct {
  struct handle *handles[MOST_HANDLES];
  int count;
  uint64_t clock;
  char report[4096]; /* of uncaught errors */
} loop;

static struct handle *check_handle(lua_State *L) {
  struct handle *h = lua_touserdata(L, 1);
  luaL_argcheck(L, h != NULL, 1, "handle expected");
  return h;
}

static int new_handle(lua_State *L, int fd) {
  struct handle *h = lua_newuserdata(L, sizeof(*h));
  memset(h, 0, sizeof(*h));
  h->fd = fd;
  h->has_ref = true;
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, h);
  CHECK(loop.count < MOST_HANDLES);
  loop.handles[loop.count++] = h;
  return 1;
}

static int uv_new_timer(lua_State *L) { return new_handle(L, -1); }
static int uv_new_idle(lua_State *L) { return new_handle(L, -2); }
static int uv_new_poll(lua_State *L) { return new_handle(L, (int)luaL_checkinteger(L, 1)); }

static void start(lua_State *L, struct handle *h, int callback) {
  CHECK(!h->is_closing);
  lua_pushvalue(L, callback);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &h->due);
  h->is_active = true;
}

static int uv_poll_start(lua_State *L) {
  start(L, check_handle(L), 3);
  lua_pushinteger(L, 0);
  return 1;
}

static int uv_timer_start(lua_State *L) {
  struct handle *h = check_handle(L);
  start(L, h, 4);
  h->due = loop.clock + (uint64_t)luaL_checkinteger(L, 2);
  h->repeat = (uint64_t)luaL_checkinteger(L, 3);
  return 0;
}

static int uv_idle_start(lua_State *L) {
  start(L, check_handle(L), 2);
  return 0;
}

static int uv_stop(lua_State *L) {
  check_handle(L)->is_active = false;
  return 0;
}

static int uv_is_active(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->is_active);
  return 1;
}

static int uv_is_closing(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->is_closing);
  return 1;
}

static int uv_ref(lua_State *L) {
  check_handle(L)->has_ref = true;
  return 0;
}

static int uv_unref(lua_State *L) {
  check_handle(L)->has_ref = false;
  return 0;
}

static int uv_has_ref(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->has_ref);
  return 1;
}

static int uv_now(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)loop.clock);
  return 1;
}

static int uv_hrtime(lua_State *L) {
  lua_pushnumber(L, (lua_Number)loop.clock * 1e6);
  return 1;
}

static int uv_update_time(lua_State *L) {
  (void)L;
  return 0;
}

static int uv_close(lua_State *L) {
  struct handle *h = check_handle(L);
  int i = 0;
  CHECK(!h->is_closing);
  h->is_closing = true;
  h->is_active = false;
  while (loop.handles[i] != h) i++;
  loop.handles[i] = loop.handles[--loop.count];
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, h);
  return 0;
}

static void call_back(lua_State *L, const struct handle *h) {
  size_t used = strlen(loop.report);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &h->due);
  if (lua_pcall(L, 0, 0, 0) == LUA_OK) return;
  memory.over = memory.fired;
  snprintf(loop.report + used, sizeof(loop.report) - used, "%s\n",
           lua_isstring(L, -1) ? lua_tostring(L, -1) : "(an error that is no string)");
  lua_pop(L, 1);
}

static bool is_alive(void) {
  for (int i = 0; i < loop.count; i++)
    if (loop.handles[i]->is_active && loop.handles[i]->has_ref) return true;
  return false;
}

static bool run_polls(lua_State *L) {
  for (int i = 0; i < loop.count; i++) {
    struct pollfd p = {loop.handles[i]->fd, POLLIN, 0};
    if (p.fd < 0 || !loop.handles[i]->is_active || poll(&p, 1, 0) != 1) continue;
    call_back(L, loop.handles[i]);
    return true;
  }
  return false;
}

static bool run_idle(lua_State *L) {
  for (int i = 0; i < loop.count; i++) {
    if (loop.handles[i]->fd != -2 || !loop.handles[i]->is_active) continue;
    call_back(L, loop.handles[i]);
    return true;
  }
  return false;
}

static bool run_timers(lua_State *L) {
  struct handle *next = NULL;
  for (int i = 0; i < loop.count; i++) {
    struct handle *h = loop.handles[i];
    if (h->fd == -1 && h->is_active && (!next || h->due < next->due)) next = h;
  }
  if (!next) return false;
  if (next->due > loop.clock) loop.clock = next->due;
  next->due += next->repeat;
  if (!next->repeat) next->is_active = false;
  call_back(L, next);
  return true;
}

/* run() -> the uncaught errors, or nil */
static int uv_run(lua_State *L) {
  for (int calls = 0; is_alive(); calls++) {
    CHECK(calls < 100000);
    if (run_polls(L) || run_idle(L) || run_timers(L)) continue;
    if (loop.report[0] == '\0') luaL_error(L, "the loop hangs");
    break; /* whom they wait for has died */
  }
  if (loop.report[0] == '\0') return 0;
  lua_pushstring(L, loop.report);
  loop.report[0] = '\0';
  return 1;
}

static const luaL_Reg uv[] = {
    {"new_timer", uv_new_timer},
    {"new_poll", uv_new_poll},
    {"poll_start", uv_poll_start},
    {"timer_start", uv_timer_start},
    {"timer_stop", uv_stop},
    {"new_idle", uv_new_idle},
    {"idle_start", uv_idle_start},
    {"idle_stop", uv_stop},
    {"is_active", uv_is_active},
    {"is_closing", uv_is_closing},
    {"ref", uv_ref},
    {"unref", uv_unref},
    {"has_ref", uv_has_ref},
    {"close", uv_close},
    {"now", uv_now},
    {"hrtime", uv_hrtime},
    {"update_time", uv_update_time},
    {"run", uv_run},
    {NULL, NULL},
};

/* }=== */

/* Lua 5.1 and 5.2 may lose elements of a table that they cannot enlarge. */
static void enlarge_registry(lua_State *L) {
  static char keys[512];
  for (size_t i = 0; i < sizeof(keys); i++) {
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &keys[i]);
  }
  for (size_t i = 0; i < sizeof(keys); i++) {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &keys[i]);
  }
}

/* A state whose value 1 is the scenario. */
static lua_State *open_state(void) {
  lua_State *L;
  memset(&loop, 0, sizeof(loop));
  memset(&memory, 0, sizeof(memory));
  L = lua_newstate(allocate, NULL);
  CHECK(L);
  luaL_openlibs(L);
  enlarge_registry(L);
  lua_getglobal(L, "package");
  lua_pushliteral(L, "lua/?/init.lua;lua/?.lua");
  lua_setfield(L, -2, "path");
  lua_pushliteral(L, "src/core.c"); /* some file that is there */
  lua_setfield(L, -2, "cpath");
  lua_getfield(L, -1, "loaded");
  lua_newtable(L);
  for (const luaL_Reg *f = uv; f->name; f++) {
    lua_pushcfunction(L, f->func);
    lua_setfield(L, -2, f->name);
  }
  lua_setfield(L, -2, "luv");
  lua_getfield(L, -2, "preload");
  lua_pushcfunction(L, luaopen_barrier_core);
  lua_setfield(L, -2, "barrier.core");
  lua_settop(L, 0);
  if (luaL_loadfile(L, "test/shared_memory.lua")) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
  return L;
}

/* Calls the scenario with what is to be done: "run", or "rest". Its error, or NULL. */
static const char *call_scenario(lua_State *L, const char *what) {
  static char message[4096];
  const char *result = NULL;
  lua_pushvalue(L, 1);
  lua_pushstring(L, what);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    snprintf(message, sizeof(message), "%s",
             lua_isstring(L, -1) ? lua_tostring(L, -1) : "(an error that is no string)");
    lua_pop(L, 1);
    result = message;
  }
  return result;
}

static long complaints;
static char section[64]; /* of the scenario, where memory ran out */

static void complain(enum mode mode, long n, const char *when, const char *what) {
  fprintf(stderr, "%s, allocation %ld, which %s needs, %s: %s\n", mode_names[mode], n, section,
          when, what);
  complaints++;
}

static void close_state(lua_State *L) {
  lua_close(L);
  CHECK(memory.blocks == 0);
}

/* Returns whether there was an n-th allocation. */
static bool fail_at(enum mode mode, long n, long *errors) {
  lua_State *L = open_state();
  const char *error;
  bool fired;
  memory.mode = mode;
  memory.countdown = n;
  error = call_scenario(L, "run");
  fired = memory.fired;
  memory.countdown = 0;
  if (error && !strstr(error, "not enough memory") && !strstr(error, "stack overflow"))
    complain(mode, n, "the error", error);
  if (error) ++*errors;
  lua_getglobal(L, "section");
  snprintf(section, sizeof(section), "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "nobody");
  lua_pop(L, 1);
  loop.report[0] = '\0';
  error = call_scenario(L, "rest");
  if (error) complain(mode, n, "at rest", error);
  error = call_scenario(L, "run");
  if (error) complain(mode, n, "again", error);
  close_state(L);
  return fired;
}

int main(int argc, char **argv) {
  long stride = argc > 1 ? atol(argv[1]) : 1;
  CHECK(stride > 0);
  for (int mode = 0; mode < MODES; mode++) {
    long step = mode == MODE_CORE ? 1 : stride;
    long n = 1, errors = 0;
    while (fail_at((enum mode)mode, n, &errors)) n += step;
    printf("shared_memory: " LUA_VERSION ", %s, one in %ld of %ld allocations: %ld errors\n",
           mode_names[mode], step, n, errors);
  }
  return complaints != 0;
}
