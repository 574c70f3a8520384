/*
** What Lua sees of a barrier's state.
*/
#ifndef BARRIER_INSPECT_H
#define BARRIER_INSPECT_H

#include "barrier.h"

/* watchers(b) -> an array of the coroutines and Waiters that watch, in order of their calls. */
INTERNAL int inspect_watchers(lua_State *L);

/* __tostring */
INTERNAL int inspect_tostring(lua_State *L);

/* "filling" and so on */
INTERNAL const char *inspect_state(const struct barrier *b);

#endif
