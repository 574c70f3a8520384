#include "binding.h"

#include "../host/coroutine.h"
#include "../host/errors.h"
#include "../host/wait.h"
#include "reason.h"
#include "shared.h"

#define SHARED_MOST 0x7fffffff

static const char state_key = 's'; /* its address is a key of the registry */

/* {=== methods === */

/* (nil, the error of a broken barrier). shared_push_copier comes first. [-0, +2, m] */
static int return_broken(lua_State *L, struct hub_reason *reason) {
  shared_push_reason(L, reason);
  lua_pushnil(L);
  lua_insert(L, -2);
  errors_push(L, ERROR_BROKEN, "barrier aborted", 1, lua_isnil(L, -1) ? 0 : -1);
  lua_remove(L, -2);
  return 2;
}

/* Its result if it was let in. [-0, +1] */
static int push_true(lua_State *L) {
  lua_pushboolean(L, 1);
  return 1;
}

static int shared_arrive(lua_State *L) {
  struct shared *b = shared_check(L, 1, "arrive");
  struct request q = {.name = "arrive"};
  struct hub_reason *reason;
  bool quiet;
  if (b == NULL) return push_true(L);
  errors_extra(L, 1, 2, 1, "arrive");
  quiet = shared_prepare(L, b, &q, false);
  shared_push_copier(L);
  if (!hub_arrive(b->member, &reason, quiet)) return return_broken(L, reason);
  if (quiet) shared_collect(L, b->state);
  return push_true(L);
}

static int shared_reset(lua_State *L) {
  struct shared *b = shared_check(L, 1, "reset");
  struct request q = {.name = "reset"};
  bool quiet;
  if (b == NULL) return 0;
  errors_extra(L, 1, 2, 1, "reset");
  quiet = shared_prepare(L, b, &q, true);
  hub_reset(b->member, quiet);
  if (quiet) shared_collect(L, b->state);
  return 0;
}

static int shared_abort(lua_State *L) {
  struct shared *b = shared_check(L, 1, "abort");
  struct request q = {.name = "abort"};
  struct hub_reason *reason;
  bool quiet;
  errors_extra(L, 1, 3, 2, "abort");
  if (!reason_may_travel(L, 2))
    errors_argument(L, 1, 1, "abort",
                    "the reason goes to other threads: a string, number or boolean expected, "
                    "got %s",
                    luaL_typename(L, 2));
  if (b == NULL) return 0;
  while (quiet = shared_prepare(L, b, &q, true), !reason_make(L, 2, &reason))
    errors_memory(L, 4096 + lua_rawlen(L, 2));
  hub_abort(b->member, reason, quiet);
  if (quiet) shared_collect(L, b->state);
  return 0;
}

static int shared_cancel(lua_State *L) {
  struct shared *b = shared_check(L, 1, "cancel");
  return room_cancel(L, b ? &b->room : NULL);
}

/* }=== */

/* {=== properties === */

/* The numbers in the table of members, where methods are functions. */
enum {
  SHARED_NAME = 1,
  SHARED_PARTIES,
  SHARED_WAITING,
  SHARED_ARRIVED,
  SHARED_BROKEN,
  SHARED_LAST
};

static const char *const shared_properties[SHARED_LAST + 1] = {
    NULL, "name", "parties", "n_waiting", "n_arrived", "broken", "generation"};

/* (barrier, name); upvalue 1: the members */
static int shared_index(lua_State *L) {
  const struct shared *b;
  struct hub_status status;
  if (lua_gettop(L) < 2) return 0; /* the debug library called it */
  if (compat_rawget(L, lua_upvalueindex(1)) != LUA_TNUMBER) return 1;
  b = shared_check(L, 1, "index");
  if (b == NULL) return 0;
  hub_get_status(b->member, &status);
  switch ((int)lua_tointeger(L, -1)) {
    case SHARED_NAME: shared_push_name(L, b); break;
    case SHARED_PARTIES: compat_pushcount(L, status.parties); break;
    case SHARED_WAITING: compat_pushcount(L, status.n_waiting); break;
    case SHARED_ARRIVED: compat_pushcount(L, status.n_arrived); break;
    case SHARED_BROKEN: lua_pushboolean(L, status.broken); break;
    default: compat_pushcount(L, status.generation); break;
  }
  return 1;
}

static int shared_newindex(lua_State *L) {
  return errors_raise(L, 1, "cannot assign to '%s': the members of a barrier are read-only",
                      luaL_tolstring(L, 2, NULL));
}

static int shared_tostring(lua_State *L) {
  const struct shared *b = shared_check(L, 1, "tostring");
  struct hub_status status;
  if (b == NULL) {
    lua_pushliteral(L, "<barrier.Shared [closed]>");
    return 1;
  }
  hub_get_status(b->member, &status);
  lua_pushliteral(L, "<barrier.Shared object \"");
  shared_push_name(L, b);
  if (status.broken)
    lua_pushliteral(L, "\" [broken]>");
  else if (status.n_arrived > status.n_waiting)
    lua_pushfstring(L, "\" [filling, waiters:%d/%d, arrived:%d]>", (int)status.n_waiting,
                    (int)status.parties, (int)status.n_arrived);
  else
    lua_pushfstring(L, "\" [filling, waiters:%d/%d]>", (int)status.n_waiting, (int)status.parties);
  lua_concat(L, 3);
  return 1;
}

static int shared_gc(lua_State *L) {
  struct shared *b = shared_at(L, 1);
  if (b) shared_destroy(L, b);
  return 0;
}

/* }=== */

/* {=== barrier.shared === */

static void check_shared(lua_State *L) {
  int64_t parties = 0;
  errors_extra(L, 1, 3, 3, "shared");
  lua_settop(L, 2);
  if (lua_type(L, 1) != LUA_TSTRING)
    errors_argument(L, 1, 1, "shared", "name must be a string, got %s", luaL_typename(L, 1));
  if (!compat_tointeger(L, 2, &parties) || parties < 1 || parties > SHARED_MOST) {
    bool number = lua_type(L, 2) == LUA_TNUMBER;
    const char *got = number ? luaL_tolstring(L, 2, NULL) : luaL_typename(L, 2);
    errors_argument(L, 1, 2, "shared", "parties must be an integer >= 1 and < 2^31, got %s", got);
  }
}

/* shared(name, parties); upvalues: the state, the metatable, the default of where parties go on
** or nil, and the function that tells whether this is a fast event or nil. */
static int new_shared(lua_State *L) {
  struct shared_state *s = (struct shared_state *)lua_touserdata(L, lua_upvalueindex(1));
  struct hub_status status;
  struct shared *b;
  uint32_t parties;
  check_shared(L);
  parties = (uint32_t)lua_tonumber(L, 2);
  if (!s->is_bound) return luaL_error(L, "barrier.core is private; require \"barrier\"");
  if (hub_is_forked(&s->hub)) return luaL_error(L, SHARED_FORKED);
  b = shared_push(L, s, parties);
  memset(&status, 0, sizeof(status));
  if (b->member) hub_get_status(b->member, &status);
  if (b->member && status.parties != parties) {
    shared_push_name(L, b);
    errors_argument(L, 1, 2, "shared", "the barrier '%s' has %d parties, not %d",
                    lua_tostring(L, -1), (int)status.parties, (int)parties);
  }
  if (lua_getmetatable(L, 3)) {
    lua_settop(L, 3);
    return 1;
  }
  compat_getuservalue(L, 3);
  lua_pushvalue(L, lua_upvalueindex(3));
  room_schedule_by(L, &b->room, 4);
  lua_pushvalue(L, lua_upvalueindex(4));
  b->room.defers = lua_toboolean(L, -1);
  if (b->room.defers)
    lua_setfield(L, 4, "defers");
  else
    lua_pop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, 3);
  lua_settop(L, 3);
  return 1;
}

/* (schedule, in_fast_event) -> shared; upvalues: the state, the metatable */
static int make_shared(lua_State *L) {
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_pushcclosure(L, new_shared, 4);
  return 1;
}

/* }=== */

/* {=== the core === */

static int state_gc(lua_State *L) {
  struct shared_state *s = (struct shared_state *)lua_touserdata(L, lua_upvalueindex(1));
  if (lua_touserdata(L, 1) == s) shared_close(s);
  return 0;
}

static const luaL_Reg shared_methods[] = {
#if COMPAT_YIELDK
    {"wait", shared_wait},
#endif
    {"arrive", shared_arrive},
    {"reset", shared_reset},
    {"abort", shared_abort},
    {"cancel", shared_cancel},
    {NULL, NULL},
};

static const luaL_Reg shared_metamethods[] = {
    {"__newindex", shared_newindex},
    {"__tostring", shared_tostring},
    {"__gc", shared_gc},
#if COMPAT_CLOSE
    {"__close", coroutine_closed},
#endif
    {NULL, NULL},
};

/* The metatable of the barriers, and their members at the index `members`. [-0, +1, m] */
static void push_shared_metatable(lua_State *L, int members) {
  lua_newtable(L);
  luaL_setfuncs(L, shared_metamethods, 0);
  lua_pushliteral(L, "barrier.Shared");
  lua_setfield(L, -2, "__name");
  lua_pushliteral(L, "barrier.Shared");
  lua_setfield(L, -2, "__metatable");
  lua_pushvalue(L, members);
  lua_pushcclosure(L, shared_index, 1);
  lua_setfield(L, -2, "__index");
}

/* Loading may fail after this: the scheduler at the index `scheduler` must not go before the state,
** which its finalizer uses. [-0, +1, m] */
static void push_state(lua_State *L, struct scheduler *s, int scheduler) {
  struct shared_state *state = shared_open(L, s);
  lua_newtable(L);
  lua_pushlightuserdata(L, state);
  lua_pushvalue(L, scheduler);
  lua_pushcclosure(L, state_gc, 2);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
}

void shared_open_binding(lua_State *L, struct scheduler *s) {
  const int core = 1, members = 4, scheduler = 3;
  lua_newtable(L);
  luaL_setfuncs(L, shared_methods, 0);
  for (int i = 1; i <= SHARED_LAST; i++) {
    lua_pushinteger(L, i);
    lua_setfield(L, -2, shared_properties[i]);
  }
  push_state(L, s, scheduler);
  push_shared_metatable(L, members);
  lua_pushcclosure(L, make_shared, 2);
  lua_setfield(L, core, "make_shared");
#if !COMPAT_YIELDK
  lua_pushcfunction(L, shared_wait);
  lua_setfield(L, core, "arrive_shared");
#endif
  lua_setfield(L, core, "shared_members");
}

/* [-0, +0] */
static struct shared_state *state_of(lua_State *L) {
  struct shared_state *s;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  s = (struct shared_state *)lua_touserdata(L, -1);
  lua_pop(L, 1);
  return s;
}

void shared_bind_luv(lua_State *L, int uv) { shared_bind(L, state_of(L), uv); }

void shared_close_handle(lua_State *L) {
  struct shared_state *s = state_of(L);
  if (s->is_bound) wake_close(L, &s->wake);
}

/* }=== */
