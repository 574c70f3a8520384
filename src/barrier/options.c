#include "options.h"

#include "../host/errors.h"
#include "../host/request.h"
#include "barrier.h"

/* The value of the option `name` is on the top. */
static void check_option(lua_State *L, const char *name) {
  bool or_false = strcmp(name, "schedule") == 0;
  int64_t timeout = 0;
  if (strcmp(name, "timeout") == 0) {
    if (compat_tointeger(L, -1, &timeout) && timeout >= 0) return;
    errors_argument(L, 1, 2, "new",
                    "option 'timeout' must be an integer >= 0" COMPAT_MOST
                    ", in milliseconds, got %s",
                    luaL_tolstring(L, -1, NULL));
  }
  if (is_callable(L, -1) || (or_false && lua_isboolean(L, -1) && !lua_toboolean(L, -1))) return;
  errors_argument(L, 1, 2, "new", "option '%s' must be callable%s, got %s", name,
                  or_false ? " or false" : "", luaL_typename(L, -1));
}

static bool is_option(const char *name) {
  return strcmp(name, "action") == 0 || strcmp(name, "schedule") == 0 ||
         strcmp(name, "timeout") == 0;
}

static void check_options(lua_State *L) {
  if (lua_isnoneornil(L, 2)) return;
  if (!lua_istable(L, 2))
    errors_argument(L, 1, 2, "new", "options must be a table, got %s", luaL_typename(L, 2));
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    if (lua_type(L, -2) != LUA_TSTRING || !is_option(lua_tostring(L, -2)))
      errors_argument(L, 1, 2, "new", "unknown option '%s'", luaL_tolstring(L, -2, NULL));
    check_option(L, lua_tostring(L, -2));
    lua_pop(L, 1);
  }
}

static uint32_t check_parties(lua_State *L) {
  int64_t parties = 0;
  if (!compat_tointeger(L, 1, &parties) || parties < 1 || parties > MACHINE_MOST_PARTIES) {
    bool number = lua_type(L, 1) == LUA_TNUMBER;
    const char *got = number ? luaL_tolstring(L, 1, NULL) : luaL_typename(L, 1);
    errors_argument(L, 1, 1, "new", "parties must be an integer >= 1%s, got %s",
                    parties > MACHINE_MOST_PARTIES ? " and <= 2147483647" : "", got);
  }
  return (uint32_t)parties;
}

/* Pushes the option `name` of the table at index 2, if there is one. [-0, +1] */
static void push_option(lua_State *L, const char *name) {
  if (!lua_istable(L, 2)) {
    lua_pushnil(L);
    return;
  }
  lua_pushstring(L, name);
  lua_rawget(L, 2);
}

/* The option `schedule` of the new barrier at index 3, whose user value is at 4. */
static void set_schedule(lua_State *L, struct barrier *b) {
  push_option(L, "schedule");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(4));
    b->room.defers = lua_toboolean(L, -1);
    if (b->room.defers)
      lua_setfield(L, 4, "defers");
    else
      lua_pop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(3));
  }
  room_schedule_by(L, &b->room, 4);
}

/* The other options of the barrier at index 3. What fails later, it can keep. [-0, +2, m] */
static void set_others(lua_State *L, struct barrier *b) {
  push_option(L, "timeout");
  b->has_timeout = !lua_isnil(L, -1);
  b->timeout = (uint64_t)lua_tonumber(L, -1);
  push_option(L, "action");
  b->has_action = b->room.may_fail = !lua_isnil(L, -1);
  if (b->has_action) {
    lua_pushvalue(L, -1);
    lua_setfield(L, 4, "action");
    room_ensure_errors(L, 3);
  }
  if (b->has_action || b->has_timeout) room_ensure_field(L, 3, "reason");
}

int options_new(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  uint32_t parties = check_parties(L);
  struct barrier *b;
  if (!s->loop.bound) return luaL_error(L, "barrier.core is private; require \"barrier\"");
  errors_extra(L, 1, 3, 3, "new");
  check_options(L);
  lua_settop(L, 2);
  b = barrier_new(L, s, parties);
  compat_getuservalue(L, 3);
  set_schedule(L, b);
  if (lua_istable(L, 2)) set_others(L, b);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, 3);
  lua_settop(L, 3);
  return 1;
}
