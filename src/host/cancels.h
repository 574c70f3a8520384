/*
** Coroutines whose next wait is cancelled: such a wait does nothing but raise the CancelledError,
** in the next turn. The scheduler's `cancels` is false as long as there is no such coroutine.
*/
#ifndef BARRIER_CANCELS_H
#define BARRIER_CANCELS_H

#include "scheduler.h"

/* True, once, if this wait of the running coroutine is cancelled. [-0, +0, m] */
INTERNAL bool cancels_take(lua_State *L, struct scheduler *s);

/* (coroutine) -> whether its next wait is cancelled. (coroutine, boolean): cancels its next wait,
** or does not. Upvalue 1: the scheduler. */
INTERNAL int cancels_next(lua_State *L);

#endif
