/*
** A table of names, which lie in what they name. Plain C99. Finding, adding and removing take
** constant time.
*/
#ifndef SHARED_NAMES_H
#define SHARED_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../host/internal.h"

struct name {
  struct name *chain; /* the next of the same bucket */
  const char *text;
  size_t length;
  uint64_t hash; /* names_add sets it */
};

/* All 0: empty. */
struct names {
  struct name **buckets;
  size_t size, count; /* of the buckets: 0 or a power of two; of the names */
};

/* The name that reads so, or NULL. */
INTERNAL struct name *names_find(const struct names *t, const char *text, size_t length);

/* Makes room for one more. False, and nothing changed, when out of memory. */
INTERNAL bool names_reserve(struct names *t);

/* Adds a name that is not there yet. Needs room. */
INTERNAL void names_add(struct names *t, struct name *name);

/* Removes a name that is there; with the last one the memory goes. */
INTERNAL void names_remove(struct names *t, struct name *name);

#endif
