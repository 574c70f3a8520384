#include "cancels.h"

static const char nexts_key = 'n'; /* its address is a key of the registry */

/* Pushes the table of these coroutines, which keeps none of them alive. [-0, +1, m] */
static void push_nexts(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &nexts_key);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &nexts_key);
}

/* True if the coroutine on the top is in the table below it. [-1, +0] */
static bool has_next(lua_State *L) {
  bool has;
  lua_rawget(L, -2);
  has = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return has;
}

bool cancels_take(lua_State *L, struct scheduler *s) {
  bool taken;
  push_nexts(L);
  lua_pushthread(L);
  taken = has_next(L);
  if (taken) {
    lua_pushthread(L);
    lua_pushnil(L);
    lua_rawset(L, -3);
  }
  lua_pushnil(L);
  s->cancels = lua_next(L, -2) != 0;
  lua_pop(L, s->cancels ? 3 : 1);
  return taken;
}

int cancels_next(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  luaL_checktype(L, 1, LUA_TTHREAD);
  lua_settop(L, 2);
  push_nexts(L);
  lua_pushvalue(L, 1);
  if (lua_isnil(L, 2)) {
    lua_pushboolean(L, has_next(L));
    return 1;
  }
  if (lua_toboolean(L, 2)) {
    lua_pushboolean(L, 1);
    s->cancels = true;
  } else {
    lua_pushnil(L);
  }
  lua_rawset(L, 3);
  return 0;
}
