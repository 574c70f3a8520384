/*
** The barriers of several threads without Lua: src/shared/hub.c. Usage: shared_threads WAITS SEED
**
** First every allocation of a scenario fails once. Then threads make random calls of every kind,
** and each party's outcome and position are counted: no party may be lost, and no position given
** out twice. Build it with a sanitizer, or run it under valgrind's helgrind.
*/
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Fails the allocation after so many that succeed. */
static long allocations_left = -1;

static void *failing_malloc(size_t size) {
  if (allocations_left == 0) return NULL;
  if (allocations_left > 0) allocations_left--;
  return malloc(size);
}

#define malloc failing_malloc
#include "../src/host/threads.c"
#include "../src/shared/names.c"
#include "../src/shared/hub.c"
#undef malloc

#define CHECK(condition) \
  ((condition) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #condition), abort()))

enum { THREADS = 4, BARRIERS = 3, MOST_PARTIES = 5, MOST_WAITS = 8 };

static const char *const names[BARRIERS] = {"a", "b", "c"};
static const uint32_t parties[BARRIERS] = {2, 3, MOST_PARTIES};

/* {=== out of memory === */

static bool is_ready(struct hub_state *s) {
  struct pollfd p = {hub_pipe(s)->read_end, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

static struct hub_reason *new_reason(size_t length) {
  struct hub_reason *reason = failing_malloc(sizeof(*reason) + length);
  if (reason == NULL) return NULL;
  memset(reason, 0, sizeof(*reason) + length);
  reason->references = 1;
  reason->kind = HUB_STRING;
  reason->value.length = length;
  return reason;
}

/* What can be done in one thread, step by step. Returns false where there is no memory. */
static bool scenario(struct hub_state *s, struct hub_member **m) {
  struct hub_reason *reason, *held;
  struct hub_status status;
  uint64_t position;
  uint32_t first;
  if (!(m[0] = hub_join(s, "b", 1, 3, NULL)) || !(m[1] = hub_join(s, "b", 1, 4, NULL))) return false;
  if (!hub_reserve(m[0], 1) || !hub_reserve(m[0], 20)) return false;
  hub_enter(m[0], 1, false);
  hub_get_status(m[1], &status);
  CHECK(status.n_waiting == 1 && status.n_arrived == 1 && status.generation == 0);
  CHECK(status.parties == 3 && strcmp(status.name, "b") == 0);
  CHECK(hub_arrive(m[1], &held, false) && held == NULL && hub_foresees(m[0]));
  CHECK(!is_ready(s) && hub_pass(m[1], &position, false) && position == 1 && is_ready(s));
  CHECK(hub_take(s, &first) == m[0] && first == 1 && m[0]->seats[1].next_ready == 0);
  CHECK(m[0]->seats[1].outcome == HUB_PASSED && m[0]->seats[1].position == 0);
  CHECK(hub_take(s, &first) == NULL && !hub_leave(m[0], 1));
  hub_acknowledge(s);
  if (!(reason = new_reason(3))) return false;
  hub_abort(m[0], reason, true);
  hub_enter(m[0], 1, true);
  CHECK(!is_ready(s) && hub_take_from(m[0]) == 1 && m[0]->seats[1].reason == reason);
  CHECK(!hub_arrive(m[0], &held, true) && held == reason);
  hub_drop_reason(held);
  hub_reset(m[0], true);
  hub_enter(m[0], 20, true);
  CHECK(hub_leave(m[0], 20) && !hub_leave(m[0], 20));
  return true;
}

static void fail_every_allocation(void) {
  bool done = false;
  for (long n = 0; !done; n++) {
    struct hub_state s;
    struct hub_member *m[2] = {NULL, NULL};
    hub_open(&s);
    allocations_left = n;
    done = scenario(&s, m);
    allocations_left = -1;
    hub_acknowledge(&s);
    CHECK(!is_ready(&s));
    if (m[1]) hub_reset(m[1], true); /* no arrival keeps the barrier */
    if (m[1]) hub_quit(m[1]);
    if (m[0]) hub_reset(m[0], true);
    hub_close(&s);
    CHECK(hub_names.count == 0);
  }
}

/* A process that was forked knows that the state is its parent's, and leaves the parent alone when it
** closes it. */
static void fork_a_child(void) {
  struct hub_state s;
  struct hub_member *m;
  int status;
  pid_t child;
  hub_open(&s);
  m = hub_join(&s, "b", 1, 2, NULL);
  CHECK(m && hub_reserve(m, 1) && !hub_is_forked(&s));
  hub_enter(m, 1, false);
  child = fork();
  if (child == 0) {
    CHECK(hub_is_forked(&s));
    hub_close(&s);
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(!is_ready(&s) && m->seats[1].is_inside);
  hub_close(&s);
}

/* Many names, in a table that grows, and shrinks to nothing. */
static void use_many_names(void) {
  enum { NAMES = 3000 };
  static struct hub_member *members[NAMES];
  struct hub_state s;
  char name[32];
  hub_open(&s);
  for (int i = 0; i < NAMES; i++) {
    snprintf(name, sizeof(name), "name %d", i);
    members[i] = hub_join(&s, name, strlen(name) + 1, 2, NULL);
    CHECK(members[i]);
  }
  for (int i = 0; i < NAMES; i++) {
    struct hub_member *m;
    snprintf(name, sizeof(name), "name %d", i);
    m = hub_join(&s, name, strlen(name) + 1, 2, NULL);
    CHECK(m && m->barrier == members[i]->barrier);
    hub_quit(m);
    if (i % 2) hub_quit(members[i]);
  }
  CHECK(hub_names.count == NAMES / 2 && hub_names.size >= NAMES);
  hub_close(&s);
  CHECK(hub_names.count == 0 && hub_names.size == 0);
}

/* }=== */

/* {=== threads === */

struct thread {
  pthread_t id;
  uint64_t random;
  long waits; /* so many are still to be begun */
  bool ends;  /* does its state end now and then? */
  struct hub_state state;
  struct hub_member *members[BARRIERS];
  bool taken[BARRIERS][MOST_WAITS + 1]; /* seats that wait, or are ready */
  int n_taken;
  uint64_t passed[BARRIERS][MOST_PARTIES]; /* how many, by position */
  uint64_t outcomes[HUB_ABORTED + 1];
  uint64_t given_up;
};

static unsigned dice(struct thread *t, unsigned n) {
  t->random = t->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned)(t->random >> 33) % n;
}

static void start(struct thread *t) {
  hub_open(&t->state);
  for (int i = 0; i < BARRIERS; i++) {
    t->members[i] = hub_join(&t->state, names[i], 1, parties[i], &t->members[i]);
    CHECK(t->members[i] && hub_reserve(t->members[i], MOST_WAITS));
  }
}

static void stop(struct thread *t) {
  hub_close(&t->state);
  memset(t->taken, 0, sizeof(t->taken));
  t->n_taken = 0;
}

static void tell(struct thread *t, struct hub_member *m, uint32_t seat) {
  int i = (int)((struct hub_member **)m->owner - t->members);
  const struct hub_seat *s = &m->seats[seat];
  CHECK(t->taken[i][seat] && !s->is_inside);
  t->taken[i][seat] = false;
  t->n_taken--;
  t->outcomes[s->outcome]++;
  if (s->outcome != HUB_PASSED) return;
  CHECK(s->position < parties[i]);
  t->passed[i][s->position]++;
}

static void take(struct thread *t) {
  struct hub_member *m;
  uint32_t seat;
  while ((m = hub_take(&t->state, &seat)) != NULL)
    for (; seat; seat = m->seats[seat].next_ready) tell(t, m, seat);
}

static void turn(struct thread *t, int timeout) {
  struct pollfd p = {hub_pipe(&t->state)->read_end, POLLIN, 0};
  CHECK(p.fd != -1);
  if (poll(&p, 1, timeout) != 1) return;
  hub_acknowledge(&t->state);
  take(t);
}

static void wait_or_pass(struct thread *t, int which) {
  struct hub_member *m = t->members[which];
  uint64_t position;
  uint32_t seat = 1;
  bool quiet = dice(t, 2);
  t->waits--;
  if (dice(t, 2) && hub_pass(m, &position, quiet)) {
    t->outcomes[HUB_PASSED]++;
    t->passed[which][position]++;
  } else {
    while (t->taken[which][seat]) seat++;
    t->taken[which][seat] = true;
    t->n_taken++;
    hub_enter(m, seat, quiet);
  }
  if (quiet) take(t);
}

static void give_up(struct thread *t, int which) {
  uint32_t seat = 1 + dice(t, MOST_WAITS);
  if (!t->taken[which][seat] || !hub_leave(t->members[which], seat)) return;
  t->taken[which][seat] = false;
  t->n_taken--;
  t->given_up++;
}

static void abort_one(struct thread *t, int which) {
  struct hub_reason *reason = dice(t, 2) ? new_reason(40) : NULL;
  if (reason) memset(reason->string, 'x', 40);
  hub_abort(t->members[which], reason, false);
}

static void step(struct thread *t) {
  int which = (int)dice(t, BARRIERS);
  unsigned what = dice(t, 1000);
  struct hub_reason *reason;
  if (what < 800 && t->n_taken < MOST_WAITS) {
    wait_or_pass(t, which);
  } else if (what < 960) {
    turn(t, t->n_taken == MOST_WAITS ? 1 : 0);
  } else if (what < 980) {
    give_up(t, which);
  } else if (what < 983) {
    abort_one(t, which);
  } else if (what < 990) {
    hub_reset(t->members[which], false);
  } else if (what < 992 && t->ends) {
    if (!hub_arrive(t->members[which], &reason, false)) hub_drop_reason(reason);
  } else if (what == 999 && t->ends) {
    stop(t);
    start(t);
  } else {
    struct hub_status status;
    hub_get_status(t->members[which], &status);
    CHECK(status.n_waiting <= status.n_arrived && status.n_arrived < status.parties);
  }
}

static pthread_barrier_t meeting; /* of the threads and main */

static void *run(void *arg) {
  struct thread *t = arg;
  start(t);
  pthread_barrier_wait(&meeting);
  while (t->waits > 0) step(t);
  pthread_barrier_wait(&meeting);
  pthread_barrier_wait(&meeting); /* main resets the barriers */
  take(t);
  while (t->n_taken) turn(t, 10000);
  stop(t);
  return NULL;
}

/* Who passed: without arrivals that do not wait, or states that end, each trip has let out
** one in each position. */
static void check(const struct thread *threads, const uint64_t *generations, bool ends) {
  for (int i = 0; i < BARRIERS; i++) {
    for (unsigned position = 0; position < parties[i]; position++) {
      uint64_t count = 0;
      for (int j = 0; j < THREADS; j++) count += threads[j].passed[i][position];
      CHECK(ends ? count <= generations[i] : count == generations[i]);
    }
    CHECK(generations[i] > 0);
  }
}

static void stress(long waits, uint64_t seed, bool ends) {
  static struct thread threads[THREADS];
  struct hub_state state;
  struct hub_member *m[BARRIERS];
  uint64_t generations[BARRIERS], total[HUB_ABORTED + 1] = {0}, given_up = 0, sum;
  memset(threads, 0, sizeof(threads));
  CHECK(pthread_barrier_init(&meeting, NULL, THREADS + 1) == 0);
  hub_open(&state);
  for (int i = 0; i < BARRIERS; i++) m[i] = hub_join(&state, names[i], 1, parties[i], NULL);
  for (int i = 0; i < THREADS; i++) {
    threads[i].random = seed * THREADS + (unsigned)i;
    threads[i].waits = waits / THREADS;
    threads[i].ends = ends;
    CHECK(pthread_create(&threads[i].id, NULL, run, &threads[i]) == 0);
  }
  pthread_barrier_wait(&meeting);
  pthread_barrier_wait(&meeting);
  for (int i = 0; i < BARRIERS; i++) {
    struct hub_status status;
    hub_reset(m[i], true);
    hub_get_status(m[i], &status);
    CHECK(status.n_arrived == 0 && status.n_waiting == 0 && !status.broken);
    generations[i] = status.generation;
  }
  pthread_barrier_wait(&meeting);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i].id, NULL) == 0);
  check(threads, generations, ends);
  hub_close(&state);
  CHECK(hub_names.count == 0);
  pthread_barrier_destroy(&meeting);
  for (int i = 0; i < THREADS; i++) {
    for (int o = 0; o <= HUB_ABORTED; o++) total[o] += threads[i].outcomes[o];
    given_up += threads[i].given_up;
  }
  sum = total[HUB_PASSED] + total[HUB_RESET] + total[HUB_ABORTED] + given_up;
  CHECK(ends || sum == (uint64_t)waits / THREADS * THREADS);
  printf("passed %lu, reset %lu, aborted %lu, given up %lu\n", (unsigned long)total[HUB_PASSED],
         (unsigned long)total[HUB_RESET], (unsigned long)total[HUB_ABORTED],
         (unsigned long)given_up);
}

/* }=== */

int main(int argc, char **argv) {
  long waits = argc > 1 ? atol(argv[1]) : 1000000;
  uint64_t seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1;
  fail_every_allocation();
  use_many_names();
  fork_a_child();
  stress(waits / 2, seed, false);
  stress(waits / 2, seed, true);
  return 0;
}
