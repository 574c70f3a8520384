/*
** Letting out: resumes the coroutines and calls the callbacks of those whose
** turn it is, runs the action of a barrier that trips, lets the blocked in, and
** reports the errors that nobody caught.
**
** Everything here runs user code, which may do anything to any barrier, run the
** loop, and collect garbage. So nothing is remembered across a call but the
** indices of nodes that are parked.
*/
#ifndef BARRIER_DRAIN_H
#define BARRIER_DRAIN_H

#include "barrier.h"

/* The scheduler's serve: lets out, or has the barrier's `schedule` do it later. */
INTERNAL void drain_serve(lua_State *L, struct job *job, uint32_t turn, int errors);

/* Calls the action with the barrier at `self`. The machine is held meanwhile;
** afterwards the caller has to machine_unhold it. Returns LUA_OK, or something
** else with the error on the top. [-0, +(0|1), -] */
INTERNAL int drain_run_action(lua_State *L, int self);

#endif
