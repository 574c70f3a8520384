/*
** Arriving at a barrier: `wait` in both of its styles, and the Waiter.
*/
#ifndef BARRIER_WAIT_H
#define BARRIER_WAIT_H

#include "barrier.h"

/* A wait in callback style. Its user value is a table: the barrier, the callback (false
** when it was called or the Waiter was closed), and the error for an arrival at a broken
** barrier. */
struct waiter {
  const void *type;
  uint32_t node; /* of the barrier's machine; 0 when it is out */
};

enum { WAITER_BARRIER = 1, WAITER_CALLBACK, WAITER_ERROR };

/* The Waiter at an index, or NULL. */
INTERNAL struct waiter *waiter_at(lua_State *L, int i);

/* Sets the error that a Waiter's callback is to get. [-1, +0, -] */
INTERNAL void waiter_set_error(lua_State *L, int i);

/* Makes the metatable of the Waiters. [-0, +0, m] */
INTERNAL void wait_open(lua_State *L);

/* b:wait([timeout]) and b:wait([timeout,] callback). From Lua 5.3 on it is the
** method itself. Before, C functions can neither raise an error nor look around
** after a yield, so init.lua makes the method of two halves:
**
**   function wait(self, timeout, callback)
**     local token, position = arrive(self, isyieldable(), timeout, callback)
**     if token == passed then return position end
**     return finish(self, token)
**   end
**
** `passed` is what the barrier alone resumes a coroutine with.
*/
INTERNAL int wait_arrive(lua_State *L);

#if COMPAT_YIELDK
#define WAIT_FIRST_ARG 2
#define WAIT_LEVEL 1 /* where errors are: in the caller of the method */
#else
#define WAIT_FIRST_ARG 3
#define WAIT_LEVEL 2
INTERNAL int wait_finish(lua_State *L);
/* The `passed` of wait. [-0, +1, -] */
INTERNAL void wait_push_passed(lua_State *L);
/* Pushes the function that tells whether the running coroutine can yield.
** [-0, +1, m] */
INTERNAL void wait_push_isyieldable(lua_State *L);
#endif

/* A wait in coroutine style needs to suspend, even where it would not have had to: an
** error if the running coroutine cannot. Before Lua 5.3 the value at index `yieldable`
** says whether it can. [-0, +0, v] */
INTERNAL void wait_check_can_suspend(lua_State *L, int level, int yieldable);

#if COMPAT_CLOSE
/* The __close of a barrier, which every waiting coroutine has pending. */
INTERNAL int wait_close(lua_State *L);
#endif

#endif
