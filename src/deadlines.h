/*
** Who is to time out next: a binary heap of deadlines, first by time, then by
** order of adding (as libuv orders its timers). Plain C99, no clock.
**
** Adding and removing take O(log n) steps, as libuv's own timers do; one luv
** timer serves them all, so no handle is ever made for a wait.
*/
#ifndef BARRIER_DEADLINES_H
#define BARRIER_DEADLINES_H

#include "machine.h"

struct job; /* scheduler.h */

struct deadline {
  uint64_t when;  /* milliseconds, on the loop's clock */
  uint64_t order; /* of adding */
  struct job *job;
  uint32_t node; /* of the job's machine; its `deadline` is the place in the heap */
};

struct deadlines {
  struct deadline *heap; /* heap[0] is not used */
  uint32_t count;
  uint32_t capacity;
  uint64_t orders;
  machine_alloc alloc;
  void *ud;
};

INTERNAL void deadlines_init(struct deadlines *d, machine_alloc alloc, void *ud);
INTERNAL void deadlines_destroy(struct deadlines *d);

/* Makes room for one more. False, and nothing changed, when out of memory. */
INTERNAL bool deadlines_reserve(struct deadlines *d);

/* Needs deadlines_reserve. The node has no deadline yet. */
INTERNAL void deadlines_add(struct deadlines *d, uint64_t when, struct job *job, uint32_t node);

/* Removes the deadline at place `i`, 1 for the earliest. */
INTERNAL void deadlines_remove(struct deadlines *d, uint32_t i);

#endif
