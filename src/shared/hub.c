#include "hub.h"

#include <stdlib.h>
#include <string.h>

#include "threads.h"

struct shared_barrier {
  struct shared_barrier *next, *previous; /* in `barriers` */
  size_t references;
  uint64_t parties, generation;
  uint64_t n_arrived, n_waiting;
  struct shared_queue inside; /* in order of arrival */
  bool broken;
  struct shared_reason *reason;
  size_t length;
  char name[1]; /* and more of it behind */
};

/* Of this process, or of this copy of the C core, should there be several. */
static struct shared_barrier *shared_barriers;

/* {=== queues; the mutex is held from here on, unless a function takes it === */

static void shared_append(struct shared_queue *q, struct shared_arrival *a, enum shared_link link) {
  a->next[link] = NULL;
  a->previous[link] = q->last;
  if (q->last)
    q->last->next[link] = a;
  else
    q->first = a;
  q->last = a;
}

static void shared_unlink(struct shared_queue *q, struct shared_arrival *a, enum shared_link link) {
  if (a->previous[link])
    a->previous[link]->next[link] = a->next[link];
  else
    q->first = a->next[link];
  if (a->next[link])
    a->next[link]->previous[link] = a->previous[link];
  else
    q->last = a->previous[link];
}

/* }=== */

/* {=== references === */

static void shared_drop_reason(struct shared_reason *reason) {
  if (reason && --reason->references == 0) free(reason);
}

static struct shared_reason *shared_hold_reason(struct shared_reason *reason) {
  if (reason) reason->references++;
  return reason;
}

static void shared_drop(struct shared_barrier *b) {
  if (--b->references > 0) return;
  if (b->previous)
    b->previous->next = b->next;
  else
    shared_barriers = b->next;
  if (b->next) b->next->previous = b->previous;
  shared_drop_reason(b->reason);
  free(b);
}

/* }=== */

/* {=== who goes in and out === */

static void shared_signal(struct shared_state *s) {
  if (s->signalled) return;
  s->signalled = true;
  threads_write(&s->pipe);
}

/* It waits, or is counted. */
static void shared_go_in(struct shared_arrival *a) {
  struct shared_barrier *b = a->barrier;
  shared_append(&b->inside, a, SHARED_IN_BARRIER);
  a->place = SHARED_INSIDE;
  b->n_arrived++;
  if (!a->waits) return;
  b->n_waiting++;
  a->state->waits++;
}

static void shared_go_out(struct shared_arrival *a) {
  struct shared_barrier *b = a->barrier;
  struct shared_state *s = a->state;
  if (a->place == SHARED_INSIDE) {
    shared_unlink(&b->inside, a, SHARED_IN_BARRIER);
    b->n_arrived--;
    if (a->waits) b->n_waiting--;
  } else if (a->place == SHARED_READY) {
    shared_unlink(&s->ready, a, SHARED_IN_STATE);
    shared_append(&s->others, a, SHARED_IN_STATE);
  }
  if (a->waits && a->place != SHARED_OUT) s->waits--;
  a->place = SHARED_OUT;
}

/* It is out. */
static void shared_make_ready(struct shared_arrival *a, enum shared_outcome outcome) {
  struct shared_state *s = a->state;
  shared_unlink(&s->others, a, SHARED_IN_STATE);
  shared_append(&s->ready, a, SHARED_IN_STATE);
  a->place = SHARED_READY;
  a->outcome = outcome;
  a->turn = s->turn;
  s->waits++;
  shared_signal(s);
}

/* It is out. */
static void shared_destroy(struct shared_arrival *a) {
  shared_unlink(&a->state->others, a, SHARED_IN_STATE);
  shared_drop_reason(a->reason);
  shared_drop(a->barrier);
  free(a);
}

/* The phase ends for everybody inside. The caller holds a reference to the barrier. */
static void shared_let_out(struct shared_barrier *b, enum shared_outcome outcome) {
  uint64_t position = 0;
  while (b->inside.first) {
    struct shared_arrival *a = b->inside.first;
    shared_go_out(a);
    if (!a->waits) {
      shared_destroy(a);
      continue;
    }
    if (outcome == SHARED_ABORTED) a->reason = shared_hold_reason(b->reason);
    a->value = position++;
    shared_make_ready(a, outcome);
  }
}

static void shared_trip(struct shared_barrier *b) {
  b->generation++;
  shared_let_out(b, SHARED_PASSED);
}

/* }=== */

/* {=== states === */

void shared_init(struct shared_state *s) {
  memset(s, 0, sizeof(*s));
  threads_init_pipe(&s->pipe);
}

void shared_close(struct shared_state *s) {
  threads_lock();
  s->closed = true;
  while (s->ready.first || s->others.first) {
    struct shared_arrival *a = s->ready.first ? s->ready.first : s->others.first;
    shared_go_out(a);
    shared_destroy(a);
  }
  threads_close_pipe(&s->pipe);
  threads_unlock();
}

const struct threads_pipe *shared_pipe(struct shared_state *s) {
  bool is_open;
  threads_lock();
  if (!s->closed && (THREADS_LOOP_READS || !threads_is_open(&s->pipe))) {
    threads_open_pipe(&s->pipe);
    if (s->signalled) threads_write(&s->pipe);
  }
  is_open = threads_is_open(&s->pipe);
  threads_unlock();
  return is_open ? &s->pipe : NULL;
}

void shared_begin(struct shared_state *s) {
  threads_lock();
  s->turn++;
  threads_unlock();
}

struct shared_arrival *shared_next(struct shared_state *s) {
  struct shared_arrival *a;
  threads_lock();
  a = s->ready.first;
  if (a && a->turn == s->turn) a = NULL;
  threads_unlock();
  return a;
}

bool shared_settle(struct shared_state *s) {
  bool signalled;
  threads_lock();
  if (s->signalled && !s->ready.first) {
    s->signalled = false;
    threads_read(&s->pipe);
  }
  signalled = s->signalled;
  threads_unlock();
  return signalled;
}

bool shared_acknowledge(struct shared_state *s) {
  bool signalled;
  threads_lock();
  signalled = s->signalled;
  if (signalled) {
    s->signalled = false;
    threads_read(&s->pipe);
  }
  threads_unlock();
  return signalled;
}

void shared_wake(struct shared_state *s) {
  threads_lock();
  shared_signal(s);
  threads_unlock();
}

bool shared_resting(const struct shared_state *s) {
  bool is;
  threads_lock();
  is = s->waits == 0;
  threads_unlock();
  return is;
}

/* }=== */

/* {=== barriers === */

static struct shared_barrier *shared_find(const char *name, size_t length) {
  struct shared_barrier *b;
  for (b = shared_barriers; b; b = b->next)
    if (b->length == length && memcmp(b->name, name, length) == 0) return b;
  return NULL;
}

static struct shared_barrier *shared_make(const char *name, size_t length, uint64_t parties) {
  struct shared_barrier *b = malloc(sizeof(*b) + length);
  if (b == NULL) return NULL;
  memset(b, 0, sizeof(*b));
  b->parties = parties;
  b->length = length;
  memcpy(b->name, name, length);
  b->next = shared_barriers;
  if (shared_barriers) shared_barriers->previous = b;
  shared_barriers = b;
  return b;
}

struct shared_barrier *shared_join(const char *name, size_t length, uint64_t parties) {
  struct shared_barrier *b;
  threads_lock();
  b = shared_find(name, length);
  if (b == NULL) b = shared_make(name, length, parties);
  if (b) b->references++;
  threads_unlock();
  return b;
}

void shared_release(struct shared_barrier *b) {
  threads_lock();
  shared_drop(b);
  threads_unlock();
}

void shared_get_status(const struct shared_barrier *b, struct shared_status *status) {
  threads_lock();
  status->parties = b->parties;
  status->n_waiting = b->n_waiting;
  status->n_arrived = b->n_arrived;
  status->generation = b->generation;
  status->broken = b->broken;
  threads_unlock();
}

void shared_reset(struct shared_barrier *b) {
  threads_lock();
  b->broken = false;
  shared_drop_reason(b->reason);
  b->reason = NULL;
  shared_let_out(b, SHARED_RESET);
  threads_unlock();
}

struct shared_reason *shared_new_reason(enum shared_kind kind, size_t length) {
  struct shared_reason *reason = malloc(sizeof(*reason) + length);
  if (reason == NULL) return NULL;
  memset(reason, 0, sizeof(*reason));
  reason->kind = kind;
  reason->references = 1;
  if (kind == SHARED_STRING) reason->value.length = length;
  return reason;
}

void shared_abort(struct shared_barrier *b, struct shared_reason *reason) {
  threads_lock();
  if (b->broken) {
    free(reason); /* nobody else has it yet */
  } else {
    b->broken = true;
    b->reason = reason;
    shared_let_out(b, SHARED_ABORTED);
  }
  threads_unlock();
}

/* }=== */

/* {=== arrivals === */

bool shared_pass(struct shared_barrier *b, uint64_t *position) {
  bool passes;
  threads_lock();
  passes = !b->broken && b->n_arrived + 1 == b->parties;
  if (passes) {
    *position = b->n_waiting;
    shared_trip(b);
  }
  threads_unlock();
  return passes;
}

struct shared_arrival *shared_new(struct shared_state *s, struct shared_barrier *b, void *owner,
                                  bool waits) {
  struct shared_arrival *a = malloc(sizeof(*a));
  if (a == NULL) return NULL;
  memset(a, 0, sizeof(*a));
  a->barrier = b;
  a->state = s;
  a->owner = owner;
  a->waits = waits;
  threads_lock();
  b->references++;
  shared_append(&s->others, a, SHARED_IN_STATE);
  threads_unlock();
  return a;
}

bool shared_enter(struct shared_arrival *a) {
  struct shared_barrier *b = a->barrier;
  bool enters;
  threads_lock();
  enters = a->place == SHARED_OUT && !b->broken;
  if (enters) {
    shared_go_in(a);
    if (b->n_arrived == b->parties) shared_trip(b);
  } else if (a->place == SHARED_OUT && b->broken) {
    a->outcome = SHARED_ABORTED;
    a->reason = shared_hold_reason(b->reason);
    if (a->waits) shared_make_ready(a, SHARED_ABORTED);
  }
  threads_unlock();
  return enters;
}

bool shared_leave(struct shared_arrival *a, enum shared_outcome outcome) {
  bool waits;
  threads_lock();
  waits = a->place == SHARED_INSIDE;
  if (waits) {
    a->value = a->barrier->n_arrived;
    shared_go_out(a);
    shared_make_ready(a, outcome);
  }
  threads_unlock();
  return waits;
}

bool shared_absent(const struct shared_arrival *a) {
  bool is;
  threads_lock();
  is = a->place == SHARED_OUT;
  threads_unlock();
  return is;
}

void shared_free(struct shared_arrival *a) {
  threads_lock();
  shared_go_out(a);
  shared_destroy(a);
  threads_unlock();
}

/* }=== */
