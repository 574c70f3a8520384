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

/* Either operand may be the error; the other is a string, or another error. */
static int error_concat(lua_State *L) {
  lua_settop(L, 2);
  for (int i = 1; i <= 2; i++)
    if (!lua_isstring(L, i) && !luaL_getmetafield(L, i, "__concat"))
      return luaL_error(L, "attempt to concatenate a %s value", luaL_typename(L, i));
  luaL_tolstring(L, 1, NULL);
  luaL_tolstring(L, 2, NULL);
  lua_concat(L, 2);
  return 1;
}

static const char cancels_key = 'c'; /* its address is a key of the registry */

/* Makes the table that maps each error that cancels a coroutine to that coroutine, and keeps
** neither alive. [-0, +0] */
static void open_cancels(lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "kv");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &cancels_key);
}

void errors_open(lua_State *L) {
  open_cancels(L);
  for (int c = 0; c < CLASSES; c++) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, class_names[c]);
    lua_setfield(L, -2, "__name");
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, error_concat);
    lua_setfield(L, -2, "__concat");
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

void errors_mark_cancel(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &cancels_key);
  lua_pushvalue(L, -2);
  lua_pushthread(L);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

bool errors_cancels(lua_State *L, const lua_State *co) {
  bool cancels;
  if (!lua_istable(L, -1)) return false;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &cancels_key);
  lua_pushvalue(L, -2);
  lua_rawget(L, -2);
  cancels = lua_tothread(L, -1) == co;
  lua_pop(L, 2);
  return cancels;
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

void errors_extra(lua_State *L, int level, int first, int arg, const char *name) {
  int top = lua_gettop(L);
  for (int i = first; i <= top; i++)
    if (!lua_isnil(L, i))
      errors_argument(L, level, arg + i - first, name, "no such argument is taken, got %s",
                      luaL_typename(L, i));
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
