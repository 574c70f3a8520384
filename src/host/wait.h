/*
** A wait at a room, in both styles. The kind of room says what has to be prepared, and enters.
**
** First everything is done that can fail or run user code (wait_wakes, room_reserve), in a loop, as
** user code may change what is needed. From then on until the party is in the room nothing fails.
*/
#ifndef BARRIER_HOST_WAIT_H
#define BARRIER_HOST_WAIT_H

#include "request.h"
#include "room.h"

/* Enters the room at index 1 of S, with a deadline if one is asked for (wait_set_deadline), and
** makes the parties ready that this lets out. Returns the node. Nothing may fail. [-0, +0, -] */
typedef uint32_t (*wait_enter)(lua_State *S, struct room *r, const void *key, struct request *q);

/* An error unless the running coroutine can wait (coroutine_check). Notes in the request whether
** this wait is cancelled: such a wait enters nothing, but needs a turn. [-0, +0, e] */
INTERNAL void wait_check(lua_State *L, const struct room *r, struct request *q);

/* Updates the loop's clock if a wait is timed. [-0, +0, e] */
INTERNAL void wait_begin(lua_State *L, const struct room *r, struct request *q);

/* True if a last arrival has to go on in a turn: in Neovim, in a fast event. [-0, +0, e] */
INTERNAL bool wait_is_deferred(lua_State *L, const struct room *r);

/* One step of the preparation: makes sure that a turn comes if `turn` says so, and that the loop
** wakes at the time `when` (LOOP_NEVER for none). True if that was so already, and no user
** code has run; otherwise look at the room again. [-0, +0, e] */
INTERNAL bool wait_wakes(lua_State *L, struct room *r, struct request *q, bool turn, uint64_t when);

/* A wait at a room that is gone, as the Lua state closes: the coroutine is never resumed, the
** callback never called. The results of the method. */
INTERNAL int wait_too_late(lua_State *L, const struct request *q);

/* The running coroutine enters and is suspended; or it is suspended and will fail, if the
** request has an error. The results of the method. */
INTERNAL int wait_suspend(lua_State *L, struct room *r, struct request *q, wait_enter enter);

/* The Waiter at index `waiter` enters, or will fail. Its node. [-0, +0, m] */
INTERNAL uint32_t wait_call_back(lua_State *L, struct room *r, struct request *q, int waiter,
                                 wait_enter enter);

/* Sets the deadline of a node that waits, if the request has a timeout. [-0, +0, -] */
INTERNAL void wait_set_deadline(lua_State *S, struct room *r, const struct request *q,
                                uint32_t node);

#endif
