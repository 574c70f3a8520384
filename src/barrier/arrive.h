/*
** Coming to a barrier: the methods wait and await_trip, in both of their styles, and those
** that do not wait: arrive, register and deregister.
*/
#ifndef BARRIER_ARRIVE_H
#define BARRIER_ARRIVE_H

#include "../host/coroutine.h"

/* b:wait([timeout]), b:wait([timeout,] callback), and the same for await_trip. Before Lua
** 5.3 they are the `arrive` of coroutine.h, with isyieldable() before the timeout. */
INTERNAL int arrive_wait(lua_State *L);
INTERNAL int arrive_await_trip(lua_State *L);

/* b:arrive([n]), b:register([n]), b:deregister([n]) */
INTERNAL int arrive_arrive(lua_State *L);
INTERNAL int arrive_register(lua_State *L);
INTERNAL int arrive_deregister(lua_State *L);

#endif
