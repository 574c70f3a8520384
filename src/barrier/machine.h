/*
** The state machine of one barrier, after CPython's asyncio.Barrier
** (Lib/asyncio/locks.py). Plain C99: it knows no Lua, no loop and no clock, and
** it calls nothing but its allocator. Each call says what happened; the caller
** acts on it.
**
** Each waiting party and each watcher is a node (nodes.h), in one of five queues:
**
**   inside    waiting for the others, or about to leave (state not filling)
**   blocked   came while the barrier was busy with others; let in later,
**             first come first served
**   leaving   left early (cancelled, timed out) or never got in, and is yet
**             to be notified
**   watching  waits for a trip without being a party
**   notify    watched, and is yet to be notified of a trip, a reset or an abort
**
** An arrival that does not wait is only counted; among the blocked, a node stands
** for a run of such arrivals.
**
** Positions are given out at the trip, by rank among the waiting parties. A party that
** leaves between the trip and its turn takes its position with it.
**
** A turn is a number that the caller counts up. A node that leaves in a turn became
** ready before that turn began: every call that makes nodes ready takes the number
** of the current turn, and machine_next serves only nodes with an older one. The
** number may wrap around, so a ready node has to be served within 2^31 turns.
**
** Every call takes constant time for each node that it lets in or notifies, and
** constant time otherwise.
*/
#ifndef BARRIER_MACHINE_H
#define BARRIER_MACHINE_H

#include "../host/nodes.h"

/* The most parties that a barrier can have. */
#define MACHINE_MOST_PARTIES 0x7fffffffu

enum machine_state {
  MACHINE_FILLING,   /* parties come in */
  MACHINE_DRAINING,  /* tripped; parties are still inside */
  MACHINE_RESETTING, /* reset; the parties inside are about to fail */
  MACHINE_BROKEN     /* aborted */
};

/* The outcomes of a barrier besides those of outcome.h. */
#define MACHINE_RESET OUTCOME_OWN                         /* the barrier was reset */
#define MACHINE_ABORTED ((enum outcome)(OUTCOME_OWN + 1)) /* the barrier is broken */
#define MACHINE_ARRIVED ((enum outcome)(OUTCOME_OWN + 2)) /* blocked: arrivals that do not wait */

/* Its queues. */
enum machine_place {
  PLACE_QUEUE_A, /* A and B are inside and blocked, or blocked and inside */
  PLACE_QUEUE_B,
  PLACE_WATCHING,
  PLACE_NOTIFY
};

struct machine {
  struct nodes nodes;
  uint32_t parties;
  uint32_t arrived;      /* in this phase, without waiting */
  uint32_t last;         /* the last arrival, inside, if it waits; 0: none */
  uint32_t runner;       /* held: the last arrival if its own call runs the action; 0: none */
  uint32_t arrivals;     /* how many of the blocked nodes are MACHINE_ARRIVED */
  bool held;             /* all parties are there: the trip is decided */
  bool due;              /* held, and the action has still to run, in a turn */
  uint8_t thrown;        /* held: MACHINE_RESET or MACHINE_ABORTED if it was */
  uint8_t inside;        /* which queue is inside: PLACE_QUEUE_A or _B */
  uint8_t state;         /* enum machine_state */
  uint8_t spoiler;       /* MACHINE_RESET or MACHINE_ABORTED: see spoiled */
  uint32_t inside_turn;  /* when the parties inside became ready to leave */
  uint32_t blocked_turn; /* when the blocked became ready to be let in or to fail */
  uint64_t generation;   /* how many times it has tripped */
  uint64_t spoiled;      /* a notice of an earlier generation turns into the spoiler */
  uint64_t position;     /* draining: the next party's, in order */
};

/* As the turn in which a node becomes ready: it is still served in `turn`, which has begun. */
#define MACHINE_BEFORE(turn) ((turn)-1)

/* {=== making, memory === */

/* An empty barrier for `parties` >= 1. Allocates nothing. */
INTERNAL void machine_init(struct machine *m, uint32_t parties, nodes_alloc alloc, void *ud);

/* Gives all memory back. The machine is empty then, and can be used again. */
INTERNAL void machine_destroy(struct machine *m);

/* }=== */

/* {=== coming === */

/* True if an arrival now would count in the phase that is filling, and not be blocked. */
INTERNAL bool machine_is_open(const struct machine *m);

/* True if `n` arrivals now would be the last that the barrier waits for. */
INTERNAL bool machine_would_trip(const struct machine *m, uint32_t n);

/* True if an arrival now would have to wait, and there is room for its node. */
INTERNAL bool machine_would_wait(const struct machine *m);

/* The most parties that may arrive by one call: all parties that have yet to arrive, or one that
** passes alone. */
INTERNAL uint32_t machine_most_arrivals(const struct machine *m);

/* True if `n` arrivals that do not wait need a node. */
INTERNAL bool machine_arrivals_need_node(const struct machine *m, uint32_t n);

/* A party arrives and waits, inside or blocked. The machine must not be broken.
** Check machine_full afterwards. */
INTERNAL uint32_t machine_enter(struct machine *m, const void *key);

/* `n` parties arrive and do not wait, at most machine_most_arrivals. The machine must not be
** broken. Needs room only if machine_arrivals_need_node. Check machine_full afterwards. */
INTERNAL void machine_arrive(struct machine *m, uint32_t n);

/* A watcher waits for the next trip without being a party. The machine must not be broken. */
INTERNAL uint32_t machine_watch(struct machine *m, const void *key);

/* The number of parties that have yet to arrive. At most that many may be taken from `parties`,
** which may grow at any time; check machine_full afterwards. */
INTERNAL uint32_t machine_absent(const struct machine *m);

/* }=== */

/* {=== tripping === */

/* True if all parties have arrived, and the barrier has only to be tripped. */
INTERNAL bool machine_full(const struct machine *m);

/* Lets all parties inside go, and notifies the watchers. */
INTERNAL void machine_trip(struct machine *m, uint32_t turn);

/* The last arrival passes without a node: trips, and returns its position. */
INTERNAL uint64_t machine_pass(struct machine *m, uint32_t turn);

/* All parties are there, and the barrier's action is about to run: the trip is decided. Until
** machine_unhold each arrival is blocked, and a party that leaves leaves alone. `last`: the
** node of the last arrival, 0 if it does not wait. `runs`: its own call runs the action, so
** it cannot resume before that ends. */
INTERNAL void machine_hold(struct machine *m, uint32_t last, bool runs);

/* The same where the action runs in a turn to come, which is now due. */
INTERNAL void machine_defer(struct machine *m, uint32_t last, uint32_t turn);

/* True if the action was deferred before this turn, and is still due. */
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

/* The node leaves early: its party or watcher gets `outcome` in a later turn. False, and
** nothing changed, if it is leaving already. */
INTERNAL bool machine_withdraw(struct machine *m, uint32_t node, enum outcome outcome,
                               uint32_t turn);

/* Back to the empty state; the parties inside and the watchers fail, the blocked stay. */
INTERNAL void machine_reset(struct machine *m, uint32_t turn);

/* Broken until reset; all parties and watchers fail. Changes nothing if it is broken already. */
INTERNAL void machine_abort(struct machine *m, uint32_t turn);

/* }=== */

/* {=== turns === */

/* Takes out the next node that leaves in this turn: first the nodes that left early, then
** the parties inside, then the blocked of a broken barrier, then the watchers. False
** if no node leaves. The node is parked: call nodes_free, or nodes_park and
** nodes_unpark. */
INTERNAL bool machine_next(struct machine *m, uint32_t turn, struct leaver *leaver);

/* Undoes the machine_next just before it. */
INTERNAL void machine_put_back(struct machine *m, const struct leaver *leaver);

/* Lets the blocked in, up to the number of parties, when the parties that were inside are
** gone. True if the barrier is full now; then `last` is the last node that was let in. */
INTERNAL bool machine_admit(struct machine *m, uint32_t turn);

/* The number of nodes that have yet to be let out, let in or notified; at least one while there
** is anything to do in a turn to come. */
INTERNAL uint64_t machine_pending(const struct machine *m);

/* True while there is anything to do in a turn to come. */
INTERNAL bool machine_busy(const struct machine *m);

/* }=== */

/* {=== looking === */

/* The number of parties that wait inside, while filling; otherwise 0. */
INTERNAL uint32_t machine_waiting(const struct machine *m);

/* The number of parties that have arrived, waiting or not, while filling; otherwise 0. */
INTERNAL uint32_t machine_counted(const struct machine *m);

/* True if a party waits or watches, and has not left early. */
INTERNAL bool machine_has_waiters(const struct machine *m);

/* }=== */

#endif
