/*
** Reasons of aborted barriers (hub.h) on their way between Lua states.
*/
#ifndef SHARED_REASON_H
#define SHARED_REASON_H

#include "../host/compat.h"
#include "hub.h"

/* True for nil, and for what can go to another Lua state. */
INTERNAL bool reason_may_travel(lua_State *L, int i);

/* Makes the value at an index, which may travel, a reason with one reference, NULL for nil. False
** if there is no memory. [-0, +0, -] */
INTERNAL bool reason_make(lua_State *L, int i, struct hub_reason **reason);

/* [-0, +1, m] */
INTERNAL void reason_push(lua_State *L, const struct hub_reason *reason);

#endif
