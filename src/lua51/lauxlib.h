/*
** The auxiliary library of Lua 5.1, declared once more; lua.h says why.
*/
#ifndef BARRIER_LUA51_LAUXLIB_H
#define BARRIER_LUA51_LAUXLIB_H

#include <stddef.h>
#include <stdio.h>

#include "lua.h"

#define LUA_ERRFILE (LUA_ERRERR + 1)

typedef struct luaL_Reg {
  const char *name;
  lua_CFunction func;
} luaL_Reg;

extern void luaL_register(lua_State *L, const char *library, const luaL_Reg *functions);

/* Arguments. */
extern const char *luaL_checklstring(lua_State *L, int arg, size_t *len);
extern const char *luaL_optlstring(lua_State *L, int arg, const char *otherwise, size_t *len);
extern lua_Number luaL_checknumber(lua_State *L, int arg);
extern lua_Number luaL_optnumber(lua_State *L, int arg, lua_Number otherwise);
extern lua_Integer luaL_checkinteger(lua_State *L, int arg);
extern lua_Integer luaL_optinteger(lua_State *L, int arg, lua_Integer otherwise);
extern void luaL_checktype(lua_State *L, int arg, int type);
extern void luaL_checkany(lua_State *L, int arg);
extern void *luaL_checkudata(lua_State *L, int arg, const char *type);
extern int luaL_checkoption(lua_State *L, int arg, const char *otherwise,
                            const char *const options[]);
extern int luaL_argerror(lua_State *L, int arg, const char *message);
extern int luaL_typerror(lua_State *L, int arg, const char *type);

#define luaL_argcheck(L, condition, arg, message) \
  ((void)((condition) || luaL_argerror(L, arg, message)))
#define luaL_checkstring(L, arg) luaL_checklstring(L, arg, NULL)
#define luaL_optstring(L, arg, otherwise) luaL_optlstring(L, arg, otherwise, NULL)
#define luaL_checkint(L, arg) ((int)luaL_checkinteger(L, arg))
#define luaL_optint(L, arg, otherwise) ((int)luaL_optinteger(L, arg, otherwise))
#define luaL_checklong(L, arg) ((long)luaL_checkinteger(L, arg))
#define luaL_optlong(L, arg, otherwise) ((long)luaL_optinteger(L, arg, otherwise))
#define luaL_opt(L, check, arg, otherwise) (lua_isnoneornil(L, arg) ? (otherwise) : check(L, arg))
#define luaL_typename(L, i) lua_typename(L, lua_type(L, i))

/* Errors and the stack. */
extern void luaL_where(lua_State *L, int level);
extern int luaL_error(lua_State *L, const char *format, ...);
extern void luaL_checkstack(lua_State *L, int n, const char *message);

/* Metatables and references. */
#define LUA_NOREF (-2)
#define LUA_REFNIL (-1)

extern int luaL_newmetatable(lua_State *L, const char *type);
extern int luaL_getmetafield(lua_State *L, int i, const char *field);
extern int luaL_callmeta(lua_State *L, int i, const char *field);
extern int luaL_ref(lua_State *L, int table);
extern void luaL_unref(lua_State *L, int table, int ref);

#define luaL_getmetatable(L, type) lua_getfield(L, LUA_REGISTRYINDEX, type)

/* States and chunks. */
extern lua_State *luaL_newstate(void);
extern int luaL_loadfile(lua_State *L, const char *path);
extern int luaL_loadbuffer(lua_State *L, const char *chunk, size_t size, const char *name);
extern int luaL_loadstring(lua_State *L, const char *chunk);

#define luaL_dofile(L, path) (luaL_loadfile(L, path) || lua_pcall(L, 0, LUA_MULTRET, 0))
#define luaL_dostring(L, chunk) (luaL_loadstring(L, chunk) || lua_pcall(L, 0, LUA_MULTRET, 0))

/* Strings that are made in pieces. The library fills what the caller has allocated, so the size
** is a part of the interface, and the C library's. */
#define LUAL_BUFFERSIZE (BUFSIZ > 16384 ? 8192 : BUFSIZ)

typedef struct luaL_Buffer {
  char *p;
  int lvl;
  lua_State *L;
  char buffer[LUAL_BUFFERSIZE];
} luaL_Buffer;

extern void luaL_buffinit(lua_State *L, luaL_Buffer *b);
extern char *luaL_prepbuffer(luaL_Buffer *b);
extern void luaL_addlstring(luaL_Buffer *b, const char *s, size_t len);
extern void luaL_addstring(luaL_Buffer *b, const char *s);
extern void luaL_addvalue(luaL_Buffer *b);
extern void luaL_pushresult(luaL_Buffer *b);

#define luaL_addchar(b, c)                                               \
  ((void)((b)->p < (b)->buffer + LUAL_BUFFERSIZE || luaL_prepbuffer(b)), \
   (void)(*(b)->p++ = (char)(c)))
#define luaL_addsize(b, n) ((b)->p += (n))

extern const char *luaL_gsub(lua_State *L, const char *s, const char *pattern, const char *with);
extern const char *luaL_findtable(lua_State *L, int i, const char *name, int size);

#endif
