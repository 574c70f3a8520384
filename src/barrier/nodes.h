/*
** The parties of one barrier as nodes: their memory, their queues, and the index
** that finds a node by its key. Plain C99; it calls nobody but its allocator.
**
** A node is named by its number, >= 1, which stays the same while the node is in
** use. The links are inside the nodes, so no queue operation allocates.
*/
#ifndef BARRIER_NODES_H
#define BARRIER_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../host/internal.h"

/* The signature of lua_Alloc: nsize 0 frees, NULL says out of memory. */
typedef void *(*nodes_alloc)(void *ud, void *ptr, size_t osize, size_t nsize);

/* Where a node is. The first QUEUES are queues. */
enum place {
  PLACE_QUEUE_A, /* A and B are inside and blocked, or blocked and inside */
  PLACE_QUEUE_B,
  PLACE_LEAVING,
  PLACE_WATCHING,
  PLACE_TOLD,
  QUEUES,
  PLACE_PARKED = QUEUES, /* out of every queue; its party runs */
  PLACE_FREE
};

struct node {
  const void *key; /* what nodes_find looks for; NULL for nothing */
  uint64_t ticket; /* grows with every arrival; told: the generation; others who watch: 0 */
  uint32_t prev, next;
  uint32_t chain; /* the next node of the same bucket */
  union {
    uint32_t gap;   /* draining: parties just before it that left since the trip */
    uint32_t turn;  /* leaving, told: the turn in which it became ready */
    uint32_t count; /* blocked arrivals: how many */
  } as;
  uint32_t deadline; /* for the caller: where its timeout is; 0 for none */
  uint8_t place;     /* enum place */
  uint8_t outcome;   /* enum machine_outcome: what it gets if its queue does not say */
};

struct queue {
  uint32_t first, last; /* 0: empty */
  uint32_t count;
};

struct nodes {
  struct node *at;   /* at[0] is not used */
  uint32_t *buckets; /* behind the nodes, in the same block */
  uint32_t capacity; /* of both: 0 or a power of two */
  uint32_t shift;    /* 64 - log2(capacity) */
  uint32_t used;     /* at[1..used] were handed out before */
  uint32_t taken;    /* how many of them are not free */
  uint32_t free;     /* the first free node; they are linked by next */
  struct queue queues[QUEUES];
  nodes_alloc alloc;
  void *ud;
};

/* An empty set. Allocates nothing. */
INTERNAL void nodes_init(struct nodes *s, nodes_alloc alloc, void *ud);

/* Gives all memory back; the set is empty then, and can be used again. */
INTERNAL void nodes_destroy(struct nodes *s);

/* Is there room for one more node? */
INTERNAL bool nodes_has_room(const struct nodes *s);

/* Makes room for one more node. False, and nothing changed, when out of memory. */
INTERNAL bool nodes_reserve(struct nodes *s);

/* The number that the next nodes_take hands out. Needs room. */
INTERNAL uint32_t nodes_vacant(const struct nodes *s);

/* Takes a free node, which is in no queue yet. Needs room. */
INTERNAL uint32_t nodes_take(struct nodes *s, const void *key);

/* Frees a node that is in no queue. */
INTERNAL void nodes_free(struct nodes *s, uint32_t n);

/* The node with this key that is in a queue, otherwise 0. */
INTERNAL uint32_t nodes_find(const struct nodes *s, const void *key);

/* Is every queue empty? */
INTERNAL bool nodes_empty(const struct nodes *s);

/* Starts numbering anew; no node may be in use. Returns whether the memory is more
** than four times of what was needed since the last call. */
INTERNAL bool nodes_rewind(struct nodes *s);

/* Appends a node that is in no queue to the queue `place`. */
INTERNAL void nodes_append(struct nodes *s, uint8_t place, uint32_t n);

/* Puts a node that is in no queue at the head of the queue `place`. */
INTERNAL void nodes_prepend(struct nodes *s, uint8_t place, uint32_t n);

/* Takes a node out of its queue. */
INTERNAL void nodes_unlink(struct nodes *s, uint32_t n);

/* Takes the first node out of a queue that is not empty, and parks it. */
INTERNAL uint32_t nodes_pop(struct nodes *s, uint8_t place);

#endif
