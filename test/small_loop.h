/*
** A loop like luv's for out_of_memory.c, whose clock jumps. At a chosen call of one of its
** functions it calls a function of the scenario, as a finalizer or a hook might be called
** there.
*/
#ifndef BARRIER_TEST_SMALL_LOOP_H
#define BARRIER_TEST_SMALL_LOOP_H

#define MOST_HANDLES 256

/* The keys in the scenario's table: its barriers and the functions to call at the end, then
** the name of the section that runs, and the function that meddles. */
#define MOST_BARRIERS 125
#define SECTION 126
#define MEDDLE 127
#define MEDDLERS 8 /* so many things it can do */

struct handle {
  bool is_timer, is_active, is_closing, is_unreferenced;
  uint64_t due, repeat, order;
};

static struct {
  struct handle *handles[MOST_HANDLES];
  int count;
  uint64_t now;  /* what the module gets */
  uint64_t time; /* what it would get after update_time */
  uint64_t orders;
  bool tampered;     /* other code has stopped, closed or unreferenced handles */
  long calls;        /* of these functions */
  long countdown;    /* so many more calls until other code meddles; 0: never */
  int meddler;       /* what it does */
  char report[4096]; /* of uncaught errors */
} loop;

static void open_loop(void) {
  memset(&loop, 0, sizeof(loop));
  loop.now = loop.time = 0xffffff00; /* modulo 2^32 it wraps around soon */
}

/* Calls the scenario's function, if it is time. */
static void meddle(lua_State *L) {
  int top = lua_gettop(L);
  loop.calls++;
  if (loop.countdown == 0 || --loop.countdown > 0) return;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &loop);
  lua_rawgeti(L, -1, MEDDLE);
  lua_pushinteger(L, loop.meddler);
  if (lua_isfunction(L, -2)) lua_pcall(L, 1, 0, 0);
  lua_settop(L, top);
}

static struct handle *check_handle(lua_State *L) {
  struct handle *h = lua_touserdata(L, 1);
  luaL_argcheck(L, h != NULL, 1, "handle expected");
  meddle(L);
  return h;
}

#include "handles.h"

/* A handle that is closed may not be started or closed, unless it was closed just now. */
static struct handle *check_open_handle(lua_State *L) {
  struct handle *h = check_handle(L);
  CHECK(!h->is_closing || loop.meddler);
  return h;
}

static int new_handle(lua_State *L, bool is_timer) {
  struct handle *h;
  meddle(L);
  h = lua_newuserdata(L, sizeof(*h));
  memset(h, 0, sizeof(*h));
  h->is_timer = is_timer;
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, h); /* luv anchors its handles too */
  CHECK(loop.count < MOST_HANDLES);
  loop.handles[loop.count++] = h;
  return 1;
}

static int uv_new_timer(lua_State *L) { return new_handle(L, true); }
static int uv_new_idle(lua_State *L) { return new_handle(L, false); }

static void start_handle(lua_State *L, struct handle *h, int callback) {
  lua_pushvalue(L, callback);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &h->is_active); /* the place of its callback */
  h->is_active = !h->is_closing;
  h->order = ++loop.orders;
}

static int uv_timer_start(lua_State *L) {
  struct handle *h = check_open_handle(L);
  start_handle(L, h, 4);
  h->due = loop.now + (uint64_t)luaL_checkinteger(L, 2);
  h->repeat = (uint64_t)luaL_checkinteger(L, 3);
  return 0;
}

static int uv_idle_start(lua_State *L) {
  start_handle(L, check_open_handle(L), 2);
  return 0;
}

static int uv_close(lua_State *L) {
  struct handle *h = check_open_handle(L);
  h->is_active = false;
  h->is_closing = true;
  loop.tampered = true;
  return 0;
}

static int uv_now(lua_State *L) {
  meddle(L);
  lua_pushinteger(L, (lua_Integer)loop.now);
  return 1;
}

static int uv_hrtime(lua_State *L) {
  meddle(L);
  lua_pushnumber(L, (lua_Number)loop.now * 1000000);
  return 1;
}

static int uv_update_time(lua_State *L) {
  meddle(L);
  loop.now = loop.time;
  return 0;
}

/* {=== for the scenario === */

static int tamper(lua_State *L, struct handle change) {
  (void)L;
  loop.tampered = true;
  for (int i = 0; i < loop.count; i++) {
    struct handle *h = loop.handles[i];
    h->is_active = h->is_active && change.is_active;
    h->is_closing = h->is_closing || change.is_closing;
    h->is_unreferenced = h->is_unreferenced || change.is_unreferenced;
  }
  return 0;
}

/* uv.walk(uv.close), and the like */
static int uv_close_all(lua_State *L) {
  struct handle change = {false, false, true, false, 0, 0, 0};
  return tamper(L, change);
}

static int uv_stop_all(lua_State *L) {
  struct handle change = {false, false, false, false, 0, 0, 0};
  return tamper(L, change);
}

static int uv_unref_all(lua_State *L) {
  struct handle change = {false, true, false, true, 0, 0, 0};
  return tamper(L, change);
}

/* sleep(ms): time passes. */
static int uv_sleep(lua_State *L) {
  loop.time += (uint64_t)luaL_checkinteger(L, 1);
  return 0;
}

/* count() -> how many handles are not closed */
static int uv_count(lua_State *L) {
  int count = 0;
  for (int i = 0; i < loop.count; i++) count += !loop.handles[i]->is_closing;
  lua_pushinteger(L, count);
  return 1;
}

/* }=== */

/* {=== running === */

static void forgive(void);

static void call_handle_back(lua_State *L, const struct handle *h) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &h->is_active);
  if (lua_pcall(L, 0, 0, 0) == LUA_OK) return;
  forgive();
  report_uncaught(L);
}

/* The timer that is due next. */
static struct handle *next_timer(void) {
  struct handle *next = NULL;
  for (int i = 0; i < loop.count; i++) {
    struct handle *h = loop.handles[i];
    if (!h->is_timer || !h->is_active) continue;
    if (!next || h->due < next->due || (h->due == next->due && h->order < next->order)) next = h;
  }
  return next;
}

static bool run_idle(lua_State *L) {
  bool any = false;
  for (int i = 0; i < loop.count; i++) {
    if (loop.handles[i]->is_timer || !loop.handles[i]->is_active) continue;
    any = true;
    call_handle_back(L, loop.handles[i]);
  }
  return any;
}

/* uv.run(). A timer started with timeout 0 fires again in the same pass, as before
** libuv 1.48. */
static void run_loop(lua_State *L) {
  long calls = 0;
  struct handle *h;
  while (is_alive()) {
    loop.now = loop.time;
    while ((h = next_timer()) != NULL && h->due <= loop.now) {
      CHECK(++calls < 10000); /* it comes to rest */
      h->due = loop.now + h->repeat;
      h->order = ++loop.orders;
      if (!h->repeat) h->is_active = false;
      call_handle_back(L, h);
    }
    if (run_idle(L)) {
      CHECK(++calls < 10000);
      continue;
    }
    if (h && h->due > loop.time) loop.time = h->due;
  }
}

/* run() -> the uncaught errors, or nil */
static int uv_run(lua_State *L) {
  run_loop(L);
  return take_report(L);
}

/* }=== */

static const luaL_Reg uv[] = {
    {"new_timer", uv_new_timer},
    {"new_idle", uv_new_idle},
    {"timer_start", uv_timer_start},
    {"timer_stop", uv_stop},
    {"idle_start", uv_idle_start},
    {"idle_stop", uv_stop},
    {"is_closing", uv_is_closing},
    {"is_active", uv_is_active},
    {"has_ref", uv_has_ref},
    {"ref", uv_ref},
    {"now", uv_now},
    {"update_time", uv_update_time},
    {"hrtime", uv_hrtime},
    {"close", uv_close},
    {"run", uv_run},
    {"close_all", uv_close_all},
    {"stop_all", uv_stop_all},
    {"unref_all", uv_unref_all},
    {"sleep", uv_sleep},
    {"count", uv_count},
    {NULL, NULL},
};

#endif
