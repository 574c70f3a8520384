/*
** The loop of shared_memory.c, in the place of luv: it polls descriptors, and its clock jumps to
** the next timer.
*/
#ifndef BARRIER_TEST_POLLING_LOOP_H
#define BARRIER_TEST_POLLING_LOOP_H

enum { MOST_HANDLES = 64 };

struct handle {
  int fd; /* -1: a timer, -2: an idle handle */
  bool is_active, is_closing, is_unreferenced;
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

#include "handles.h"

static int new_handle(lua_State *L, int fd) {
  struct handle *h = lua_newuserdata(L, sizeof(*h));
  memset(h, 0, sizeof(*h));
  h->fd = fd;
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

static int uv_unref(lua_State *L) {
  check_handle(L)->is_unreferenced = true;
  return 0;
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
  lua_rawgetp(L, LUA_REGISTRYINDEX, &h->due);
  if (lua_pcall(L, 0, 0, 0) == LUA_OK) return;
  memory.over = memory.fired;
  report_uncaught(L);
}

/* polling() -> the number of handles that poll a descriptor */
static int uv_polling(lua_State *L) {
  int count = 0;
  for (int i = 0; i < loop.count; i++)
    count += loop.handles[i]->fd >= 0 && loop.handles[i]->is_active;
  lua_pushinteger(L, count);
  return 1;
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
    break; /* the party that the others wait for has died */
  }
  return take_report(L);
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
    {"polling", uv_polling},
    {NULL, NULL},
};

#endif
