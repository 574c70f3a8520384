/*
** What happens when a timeout passes: that of a wait takes it out with a TimeoutError, that
** of a phase aborts the barrier.
*/
#ifndef BARRIER_EXPIRE_H
#define BARRIER_EXPIRE_H

#include "barrier.h"

/* The scheduler's `expire`. */
INTERNAL bool expire_deadline(lua_State *L, const struct deadline *x);

#endif
