/*
** Looking at rooms: which parties are in them.
*/
#ifndef BARRIER_HOST_INSPECT_H
#define BARRIER_HOST_INSPECT_H

#include "room.h"

/* The coroutines and Waiters in the room at index 1, in order of arrival, as an array: the
** results of a method. [-0, +1, m] */
INTERNAL int inspect_waiters(lua_State *L, const struct room *r);

/* () -> an array of the rooms at which a party waits. Upvalue 1: the scheduler. */
INTERNAL int inspect_rooms(lua_State *L);

#endif
