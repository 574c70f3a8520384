/*
** The action of a barrier: when everybody is there it runs, before anyone goes on.
**
** Meanwhile the machine is held: the last arrival waits inside, and whoever arrives is
** blocked. An action can do anything to the barrier, run the loop, and fail.
*/
#ifndef BARRIER_ACTION_H
#define BARRIER_ACTION_H

#include "barrier.h"

enum action_result {
  ACTION_TRIPS,  /* the caller has to trip the machine */
  ACTION_WAITS,  /* somebody has left: the barrier fills again */
  ACTION_THROWN, /* the action has reset or aborted the barrier: see machine.thrown */
  ACTION_FAILS   /* it raised the error on the top, and the barrier is broken */
};

/* Runs the action of the barrier at `self`, whose machine is held. The last arrival will get
** its error, if it is still inside. The caller does at once what comes of it, then calls
** action_settle. [-0, +(0|1), m] */
INTERNAL enum action_result action_run(lua_State *L, struct barrier *b, int self);

/* Has a turn called for everybody who is ready after an action, which may have run the loop.
** [-0, +0, e] */
INTERNAL void action_settle(lua_State *L, struct barrier *b, int self);

/* The error on the top, of an action, could be handed to nobody: it is reported in a turn,
** unless somebody waits, who gets it as the reason. [-1, +0, e] */
INTERNAL void action_lost(lua_State *L, struct barrier *b, int self);

#endif
