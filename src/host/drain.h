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

/* What this many parties leave on the stack is popped in one go: popping one by one costs 2 % of
** a wait. Each party leaves at most 2 values. */
#define DRAIN_SPENT 8

/* The stack that a call of drain_serve needs. */
#define DRAIN_STACK (LUA_MINSTACK + 20 + 2 * DRAIN_SPENT)

/* Begins a call that lets parties out: empties the stack, then pushes its frame (kind.h).
** [-n, +PASS_FRAME, m] */
INTERNAL void drain_begin(lua_State *L);

/* Ends such a call: schedules the next turn, and raises the report, if there is one. */
INTERNAL int drain_end(lua_State *L, struct scheduler *s);

/* Lets out the parties of the room on the top, or has the room's `schedule` do so later. The room
** leaves the run queue if nothing is left to do. Values are left on the stack. [-0, +n, -] */
INTERNAL void drain_serve(lua_State *L, struct room *room, uint32_t turn);

#endif
