#include "luv.h"

#include "pin.h"

static const char *const luv_names[] = {
    "new_timer", "new_idle", "timer_start", "timer_stop", "idle_start",  "idle_stop", "is_closing",
    "is_active", "has_ref",  "ref",         "now",        "update_time", "hrtime",    "close"};

const char *luv_bind(lua_State *L, int table, int uv) {
  for (int i = 0; UV_NEW_TIMER + i < UV_LAST; i++) {
    lua_getfield(L, uv, luv_names[i]);
    if (!lua_isfunction(L, -1)) {
      lua_pop(L, 1);
      return luv_names[i];
    }
    if (i == 0) pin_module_of(lua_tocfunction(L, -1));
    lua_rawseti(L, table, UV_NEW_TIMER + i);
  }
  return NULL;
}

bool luv_is_polling(lua_State *L, int uv) {
  bool newer = false;
  lua_getfield(L, uv, "version");
  if (lua_isfunction(L, -1)) {
    lua_call(L, 0, 1);
    newer = lua_tonumber(L, -1) >= 0x013000;
  }
  lua_pop(L, 1);
  return newer;
}

int luv_push(lua_State *L, int ref) {
  luaL_checkstack(L, 10, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  return lua_gettop(L);
}

void luv_call_handle(lua_State *L, int table, int function, int handle, int callback) {
  lua_rawgeti(L, table, function);
  lua_rawgeti(L, table, handle);
  if (callback) lua_rawgeti(L, table, callback);
  lua_call(L, callback ? 2 : 1, 0);
}

bool luv_ask_handle(lua_State *L, int table, int function, int handle) {
  bool answer;
  lua_rawgeti(L, table, function);
  lua_rawgeti(L, table, handle);
  lua_call(L, 1, 1);
  answer = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return answer;
}

bool luv_is_alive(lua_State *L, int table, int handle) {
  bool alive;
  lua_rawgeti(L, table, handle);
  alive = !lua_isnil(L, -1) && !luv_ask_handle(L, table, UV_IS_CLOSING, handle);
  lua_rawgeti(L, table, handle); /* a finalizer or hook may have made a new one */
  alive = alive || !lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return alive;
}
