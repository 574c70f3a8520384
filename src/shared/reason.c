#include "reason.h"

#include <stdlib.h>

bool reason_may_travel(lua_State *L, int i) {
  int type = lua_type(L, i);
  return type <= LUA_TBOOLEAN || type == LUA_TNUMBER || type == LUA_TSTRING;
}

static void set_number(lua_State *L, int i, struct hub_reason *r) {
#if LUA_VERSION_NUM >= 503
  if (lua_isinteger(L, i)) {
    r->kind = HUB_INTEGER;
    r->value.integer = lua_tointeger(L, i);
    return;
  }
#endif
  r->kind = HUB_NUMBER;
  r->value.number = (double)lua_tonumber(L, i);
}

bool reason_make(lua_State *L, int i, struct hub_reason **reason) {
  struct hub_reason *r;
  bool is_string = lua_type(L, i) == LUA_TSTRING;
  size_t length = is_string ? lua_rawlen(L, i) : 0;
  *reason = NULL;
  if (lua_isnoneornil(L, i)) return true;
  *reason = r = malloc(sizeof(*r) + length);
  if (r == NULL) return false;
  r->references = 1;
  if (is_string) {
    r->kind = HUB_STRING;
    r->value.length = length;
    memcpy(r->string, lua_tostring(L, i), length);
  } else if (lua_isboolean(L, i)) {
    r->kind = HUB_BOOLEAN;
    r->value.boolean = lua_toboolean(L, i) != 0;
  } else {
    set_number(L, i, r);
  }
  return true;
}

void reason_push(lua_State *L, const struct hub_reason *reason) {
  if (reason == NULL)
    lua_pushnil(L);
  else if (reason->kind == HUB_BOOLEAN)
    lua_pushboolean(L, reason->value.boolean);
#if LUA_VERSION_NUM >= 503
  else if (reason->kind == HUB_INTEGER)
    lua_pushinteger(L, (lua_Integer)reason->value.integer);
#endif
  else if (reason->kind == HUB_NUMBER)
    lua_pushnumber(L, (lua_Number)reason->value.number);
  else
    lua_pushlstring(L, reason->string, reason->value.length);
}
