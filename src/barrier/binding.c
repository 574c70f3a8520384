/*
** What Lua sees: the methods and properties of a barrier, and the module
** barrier.core, which lua/barrier/init.lua makes public.
*/
#include "arrive.h"
#include "../host/cancels.h"
#include "../host/coroutine.h"
#include "../host/errors.h"
#include "../host/inspect.h"
#include "inspect.h"
#include "options.h"
#include "../host/pin.h"
#include "../host/request.h"
#include "../shared/binding.h"
#include "../host/waiter.h"
#include "../stamp.h"

/* A Lua state's own, for as long as it lives; found in the registry by address. */
static const char core_key = 'c';

/* {=== methods === */

/* Schedules a turn if a reset or abort may make a party ready. NULL if the barrier was
** finalized. [-0, +0, e] */
static struct barrier *prepare_to_fail(lua_State *L, const char *name, int top) {
  struct barrier *b = barrier_check(L, 1, name);
  errors_extra(L, 1, top + 1, top, name);
  lua_settop(L, top);
  if (b && !nodes_empty(&b->machine.nodes)) scheduler_prepare(L, b->room.scheduler, &b->room);
  return b;
}

static int barrier_reset(lua_State *L) {
  struct barrier *b = prepare_to_fail(L, "reset", 1);
  if (b == NULL) return 0;
  machine_reset(&b->machine, b->room.scheduler->turn);
  if (b->has_reason) {
    b->has_reason = false;
    lua_pushboolean(L, 0);
    room_set_field(L, 1, "reason"); /* for the collector */
  }
  room_changed(L, &b->room, 1);
  scheduler_relax(L, b->room.scheduler);
  return 0;
}

static int barrier_abort(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b && lua_gettop(L) > 1) room_ensure_field(L, 1, "reason");
  b = prepare_to_fail(L, "abort", 2);
  if (b == NULL) return 0;
  if (b->machine.state == MACHINE_BROKEN) return 0; /* the first reason stays */
  barrier_break(L, b, 1);
  room_changed(L, &b->room, 1);
  scheduler_relax(L, b->room.scheduler);
  return 0;
}

static int barrier_cancel(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "cancel");
  return room_cancel(L, b ? &b->room : NULL);
}

static int barrier_waiters(lua_State *L) {
  const struct barrier *b = barrier_check(L, 1, "waiters");
  errors_extra(L, 1, 2, 1, "waiters");
  return inspect_waiters(L, b ? &b->room : NULL);
}

/* (barrier, isyieldable() or nil, body, ...): the checks of b:with(body), which is in Lua. */
static int check_with(lua_State *L) {
  barrier_check(L, 2, "with");
  if (!is_callable(L, 3))
    errors_argument(L, 2, 1, "with", "body must be callable, got %s", luaL_typename(L, 3));
  errors_extra(L, 2, 4, 2, "with");
  coroutine_check(L, 2, 2);
  return 0;
}

/* }=== */

/* {=== properties === */

/* The numbers in the table of members, where methods are functions. */
enum { PARTIES = 1, N_WAITING, N_ARRIVED, BROKEN, STATE, GENERATION, PROPERTIES };

static const char *const property_names[PROPERTIES] = {
    NULL, "parties", "n_waiting", "n_arrived", "broken", "state", "generation"};

static int push_property(lua_State *L, const struct barrier *b, int property) {
  const struct machine *m = &b->machine;
  switch (property) {
    case PARTIES: compat_pushcount(L, m->parties); break;
    case N_WAITING: compat_pushcount(L, machine_waiting(m)); break;
    case N_ARRIVED: compat_pushcount(L, machine_counted(m)); break;
    case BROKEN: lua_pushboolean(L, m->state == MACHINE_BROKEN); break;
    case STATE: lua_pushstring(L, inspect_state(b)); break;
    default: compat_pushcount(L, m->generation); break;
  }
  return 1;
}

/* (barrier or table, name); upvalue 1: the members, 2: the barrier if 1 is a table. */
static int barrier_index(lua_State *L) {
  const struct barrier *b;
  int self = lua_isnil(L, lua_upvalueindex(2)) ? 1 : lua_upvalueindex(2);
  if (lua_gettop(L) < 2) return 0; /* the debug library called it */
  if (compat_rawget(L, lua_upvalueindex(1)) != LUA_TNUMBER) return 1;
  b = barrier_at(L, self);
  if (b == NULL) b = barrier_gone_at(L, self);
  return b ? push_property(L, b, (int)lua_tointeger(L, 2)) : 0;
}

static int barrier_newindex(lua_State *L) {
  return errors_raise(L, 1, "cannot assign to '%s': the members of a barrier are read-only",
                      luaL_tolstring(L, 2, NULL));
}

static int barrier_gc(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b) barrier_destroy(L, b);
  return 0;
}

/* }=== */

/* {=== the module === */

static int core_gc(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  if (lua_touserdata(L, 1) != s) return 0;
  room_close_all(L, s);
  scheduler_destroy(s);
  return 0;
}

/* [-0, +1] */
static struct scheduler *push_core(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_newuserdata(L, sizeof(*s));
  scheduler_open(L, s);
  lua_newtable(L);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, core_gc, 1);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return s;
}

/* (luv's table): takes its functions. Returns the name of one that is missing. */
static int bind(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  luaL_checktype(L, 1, LUA_TTABLE);
  shared_bind_luv(L, 1);
  lua_pushstring(L, loop_bind(L, &s->loop, 1));
  return 1;
}

/* close(): closes the handles. */
static int close_handles(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  loop_close(L, &s->loop);
  shared_close_handle(L);
  return 0;
}

static const luaL_Reg methods[] = {
#if COMPAT_YIELDK
    {"wait", arrive_wait},
    {"await_trip", arrive_await_trip},
#endif
    {"arrive", arrive_arrive},
    {"register", arrive_register},
    {"deregister", arrive_deregister},
    {"reset", barrier_reset},
    {"abort", barrier_abort},
    {"cancel", barrier_cancel},
    {"waiters", barrier_waiters},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__newindex", barrier_newindex},
    {"__tostring", inspect_tostring},
    {"__gc", barrier_gc},
#if COMPAT_CLOSE
    {"__close", coroutine_closed},
#endif
    {NULL, NULL},
};

static const luaL_Reg helpers[] = {
    {"check_with", check_with},
    {"waiters", inspect_waiters_of},
    {"watchers", inspect_watchers},
    {"callback_of", waiter_callback},
#if !COMPAT_YIELDK
    {"arrive_wait", arrive_wait},
    {"arrive_await_trip", arrive_await_trip},
    {"resumed", coroutine_resumed},
#endif
    {NULL, NULL},
};

/* The functions that know the core. */
static const luaL_Reg core_helpers[] = {
    {"bind", bind},
    {"close", close_handles},
    {"schedule_by", scheduler_schedule_by},
    {"leave", scheduler_leave},
    {"has_left", scheduler_has_left},
    {"watch_exit", scheduler_watch_exit},
    {"pending", inspect_pending},
    {"barriers", inspect_rooms},
    {"cancel_next", cancels_next},
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
  barrier_open(L, -1, members, barrier_index);
}

/* (schedule, in_fast_event) -> new; upvalues: core, metatable */
static int make_new(lua_State *L) {
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, options_new, 4);
  return 1;
}

/* The table of methods, which are functions, and properties, which are numbers.
** [-0, +1] */
static void push_members(lua_State *L) {
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  for (int i = 1; i < PROPERTIES; i++) {
    lua_pushinteger(L, i);
    lua_setfield(L, -2, property_names[i]);
  }
}

/*
** The module: stamp; BrokenBarrierError, CancelledError, TimeoutError; members; bind, close,
** leave, has_left, watch_exit, pending, barriers, watchers, make_new, check_with; and before Lua
** 5.3 arrive_wait, arrive_await_trip, resumed and passed, and isyieldable where it is needed (see
** coroutine.h).
** However often it is loaded, there is one of it in a Lua state.
*/
EXPORT int luaopen_barrier_core(lua_State *L);

int luaopen_barrier_core(lua_State *L) {
  struct scheduler *s;
#if LUA_VERSION_NUM >= 502
  luaL_checkversion(L);
#endif
  lua_settop(L, 0);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &core_key);
  if (lua_istable(L, 1)) return 1;
  pin_module();
  lua_settop(L, 0);
  lua_newtable(L);                                           /* 1 */
  lua_pushliteral(L, "barrier.core built for " LUA_VERSION); /* also found in the file */
  lua_setfield(L, 1, "_VERSION");
  lua_pushliteral(L, BARRIER_STAMP); /* environment.lua looks for it there, too */
  lua_setfield(L, 1, "stamp");
  errors_open(L);
  luaL_setfuncs(L, helpers, 0);
  push_members(L); /* 2 */
  lua_pushvalue(L, 2);
  lua_setfield(L, 1, "members");
  s = push_core(L); /* 3 */
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 3);
  luaL_setfuncs(L, core_helpers, 1);
  lua_settop(L, 3);
  lua_pushvalue(L, 3);
  push_metatable(L, 2);
  lua_pushcclosure(L, make_new, 2);
  lua_setfield(L, 1, "make_new");
#if !COMPAT_ISYIELDABLE
  compat_pushisyieldable(L);
  lua_setfield(L, 1, "isyieldable");
#endif
#if !COMPAT_YIELDK
  coroutine_push_passed(L);
  lua_setfield(L, 1, "passed");
#endif
  waiter_open(L);
  lua_settop(L, 3);
  shared_open_binding(L, s);
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &core_key);
  return 1;
}

/* }=== */
