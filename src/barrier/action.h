/*
** The action of a barrier: it runs when all parties are there, before any of them goes on.
**
** Meanwhile the machine is held: the last arrival waits inside, and each arrival is blocked.
** An action can do anything to the barrier, run the loop, and fail.
*/
#ifndef BARRIER_ACTION_H
#define BARRIER_ACTION_H

#include "barrier.h"

enum action_result {
  ACTION_TRIPS,  /* the caller has to trip the machine */
  ACTION_THROWN, /* the action has reset or aborted the barrier: see machine.thrown */
  ACTION_FAILS,  /* it raised an error, which the last arrival will get; the barrier is broken */
  ACTION_LOST    /* likewise, but the last arrival is not inside: the error is on the top */
};

/* Runs the action of the barrier at `self`, whose machine is held. The caller carries out the
** result at once, then calls action_settle. [-0, +(0|1), m] */
INTERNAL enum action_result action_run(lua_State *L, struct barrier *b, int self);

/* Schedules a turn for all parties that are ready after an action, which may have run the loop.
** [-0, +0, e] */
INTERNAL void action_settle(lua_State *L, struct barrier *b, int self);

/* Reports the error on the top, of ACTION_LOST, in a turn, unless parties wait: these get the
** error as the reason. [-1, +0, e] */
INTERNAL void action_lost(lua_State *L, struct barrier *b, int self);

#endif
