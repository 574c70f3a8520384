/*
** Looking at barriers: who is in them, and what tostring says.
*/
#ifndef BARRIER_INSPECT_H
#define BARRIER_INSPECT_H

#include "barrier.h"

/* b:waiters() */
INTERNAL int inspect_waiters(lua_State *L);

/* watchers(b) -> an array of those who watch, in order of their calls. */
INTERNAL int inspect_watchers(lua_State *L);

/* barriers() -> an array of the barriers that somebody waits at. Upvalue 1: the scheduler. */
INTERNAL int inspect_barriers(lua_State *L);

/* pending() -> how many parties have yet to be let out, let in or notified, and how many timeouts
** are yet to come. Upvalue 1: the scheduler. */
INTERNAL int inspect_pending(lua_State *L);

/* __tostring */
INTERNAL int inspect_tostring(lua_State *L);

/* "filling" and so on */
INTERNAL const char *inspect_state(const struct barrier *b);

#endif
