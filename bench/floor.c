/*
** The floor under every barrier of coroutines: resuming each of them in turn from
** a C loop. What coroutine.yield() costs in that loop, no barrier can save.
**
** floor.run(coroutines, trips)
*/
#include <lua.h>

#include <lauxlib.h>

static int run(lua_State *L) {
  int count, trips = (int)luaL_checkinteger(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
#if LUA_VERSION_NUM >= 502
  count = (int)lua_rawlen(L, 1);
#else
  count = (int)lua_objlen(L, 1);
#endif
  while (trips-- > 0) {
    for (int i = 1; i <= count; i++) {
      lua_State *co;
      int status;
      lua_rawgeti(L, 1, i);
      co = lua_tothread(L, -1);
#if LUA_VERSION_NUM >= 504
      {
        int results;
        status = lua_resume(co, L, 0, &results);
        lua_pop(co, results);
      }
#elif LUA_VERSION_NUM >= 502
      status = lua_resume(co, L, 0);
      lua_settop(co, 0);
#else
      status = lua_resume(co, 0);
      lua_settop(co, 0);
#endif
      if (status != LUA_YIELD) return luaL_error(L, "a coroutine ended");
      lua_pop(L, 1);
    }
  }
  return 0;
}

LUALIB_API int luaopen_floor(lua_State *L) {
  lua_newtable(L);
  lua_pushcfunction(L, run);
  lua_setfield(L, -2, "run");
  return 1;
}
