/*
** The errors of the module: tables with the fields name, message, barrier and,
** for a broken barrier, reason, whose metatable is their class.
*/
#ifndef BARRIER_ERRORS_H
#define BARRIER_ERRORS_H

#include "compat.h"

enum error_class { ERROR_BROKEN, ERROR_CANCELLED, ERROR_TIMEOUT };

/* Makes the classes, once for each Lua state, and sets them as fields of the
** table on the top, under their names. [-0, +0, m] */
INTERNAL void errors_open(lua_State *L);

/* A new error. `barrier` and `reason` are indices, 0 for none. [-0, +1, m] */
INTERNAL void errors_push(lua_State *L, enum error_class c, const char *message, int barrier,
                          int reason);

/* Marks the CancelledError on the top as the one that cancels the running coroutine.
** [-0, +0, m] */
INTERNAL void errors_mark_cancel(lua_State *L);

/* True if the value on the top is the error that cancels `co`. [-0, +0, -] */
INTERNAL bool errors_cancels(lua_State *L, const lua_State *co);

/* Raises "bad argument #arg to 'name' (...)", with the position of the function
** at `level` of the call stack. Unlike luaL_argerror it says the same however the function
** was called: the arguments of methods are counted without self. [-0, +0, v] */
INTERNAL int errors_argument(lua_State *L, int level, int arg, const char *name, const char *fmt,
                             ...);

/* An argument error unless all values from index `first` on, which is argument number `arg`, are
** nil: the function takes no more. [-0, +0, v] */
INTERNAL void errors_extra(lua_State *L, int level, int first, int arg, const char *name);

/* Raises a message with the position of the function at `level`. [-0, +0, v] */
INTERNAL int errors_raise(lua_State *L, int level, const char *fmt, ...);

/* After an allocation failed: asks Lua for `size` bytes, so that it collects garbage, or
** raises its memory error. [-0, +0, m] */
INTERNAL void errors_memory(lua_State *L, size_t size);

#endif
