#include "errors.h"

#include <stdarg.h>

static const char *const class_names[] = {"BrokenBarrierError", "CancelledError", "TimeoutError"};

#define CLASSES ((int)(sizeof(class_names) / sizeof(class_names[0])))

/* "name: message", and ": reason" if there is one. */
static int error_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "name");
  luaL_tolstring(L, -1, NULL);
  lua_pushliteral(L, ": ");
  lua_getfield(L, 1, "message");
  luaL_tolstring(L, -1, NULL);
  lua_remove(L, -2);
  lua_getfield(L, 1, "reason");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_concat(L, 3);
  } else {
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    lua_pushliteral(L, ": ");
    lua_insert(L, -2);
    lua_concat(L, 5);
  }
  return 1;
}

void errors_open(lua_State *L) {
  for (int c = 0; c < CLASSES; c++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, class_names[c]);
    lua_setfield(L, -2, "__name");
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &class_names[c]);
    lua_setfield(L, -2, class_names[c]);
  }
}

void errors_push(lua_State *L, enum error_class c, const char *message, int barrier, int reason) {
  barrier = barrier ? lua_absindex(L, barrier) : 0;
  reason = reason ? lua_absindex(L, reason) : 0;
  lua_createtable(L, 0, 4);
  lua_pushstring(L, class_names[c]);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, message);
  lua_setfield(L, -2, "message");
  if (barrier) {
    lua_pushvalue(L, barrier);
    lua_setfield(L, -2, "barrier");
  }
  if (reason) {
    lua_pushvalue(L, reason);
    lua_setfield(L, -2, "reason");
  }
  lua_rawgetp(L, LUA_REGISTRYINDEX, &class_names[c]);
  lua_setmetatable(L, -2);
}

int errors_argument(lua_State *L, int level, int arg, const char *name, const char *fmt, ...) {
  va_list args;
  luaL_where(L, level);
  lua_pushfstring(L, "bad argument #%d to '%s' (", arg, name);
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_pushliteral(L, ")");
  lua_concat(L, 4);
  return lua_error(L);
}

int errors_raise(lua_State *L, int level, const char *fmt, ...) {
  va_list args;
  luaL_where(L, level);
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_concat(L, 2);
  return lua_error(L);
}

void errors_memory(lua_State *L, size_t size) {
  lua_newuserdata(L, size);
  lua_pop(L, 1);
}
