/*
** Reasons of aborted barriers (see shared.h) on their way between Lua states.
*/
#ifndef SHARED_REASON_H
#define SHARED_REASON_H

#include "../host/compat.h"
#include "hub.h"

/* Raises what Lua does when memory runs out. [-0, +0, v] */
INTERNAL int shared_memory_error(lua_State *L);

/* The value at an index; NULL for nil, and for what cannot leave its Lua state.
** [-0, +0, m] */
INTERNAL struct shared_reason *shared_to_reason(lua_State *L, int i);

/* [-0, +1, m] */
INTERNAL void shared_push_reason(lua_State *L, const struct shared_reason *reason);

#endif
