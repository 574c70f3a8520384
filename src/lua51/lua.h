/*
** The C API of Lua 5.1, declared once more, so that lua/barrier/build.lua can compile the core for
** Neovim where no headers of Lua are installed. These are facts of a binary interface that is
** frozen: Lua 5.1 got its last release in 2012, and LuaJIT, Neovim's Lua, keeps to it. All of it
** is here but what 5.1 calls deprecated. tools/check-lua51 compares it with the real headers.
*/
#ifndef BARRIER_LUA51_LUA_H
#define BARRIER_LUA51_LUA_H

#include <stdarg.h>
#include <stddef.h>

#define LUA_VERSION "Lua 5.1"
#define LUA_VERSION_NUM 501
#define LUA_SIGNATURE "\033Lua"
#define LUA_MULTRET (-1)
#define LUA_MINSTACK 20

/* Pseudo-indices. */
#define LUA_REGISTRYINDEX (-10000)
#define LUA_ENVIRONINDEX (-10001)
#define LUA_GLOBALSINDEX (-10002)
#define lua_upvalueindex(i) (LUA_GLOBALSINDEX - (i))

/* The status of a thread, or of a call. 0: all is well. */
#define LUA_YIELD 1
#define LUA_ERRRUN 2
#define LUA_ERRSYNTAX 3
#define LUA_ERRMEM 4
#define LUA_ERRERR 5

#define LUA_TNONE (-1)
#define LUA_TNIL 0
#define LUA_TBOOLEAN 1
#define LUA_TLIGHTUSERDATA 2
#define LUA_TNUMBER 3
#define LUA_TSTRING 4
#define LUA_TTABLE 5
#define LUA_TFUNCTION 6
#define LUA_TUSERDATA 7
#define LUA_TTHREAD 8

typedef struct lua_State lua_State;
typedef double lua_Number;
typedef ptrdiff_t lua_Integer;

typedef int (*lua_CFunction)(lua_State *L);
typedef const char *(*lua_Reader)(lua_State *L, void *data, size_t *size);
typedef int (*lua_Writer)(lua_State *L, const void *piece, size_t size, void *data);
typedef void *(*lua_Alloc)(void *data, void *block, size_t old_size, size_t new_size);

/* States and threads. */
extern lua_State *lua_newstate(lua_Alloc f, void *data);
extern void lua_close(lua_State *L);
extern lua_State *lua_newthread(lua_State *L);
extern lua_CFunction lua_atpanic(lua_State *L, lua_CFunction f);

/* The stack. */
extern int lua_gettop(lua_State *L);
extern void lua_settop(lua_State *L, int i);
extern void lua_pushvalue(lua_State *L, int i);
extern void lua_remove(lua_State *L, int i);
extern void lua_insert(lua_State *L, int i);
extern void lua_replace(lua_State *L, int i);
extern int lua_checkstack(lua_State *L, int n);
extern void lua_xmove(lua_State *from, lua_State *to, int n);

/* From the stack to C. */
extern int lua_type(lua_State *L, int i);
extern const char *lua_typename(lua_State *L, int type);
extern int lua_isnumber(lua_State *L, int i);
extern int lua_isstring(lua_State *L, int i);
extern int lua_iscfunction(lua_State *L, int i);
extern int lua_isuserdata(lua_State *L, int i);
extern int lua_equal(lua_State *L, int i, int j);
extern int lua_rawequal(lua_State *L, int i, int j);
extern int lua_lessthan(lua_State *L, int i, int j);
extern lua_Number lua_tonumber(lua_State *L, int i);
extern lua_Integer lua_tointeger(lua_State *L, int i);
extern int lua_toboolean(lua_State *L, int i);
extern const char *lua_tolstring(lua_State *L, int i, size_t *len);
extern size_t lua_objlen(lua_State *L, int i);
extern lua_CFunction lua_tocfunction(lua_State *L, int i);
extern void *lua_touserdata(lua_State *L, int i);
extern lua_State *lua_tothread(lua_State *L, int i);
extern const void *lua_topointer(lua_State *L, int i);

/* From C to the stack. */
extern void lua_pushnil(lua_State *L);
extern void lua_pushnumber(lua_State *L, lua_Number n);
extern void lua_pushinteger(lua_State *L, lua_Integer n);
extern void lua_pushlstring(lua_State *L, const char *s, size_t len);
extern void lua_pushstring(lua_State *L, const char *s);
extern const char *lua_pushvfstring(lua_State *L, const char *format, va_list arguments);
extern const char *lua_pushfstring(lua_State *L, const char *format, ...);
extern void lua_pushcclosure(lua_State *L, lua_CFunction f, int n);
extern void lua_pushboolean(lua_State *L, int b);
extern void lua_pushlightuserdata(lua_State *L, void *p);
extern int lua_pushthread(lua_State *L);

/* Tables, userdata, environments. */
extern void lua_createtable(lua_State *L, int narr, int nrec);
extern void *lua_newuserdata(lua_State *L, size_t size);
extern void lua_gettable(lua_State *L, int i);
extern void lua_getfield(lua_State *L, int i, const char *key);
extern void lua_rawget(lua_State *L, int i);
extern void lua_rawgeti(lua_State *L, int i, int n);
extern int lua_getmetatable(lua_State *L, int i);
extern void lua_getfenv(lua_State *L, int i);
extern void lua_settable(lua_State *L, int i);
extern void lua_setfield(lua_State *L, int i, const char *key);
extern void lua_rawset(lua_State *L, int i);
extern void lua_rawseti(lua_State *L, int i, int n);
extern int lua_setmetatable(lua_State *L, int i);
extern int lua_setfenv(lua_State *L, int i);
extern int lua_next(lua_State *L, int i);
extern void lua_concat(lua_State *L, int n);

/* Calls, coroutines, errors. */
extern void lua_call(lua_State *L, int nargs, int nresults);
extern int lua_pcall(lua_State *L, int nargs, int nresults, int handler);
extern int lua_cpcall(lua_State *L, lua_CFunction f, void *data);
extern int lua_load(lua_State *L, lua_Reader reader, void *data, const char *name);
extern int lua_dump(lua_State *L, lua_Writer writer, void *data);
extern int lua_yield(lua_State *L, int nresults);
#ifdef BARRIER_LUAJIT
extern int lua_isyieldable(lua_State *L);
#endif
extern int lua_resume(lua_State *L, int nargs);
extern int lua_status(lua_State *L);
extern int lua_error(lua_State *L);

/* Memory. */
#define LUA_GCSTOP 0
#define LUA_GCRESTART 1
#define LUA_GCCOLLECT 2
#define LUA_GCCOUNT 3
#define LUA_GCCOUNTB 4
#define LUA_GCSTEP 5
#define LUA_GCSETPAUSE 6
#define LUA_GCSETSTEPMUL 7

extern int lua_gc(lua_State *L, int what, int data);
extern lua_Alloc lua_getallocf(lua_State *L, void **data);
extern void lua_setallocf(lua_State *L, lua_Alloc f, void *data);

#define lua_pop(L, n) lua_settop(L, -(n)-1)
#define lua_newtable(L) lua_createtable(L, 0, 0)
#define lua_pushcfunction(L, f) lua_pushcclosure(L, f, 0)
#define lua_pushliteral(L, s) lua_pushlstring(L, "" s, sizeof(s) - 1)
#define lua_tostring(L, i) lua_tolstring(L, i, NULL)
#define lua_strlen(L, i) lua_objlen(L, i)
#define lua_getglobal(L, name) lua_getfield(L, LUA_GLOBALSINDEX, name)
#define lua_setglobal(L, name) lua_setfield(L, LUA_GLOBALSINDEX, name)
#define lua_register(L, name, f) (lua_pushcfunction(L, f), lua_setglobal(L, name))

#define lua_isnone(L, i) (lua_type(L, i) == LUA_TNONE)
#define lua_isnil(L, i) (lua_type(L, i) == LUA_TNIL)
#define lua_isnoneornil(L, i) (lua_type(L, i) <= LUA_TNIL)
#define lua_isboolean(L, i) (lua_type(L, i) == LUA_TBOOLEAN)
#define lua_islightuserdata(L, i) (lua_type(L, i) == LUA_TLIGHTUSERDATA)
#define lua_istable(L, i) (lua_type(L, i) == LUA_TTABLE)
#define lua_isfunction(L, i) (lua_type(L, i) == LUA_TFUNCTION)
#define lua_isthread(L, i) (lua_type(L, i) == LUA_TTHREAD)

/* Debugging. */
#define LUA_HOOKCALL 0
#define LUA_HOOKRET 1
#define LUA_HOOKLINE 2
#define LUA_HOOKCOUNT 3
#define LUA_HOOKTAILRET 4

#define LUA_MASKCALL (1 << LUA_HOOKCALL)
#define LUA_MASKRET (1 << LUA_HOOKRET)
#define LUA_MASKLINE (1 << LUA_HOOKLINE)
#define LUA_MASKCOUNT (1 << LUA_HOOKCOUNT)

#define LUA_IDSIZE 60

typedef struct lua_Debug {
  int event;
  const char *name;
  const char *namewhat;
  const char *what;
  const char *source;
  int currentline;
  int nups;
  int linedefined;
  int lastlinedefined;
  char short_src[LUA_IDSIZE];
  int i_ci; /* Lua's own */
} lua_Debug;

typedef void (*lua_Hook)(lua_State *L, lua_Debug *ar);

extern int lua_getstack(lua_State *L, int level, lua_Debug *ar);
extern int lua_getinfo(lua_State *L, const char *what, lua_Debug *ar);
extern const char *lua_getlocal(lua_State *L, const lua_Debug *ar, int n);
extern const char *lua_setlocal(lua_State *L, const lua_Debug *ar, int n);
extern const char *lua_getupvalue(lua_State *L, int i, int n);
extern const char *lua_setupvalue(lua_State *L, int i, int n);
extern int lua_sethook(lua_State *L, lua_Hook f, int mask, int count);
extern lua_Hook lua_gethook(lua_State *L);
extern int lua_gethookmask(lua_State *L);
extern int lua_gethookcount(lua_State *L);

#endif
