/*
** What somebody who comes to a barrier asks for: the arguments of the methods.
*/
#ifndef BARRIER_REQUEST_H
#define BARRIER_REQUEST_H

#include "compat.h"

/* Where the arguments of methods that wait begin. Before Lua 5.3 isyieldable() comes first
** (coroutine.h). */
#define REQUEST_FIRST_ARG (COMPAT_YIELDK ? 2 : 3)

/* Where errors of methods that wait are: in the caller of the method. */
#define REQUEST_LEVEL (COMPAT_YIELDK ? 1 : 2)

/* Which method: wait, await_trip, arrive, deregister. */
enum request_kind { WAIT, WATCH, ARRIVE, DEREGISTER };

/* What somebody who comes asks for, and what was prepared for it. */
struct request {
  enum request_kind kind;
  const char *name; /* of the method */
  uint32_t n;       /* ARRIVE, DEREGISTER: how many */
  bool timed;
  bool deferred;    /* a trip waits for a turn */
  bool cancelled;   /* nothing comes: the coroutine was to be cancelled in its next wait */
  uint64_t timeout; /* milliseconds */
  uint64_t when;    /* on the loop's clock */
  int callback;     /* its index; 0: a coroutine waits, or nobody */
  int error;        /* the index of the error, if the barrier is broken */
};

/* Takes ([timeout]) or ([timeout,] callback) from the stack, or raises an argument error.
** [-0, +0, v] */
INTERNAL void request_check(lua_State *L, struct request *r);

/* The optional number of parties at index 2 of the method `name`, from 1 on, which is its last
** argument. What is more than a barrier can have counts as one more than that. [-0, +0, v] */
INTERNAL uint32_t request_count(lua_State *L, const char *name);

#endif
