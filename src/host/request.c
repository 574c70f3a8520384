#include "request.h"

#include "errors.h"

bool is_callable(lua_State *L, int i) {
  if (lua_isfunction(L, i)) return true;
  if (lua_type(L, i) > LUA_TTHREAD) return false; /* LuaJIT's cdata: each has a __call */
  if (!luaL_getmetafield(L, i, "__call")) return false;
  lua_pop(L, 1);
  return true;
}

static void check_timeout(lua_State *L, struct request *r) {
  int64_t timeout = 0;
  if (!compat_tointeger(L, REQUEST_FIRST_ARG, &timeout) || timeout < 0) {
    const char *got = luaL_tolstring(L, REQUEST_FIRST_ARG, NULL);
    errors_argument(L, REQUEST_LEVEL, 1, r->name,
                    "timeout must be an integer >= 0" COMPAT_MOST ", in milliseconds, got %s", got);
  }
  r->timed = true;
  r->timeout = (uint64_t)timeout;
}

void request_check(lua_State *L, struct request *r) {
  int second = REQUEST_FIRST_ARG + 1;
  int type = lua_type(L, REQUEST_FIRST_ARG);
  if (type == LUA_TNUMBER)
    check_timeout(L, r);
  else if (type > LUA_TNIL && is_callable(L, REQUEST_FIRST_ARG))
    r->callback = REQUEST_FIRST_ARG;
  else if (type > LUA_TNIL)
    errors_argument(L, REQUEST_LEVEL, 1, r->name, "timeout or callback expected, got %s",
                    luaL_typename(L, REQUEST_FIRST_ARG));
  errors_extra(L, REQUEST_LEVEL, second + 1, 3, r->name);
  if (lua_isnoneornil(L, second)) return;
  if (r->callback)
    errors_argument(L, REQUEST_LEVEL, 2, r->name, "nothing comes after the callback");
  if (!is_callable(L, second))
    errors_argument(L, REQUEST_LEVEL, 2, r->name, "callback must be callable, got %s",
                    luaL_typename(L, second));
  r->callback = second;
}
