/*
** What Lua sees: the methods and properties of a barrier, and the module
** barrier.core, which lua/barrier/init.lua makes public.
*/
#include <stdlib.h>
#include <string.h>

#include "barrier.h"
#include "drain.h"
#include "errors.h"
#include "wait.h"

/* A Lua state's own, for as long as it lives; found in the registry by address. */
static const char core_key = 'c';

static const char *const state_names[] = {"filling", "draining", "resetting", "broken"};

/* {=== barrier.new === */

/* Option `name` of the table at index 2 must be callable, or false if `or_false`. The
** value is on the top. */
static void check_option(lua_State *L, const char *name, bool or_false) {
  if (is_callable(L, -1) || (or_false && lua_isboolean(L, -1) && !lua_toboolean(L, -1))) return;
  errors_argument(L, 1, 2, "new", "option '%s' must be callable%s, got %s", name,
                  or_false ? " or false" : "", luaL_typename(L, -1));
}

static void check_options(lua_State *L) {
  if (lua_isnoneornil(L, 2)) return;
  if (!lua_istable(L, 2))
    errors_argument(L, 1, 2, "new", "options must be a table, got %s", luaL_typename(L, 2));
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    if (key && strcmp(key, "action") == 0)
      check_option(L, key, false);
    else if (key && strcmp(key, "schedule") == 0)
      check_option(L, key, true);
    else
      errors_argument(L, 1, 2, "new", "unknown option '%s'", luaL_tolstring(L, -2, NULL));
    lua_pop(L, 1);
  }
}

/* new(parties [, options]); upvalues: the core, the metatable and the default of
** the option `schedule`, or nil. */
static int new_barrier(lua_State *L) {
  struct scheduler *s = lua_touserdata(L, lua_upvalueindex(1));
  lua_Integer parties = 0;
  struct barrier *b;
  if (!s->bound) return luaL_error(L, "barrier.core is private; require \"barrier\"");
  if (!compat_tointeger(L, 1, &parties) || parties < 1) {
    bool number = lua_type(L, 1) == LUA_TNUMBER;
    const char *got = number ? luaL_tolstring(L, 1, NULL) : luaL_typename(L, 1);
    errors_argument(L, 1, 1, "new", "parties must be an integer >= 1" COMPAT_MOST ", got %s", got);
  }
  check_options(L);
  lua_settop(L, 2);
  b = barrier_new(L, s, (uint64_t)parties);
  compat_getuservalue(L, 3);
  if (lua_istable(L, 2)) {
    lua_pushliteral(L, "action");
    lua_rawget(L, 2);
    b->has_action = !lua_isnil(L, -1);
    lua_setfield(L, 4, "action");
    lua_pushliteral(L, "schedule");
    lua_rawget(L, 2);
  } else {
    lua_pushnil(L);
  }
  if (lua_isnil(L, -1)) lua_pushvalue(L, lua_upvalueindex(3));
  b->has_schedule = lua_toboolean(L, -1);
  lua_setfield(L, 4, "schedule");
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, 3);
  lua_settop(L, 3);
  return 1;
}

/* }=== */

/* {=== methods === */

/* Is somebody in a queue, whom a reset or abort may make ready, or who is? */
static bool anybody(const struct machine *m) {
  return m->queues[MACHINE_QUEUE_A].count || m->queues[MACHINE_QUEUE_B].count ||
         m->queues[MACHINE_LEAVING].count;
}

static int barrier_reset(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "reset");
  struct machine *m = &b->job.machine;
  lua_settop(L, 1);
  if (anybody(m)) scheduler_prepare(L, b->scheduler);
  machine_reset(m, b->scheduler->turn);
  b->has_reason = false;
  if (compat_getuservalue(L, 1)) {
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "reason");
  }
  barrier_request(L, b, 1);
  return 0;
}

static int barrier_abort(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "abort");
  struct machine *m = &b->job.machine;
  lua_settop(L, 2);
  if (anybody(m)) scheduler_prepare(L, b->scheduler);
  barrier_break(L, b, 1);
  barrier_request(L, b, 1);
  return 0;
}

/* Cancels the last arrival, which runs the action. [-0, +0] */
static bool cancel_runner(lua_State *L, struct barrier *b) {
  bool found = false;
  if (!b->job.machine.extra) return false;
  if (compat_getuservalue(L, 1)) {
    lua_getfield(L, -1, "runner");
    found = lua_rawequal(L, -1, 2);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  if (found) machine_dismiss_extra(&b->job.machine);
  return found;
}

static int barrier_cancel(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "cancel");
  struct machine *m = &b->job.machine;
  const lua_State *co = lua_tothread(L, 2);
  bool found;
  uint32_t n;
  if (co == NULL)
    errors_argument(L, 1, 1, "cancel", "coroutine expected, got %s",
                    waiter_at(L, 2) ? "Waiter (it has a method close)" : luaL_typename(L, 2));
  lua_settop(L, 2);
  n = machine_find(m, co);
  if (n && m->nodes[n].place != MACHINE_LEAVING) {
    scheduler_prepare(L, b->scheduler);
    n = machine_find(m, co);
  }
  found = n && machine_withdraw(m, n, MACHINE_CANCELLED, b->scheduler->turn);
  if (found) {
    scheduler_clear_deadline(L, b->scheduler, &b->job, n);
    barrier_request(L, b, 1);
  }
  lua_pushboolean(L, found || cancel_runner(L, b));
  return 1;
}

struct listed {
  uint64_t ticket;
  uint32_t node; /* 0: the last arrival, which runs the action */
};

static int compare_listed(const void *a, const void *b) {
  uint64_t x = ((const struct listed *)a)->ticket;
  uint64_t y = ((const struct listed *)b)->ticket;
  return (x > y) - (x < y);
}

/* Who is in the barrier, and has not closed its Waiter or failed for good? */
static bool is_in(const struct machine_node *node) {
  if (node->place == MACHINE_LEAVING)
    return node->outcome == MACHINE_CANCELLED || node->outcome == MACHINE_TIMED_OUT;
  return node->place < MACHINE_LEAVING;
}

static int barrier_waiters(lua_State *L) {
  const struct barrier *b = barrier_check(L, 1, "waiters");
  const struct machine *m = &b->job.machine;
  struct listed *list;
  uint32_t used, count = 0;
  lua_settop(L, 1);
  barrier_push_elements(L, 1);
  do { /* making the userdata may run finalizers */
    lua_settop(L, 2);
    used = m->used;
    list = lua_newuserdata(L, ((size_t)used + 1) * sizeof(*list));
    lua_createtable(L, used < 0x7fffffff ? (int)used : 0, 0);
  } while (m->used > used);
  for (uint32_t n = 1; n <= m->used; n++) {
    if (!is_in(&m->nodes[n])) continue;
    list[count].ticket = m->nodes[n].ticket;
    list[count++].node = n;
  }
  if (m->extra) {
    list[count].ticket = m->held_ticket;
    list[count++].node = 0;
  }
  qsort(list, count, sizeof(*list), compare_listed);
  for (uint32_t i = 0; i < count; i++) {
    if (list[i].node)
      lua_rawgeti(L, 2, (compat_index)list[i].node);
    else
      lua_getfield(L, 2, "runner");
    lua_rawseti(L, 4, (compat_index)(i + 1));
  }
  return 1;
}

/* (barrier, body [, isyieldable()]): the checks of b:with(body), which is in Lua. */
static int check_with(lua_State *L) {
  barrier_check(L, 2, "with");
  if (!is_callable(L, 2))
    errors_argument(L, 2, 1, "with", "body must be callable, got %s", luaL_typename(L, 2));
  wait_check_can_suspend(L, 2, 3);
  return 0;
}

/* }=== */

/* {=== properties === */

static const char *state_of(const struct barrier *b) { return state_names[b->job.machine.state]; }

static void push_waiting(lua_State *L, const struct barrier *b) {
  lua_pushinteger(L, (lua_Integer)machine_waiting(&b->job.machine));
}

/* The numbers in the table of members, where methods are functions. */
enum { PARTIES = 1, N_WAITING, BROKEN, STATE, GENERATION, PROPERTIES };

static const char *const property_names[PROPERTIES] = {NULL,     "parties", "n_waiting",
                                                       "broken", "state",   "generation"};

static int push_property(lua_State *L, const struct barrier *b, int property) {
  const struct machine *m = &b->job.machine;
  switch (property) {
    case PARTIES: lua_pushinteger(L, (lua_Integer)m->parties); break;
    case N_WAITING: push_waiting(L, b); break;
    case BROKEN: lua_pushboolean(L, m->state == MACHINE_BROKEN); break;
    case STATE: lua_pushstring(L, state_of(b)); break;
    default: lua_pushinteger(L, (lua_Integer)m->generation); break;
  }
  return 1;
}

/* (barrier or table of methods, name); upvalue 1: the members. */
static int barrier_index(lua_State *L) {
  const struct barrier *b;
  if (lua_gettop(L) < 2) return 0; /* the debug library called it */
  if (compat_rawget(L, lua_upvalueindex(1)) != LUA_TNUMBER) return 1;
  if (lua_istable(L, 1)) {
    barrier_push_owner(L, 1);
    lua_replace(L, 1);
  }
  b = barrier_at(L, 1);
  return b ? push_property(L, b, (int)lua_tointeger(L, 2)) : 0;
}

static int barrier_newindex(lua_State *L) {
  return errors_raise(L, 1, "cannot assign to '%s': the members of a barrier are read-only",
                      luaL_tolstring(L, 2, NULL));
}

static int barrier_tostring(lua_State *L) {
  const struct barrier *b = barrier_check(L, 1, "tostring");
  const struct machine *m = &b->job.machine;
  lua_settop(L, 1);
  if (m->state == MACHINE_BROKEN) {
    lua_pushfstring(L, "<barrier.Barrier object at %p [broken]>", (const void *)b);
    return 1;
  }
  push_waiting(L, b);
  lua_pushinteger(L, (lua_Integer)m->parties);
  lua_pushfstring(L, "<barrier.Barrier object at %p [%s, waiters:%s/%s]>", (const void *)b,
                  state_of(b), lua_tostring(L, 2), lua_tostring(L, 3));
  return 1;
}

static int barrier_gc(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b) barrier_destroy(L, b);
  return 0;
}

/* }=== */

/* {=== the module === */

static int core_gc(lua_State *L) {
  struct scheduler *s = lua_touserdata(L, lua_upvalueindex(1));
  if (lua_touserdata(L, 1) == s) scheduler_destroy(s);
  return 0;
}

/* [-0, +1] */
static void push_core(lua_State *L) {
  struct scheduler *s = lua_newuserdata(L, sizeof(*s));
  scheduler_open(L, s, drain_serve);
  lua_newtable(L);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, core_gc, 1);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
}

/* (luv's table): takes its functions. Returns the name of one that is missing. */
static int bind(lua_State *L) {
  struct scheduler *s = lua_touserdata(L, lua_upvalueindex(1));
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushstring(L, scheduler_bind(L, s, 1));
  return 1;
}

static const luaL_Reg methods[] = {
#if COMPAT_YIELDK
    {"wait", wait_arrive},
#endif
    {"reset", barrier_reset},
    {"abort", barrier_abort},
    {"cancel", barrier_cancel},
    {"waiters", barrier_waiters},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__newindex", barrier_newindex},
    {"__tostring", barrier_tostring},
    {"__gc", barrier_gc},
#if COMPAT_CLOSE
    {"__close", wait_close},
#endif
    {NULL, NULL},
};

static const luaL_Reg helpers[] = {
    {"check_with", check_with},
#if !COMPAT_YIELDK
    {"arrive", wait_arrive},
    {"finish", wait_finish},
#endif
    {NULL, NULL},
};

/* The metatable of new barriers, with the members at this index. [-0, +1] */
static void push_metatable(lua_State *L, int members) {
  lua_newtable(L);
  luaL_setfuncs(L, metamethods, 0);
  lua_pushliteral(L, "barrier.Barrier");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "barrier.Barrier");
  lua_setfield(L, -2, "__metatable");
  lua_pushvalue(L, members);
  lua_pushcclosure(L, barrier_index, 1);
  lua_setfield(L, -2, "__index");
  barrier_open(L, -1, members);
}

/* new, given the default of the option `schedule`. Upvalues: core, metatable */
static int make_new(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, new_barrier, 3);
  return 1;
}

/*
** The module: BrokenBarrierError, CancelledError, TimeoutError; members, the table
** of methods and properties; bind, make_new; check_with, and before Lua 5.3 arrive, finish,
** isyieldable and passed (see wait.h). However often it is loaded, there is one of it in a
** Lua state.
*/
EXPORT int luaopen_barrier_core(lua_State *L);

int luaopen_barrier_core(lua_State *L) {
#if LUA_VERSION_NUM >= 502
  luaL_checkversion(L);
#endif
  lua_rawgetp(L, LUA_REGISTRYINDEX, &core_key);
  if (lua_istable(L, -1)) return 1;
  lua_newtable(L);
  lua_pushliteral(L, "barrier.core built for " LUA_VERSION); /* also found in the file */
  lua_setfield(L, -2, "_VERSION");
  errors_open(L);
  luaL_setfuncs(L, helpers, 0);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  for (int i = 1; i < PROPERTIES; i++) {
    lua_pushinteger(L, i);
    lua_setfield(L, -2, property_names[i]);
  }
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "members");
  push_core(L);
  lua_pushvalue(L, -1);
  lua_pushcclosure(L, bind, 1);
  lua_setfield(L, -4, "bind");
  push_metatable(L, lua_gettop(L) - 1);
  lua_pushcclosure(L, make_new, 2);
  lua_setfield(L, -3, "make_new");
  lua_pop(L, 1);
#if !COMPAT_YIELDK
  wait_push_isyieldable(L);
  lua_setfield(L, -2, "isyieldable");
  wait_push_passed(L);
  lua_setfield(L, -2, "passed");
#endif
  wait_open(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &core_key);
  return 1;
}

/* }=== */
