/*
** Barriers that the Lua states of a process share, each found by its name. Plain C99
** and threads: it knows no Lua, no luv and no clock.
**
** Each state has a member at each barrier that it uses, and each of its parties that waits
** there has a seat of that member, by the number of its node. An arrival that does not
** wait is only counted.
**
** One mutex guards everything, and each call takes it once. The hub calls nothing back: a
** party that becomes ready is queued at its member, and its state is woken through a pipe.
**
** The outcome of a wait is decided when the barrier trips, is reset or aborted, or when
** the party leaves early, and never changes afterwards. So a barrier does not drain: an
** arrival after the trip counts in the next phase, while the states let out their own
** parties in their own time.
**
** A barrier lives as long as it has a member, or an arrival that counts. With it goes its name.
**
** Each call takes constant time, but for each party that it lets out.
*/
#ifndef SHARED_HUB_H
#define SHARED_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../host/threads.h"

struct hub_barrier;
struct hub_member;

enum hub_outcome {
  HUB_PASSED, /* with a position */
  HUB_RESET,  /* the barrier was reset */
  HUB_ABORTED /* the barrier is broken, for a reason */
};

enum hub_kind { HUB_BOOLEAN, HUB_INTEGER, HUB_NUMBER, HUB_STRING };

/* Why a barrier was aborted, if there is more to say. It does not change, and lives while
** anything refers to it. */
struct hub_reason {
  size_t references;
  enum hub_kind kind;
  union {
    bool boolean;
    intmax_t integer;
    double number;
    size_t length;
  } value;
  char string[1]; /* of a string, and more of it behind */
};

/* The seat of one party of one member. */
struct hub_link {
  struct hub_member *member; /* NULL: none */
  uint32_t seat;
};

struct hub_seat {
  struct hub_link next, previous; /* inside: of all parties, in order of arrival */
  uint32_t next_ready;            /* ready: of this member; 0: the last */
  bool is_inside;                 /* waits, so that its outcome is not decided yet */
  uint8_t outcome;
  uint64_t position;         /* HUB_PASSED */
  struct hub_reason *reason; /* HUB_ABORTED; stays until the seat is taken again */
};

/* One Lua state's part in the barriers. */
struct hub_state {
  struct hub_member *members; /* all of them */
  struct hub_member *ready;   /* those that have parties to be taken */
  unsigned long process;      /* the process that the state belongs to, not a fork */
  bool signalled, closed;
  struct threads_pipe pipe; /* wakes its loop */
};

struct hub_member {
  struct hub_barrier *barrier;
  struct hub_state *state;
  void *owner;                        /* the caller's */
  struct hub_member *next, *previous; /* of its state */
  struct hub_member *next_ready;      /* of its state */
  struct hub_seat *seats;             /* seats[0] is not used */
  uint32_t capacity;                  /* of seats */
  uint32_t first_ready, last_ready;   /* 0: none */
};

struct hub_status {
  const char *name; /* lives as long as the member */
  size_t length;
  uint32_t parties, n_waiting, n_arrived;
  uint64_t generation;
  bool broken;
};

/* {=== states === */

INTERNAL void hub_open(struct hub_state *s);

/* Frees all its members, and so takes its parties back. None may be used afterwards. */
INTERNAL void hub_close(struct hub_state *s);

/* True in a fork of the state's process. Nothing else may be called there:
** the mutex may be locked for good, and the pipe is the parent's. */
INTERNAL bool hub_is_forked(const struct hub_state *s);

/* A pipe that is readable when a party is ready, for a loop that waits for it; NULL if there is
** none. On Windows it is a new one each time. */
INTERNAL const struct threads_pipe *hub_pipe(struct hub_state *s);

/* The pipe is not readable any more, until another party becomes ready. */
INTERNAL void hub_acknowledge(struct hub_state *s);

/* Takes all ready parties of one of the members, which it returns, as a list of seats that
** begins with `first` and ends with 0, in the order in which they were decided. NULL if no
** party is ready. */
INTERNAL struct hub_member *hub_take(struct hub_state *s, uint32_t *first);

/* The same for one member: the first seat, or 0. */
INTERNAL uint32_t hub_take_from(struct hub_member *m);

/* }=== */

/* {=== members === */

/* A new member of the barrier of that name, which is made with so many parties unless it is
** there. NULL: no memory. */
INTERNAL struct hub_member *hub_join(struct hub_state *s, const char *name, size_t length,
                                     uint32_t parties, void *owner);

/* Takes its parties back, and frees it. */
INTERNAL void hub_quit(struct hub_member *m);

INTERNAL void hub_get_status(const struct hub_member *m, struct hub_status *status);

/* Makes room for this seat. False, and nothing changed, when out of memory. */
INTERNAL bool hub_reserve(struct hub_member *m, uint32_t seat);

/* }=== */

/* {=== parties === */

/* In what follows `quiet` says that the caller will take what becomes ready in its own state, so
** that the state need not be woken. */

/* True if a party that came now would be ready at once: as the last, or at a broken barrier. */
INTERNAL bool hub_foresees(const struct hub_member *m);

/* Passes at once, as the last to arrive, with this position. False, and nothing changed, if
** it is not the last. */
INTERNAL bool hub_pass(struct hub_member *m, uint64_t *position, bool quiet);

/* A party arrives and waits. It may be ready at once. Needs room for the seat. */
INTERNAL void hub_enter(struct hub_member *m, uint32_t seat, bool quiet);

/* A party arrives that does not wait. False if the barrier is broken; then `reason` is one
** more reference to the reason, or NULL. */
INTERNAL bool hub_arrive(struct hub_member *m, struct hub_reason **reason, bool quiet);

/* A party leaves early. False if its outcome was decided already. */
INTERNAL bool hub_leave(struct hub_member *m, uint32_t seat);

INTERNAL void hub_reset(struct hub_member *m, bool quiet);

/* Takes the reason over, one reference to a block of malloc, NULL for none. Changes nothing if
** the barrier is broken. */
INTERNAL void hub_abort(struct hub_member *m, struct hub_reason *reason, bool quiet);

/* One reference more, and one less; NULL is no reason. */
INTERNAL struct hub_reason *hub_hold_reason(struct hub_reason *reason);
INTERNAL void hub_drop_reason(struct hub_reason *reason);

/* }=== */

#endif
