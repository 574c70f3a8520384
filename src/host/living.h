/*
** Which userdata live. luv copies a userdata byte by byte into other threads and back, and such
** a copy may come to lie where the original was, so its bytes cannot tell. Each original has a
** mark outside of them, which names its address for as long as it lives.
**
** The memory of marks is used again, by any Lua state, and never freed. So a copy's mark can
** be read at any time: what it names is not the copy.
*/
#ifndef BARRIER_LIVING_H
#define BARRIER_LIVING_H

#include <stdbool.h>
#include <stddef.h>

#include "internal.h"

struct living_mark {
  const void *owner; /* NULL: none */
  struct living_mark *next;
};

struct living_block;

/* The marks of one Lua state. All zero: there are none yet. */
struct living {
  struct living_mark *free;
  struct living_block *blocks;
  bool closed;
};

/* Makes room for a mark. False, and nothing changed, when out of memory. */
INTERNAL bool living_reserve(struct living *l);

/* A mark for `owner`; once `l` is closed, one that names nothing. Needs room. */
INTERNAL struct living_mark *living_take(struct living *l, const void *owner);

/* The owner lives no more. */
INTERNAL void living_release(struct living *l, struct living_mark *mark);

/* No owner lives any more, and no further mark is taken. */
INTERNAL void living_close(struct living *l);

#endif
