/*
** What happens when a timeout passes: that of a wait takes it out with a TimeoutError, that
** of a phase aborts the barrier.
*/
#ifndef BARRIER_TIMEOUTS_H
#define BARRIER_TIMEOUTS_H

#include "barrier.h"

/* The scheduler's `expire`. */
INTERNAL bool timeouts_expire(lua_State *L, const struct deadline *x);

#endif
