/*
** Barriers that the Lua states of a process share, each found by its name. Plain C99
** and threads: it knows no Lua, no luv and no clock. The barrier of one state (machine.h)
** has nothing to do with it.
**
** One mutex guards everything, and each call takes it once. Nothing is called back: who
** is to be told something is queued in its own state, and that state is woken.
**
** What a wait comes to is decided when the barrier trips, is reset or aborted, or when
** the wait is given up, and never changes afterwards. So a barrier does not drain: once it
** has tripped, whoever arrives counts in the next phase, while the states let out their
** own waiters in their own time.
**
** A barrier lives as long as an arrival refers to it, even one that never arrives; or whoever
** has called shared_join. With the last of them goes its name.
*/
#ifndef SHARED_HUB_H
#define SHARED_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../host/internal.h"
#include "threads.h"

struct shared_barrier;
struct shared_state;

/* What a wait comes to. */
enum shared_outcome {
  SHARED_PASSED,    /* with a position */
  SHARED_RESET,     /* the barrier was reset */
  SHARED_ABORTED,   /* the barrier is broken, for a reason */
  SHARED_TIMED_OUT, /* given up by its own state; likewise the next two */
  SHARED_CANCELLED,
  SHARED_DISTURBED
};

enum shared_kind { SHARED_BOOLEAN, SHARED_INTEGER, SHARED_NUMBER, SHARED_STRING };

/* Why a barrier was aborted, if there is more to say. It does not change, and lives while
** anything refers to it. */
struct shared_reason {
  size_t references;
  enum shared_kind kind;
  union {
    bool boolean;
    intmax_t integer;
    double number;
    size_t length;
  } value;
  char string[1]; /* of a string, and more of it behind */
};

enum shared_place { SHARED_OUT, SHARED_INSIDE, SHARED_READY };

/* The queues that an arrival is in: its barrier's, and one of its state's. */
enum shared_link { SHARED_IN_BARRIER, SHARED_IN_STATE };

/* Somebody who arrives. While it is inside it belongs to the barrier; before and after that,
** to its own state, in whose thread alone it may then be read. */
struct shared_arrival {
  struct shared_barrier *barrier;
  struct shared_state *state;
  struct shared_arrival *next[2], *previous[2]; /* by shared_link */
  enum shared_place place;
  enum shared_outcome outcome;
  uint64_t value; /* SHARED_PASSED: its position; SHARED_TIMED_OUT: how many had arrived */
  uint64_t turn;  /* of its state, when it became ready */
  struct shared_reason *reason;
  bool waits;
  void *owner; /* the caller's */
};

struct shared_queue {
  struct shared_arrival *first, *last;
};

/* What one Lua state has to do with the barriers. */
struct shared_state {
  struct shared_queue ready, others; /* all its arrivals */
  size_t waits;                      /* how many of its arrivals wait, or are ready */
  uint64_t turn;                     /* what became ready in an earlier one is served in this one */
  bool signalled, closed;
  struct threads_pipe pipe; /* wakes its loop */
};

struct shared_status {
  uint64_t parties, n_waiting, n_arrived, generation;
  bool broken;
};

/* {=== states === */

INTERNAL void shared_init(struct shared_state *s);

/* Frees all its arrivals, so that those which have not tripped are taken back. None may be
** made or used afterwards. */
INTERNAL void shared_close(struct shared_state *s);

/* A pipe that is readable when somebody is ready, for a loop that is to wait for it; NULL if
** there is none to be had. On Windows it is a new one each time. */
INTERNAL const struct threads_pipe *shared_pipe(struct shared_state *s);

/* Begins a turn. */
INTERNAL void shared_begin(struct shared_state *s);

/* The next who is to be told in this turn, or NULL. */
INTERNAL struct shared_arrival *shared_next(struct shared_state *s);

/* Ends a turn: unless somebody is ready already, the pipe is not readable any more. Returns
** whether it still is. */
INTERNAL bool shared_settle(struct shared_state *s);

/* The pipe is not readable any more, but the next who is ready makes it so again. Returns
** whether it was. */
INTERNAL bool shared_acknowledge(struct shared_state *s);

/* Makes the pipe readable, as if somebody were ready. */
INTERNAL void shared_wake(struct shared_state *s);

/* Does nobody wait, and is nobody ready? */
INTERNAL bool shared_resting(const struct shared_state *s);

/* }=== */

/* {=== barriers === */

/* The barrier of that name, made with so many parties unless it is there. NULL: no
** memory. */
INTERNAL struct shared_barrier *shared_join(const char *name, size_t length, uint64_t parties);

INTERNAL void shared_release(struct shared_barrier *b);

INTERNAL void shared_get_status(const struct shared_barrier *b, struct shared_status *status);

INTERNAL void shared_reset(struct shared_barrier *b);

/* A reason with room for a string of `length` bytes, for shared_abort. NULL: no memory. */
INTERNAL struct shared_reason *shared_new_reason(enum shared_kind kind, size_t length);

/* Takes the reason over, NULL for none. Changes nothing if the barrier is broken. */
INTERNAL void shared_abort(struct shared_barrier *b, struct shared_reason *reason);

/* }=== */

/* {=== arrivals === */

/* Passes at once, as the last to arrive, with this position; false, and nothing changed,
** if that is not the last one. */
INTERNAL bool shared_pass(struct shared_barrier *b, uint64_t *position);

/* Somebody who has yet to arrive, to wait or not. NULL: no memory. */
INTERNAL struct shared_arrival *shared_new(struct shared_state *s, struct shared_barrier *b,
                                           void *owner, bool waits);

/* Arrives. Whoever waits may be ready at once: as the last one, or on a broken barrier. Who
** does not wait is the barrier's from now on; on a broken barrier it is SHARED_ABORTED, and
** still the caller's. Returns whether it was let in. */
INTERNAL bool shared_enter(struct shared_arrival *a);

/* Gives a wait up: it becomes ready with this outcome. False if it was not waiting. */
INTERNAL bool shared_leave(struct shared_arrival *a, enum shared_outcome outcome);

/* Has it not arrived yet? */
INTERNAL bool shared_absent(const struct shared_arrival *a);

/* Frees an arrival, wherever it is. */
INTERNAL void shared_free(struct shared_arrival *a);

/* }=== */

#endif
