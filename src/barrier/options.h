/*
** Making a barrier: barrier.new and its options.
*/
#ifndef BARRIER_OPTIONS_H
#define BARRIER_OPTIONS_H

#include "../host/compat.h"

/* new(parties [, options]). Upvalues: the core, the metatable, the default of the option
** `schedule` or nil, and the function that tells whether this is a fast event, or nil. */
INTERNAL int options_new(lua_State *L);

#endif
