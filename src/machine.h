/*
** The state machine of one barrier, after CPython's asyncio.Barrier
** (Lib/asyncio/locks.py). Plain C99: it knows no Lua, no loop and no clock, and
** it calls nobody but its allocator. Each call says what happened; the caller
** acts on it.
**
** Parties are nodes, named by an index >= 1. A node is in one of three queues:
**
**   inside    waiting for the others, or about to leave (state not filling)
**   blocked   came while the barrier was busy with others; let in later,
**             first come first served
**   leaving   went early (cancelled, timed out) or never got in, and has still
**             to be told
**
** Positions are given out at the trip, by rank of arrival. A party that leaves
** between the trip and its turn takes its position with it.
**
** A turn is a number that the caller counts up. Who is ready to leave in a turn
** became ready before it began: every call that makes somebody ready is told
** the current turn, and machine_next serves only what is older. The number may wrap
** around, so who is ready has to be served within 2^31 turns.
**
** Every call takes constant time, but machine_reserve when it grows (amortized),
** and machine_admit, which is constant for each party let in.
*/
#ifndef BARRIER_MACHINE_H
#define BARRIER_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "internal.h"

/* The signature of lua_Alloc: nsize 0 frees, NULL says out of memory. */
typedef void *(*machine_alloc)(void *ud, void *ptr, size_t osize, size_t nsize);

enum machine_state {
  MACHINE_FILLING,   /* parties come in */
  MACHINE_DRAINING,  /* tripped; somebody is still inside */
  MACHINE_RESETTING, /* reset with somebody inside, who is to fail */
  MACHINE_BROKEN     /* aborted */
};

enum machine_outcome {
  MACHINE_PASSED,    /* with a position */
  MACHINE_RESET,     /* the barrier was reset */
  MACHINE_ABORTED,   /* the barrier is broken */
  MACHINE_CANCELLED, /* left early */
  MACHINE_TIMED_OUT, /* left early */
  MACHINE_FAILED,    /* with an error that the caller keeps for it */
  MACHINE_CLOSED     /* a notice for someone who is out already */
};

/* Where a node is. The first three are indices of machine.queues. */
enum machine_place {
  MACHINE_QUEUE_A, /* A and B are inside and blocked, or blocked and inside */
  MACHINE_QUEUE_B,
  MACHINE_LEAVING,
  MACHINE_PARKED, /* out of every queue, kept for its party to come back */
  MACHINE_FREE
};

struct machine_node {
  const void *key; /* what machine_find looks for; NULL for nothing */
  uint64_t ticket; /* grows with every arrival */
  uint32_t prev, next;
  uint32_t chain; /* next node of the same bucket */
  union {
    uint32_t gap;  /* draining: parties just before it that left since the trip */
    uint32_t turn; /* leaving: the turn in which it left */
  } as;
  uint32_t deadline; /* for the caller: where its timeout is; 0 for none */
  uint8_t place;     /* enum machine_place */
  uint8_t outcome;   /* leaving: enum machine_outcome; inside: PASSED or FAILED */
};

struct machine_queue {
  uint32_t first, last; /* 0: empty */
  uint32_t count;
};

struct machine {
  struct machine_node *nodes; /* nodes[0] is not used */
  uint32_t *buckets;          /* behind the nodes, in the same block */
  uint32_t capacity;          /* of both: 0 or a power of two */
  uint32_t shift;             /* 64 - log2(capacity) */
  uint32_t used;              /* nodes[1..used] were handed out before */
  uint32_t free;              /* first of the free nodes, linked by next */
  uint32_t parked;            /* the node of the party that is running; 0: none */
  bool held;                  /* the action runs: who arrives is blocked */
  uint8_t extra;              /* held: 1 for a last arrival that has no node */
  uint8_t verdict;            /* held: what became of that last arrival */
  uint8_t inside;             /* which queue is inside: MACHINE_QUEUE_A or _B */
  uint8_t state;              /* enum machine_state */
  uint32_t inside_turn;       /* when those inside became ready to leave */
  uint32_t blocked_turn;      /* when the blocked became ready to be let in or to fail */
  struct machine_queue queues[3];
  uint64_t parties;
  uint64_t generation;  /* how many times it has tripped */
  uint64_t tickets;     /* handed out so far */
  uint64_t held_ticket; /* of the last arrival that did not enter */
  uint64_t position;    /* draining: of the next in order */
  machine_alloc alloc;
  void *ud;
};

/* Someone whom machine_next lets out. */
struct machine_leaver {
  uint32_t node;
  enum machine_outcome outcome;
  uint64_t position; /* MACHINE_PASSED: 0 to parties-1 */
  uint8_t state;     /* for machine_put_back: the state before */
  uint8_t place;     /* and the queue that it was in */
};

/* An empty barrier for `parties` >= 1. Allocates nothing. */
INTERNAL void machine_init(struct machine *m, uint64_t parties, machine_alloc alloc, void *ud);

/* Gives all memory back. The machine is empty then, and may be used again. */
INTERNAL void machine_destroy(struct machine *m);

/* Makes room, so that the next machine_enter or machine_post succeeds.
** False, and nothing changed, when out of memory. */
INTERNAL bool machine_reserve(struct machine *m);

/* The node that the next machine_enter or machine_post with this key will
** hand out. Needs machine_reserve. */
INTERNAL uint32_t machine_vacant(const struct machine *m, const void *key);

/* Is it the party that is running, whose node is parked? It gets that node. */
INTERNAL bool machine_comes_back(const struct machine *m, const void *key);

/* A party arrives and waits inside, or blocked. The machine must not be broken.
** Needs machine_reserve. Check machine_full afterwards. */
INTERNAL uint32_t machine_enter(struct machine *m, const void *key);

/* The last arrival of a held machine, which did not enter, waits inside now, ahead
** of those who came meanwhile. Needs machine_reserve, after machine_unhold. */
INTERNAL uint32_t machine_stay(struct machine *m, const void *key);

/* Somebody who is not in the barrier is to be told `outcome` in a later turn.
** Needs machine_reserve. */
INTERNAL uint32_t machine_post(struct machine *m, enum machine_outcome outcome, uint32_t turn);

/* Would an arrival now be the last one that the barrier waits for? */
INTERNAL bool machine_would_trip(const struct machine *m);

/* Would an arrival now have to wait, and is there room for its node? */
INTERNAL bool machine_would_wait(const struct machine *m);

/* Is it filling, and lacks one party only? */
INTERNAL bool machine_lacks_one(const struct machine *m);

/* Is everybody there, and the barrier only to be tripped? */
INTERNAL bool machine_full(const struct machine *m);

/* Lets everybody inside go. With a last arrival that did not enter (position
** parties-1) or, if all parties are inside, with them. */
INTERNAL void machine_trip(struct machine *m, uint32_t turn);

/* Everybody is there, and the barrier's action is about to run: until
** machine_unhold who arrives is blocked. With a last arrival that did not enter
** (`extra`), or all parties inside. */
INTERNAL void machine_hold(struct machine *m, bool extra);

/* The action has run. What became of the last arrival that did not enter:
** MACHINE_PASSED, or how machine_reset, machine_abort or machine_dismiss_extra
** threw it out. Check machine_full before. */
INTERNAL enum machine_outcome machine_unhold(struct machine *m, uint32_t turn);

/* Takes the last arrival that did not enter out of a held machine. */
INTERNAL void machine_dismiss_extra(struct machine *m);

/* The node of `key` if it is in a queue, otherwise 0. */
INTERNAL uint32_t machine_find(const struct machine *m, const void *key);

/* Is the node's party on its way through: waiting, and not failed or let go?
** That is when its timeout counts. */
INTERNAL bool machine_waits(const struct machine *m, uint32_t node);

/* Takes a node out of its queue for good; it is free then. */
INTERNAL void machine_leave(struct machine *m, uint32_t node, uint32_t turn);

/* The party leaves early, to be told `outcome` in a later turn. False, and
** nothing changed, if it is leaving already. */
INTERNAL bool machine_withdraw(struct machine *m, uint32_t node, enum machine_outcome outcome,
                               uint32_t turn);

/* Back to the empty state; those inside fail, the blocked stay. */
INTERNAL void machine_reset(struct machine *m, uint32_t turn);

/* Broken until reset; those inside and the blocked fail. */
INTERNAL void machine_abort(struct machine *m, uint32_t turn);

/* Takes out the next who is to leave in this turn: first those who left early,
** then those inside, then the blocked of a broken barrier. False if nobody is.
** The node is parked: call machine_release, or machine_park and machine_unpark. */
INTERNAL bool machine_next(struct machine *m, uint32_t turn, struct machine_leaver *leaver);

/* Undoes the machine_next just before it. */
INTERNAL void machine_put_back(struct machine *m, const struct machine_leaver *leaver,
                               uint32_t turn);

/* Frees a parked node. */
INTERNAL void machine_release(struct machine *m, uint32_t node);

/* Keeps a parked node for its party while that runs: if it arrives again, it
** gets the same node. Returns what machine_unpark wants. */
INTERNAL uint32_t machine_park(struct machine *m, uint32_t node);

/* Ends machine_park. True if the party did not come back; the node is free. */
INTERNAL bool machine_unpark(struct machine *m, uint32_t node, uint32_t previous);

/* Lets the blocked in, up to `parties`, when those who were inside are gone.
** True if the barrier is full now. */
INTERNAL bool machine_admit(struct machine *m, uint32_t turn);

/* Is there somebody to let out or in, in a turn to come? */
INTERNAL bool machine_busy(const struct machine *m);

/* Who waits inside, while filling; otherwise 0. */
INTERNAL uint32_t machine_waiting(const struct machine *m);

#endif
