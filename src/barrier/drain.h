/*
** Letting out: resumes the coroutines and calls the callbacks of those whose
** turn it is, trips a barrier at which everybody is, and lets the blocked in.
**
** Everything here runs user code, which may do anything to any barrier, run the
** loop, and collect garbage. So nothing is remembered across a call but the
** numbers of nodes that are parked.
*/
#ifndef BARRIER_DRAIN_H
#define BARRIER_DRAIN_H

#include "barrier.h"

/* The scheduler's `serve`: lets out, or has the barrier's `schedule` do it later. */
INTERNAL void drain_serve(lua_State *L, struct job *job, uint32_t turn, int report);

#endif
