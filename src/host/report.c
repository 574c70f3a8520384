#include "report.h"

#include "errors.h"

static int to_string(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  return 1;
}

int report_handler(lua_State *L) {
  lua_State *co = lua_tothread(L, 2);
  lua_settop(L, 1);
  lua_pushcfunction(L, to_string);
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) { /* its __tostring has failed */
    const char *problem = lua_isstring(L, -1) ? lua_tostring(L, -1) : luaL_typename(L, -1);
    lua_pushfstring(L, "(error object is a %s value; its __tostring raised: %s)",
                    luaL_typename(L, 1), problem);
  }
  luaL_traceback(L, co ? co : L, lua_tostring(L, -1), co ? 0 : 1);
  return 1;
}

void report_add(lua_State *L, int slot) {
  if (!lua_isstring(L, -1)) { /* report_handler itself has failed */
    lua_pop(L, 1);            /* no coverage unless every allocation fails once */
    lua_pushliteral(L, "(error in error handling)");
  }
  if (!lua_isnil(L, slot)) {
    lua_pushvalue(L, slot);
    lua_pushliteral(L, "\n");
    lua_pushvalue(L, -3);
    lua_concat(L, 3);
    lua_remove(L, -2);
  }
  lua_replace(L, slot);
}

void report_error(lua_State *L, int slot, int co) {
  if (co) co = lua_absindex(L, co);
  compat_pushcfunction(L, report_handler);
  lua_insert(L, -2);
  if (co)
    lua_pushvalue(L, co);
  else
    lua_pushnil(L);
  lua_pcall(L, 2, 1, 0);
  report_add(L, slot);
}

void report_death(lua_State *L, int slot, lua_State *co) {
  int thread = lua_gettop(L);
  lua_xmove(co, L, 1);
  lua_pushvalue(L, -1);
  lua_xmove(L, co, 1);
  if (!errors_cancels(L, co)) {
    lua_pushvalue(L, -1);
    report_error(L, slot, thread);
  }
  if (COMPAT_CLOSE) {
    compat_closethread(co);
    if (lua_gettop(co) > 0) {
      lua_xmove(co, L, 1);
      if (!lua_rawequal(L, -1, -2)) {
        lua_pushvalue(L, -1);
        report_error(L, slot, 0);
      }
    }
  }
  lua_settop(L, thread);
}
