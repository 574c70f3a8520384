/*
** A wait in coroutine style: suspending the coroutine, resuming it, and what happens when
** it is closed, or resumed by other code.
**
** What a wait ends with is handed over on the coroutine's own stack: a token that only the
** host has, which stands for the outcome, and the position or the error. A resume with
** anything else comes from other code.
**
** From Lua 5.3 on a method that waits is a C function. Before, C functions can't go on after
** a yield, so init.lua makes the method of two halves:
**
**   function wait(self, timeout, callback)
**     local token, result = arrive(self, isyieldable and isyieldable(), timeout, callback)
**     while token ~= passed do
**       token, result = resumed(self, token, result)
**     end
**     return result
**   end
*/
#ifndef BARRIER_COROUTINE_H
#define BARRIER_COROUTINE_H

#include "room.h"

/* The results of a method that did not suspend: the value on the top, behind the token
** where Lua needs it. Returns their number. [-0, +(0|1), -] */
INTERNAL int coroutine_return(lua_State *L);

/* A wait in coroutine style has to be able to suspend, even if it would not have to: an
** error if the running coroutine can't. Where C can't tell (COMPAT_ISYIELDABLE) the value at
** index `yieldable` says whether it can. [-0, +0, v] */
INTERNAL void coroutine_check(lua_State *L, int level, int yieldable);

/* Makes the running coroutine the element of the node that comes next. [-0, +0, m] */
INTERNAL void coroutine_ready(lua_State *L, struct room *r);

/* A stack to use after coroutine_begin, with the room at index 1. [-0, +0, -] */
INTERNAL lua_State *coroutine_stack(lua_State *L, struct room *r);

/* Begins to suspend the running coroutine: until coroutine_end nothing may fail, nor its own
** stack be used in Lua 5.1. [-0, +0, e] */
INTERNAL void coroutine_begin(lua_State *L);

/* Suspends the running coroutine, which has only the room on its stack: the results of the
** C function. */
INTERNAL int coroutine_end(lua_State *L);

/* Resumes `co`, suspended in its wait, with its outcome. An error that
** was kept is on the top of L. Returns what lua_resume does. [-(0|1), +0, -] */
INTERNAL int coroutine_resume(lua_State *L, lua_State *co, const struct leaver *leaver);

#if COMPAT_CLOSE
/* The __close of a room, which every waiting coroutine has pending. */
INTERNAL int coroutine_closed(lua_State *L);
#endif

#if !COMPAT_YIELDK
/* resumed(self, token, result) of the wrapper above. */
INTERNAL int coroutine_resumed(lua_State *L);
/* Its `passed`. [-0, +1, -] */
INTERNAL void coroutine_push_passed(lua_State *L);
#endif

#endif
