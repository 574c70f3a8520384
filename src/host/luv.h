/*
** luv, as the loop calls it: a table that has luv's functions, and the handles made with them.
** luv's functions may collect garbage and so run finalizers, or call a hook.
*/
#ifndef BARRIER_LUV_H
#define BARRIER_LUV_H

#include "compat.h"

/* The elements of the table. */
enum {
  UV_TIMER = 1,
  UV_IDLE,
  UV_ON_TIMER,
  UV_ON_IDLE,
  UV_GUARD,     /* see renew_guard in loop.c */
  UV_ON_END,    /* its metatable */
  UV_EXITING,   /* see loop_watch_exit */
  UV_NEW_TIMER, /* and on in the order of names in luv.c */
  UV_NEW_IDLE,
  UV_TIMER_START,
  UV_TIMER_STOP,
  UV_IDLE_START,
  UV_IDLE_STOP,
  UV_IS_CLOSING,
  UV_IS_ACTIVE,
  UV_HAS_REF,
  UV_REF,
  UV_NOW,
  UV_UPDATE_TIME,
  UV_HRTIME,
  UV_CLOSE,
  UV_LAST
};

/* Takes the functions from luv's table at index `uv` into the table at index `table`, and keeps
** luv loaded. Returns the name of the one that is missing, or NULL. [-0, +0, e] */
INTERNAL const char *luv_bind(lua_State *L, int table, int uv);

/* True if luv's table at index `uv` is that of libuv 1.48 or newer, which polls before each call
** of a timer. [-0, +0, e] */
INTERNAL bool luv_is_polling(lua_State *L, int uv);

/* Pushes the table with this reference in the registry, and returns its index. There is room on
** the stack for calls of luv. [-0, +1, m] */
INTERNAL int luv_push(lua_State *L, int ref);

/* Calls function(handle [, callback]), each an element of the table; `callback` 0 for none.
** [-0, +0, e] */
INTERNAL void luv_call_handle(lua_State *L, int table, int function, int handle, int callback);

/* The truth of function(handle). [-0, +0, e] */
INTERNAL bool luv_ask_handle(lua_State *L, int table, int function, int handle);

/* True if the handle is there and no other code has closed it: luv must not be asked to start a
** closed handle. [-0, +0, e] */
INTERNAL bool luv_is_alive(lua_State *L, int table, int handle);

#endif
