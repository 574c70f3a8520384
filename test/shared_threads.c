/*
** The barriers of several threads without Lua: src/shared/hub.c. Usage: shared_threads WAITS SEED
**
** First every allocation of a scenario fails once. Then threads do at random all that can
** be done, and it is counted who passed, and where: nobody may be lost, and no position be
** there twice. Build it with a sanitizer, or run it under valgrind's helgrind.
*/
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fails the allocation after so many that succeed. */
static long allocations_left = -1;

static void *failing_malloc(size_t size) {
  if (allocations_left == 0) return NULL;
  if (allocations_left > 0) allocations_left--;
  return malloc(size);
}

#define malloc failing_malloc
#include "../src/shared/threads.c"
#include "../src/shared/hub.c"
#undef malloc

#define CHECK(condition) \
  ((condition) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #condition), abort()))

enum { THREADS = 4, BARRIERS = 3, MOST_PARTIES = 5, MOST_WAITS = 8 };

static const char *const names[BARRIERS] = {"a", "b", "c"};
static const uint64_t parties[BARRIERS] = {2, 3, MOST_PARTIES};

/* {=== out of memory === */

static bool is_ready(struct shared_state *s) {
  struct pollfd p = {shared_pipe(s)->read_end, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

/* What can be done in one thread, step by step. Returns false where there is no memory. */
static bool scenario(struct shared_state *s, struct shared_barrier **b, struct shared_arrival **a,
                     int *owner) {
  struct shared_reason *reason;
  struct shared_status status;
  uint64_t position;
  if (!(*b = shared_join("b", 1, 3)) || !(a[0] = shared_new(s, *b, owner, true))) return false;
  CHECK(shared_enter(a[0]));
  shared_get_status(*b, &status);
  CHECK(status.n_waiting == 1 && status.n_arrived == 1 && status.generation == 0);
  if (!(a[1] = shared_new(s, *b, owner, false))) return false;
  CHECK(shared_enter(a[1]));
  a[1] = NULL;
  CHECK(!is_ready(s) && shared_pass(*b, &position) && position == 1 && is_ready(s));
  if (!(reason = shared_new_reason(SHARED_STRING, 3))) return false;
  shared_abort(*b, reason);
  if (!(a[1] = shared_new(s, *b, owner, true))) return false;
  CHECK(!shared_enter(a[1]) && a[1]->outcome == SHARED_ABORTED && a[1]->reason == reason);
  shared_reset(*b);
  shared_begin(s);
  CHECK(shared_next(s) == a[0] && a[0]->outcome == SHARED_PASSED && a[0]->value == 0);
  return true;
}

static void fail_every_allocation(void) {
  bool done = false;
  for (long n = 0; !done; n++) {
    struct shared_state s;
    struct shared_barrier *b = NULL;
    struct shared_arrival *a[2] = {NULL, NULL};
    int owner;
    shared_init(&s);
    allocations_left = n;
    done = scenario(&s, &b, a, &owner);
    allocations_left = -1;
    for (int i = 0; i < 2; i++)
      if (a[i]) shared_free(a[i]);
    CHECK(shared_resting(&s));
    shared_settle(&s);
    CHECK(!is_ready(&s));
    shared_close(&s);
    if (b) shared_release(b);
    CHECK(shared_barriers == NULL);
  }
}

/* }=== */

/* {=== threads === */

struct wait {
  struct shared_arrival *arrival;
  int barrier;
};

struct thread {
  pthread_t id;
  uint64_t random;
  long waits; /* so many are still to be begun */
  bool ends;  /* does its state end now and then? */
  struct shared_state state;
  struct shared_barrier *barriers[BARRIERS];
  struct wait list[MOST_WAITS];
  int n_list;
  uint64_t passed[BARRIERS][MOST_PARTIES]; /* how many, by position */
  uint64_t outcomes[SHARED_DISTURBED + 1];
};

static unsigned dice(struct thread *t, unsigned n) {
  t->random = t->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned)(t->random >> 33) % n;
}

static void start(struct thread *t) {
  shared_init(&t->state);
  for (int i = 0; i < BARRIERS; i++) {
    t->barriers[i] = shared_join(names[i], 1, parties[i]);
    CHECK(t->barriers[i]);
  }
}

static void stop(struct thread *t) {
  shared_close(&t->state);
  t->n_list = 0;
  for (int i = 0; i < BARRIERS; i++) shared_release(t->barriers[i]);
}

static void tell(struct thread *t, struct shared_arrival *a) {
  int i = 0;
  while (t->list[i].arrival != a) CHECK(++i < t->n_list);
  t->outcomes[a->outcome]++;
  if (a->outcome == SHARED_PASSED) {
    CHECK(a->value < parties[t->list[i].barrier]);
    t->passed[t->list[i].barrier][a->value]++;
  }
  shared_free(a);
  t->list[i] = t->list[--t->n_list];
}

static void turn(struct thread *t, int timeout) {
  struct pollfd p = {shared_pipe(&t->state)->read_end, POLLIN, 0};
  struct shared_arrival *a;
  CHECK(p.fd != -1);
  if (poll(&p, 1, timeout) != 1) return;
  shared_begin(&t->state);
  while ((a = shared_next(&t->state)) != NULL) tell(t, a);
  shared_settle(&t->state);
}

static void wait_or_pass(struct thread *t, int which) {
  struct shared_barrier *b = t->barriers[which];
  uint64_t position;
  t->waits--;
  if (dice(t, 2) && shared_pass(b, &position)) {
    t->outcomes[SHARED_PASSED]++;
    t->passed[which][position]++;
    return;
  }
  t->list[t->n_list].arrival = shared_new(&t->state, b, t, true);
  t->list[t->n_list].barrier = which;
  CHECK(t->list[t->n_list].arrival);
  shared_enter(t->list[t->n_list++].arrival);
}

static void give_up(struct thread *t) {
  struct shared_arrival *a = t->list[dice(t, (unsigned)t->n_list)].arrival;
  shared_leave(a, (enum shared_outcome)(SHARED_TIMED_OUT + dice(t, 3)));
}

static void abort_one(struct thread *t, int which) {
  struct shared_reason *reason = dice(t, 2) ? shared_new_reason(SHARED_STRING, 40) : NULL;
  if (reason) memset(reason->string, 'x', 40);
  shared_abort(t->barriers[which], reason);
}

static void step(struct thread *t) {
  int which = (int)dice(t, BARRIERS);
  unsigned what = dice(t, 1000);
  if (what < 800 && t->n_list < MOST_WAITS) {
    wait_or_pass(t, which);
  } else if (what < 960) {
    turn(t, t->n_list == MOST_WAITS ? 1 : 0);
  } else if (what < 980 && t->n_list > 0) {
    give_up(t);
  } else if (what < 983) {
    abort_one(t, which);
  } else if (what < 990) {
    shared_reset(t->barriers[which]);
  } else if (what < 992 && t->ends) {
    struct shared_arrival *a = shared_new(&t->state, t->barriers[which], t, false);
    if (!shared_enter(a)) shared_free(a);
  } else if (what == 999 && t->ends) {
    stop(t);
    start(t);
  } else {
    struct shared_status status;
    shared_get_status(t->barriers[which], &status);
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
  while (!shared_resting(&t->state)) turn(t, 10000);
  CHECK(t->n_list == 0);
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
  struct shared_barrier *b[BARRIERS];
  uint64_t generations[BARRIERS], total[SHARED_DISTURBED + 1] = {0}, sum = 0;
  memset(threads, 0, sizeof(threads));
  CHECK(pthread_barrier_init(&meeting, NULL, THREADS + 1) == 0);
  for (int i = 0; i < BARRIERS; i++) b[i] = shared_join(names[i], 1, parties[i]);
  for (int i = 0; i < THREADS; i++) {
    threads[i].random = seed * THREADS + (unsigned)i;
    threads[i].waits = waits / THREADS;
    threads[i].ends = ends;
    CHECK(pthread_create(&threads[i].id, NULL, run, &threads[i]) == 0);
  }
  pthread_barrier_wait(&meeting);
  pthread_barrier_wait(&meeting);
  for (int i = 0; i < BARRIERS; i++) {
    struct shared_status status;
    shared_reset(b[i]);
    shared_get_status(b[i], &status);
    CHECK(status.n_arrived == 0 && status.n_waiting == 0 && !status.broken);
    generations[i] = status.generation;
  }
  pthread_barrier_wait(&meeting);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i].id, NULL) == 0);
  check(threads, generations, ends);
  for (int i = 0; i < BARRIERS; i++) shared_release(b[i]);
  CHECK(shared_barriers == NULL);
  pthread_barrier_destroy(&meeting);
  for (int i = 0; i < THREADS; i++)
    for (int o = 0; o <= SHARED_DISTURBED; o++) {
      total[o] += threads[i].outcomes[o];
      sum += threads[i].outcomes[o];
    }
  CHECK(ends || sum == (uint64_t)waits / THREADS * THREADS);
  printf("passed %lu, reset %lu, aborted %lu, given up %lu\n", (unsigned long)total[SHARED_PASSED],
         (unsigned long)total[SHARED_RESET], (unsigned long)total[SHARED_ABORTED],
         (unsigned long)(total[3] + total[4] + total[5]));
}

/* }=== */

int main(int argc, char **argv) {
  long waits = argc > 1 ? atol(argv[1]) : 1000000;
  uint64_t seed = argc > 2 ? (uint64_t)atol(argv[2]) : 1;
  fail_every_allocation();
  stress(waits / 2, seed, false);
  stress(waits / 2, seed, true);
  return 0;
}
