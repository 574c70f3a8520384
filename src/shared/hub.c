#include "hub.h"

#include <stdlib.h>
#include <string.h>

#include "names.h"

struct hub_barrier {
  struct name name;
  uint32_t parties, n_arrived, n_waiting;
  uint32_t members;
  uint64_t generation;
  struct hub_link first, last; /* of those inside, in order of arrival */
  bool broken;
  struct hub_reason *reason;
  char text[1]; /* of its name, and more of it behind */
};

/* Of this process, or of this copy of the C core, should there be several. */
static struct names hub_names;
static unsigned long hub_process; /* the process that they belong to */

/* {=== references; the mutex is held from here on, unless a function takes it === */

/* The barrier of that name, or a new one; NULL: no memory. */
static struct hub_barrier *find_or_make(const char *text, size_t length, uint32_t parties) {
  struct hub_barrier *b = (struct hub_barrier *)(void *)names_find(&hub_names, text, length);
  if (b || !names_reserve(&hub_names)) return b;
  b = malloc(sizeof(*b) + length);
  if (b == NULL) return NULL;
  memset(b, 0, sizeof(*b));
  b->parties = parties;
  memcpy(b->text, text, length);
  b->name.text = b->text;
  b->name.length = length;
  names_add(&hub_names, &b->name);
  return b;
}

static void drop_reason(struct hub_reason *reason) {
  if (reason && --reason->references == 0) free(reason);
}

static struct hub_reason *hold_reason(struct hub_reason *reason) {
  if (reason) reason->references++;
  return reason;
}

/* Frees a barrier that has no member, nor an arrival. */
static void drop_if_unused(struct hub_barrier *b) {
  if (b->members || b->n_arrived) return;
  names_remove(&hub_names, &b->name);
  drop_reason(b->reason);
  free(b);
}

/* }=== */

/* {=== seats === */

static struct hub_seat *seat_at(struct hub_link link) { return &link.member->seats[link.seat]; }

static void sit_down(struct hub_member *m, uint32_t n) {
  struct hub_barrier *b = m->barrier;
  struct hub_seat *seat = &m->seats[n];
  const struct hub_link link = {m, n};
  seat->previous = b->last;
  seat->next.member = NULL;
  if (b->last.member)
    seat_at(b->last)->next = link;
  else
    b->first = link;
  b->last = link;
  seat->is_inside = true;
  b->n_waiting++;
  b->n_arrived++;
}

static void stand_up(struct hub_member *m, uint32_t n) {
  struct hub_barrier *b = m->barrier;
  struct hub_seat *seat = &m->seats[n];
  if (seat->previous.member)
    seat_at(seat->previous)->next = seat->next;
  else
    b->first = seat->next;
  if (seat->next.member)
    seat_at(seat->next)->previous = seat->previous;
  else
    b->last = seat->previous;
  seat->is_inside = false;
  b->n_waiting--;
  b->n_arrived--;
}

static void signal_state(struct hub_state *s) {
  if (s->signalled) return;
  s->signalled = true;
  threads_write(&s->pipe);
}

/* The party, which is not inside, is ready. `quiet`: the state that need not be woken. */
static void make_ready(struct hub_member *m, uint32_t n, enum hub_outcome outcome,
                       const struct hub_state *quiet) {
  struct hub_seat *seat = &m->seats[n];
  seat->is_inside = false;
  seat->outcome = (uint8_t)outcome;
  seat->next_ready = 0;
  if (m->last_ready) {
    m->seats[m->last_ready].next_ready = n;
  } else {
    m->first_ready = n;
    m->next_ready = m->state->ready;
    m->state->ready = m;
  }
  m->last_ready = n;
  if (m->state != quiet) signal_state(m->state);
}

/* The phase ends for all parties. */
static void let_all_out(struct hub_barrier *b, enum hub_outcome outcome,
                        const struct hub_state *quiet) {
  uint64_t position = 0;
  struct hub_link link = b->first;
  while (link.member) {
    struct hub_seat *seat = seat_at(link);
    struct hub_link next = seat->next;
    if (outcome == HUB_ABORTED) seat->reason = hold_reason(b->reason);
    seat->position = position++;
    make_ready(link.member, link.seat, outcome, quiet);
    link = next;
  }
  b->first = b->last = link;
  b->n_waiting = b->n_arrived = 0;
}

static void trip(struct hub_barrier *b, const struct hub_state *quiet) {
  b->generation++;
  let_all_out(b, HUB_PASSED, quiet);
}

/* }=== */

/* {=== states === */

void hub_open(struct hub_state *s) {
  memset(s, 0, sizeof(*s));
  s->process = threads_process();
  threads_init_pipe(&s->pipe);
}

bool hub_is_forked(const struct hub_state *s) { return s->process != threads_process(); }

/* The first of those that are ready; 0: none. */
static uint32_t take_from(struct hub_member *m) {
  struct hub_member **at = &m->state->ready;
  uint32_t first = m->first_ready;
  if (first == 0) return 0;
  while (*at != m) at = &(*at)->next_ready;
  *at = m->next_ready;
  m->first_ready = m->last_ready = 0;
  return first;
}

static void free_member(struct hub_member *m) {
  for (uint32_t n = 1; n < m->capacity; n++) {
    if (m->seats[n].is_inside) stand_up(m, n);
    drop_reason(m->seats[n].reason);
  }
  take_from(m);
  if (m->previous)
    m->previous->next = m->next;
  else
    m->state->members = m->next;
  if (m->next) m->next->previous = m->previous;
  m->barrier->members--;
  drop_if_unused(m->barrier);
  free(m->seats);
  free(m);
}

void hub_close(struct hub_state *s) {
  if (!hub_is_forked(s)) {
    threads_lock();
    for (struct hub_member *m = s->members, *next; m; m = next) {
      next = m->next;
      free_member(m);
    }
    threads_unlock();
  }
  s->closed = true;
  threads_close_pipe(&s->pipe);
}

const struct threads_pipe *hub_pipe(struct hub_state *s) {
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

void hub_acknowledge(struct hub_state *s) {
  threads_lock();
  if (s->signalled) threads_read(&s->pipe);
  s->signalled = false;
  threads_unlock();
}

struct hub_member *hub_take(struct hub_state *s, uint32_t *first) {
  struct hub_member *m;
  threads_lock();
  m = s->ready;
  if (m) *first = take_from(m);
  threads_unlock();
  return m;
}

uint32_t hub_take_from(struct hub_member *m) {
  uint32_t first;
  threads_lock();
  first = take_from(m);
  threads_unlock();
  return first;
}

/* }=== */

/* {=== members === */

/* A fork that the hub has not seen yet begins with none of its parent's barriers. */
static void own_hub(void) {
  unsigned long process = threads_process();
  if (hub_process == process) return;
  memset(&hub_names, 0, sizeof(hub_names));
  hub_process = process;
}

struct hub_member *hub_join(struct hub_state *s, const char *name, size_t length, uint32_t parties,
                            void *owner) {
  struct hub_member *m = malloc(sizeof(*m));
  if (m == NULL) return NULL;
  memset(m, 0, sizeof(*m));
  m->state = s;
  m->owner = owner;
  threads_lock();
  own_hub();
  m->barrier = find_or_make(name, length, parties);
  if (m->barrier) {
    m->barrier->members++;
    m->next = s->members;
    if (m->next) m->next->previous = m;
    s->members = m;
  }
  threads_unlock();
  if (m->barrier) return m;
  free(m);
  return NULL;
}

void hub_quit(struct hub_member *m) {
  threads_lock();
  free_member(m);
  threads_unlock();
}

void hub_get_status(const struct hub_member *m, struct hub_status *status) {
  const struct hub_barrier *b = m->barrier;
  threads_lock();
  status->name = b->text;
  status->length = b->name.length;
  status->parties = b->parties;
  status->n_waiting = b->n_waiting;
  status->n_arrived = b->n_arrived;
  status->generation = b->generation;
  status->broken = b->broken;
  threads_unlock();
}

bool hub_reserve(struct hub_member *m, uint32_t seat) {
  uint32_t capacity = m->capacity ? m->capacity : 8;
  struct hub_seat *seats, *old;
  if (seat < m->capacity) return true;
  while (capacity <= seat) capacity *= 2; /* nodes are fewer than 2^30 */
  seats = malloc(capacity * sizeof(*seats));
  if (seats == NULL) return false;
  memset(seats, 0, capacity * sizeof(*seats));
  threads_lock();
  old = m->seats;
  if (old) memcpy(seats, old, m->capacity * sizeof(*seats));
  m->seats = seats;
  m->capacity = capacity;
  threads_unlock();
  free(old);
  return true;
}

/* }=== */

/* {=== parties === */

/* The state that a call need not wake; NULL: none. */
static const struct hub_state *quiet_state(const struct hub_member *m, bool quiet) {
  return quiet ? m->state : NULL;
}

bool hub_foresees(const struct hub_member *m) {
  const struct hub_barrier *b = m->barrier;
  bool ready;
  threads_lock();
  ready = b->broken || b->n_arrived + 1 == b->parties;
  threads_unlock();
  return ready;
}

bool hub_pass(struct hub_member *m, uint64_t *position, bool quiet) {
  struct hub_barrier *b = m->barrier;
  bool passes;
  threads_lock();
  passes = !b->broken && b->n_arrived + 1 == b->parties;
  if (passes) {
    *position = b->n_waiting;
    trip(b, quiet_state(m, quiet));
  }
  threads_unlock();
  return passes;
}

void hub_enter(struct hub_member *m, uint32_t seat, bool quiet) {
  struct hub_barrier *b = m->barrier;
  threads_lock();
  drop_reason(m->seats[seat].reason);
  m->seats[seat].reason = NULL;
  if (b->broken) {
    m->seats[seat].reason = hold_reason(b->reason);
    make_ready(m, seat, HUB_ABORTED, quiet_state(m, quiet));
  } else {
    sit_down(m, seat);
    if (b->n_arrived == b->parties) trip(b, quiet_state(m, quiet));
  }
  threads_unlock();
}

bool hub_arrive(struct hub_member *m, struct hub_reason **reason, bool quiet) {
  struct hub_barrier *b = m->barrier;
  bool arrives;
  threads_lock();
  arrives = !b->broken;
  if (arrives && ++b->n_arrived == b->parties) trip(b, quiet_state(m, quiet));
  *reason = arrives ? NULL : hold_reason(b->reason);
  threads_unlock();
  return arrives;
}

bool hub_leave(struct hub_member *m, uint32_t seat) {
  bool waits;
  threads_lock();
  waits = m->seats[seat].is_inside;
  if (waits) stand_up(m, seat);
  threads_unlock();
  return waits;
}

void hub_reset(struct hub_member *m, bool quiet) {
  struct hub_barrier *b = m->barrier;
  threads_lock();
  b->broken = false;
  drop_reason(b->reason);
  b->reason = NULL;
  let_all_out(b, HUB_RESET, quiet_state(m, quiet));
  threads_unlock();
}

void hub_abort(struct hub_member *m, struct hub_reason *reason, bool quiet) {
  struct hub_barrier *b = m->barrier;
  threads_lock();
  if (b->broken) {
    drop_reason(reason);
  } else {
    b->broken = true;
    b->reason = reason;
    let_all_out(b, HUB_ABORTED, quiet_state(m, quiet));
  }
  threads_unlock();
}

struct hub_reason *hub_hold_reason(struct hub_reason *reason) {
  threads_lock();
  hold_reason(reason);
  threads_unlock();
  return reason;
}

void hub_drop_reason(struct hub_reason *reason) {
  threads_lock();
  drop_reason(reason);
  threads_unlock();
}

/* }=== */
