/*
** Letting out: resumes the coroutines and calls the callbacks of the parties that are ready.
**
** Everything here runs user code, which may do anything to any room, run the
** loop, and collect garbage. So nothing is remembered across a call but the
** numbers of nodes that are parked.
*/
#ifndef BARRIER_DRAIN_H
#define BARRIER_DRAIN_H

#include "room.h"

/* The scheduler's `serve`: lets out, or has the room's `schedule` do it later. */
INTERNAL void drain_serve(lua_State *L, struct room *room, uint32_t turn, int report);

#endif
