/*
** What lua/barrier/shared.lua needs of shared.h.
*/
#ifndef SHARED_BINDING_H
#define SHARED_BINDING_H

#include "../host/compat.h"

/* Sets the field "shared" of the table on the top: a table of functions, listed at the end
** of shared_binding.c. Once for each Lua state. [-0, +0, m] */
INTERNAL void shared_open(lua_State *L);

#endif
