/*
** Looking at rooms: which parties are in them.
*/
#ifndef BARRIER_HOST_INSPECT_H
#define BARRIER_HOST_INSPECT_H

#include "room.h"

/* The coroutines and Waiters in the room at index 1, NULL if that is gone, in order of arrival, as
** an array: the results of a method. [-0, +1, m] */
INTERNAL int inspect_waiters(lua_State *L, const struct room *r);

/* (room) -> the same, of a room of any kind. */
INTERNAL int inspect_waiters_of(lua_State *L);

/* () -> the number of parties that have yet to be let out, let in or notified, and the number of
** timeouts that are yet to come. Upvalue 1: the scheduler. */
INTERNAL int inspect_pending(lua_State *L);

/* ([all]) -> an array of the rooms at which a party waits, or of all. Upvalue 1: the scheduler. */
INTERNAL int inspect_rooms(lua_State *L);

#endif
