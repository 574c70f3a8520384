/*
** The parties of one room as nodes: their memory, their queues, and the index that finds a
** node by its key. Plain C99; it calls nothing but its allocator.
**
** A node is named by its number, >= 1, which stays the same while the node is in
** use. The links are inside the nodes, so no queue operation allocates.
**
** A turn is a number that the caller counts up. A party that becomes ready is given the
** number of the current turn, and leaves in a later one. The number may wrap around, so it
** has to be served within 2^31 turns.
*/
#ifndef BARRIER_NODES_H
#define BARRIER_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "internal.h"
#include "outcome.h"

/* The signature of lua_Alloc: nsize 0 frees, NULL says out of memory. */
typedef void *(*nodes_alloc)(void *ud, void *ptr, size_t osize, size_t nsize);

/* Where a node is. The first QUEUES are queues, and the first of these belong to the kind
** of room, which names them. */
enum place {
  PLACE_LEAVING = 4, /* left early, or never got in, and is yet to be notified */
  QUEUES,
  PLACE_PARKED = QUEUES, /* out of every queue; its party runs */
  PLACE_FREE
};

struct node {
  const void *key; /* what nodes_find looks for; NULL for nothing */
  uint64_t ticket; /* grows with every node that is taken; the room may use it otherwise */
  uint32_t prev, next;
  uint32_t chain; /* the next node of the same bucket */
  union {
    uint32_t gap;   /* draining: parties just before it that left since the trip */
    uint32_t turn;  /* leaving, notify: the turn in which it became ready */
    uint32_t count; /* blocked arrivals: how many */
  } as;
  uint32_t deadline; /* for the caller: where its timeout is; 0 for none */
  uint8_t place;     /* enum place */
  uint8_t outcome;   /* enum outcome: what it gets if its queue does not say */
};

struct queue {
  uint32_t first, last; /* 0: empty */
  uint32_t count;
};

struct nodes {
  struct node *at;     /* at[0] is not used */
  uint32_t *buckets;   /* behind the nodes, in the same block */
  uint32_t capacity;   /* of both: 0 or a power of two */
  uint32_t shift;      /* 64 - log2(capacity) */
  uint32_t used;       /* at[1..used] were handed out before */
  uint32_t taken;      /* how many of them are not free */
  uint32_t free;       /* the first free node; they are linked by next */
  uint32_t parked;     /* the node of the party that is running; 0: none */
  const void *running; /* the key of that node; NULL: none */
  uint64_t tickets;    /* handed out so far */
  struct queue queues[QUEUES];
  nodes_alloc alloc;
  void *ud;
};

/* A party that is let out. */
struct leaver {
  uint32_t node;
  enum outcome outcome;
  uint64_t position; /* OUTCOME_PASSED: what the wait returns */
  uint8_t place;     /* the queue that it was in; for the room to put it back, as is the rest */
  uint8_t state;
  uint32_t last;
};

/* The turn `a` came before `b`; they may have wrapped around. */
static inline bool older(uint32_t a, uint32_t b) { return (uint32_t)(b - a - 1) < 0x80000000u; }

/* {=== memory and the index === */

/* An empty set. Allocates nothing. */
INTERNAL void nodes_init(struct nodes *s, nodes_alloc alloc, void *ud);

/* Gives all memory back; the set is empty then, and can be used again. */
INTERNAL void nodes_destroy(struct nodes *s);

/* True if there is room for one more node. */
INTERNAL bool nodes_has_room(const struct nodes *s);

/* Makes room for one more node. False, and nothing changed, when out of memory. */
INTERNAL bool nodes_reserve(struct nodes *s);

/* The node that the next nodes_take with this key hands out. Needs room. */
INTERNAL uint32_t nodes_vacant(const struct nodes *s, const void *key);

/* True if the party that runs has this key: it gets its old node back. */
static inline bool nodes_comes_back(const struct nodes *s, const void *key) {
  return key && key == s->running;
}

/* nodes_take for a party that does not come back. */
INTERNAL uint32_t nodes_take_new(struct nodes *s, const void *key);

/* Takes a node, which is in no queue yet, and has a new ticket. Needs room. */
static inline uint32_t nodes_take(struct nodes *s, const void *key) {
  uint32_t n = s->parked;
  struct node *node;
  if (nodes_comes_back(s, key)) {
    s->parked = 0;
    s->running = NULL;
  } else {
    n = nodes_take_new(s, key);
  }
  node = &s->at[n];
  node->ticket = ++s->tickets;
  node->deadline = 0;
  node->outcome = OUTCOME_PASSED;
  return n;
}

/* Frees a node that is in no queue. */
INTERNAL void nodes_free(struct nodes *s, uint32_t n);

/* The node with this key that is in a queue, otherwise 0. */
INTERNAL uint32_t nodes_find(const struct nodes *s, const void *key);

/* True if every queue is empty. */
INTERNAL bool nodes_empty(const struct nodes *s);

/* If every node is free, starts numbering them anew, and returns whether the memory is more
** than four times what was needed since the last call. */
INTERNAL bool nodes_rest(struct nodes *s);

/* Keeps a parked node for its party while that runs: if it comes back, it gets the same
** node, whose place in the index and whose element are still there. Without this a wait costs
** 27 % more. Returns the `previous` of nodes_unpark. */
INTERNAL uint32_t nodes_park(struct nodes *s, uint32_t n);

/* Ends nodes_park. True if the party did not come back; the node is free. */
INTERNAL bool nodes_unpark(struct nodes *s, uint32_t n, uint32_t previous);

/* }=== */

/* {=== the queues === */

/* Appends a node that is in no queue to the queue `place`. */
INTERNAL void nodes_append(struct nodes *s, uint8_t place, uint32_t n);

/* Puts a node that is in no queue at the head of the queue `place`. */
INTERNAL void nodes_prepend(struct nodes *s, uint8_t place, uint32_t n);

/* Takes a node out of its queue. */
INTERNAL void nodes_unlink(struct nodes *s, uint32_t n);

/* Takes the first node out of a queue that is not empty, and parks it. */
INTERNAL uint32_t nodes_pop(struct nodes *s, uint8_t place);

/* }=== */

/* {=== leaving early === */

/* Queues `outcome` for a party outside the room; its node. Needs room. */
INTERNAL uint32_t nodes_post(struct nodes *s, const void *key, enum outcome outcome, uint32_t turn);

/* A node that is in no queue joins the nodes that leave early. */
INTERNAL void nodes_send_off(struct nodes *s, uint32_t n, enum outcome outcome, uint32_t turn);

/* Takes out the first node that left early before this turn, but not `withheld`, and parks it.
** False if there is none. */
INTERNAL bool nodes_next_leaving(struct nodes *s, uint32_t turn, uint32_t withheld,
                                 struct leaver *leaver);

/* }=== */

#endif
