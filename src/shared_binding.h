/*
** What lua/barrier/shared.lua needs of shared.h.
*/
#ifndef BARRIER_SHARED_BINDING_H
#define BARRIER_SHARED_BINDING_H

#include "compat.h"

/* Sets the field "shared" of the table on the top: a table of functions, listed at the end
** of shared_binding.c. Once for each Lua state. [-0, +0, m] */
INTERNAL void shared_open(lua_State *L);

#endif
