/*
** What a party that comes to a room asks for: the arguments of a wait.
*/
#ifndef BARRIER_REQUEST_H
#define BARRIER_REQUEST_H

#include "compat.h"

/* Where the arguments of methods that wait begin. Before Lua 5.3 isyieldable() comes first
** (coroutine.h). */
#define REQUEST_FIRST_ARG (COMPAT_YIELDK ? 2 : 3)

/* Where errors of methods that wait are: in the caller of the method. */
#define REQUEST_LEVEL (COMPAT_YIELDK ? 1 : 2)

struct request {
  const char *name; /* of the method */
  bool timed;
  uint64_t timeout; /* milliseconds */
  uint64_t when;    /* on the loop's clock */
  int callback;     /* its index; 0: a coroutine waits, or no party does */
  int error;        /* the index of the error with which the wait fails; 0: none */
  bool cancelled;   /* this wait is cancelled (cancels.h): nothing else happens */
  bool woken;       /* a turn is scheduled, */
  bool armed;       /* the loop wakes for the deadline: see wait_wakes */
};

/* True for a function, and for a value with a __call. [-0, +0] */
INTERNAL bool is_callable(lua_State *L, int i);

/* Takes ([timeout]) or ([timeout,] callback) from the stack, or raises an argument error.
** [-0, +0, v] */
INTERNAL void request_check(lua_State *L, struct request *r);

#endif
