/*
** Coroutines whose next wait is cancelled: such a wait does nothing but raise the CancelledError,
** in the next turn. The scheduler's `cancels` is false as long as there is none.
*/
#ifndef BARRIER_CANCELS_H
#define BARRIER_CANCELS_H

#include "scheduler.h"

/* Is the running coroutine to be cancelled now? It is so once. [-0, +0, m] */
INTERNAL bool cancels_take(lua_State *L, struct scheduler *s);

/* (coroutine): is its next wait cancelled? (coroutine, boolean): it is, or is not. Upvalue 1: the
** scheduler. */
INTERNAL int cancels_next(lua_State *L);

#endif
