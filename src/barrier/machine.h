/*
** The state machine of one barrier, after CPython's asyncio.Barrier
** (Lib/asyncio/locks.py). Plain C99: it knows no Lua, no loop and no clock, and
** it calls nobody but its allocator. Each call says what happened; the caller
** acts on it.
**
** Whoever waits is a node (nodes.h), in one of five queues:
**
**   inside    waiting for the others, or about to leave (state not filling)
**   blocked   came while the barrier was busy with others; let in later,
**             first come first served
**   leaving   left early (cancelled, timed out) or never got in, and has still
**             to be told
**   watching  waits for a trip without being a party
**   told      watched, and has still to be told of a trip, a reset or an abort
**
** Who arrives without waiting is only counted; among the blocked, a node stands
** for a run of such arrivals.
**
** Positions are given out at the trip, by rank among those who wait. A party that
** leaves between the trip and its turn takes its position with it.
**
** A turn is a number that the caller counts up. Who is ready to leave in a turn
** became ready before it began: every call that makes somebody ready is told
** the current turn, and machine_next serves only what is older. The number may
** wrap around, so whoever is ready has to be served within 2^31 turns.
**
** Every call takes constant time, but for each whom it lets in or tells.
*/
#ifndef BARRIER_MACHINE_H
#define BARRIER_MACHINE_H

#include "nodes.h"

/* The most parties that a barrier can have. */
#define MACHINE_MOST_PARTIES 0x7fffffffu

enum machine_state {
  MACHINE_FILLING,   /* parties come in */
  MACHINE_DRAINING,  /* tripped; somebody is still inside */
  MACHINE_RESETTING, /* reset with somebody inside, who is about to fail */
  MACHINE_BROKEN     /* aborted */
};

enum machine_outcome {
  MACHINE_PASSED,    /* with a position, or for a watcher a generation */
  MACHINE_RESET,     /* the barrier was reset */
  MACHINE_ABORTED,   /* the barrier is broken */
  MACHINE_CANCELLED, /* left early, by the caller's wish */
  MACHINE_DISTURBED, /* left early: somebody else resumed it */
  MACHINE_TIMED_OUT, /* left early, with an error that the caller keeps for it */
  MACHINE_FAILED,    /* with an error that the caller keeps for it */
  MACHINE_CLOSED,    /* a notice for someone who is out already */
  MACHINE_UNCAUGHT,  /* an error, kept by the caller, that nobody is left to get */
  MACHINE_ARRIVED,   /* blocked: arrivals that do not wait */
  MACHINE_OUTCOMES
};

struct machine {
  struct nodes nodes;
  uint32_t parties;
  uint32_t arrived;      /* in this phase, without waiting */
  uint32_t last;         /* the last arrival, inside, if it waits; 0: none */
  uint32_t runner;       /* held: the last arrival if its own call runs the action; 0: none */
  uint32_t parked;       /* the node of the party that is running; 0: none */
  const void *running;   /* the key of that node; NULL: none */
  uint32_t arrivals;     /* how many of the blocked nodes are MACHINE_ARRIVED */
  bool held;             /* all parties are there: the trip is decided */
  bool due;              /* held, and the action has still to run, in a turn */
  uint8_t thrown;        /* held: MACHINE_RESET or MACHINE_ABORTED if it was */
  uint8_t inside;        /* which queue is inside: PLACE_QUEUE_A or _B */
  uint8_t state;         /* enum machine_state */
  uint8_t spoiler;       /* MACHINE_RESET or MACHINE_ABORTED: see spoiled */
  uint32_t inside_turn;  /* when those inside became ready to leave */
  uint32_t blocked_turn; /* when the blocked became ready to be let in or to fail */
  uint64_t generation;   /* how many times it has tripped */
  uint64_t spoiled;      /* who was told of a generation before this one gets the spoiler */
  uint64_t tickets;      /* handed out so far */
  uint64_t position;     /* draining: of the next in order */
};

/* Told as the turn in which somebody becomes ready: still served in `turn`, which has begun. */
#define MACHINE_BEFORE(turn) ((turn)-1)

/* Someone whom machine_next lets out. */
struct machine_leaver {
  uint32_t node;
  enum machine_outcome outcome;
  uint64_t position; /* MACHINE_PASSED: from 0 on; for a watcher the generation */
  uint32_t last;     /* for machine_put_back: the last arrival before, */
  uint8_t state;     /* the state, */
  uint8_t place;     /* and the queue that it was in */
};

/* {=== making, memory === */

/* An empty barrier for `parties` >= 1. Allocates nothing. */
INTERNAL void machine_init(struct machine *m, uint32_t parties, nodes_alloc alloc, void *ud);

/* Gives all memory back. The machine is empty then, and can be used again. */
INTERNAL void machine_destroy(struct machine *m);

/* The node that the next call with this key will use. Needs room (nodes_reserve), as
** every call does that puts somebody into a queue. */
INTERNAL uint32_t machine_vacant(const struct machine *m, const void *key);

/* Does the party that is running arrive again? It gets the node that it had. */
INTERNAL bool machine_comes_back(const struct machine *m, const void *key);

/* If every node is free, starts numbering them anew, and returns whether it holds much more
** memory than it needed lately. */
INTERNAL bool machine_rest(struct machine *m);

/* }=== */

/* {=== coming === */

/* Would an arrival count in the phase that is filling, and not be blocked? */
INTERNAL bool machine_is_open(const struct machine *m);

/* Would `n` arrivals now be the last that the barrier waits for? */
INTERNAL bool machine_would_trip(const struct machine *m, uint32_t n);

/* Would an arrival now have to wait, and is there room for its node? */
INTERNAL bool machine_would_wait(const struct machine *m);

/* How many parties may arrive by one call: those that have yet to arrive, or one that passes
** alone. */
INTERNAL uint32_t machine_most_arrivals(const struct machine *m);

/* Do `n` arrivals that do not wait need a node? */
INTERNAL bool machine_arrivals_need_node(const struct machine *m, uint32_t n);

/* A party arrives and waits, inside or blocked. The machine must not be broken.
** Check machine_full afterwards. */
INTERNAL uint32_t machine_enter(struct machine *m, const void *key);

/* `n` parties arrive and do not wait, at most machine_most_arrivals. The machine must not be
** broken. Needs room only if machine_arrivals_need_node. Check machine_full afterwards. */
INTERNAL void machine_arrive(struct machine *m, uint32_t n);

/* Somebody waits for the next trip, as no party. The machine must not be broken. */
INTERNAL uint32_t machine_watch(struct machine *m, const void *key);

/* Somebody who is not in the barrier is to be told `outcome` in a later turn. */
INTERNAL uint32_t machine_post(struct machine *m, const void *key, enum machine_outcome outcome,
                               uint32_t turn);

/* How many parties have yet to arrive. So many may be taken from `parties`, which may
** grow at any time; check machine_full afterwards. */
INTERNAL uint32_t machine_absent(const struct machine *m);

/* }=== */

/* {=== tripping === */

/* Have all arrived, so that the barrier has only to be tripped? */
INTERNAL bool machine_full(const struct machine *m);

/* Lets everybody inside go, and tells those who watch. */
INTERNAL void machine_trip(struct machine *m, uint32_t turn);

/* The last arrival passes without a node: trips, and returns its position. */
INTERNAL uint64_t machine_pass(struct machine *m, uint32_t turn);

/* All parties are there, and the barrier's action is about to run: the trip is decided. Until
** machine_unhold each arrival is blocked, and a party that leaves leaves alone. `last`: the
** node of the last arrival, 0 if it does not wait. `runs`: its own call runs the action, so
** it cannot resume before that ends. */
INTERNAL void machine_hold(struct machine *m, uint32_t last, bool runs);

/* The same where the action runs in a turn to come, which is now due. */
INTERNAL void machine_put_off(struct machine *m, uint32_t last, uint32_t turn);

/* Was the action put off before this turn? */
INTERNAL bool machine_is_due(const struct machine *m, uint32_t turn);

/* The action has run, or will not. Returns whether the caller has to trip the barrier: it was
** neither reset nor aborted meanwhile. */
INTERNAL bool machine_unhold(struct machine *m, uint32_t turn);

/* }=== */

/* {=== leaving === */

/* True while the node still waits for a trip that is not decided; only then does its timeout
** apply. */
INTERNAL bool machine_waits(const struct machine *m, uint32_t node);

/* Takes a node out of its queue for good; it is free then. */
INTERNAL void machine_leave(struct machine *m, uint32_t node, uint32_t turn);

/* Whoever it is leaves early, to be told `outcome` in a later turn. False, and
** nothing changed, if it is leaving already. */
INTERNAL bool machine_withdraw(struct machine *m, uint32_t node, enum machine_outcome outcome,
                               uint32_t turn);

/* Back to the empty state; those inside and those who watch fail, the blocked stay. */
INTERNAL void machine_reset(struct machine *m, uint32_t turn);

/* Broken until reset; everybody fails. Changes nothing if it is broken. */
INTERNAL void machine_abort(struct machine *m, uint32_t turn);

/* }=== */

/* {=== turns === */

/* Takes out the next who leaves in this turn: first those who left early, then
** those inside, then the blocked of a broken barrier, then those who watched. False
** if nobody does. The node is parked: call nodes_free, or machine_park and
** machine_unpark. */
INTERNAL bool machine_next(struct machine *m, uint32_t turn, struct machine_leaver *leaver);

/* Undoes the machine_next just before it. */
INTERNAL void machine_put_back(struct machine *m, const struct machine_leaver *leaver);

/* Keeps a parked node for its party while that runs: if it arrives again, it
** gets the same node. Returns what machine_unpark wants. */
INTERNAL uint32_t machine_park(struct machine *m, uint32_t node);

/* Ends machine_park. True if the party did not come back; the node is free. */
INTERNAL bool machine_unpark(struct machine *m, uint32_t node, uint32_t previous);

/* Lets the blocked in, up to the number of parties, when those who were inside are
** gone. True if the barrier is full now; `last` is the last to be let in then. */
INTERNAL bool machine_admit(struct machine *m, uint32_t turn);

/* How many have yet to be let out, let in or notified; at least one while there is anything to
** do in a turn to come. */
INTERNAL uint64_t machine_pending(const struct machine *m);

/* Is there anything to do in a turn to come? */
INTERNAL bool machine_busy(const struct machine *m);

/* }=== */

/* {=== looking === */

/* How many wait inside, while filling; otherwise 0. */
INTERNAL uint32_t machine_waiting(const struct machine *m);

/* How many have arrived, waiting or not, while filling; otherwise 0. */
INTERNAL uint32_t machine_counted(const struct machine *m);

/* Does anybody wait or watch, who is not on the way out? */
INTERNAL bool machine_anybody_waits(const struct machine *m);

/* }=== */

#endif
