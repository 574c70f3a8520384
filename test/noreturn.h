/*
** For gcc -fanalyzer, before core.c: Lua's functions that raise errors don't return.
*/
#include <lua.h>

#include <lauxlib.h>

extern int(lua_error)(lua_State *L) __attribute__((noreturn));
extern int(luaL_error)(lua_State *L, const char *fmt, ...) __attribute__((noreturn));
