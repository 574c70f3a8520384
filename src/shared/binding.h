/*
** What Lua sees of shared barriers.
*/
#ifndef SHARED_BINDING_H
#define SHARED_BINDING_H

#include "../host/scheduler.h"

/* Sets fields of the core, which is on the top: make_shared(schedule, in_fast_event) ->
** shared(name, parties); shared_members, the methods; and before Lua 5.3 arrive_shared, for
** their `wait` (coroutine.h). Once for each Lua state, before there is a handle of luv. The core is
** at index 1, its scheduler at 3.
** [-0, +0, m] */
INTERNAL void shared_open_binding(lua_State *L, struct scheduler *s);

/* Gives it luv's table, at index `uv`. [-0, +0, m] */
INTERNAL void shared_bind_luv(lua_State *L, int uv);

/* Closes its handle. [-0, +0, e] */
INTERNAL void shared_close_handle(lua_State *L);

#endif
