/*
** What times out next: a binary heap of deadlines, first by time, then by order of
** adding (as libuv orders its timers). Plain C99, no clock.
**
** Adding and removing take O(log n) steps, as libuv's own timers do. One luv timer
** serves them all, so a wait never makes a handle.
*/
#ifndef BARRIER_DEADLINES_H
#define BARRIER_DEADLINES_H

#include "kind.h"

struct deadline {
  uint64_t when;    /* milliseconds, on the clock of loop.h */
  uint64_t timeout; /* milliseconds: what was asked for */
  uint64_t order;   /* of adding */
  struct room *room;
  uint32_t node; /* of the room; 0: a deadline of the room itself */
};

struct deadlines {
  struct deadline *heap; /* heap[0] is not used */
  uint32_t count;
  uint32_t capacity;
  uint64_t orders;
  nodes_alloc alloc;
  void *ud;
};

INTERNAL void deadlines_init(struct deadlines *d, nodes_alloc alloc, void *ud);
INTERNAL void deadlines_destroy(struct deadlines *d);

/* Makes room for `n` more, at most 2. False, and nothing changed, when out of memory. */
INTERNAL bool deadlines_reserve(struct deadlines *d, uint32_t n);

/* Adds a deadline; `order` is set here. Needs room. The node, or the room's phase, has
** none yet. */
INTERNAL void deadlines_add(struct deadlines *d, const struct deadline *x);

/* Removes the deadline at place `i`, 1 for the earliest. */
INTERNAL void deadlines_remove(struct deadlines *d, uint32_t i);

#endif
