#include "reason.h"

#include <string.h>

int shared_memory_error(lua_State *L) { return luaL_error(L, "not enough memory"); }

static struct shared_reason *shared_make_reason(lua_State *L, enum shared_kind kind,
                                                size_t length) {
  struct shared_reason *reason = shared_new_reason(kind, length);
  if (reason == NULL) shared_memory_error(L);
  return reason;
}

struct shared_reason *shared_to_reason(lua_State *L, int i) {
  struct shared_reason *reason = NULL;
  switch (lua_type(L, i)) {
    case LUA_TBOOLEAN:
      reason = shared_make_reason(L, SHARED_BOOLEAN, 0);
      reason->value.boolean = lua_toboolean(L, i) != 0;
      break;
    case LUA_TNUMBER:
#if LUA_VERSION_NUM >= 503
      if (lua_isinteger(L, i)) {
        reason = shared_make_reason(L, SHARED_INTEGER, 0);
        reason->value.integer = lua_tointeger(L, i);
        break;
      }
#endif
      reason = shared_make_reason(L, SHARED_NUMBER, 0);
      reason->value.number = (double)lua_tonumber(L, i);
      break;
    case LUA_TSTRING: {
      size_t length;
      const char *string = lua_tolstring(L, i, &length);
      reason = shared_make_reason(L, SHARED_STRING, length);
      memcpy(reason->string, string, length);
      break;
    }
    default: break;
  }
  return reason;
}

void shared_push_reason(lua_State *L, const struct shared_reason *reason) {
  if (reason == NULL)
    lua_pushnil(L);
  else if (reason->kind == SHARED_BOOLEAN)
    lua_pushboolean(L, reason->value.boolean);
#if LUA_VERSION_NUM >= 503
  else if (reason->kind == SHARED_INTEGER)
    lua_pushinteger(L, (lua_Integer)reason->value.integer);
#endif
  else if (reason->kind == SHARED_NUMBER)
    lua_pushnumber(L, (lua_Number)reason->value.number);
  else
    lua_pushlstring(L, reason->string, reason->value.length);
}
