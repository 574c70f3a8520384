/*
** The Waiter: a wait in callback style.
**
** It keeps two values: the room, and the callback, which is false once it was called or the
** Waiter was closed.
*/
#ifndef BARRIER_WAITER_H
#define BARRIER_WAITER_H

#include "room.h"

struct waiter {
  const void *type;          /* tells a Waiter from any other userdata */
  const struct waiter *self; /* and from a copy of its bytes */
  uint32_t node;             /* of the room; 0 when it is out */
};

/* Makes the metatable of the Waiters. [-0, +0, m] */
INTERNAL void waiter_open(lua_State *L);

/* A new Waiter for the room at index `self`, in no queue yet. [-0, +1, m] */
INTERNAL struct waiter *waiter_push(lua_State *L, int self, int callback);

/* The Waiter at an index, or NULL. It may be a copy of one that is gone, which is in no barrier. */
INTERNAL struct waiter *waiter_at(lua_State *L, int i);

/* Takes the callback from the Waiter at an index, which is out from now on. Pushes
** false, or nil, if it was called or closed. [-0, +1, -] */
INTERNAL void waiter_take_callback(lua_State *L, int i);

/* (waiter) -> its callback, or false if it was called or closed. For barrier.stuck. */
INTERNAL int waiter_callback(lua_State *L);

#endif
