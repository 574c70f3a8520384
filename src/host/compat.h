/*
** The differences between the Lua versions, and nothing else. Where a function
** of a newer Lua is missing, it is here under its own name; what no Lua has
** under one name starts with compat_.
**
** Code for 5.1 uses nothing but the API of 5.1, so that a build against its
** headers also loads into LuaJIT. One for LuaJIT is faster.
*/
#ifndef BARRIER_COMPAT_H
#define BARRIER_COMPAT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

#include <lauxlib.h>

#include "internal.h"

/* True if a C function can yield with a continuation, and ask whether it can yield.
** Otherwise lua/barrier/init.lua wraps `wait` (see coroutine.h). */
#define COMPAT_YIELDK (LUA_VERSION_NUM >= 503)

/* True if a C function can ask whether it can yield. LuaJIT 2.1 has Lua 5.3's function, which is
** much cheaper than a call of coroutine.isyieldable: its headers have LUA_OK, too, and build.lua
** defines BARRIER_LUAJIT. Such a build does not load into PUC Lua 5.1. */
#if LUA_VERSION_NUM == 501 && (defined(LUA_OK) || defined(BARRIER_LUAJIT))
#define COMPAT_LUAJIT 1
#else
#define COMPAT_LUAJIT 0
#endif
#define COMPAT_ISYIELDABLE (COMPAT_YIELDK || COMPAT_LUAJIT)

/* To-be-closed variables and coroutine.close. */
#define COMPAT_CLOSE (LUA_VERSION_NUM >= 504)

#if LUA_VERSION_NUM >= 503
typedef lua_Integer compat_index; /* of lua_rawgeti, lua_rawseti */
#define COMPAT_MOST               /* the bound of integers, in error messages */
#else
typedef int compat_index;
#define COMPAT_MOST " and <= 2^53"
#ifndef LUA_OK
#define LUA_OK 0
#endif
#endif

#if LUA_VERSION_NUM < 502

#define lua_rawlen(L, i) lua_objlen(L, i)
#define lua_absindex(L, i) ((i) > 0 || (i) <= LUA_REGISTRYINDEX ? (i) : lua_gettop(L) + (i) + 1)

/* LuaJIT's headers have some of these, PUC's do not. */
#undef luaL_setfuncs
#define luaL_setfuncs compat_setfuncs
#undef luaL_traceback
#define luaL_traceback compat_traceback

/* [-nup, +0] */
static inline void luaL_setfuncs(lua_State *L, const luaL_Reg *l, int nup) {
  for (; l->name; l++) {
    for (int i = 0; i < nup; i++) lua_pushvalue(L, -nup);
    lua_pushcclosure(L, l->func, nup);
    lua_setfield(L, -(nup + 2), l->name);
  }
  lua_pop(L, nup);
}

/* [-0, +1] */
static inline void lua_rawgetp(lua_State *L, int i, const void *p) {
  i = lua_absindex(L, i);
  lua_pushlightuserdata(L, (void *)(uintptr_t)p);
  lua_rawget(L, i);
}

/* [-1, +0] */
static inline void lua_rawsetp(lua_State *L, int i, const void *p) {
  i = lua_absindex(L, i);
  lua_pushlightuserdata(L, (void *)(uintptr_t)p);
  lua_insert(L, -2);
  lua_rawset(L, i);
}

/* [-0, +1] */
static inline const char *luaL_tolstring(lua_State *L, int i, size_t *len) {
  i = lua_absindex(L, i);
  if (luaL_callmeta(L, i, "__tostring")) {
    if (!lua_isstring(L, -1)) luaL_error(L, "'__tostring' must return a string");
  } else if (lua_type(L, i) == LUA_TNUMBER || lua_type(L, i) == LUA_TSTRING) {
    lua_pushvalue(L, i);
  } else if (lua_isboolean(L, i)) {
    lua_pushstring(L, lua_toboolean(L, i) ? "true" : "false");
  } else if (lua_isnil(L, i)) {
    lua_pushliteral(L, "nil");
  } else {
    lua_pushfstring(L, "%s: %p", luaL_typename(L, i), lua_topointer(L, i));
  }
  return lua_tolstring(L, -1, len);
}

/* Through debug.traceback; without the debug library the message as it is.
** [-0, +1] */
static inline void luaL_traceback(lua_State *L, lua_State *L1, const char *msg, int level) {
  lua_getglobal(L, "debug");
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "traceback");
    lua_remove(L, -2);
  }
  if (!lua_isfunction(L, -1)) {
    lua_pop(L, 1);
    lua_pushstring(L, msg);
    return;
  }
  if (L1 != L) {
    lua_pushthread(L1);
    lua_xmove(L1, L, 1);
  }
  lua_pushstring(L, msg);
  lua_pushinteger(L, L1 == L ? level + 1 : level);
  lua_call(L, L1 == L ? 2 : 3, 1);
}

#endif

/* A C function without upvalues, always the same one. Lua 5.1 makes a new closure
** whenever one is pushed, so there it is kept in the registry. [-0, +1] */
static inline void compat_pushcfunction(lua_State *L, lua_CFunction function) {
#if LUA_VERSION_NUM >= 502
  lua_pushcfunction(L, function);
#else
  union {
    lua_CFunction function;
    const void *key;
  } u;
  u.key = NULL;
  u.function = function;
  lua_rawgetp(L, LUA_REGISTRYINDEX, u.key);
  if (lua_isfunction(L, -1)) return;
  lua_pop(L, 1);
  lua_pushcfunction(L, function);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, u.key);
#endif
}

/* The table on the top becomes the user value. [-1, +0] */
static inline void compat_setuservalue(lua_State *L, int i) {
#if LUA_VERSION_NUM >= 504
  lua_setiuservalue(L, i, 1);
#elif LUA_VERSION_NUM >= 502
  lua_setuservalue(L, i);
#else
  lua_setfenv(L, i);
#endif
}

/* A full userdata with one user value, a new table with room for `narr` elements
** and `nrec` fields. [-0, +1] */
static inline void *compat_newuserdata(lua_State *L, size_t size, int narr, int nrec) {
  void *p;
#if LUA_VERSION_NUM >= 504
  p = lua_newuserdatauv(L, size, 1);
#else
  p = lua_newuserdata(L, size);
#endif
  lua_createtable(L, narr, nrec);
  compat_setuservalue(L, -2);
  return p;
}

/* The user value; false if it is no table (any more). [-0, +1] */
static inline bool compat_getuservalue(lua_State *L, int i) {
#if LUA_VERSION_NUM >= 504
  return lua_getiuservalue(L, i, 1) == LUA_TTABLE;
#else
#if LUA_VERSION_NUM >= 502
  lua_getuservalue(L, i);
#else
  lua_getfenv(L, i);
#endif
  return lua_istable(L, -1);
#endif
}

/* A full userdata that has two values, the ones at the absolute indices `first` and `second`. Lua
** 5.4 needs no table for them, which is half of the time that it takes. [-0, +1] */
static inline void *compat_newpair(lua_State *L, size_t size, int first, int second) {
#if LUA_VERSION_NUM >= 504
  void *p = lua_newuserdatauv(L, size, 2);
  lua_pushvalue(L, first);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, second);
  lua_setiuservalue(L, -2, 2);
#else
  void *p = compat_newuserdata(L, size, 2, 0);
  compat_getuservalue(L, -1);
  lua_pushvalue(L, first);
  lua_rawseti(L, -2, 1);
  lua_pushvalue(L, second);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 1);
#endif
  return p;
}

/* Pushes value 1 or 2; nil if the debug library took it away. [-0, +1] */
static inline void compat_getvalue(lua_State *L, int i, int n) {
#if LUA_VERSION_NUM >= 504
  lua_getiuservalue(L, i, n);
#else
  if (compat_getuservalue(L, i))
    lua_rawgeti(L, -1, n);
  else
    lua_pushnil(L); /* no coverage on Lua 5.1, where it is always a table */
  lua_remove(L, -2);
#endif
}

/* The same, which becomes false. [-0, +1] */
static inline void compat_takevalue(lua_State *L, int i, int n) {
#if LUA_VERSION_NUM >= 504
  i = lua_absindex(L, i);
  lua_getiuservalue(L, i, n);
  lua_pushboolean(L, 0);
  lua_setiuservalue(L, i, n);
#else
  if (compat_getuservalue(L, i)) {
    lua_rawgeti(L, -1, n);
    lua_pushboolean(L, 0);
    lua_rawseti(L, -3, n);
  } else {
    lua_pushnil(L); /* no coverage on Lua 5.1, as above */
  }
  lua_remove(L, -2);
#endif
}

/* lua_rawget that tells the type of the value, as from Lua 5.3 on. */
static inline int compat_rawget(lua_State *L, int i) {
#if LUA_VERSION_NUM >= 503
  return lua_rawget(L, i);
#else
  lua_rawget(L, i);
  return lua_type(L, -1);
#endif
}

/* The integer that a number (not a string) stands for; false if none does. Before Lua
** 5.3 a lua_Integer may have 32 bits, so it is not used there. */
static inline bool compat_tointeger(lua_State *L, int i, int64_t *value) {
  if (lua_type(L, i) != LUA_TNUMBER) return false;
#if LUA_VERSION_NUM >= 503
  {
    int isnum;
    *value = (int64_t)lua_tointegerx(L, i, &isnum);
    return isnum != 0;
  }
#else
  {
    lua_Number n = lua_tonumber(L, i);
    if (!(n >= -9007199254740992.0 && n <= 9007199254740992.0)) return false;
    *value = (int64_t)n;
    return (lua_Number)*value == n;
  }
#endif
}

/* A count that may be larger than a lua_Integer of 32 bits. [-0, +1] */
static inline void compat_pushcount(lua_State *L, uint64_t n) {
#if LUA_VERSION_NUM >= 503
  lua_pushinteger(L, (lua_Integer)n);
#else
  lua_pushnumber(L, (lua_Number)n);
#endif
}

/* Resumes `co` with `nargs` values from its top; what it yields or returns is
** dropped. */
static inline int compat_resume(lua_State *co, lua_State *from, int nargs) {
  int status;
#if LUA_VERSION_NUM >= 504
  int n = 0; /* not set where it cannot be resumed */
  status = lua_resume(co, from, nargs, &n);
  if (n && status <= LUA_YIELD) lua_pop(co, n);
#else
#if LUA_VERSION_NUM >= 502
  status = lua_resume(co, from, nargs);
#else
  (void)from;
  status = lua_resume(co, nargs);
#endif
  if (status <= LUA_YIELD && lua_gettop(co)) lua_settop(co, 0); /* it costs something */
#endif
  return status;
}

#if LUA_VERSION_NUM == 501
static inline int compat_nothing(lua_State *L) {
  (void)L;
  return 0;
}
#endif

/* Raises the error on the top in a function that has resumed coroutines. LuaJIT
** takes the last of them for the one that runs until something is called; where a
** pcall of Lua caught the error, its traces would crash (LuaJIT issue 1066). */
static inline int compat_error(lua_State *L) {
#if LUA_VERSION_NUM == 501
  lua_pushcfunction(L, compat_nothing);
  lua_call(L, 0, 0);
#endif
  return lua_error(L);
}

/* Closes the pending variables of a coroutine that died, with its error on its
** top; afterwards the error that remains is there. */
static inline void compat_closethread(lua_State *co) {
#if COMPAT_CLOSE
  lua_resetthread(co); /* every 5.4 has it; lua_closethread came with 5.4.6 */
#else
  (void)co;
#endif
}

/* {=== whether the running coroutine can yield === */

#if !COMPAT_ISYIELDABLE

#if LUA_VERSION_NUM == 502

static int compat_raise_nil(lua_State *L) {
  lua_pushnil(L);
  return lua_error(L);
}

static int compat_can_yield(lua_State *L) {
  lua_pushboolean(L, 1);
  return 1;
}

/* Lua 5.2 calls the continuation of a protected call that failed only where the
** coroutine can yield. */
static int compat_isyieldable(lua_State *L) {
  lua_pushcfunction(L, compat_raise_nil);
  lua_pcallk(L, 0, 0, 0, 0, compat_can_yield);
  lua_pushboolean(L, 0);
  return 1;
}

#else

/* Lua 5.1 can yield where no C function, iterator or metamethod has called Lua. It
** can't tell whether a metamethod has; then lua_yield itself raises the error. */
static int compat_isyieldable(lua_State *L) {
  lua_Debug ar;
  bool can = !lua_pushthread(L);
  for (int level = 1; can && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "nS", &ar);
    can = *ar.what != 'C' && !(ar.name && strcmp(ar.name, "(for generator)") == 0);
  }
  lua_pushboolean(L, can);
  return 1;
}

#endif

/* Pushes the function that tells whether the running coroutine can yield: LuaJIT has
** coroutine.isyieldable. [-0, +1] */
static inline void compat_pushisyieldable(lua_State *L) {
#if LUA_VERSION_NUM == 501
  lua_getglobal(L, "coroutine");
  lua_getfield(L, -1, "isyieldable");
  lua_remove(L, -2);
  if (lua_isfunction(L, -1)) return;
  lua_pop(L, 1);
#endif
  lua_pushcfunction(L, compat_isyieldable);
}

#endif

/* }=== */

#endif
