/*
** Checks deadlines.c against an array that is searched from end to end: a few hundred thousand
** random additions and removals, the same at every run. (test/run fuzz does it.)
**
**   cc -std=c99 -g test/fuzz_deadlines.c -o deadlines && ./deadlines
*/
#include "../src/host/deadlines.c"

#include <string.h>

#include "check.h"

#define ROOMS 3
#define NODES 150 /* of each room; node 0 stands for the room itself */
#define MOST (ROOMS * NODES)
#define STEPS 300000

static size_t live;    /* bytes handed out */
static bool exhausted; /* allocations fail */

static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize) {
  CHECK(ud == &live && (ptr != NULL) == (osize != 0));
  if (nsize && exhausted) return NULL;
  live += nsize - osize;
  if (nsize) return realloc(ptr, nsize);
  free(ptr);
  return NULL;
}

static uint32_t random_below(uint32_t bound) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 20) % bound;
}

/* {=== the model === */

static struct deadlines d;
static struct room rooms[ROOMS];
static struct nodes parties[ROOMS];
static struct node nodes[ROOMS][NODES];
static struct deadline expected[MOST]; /* order 0: not there */
static uint32_t count;
static uint64_t orders;

static uint32_t place(uint32_t i) {
  uint32_t node = i % NODES;
  return node ? nodes[i / NODES][node].deadline : rooms[i / NODES].deadline;
}

static const struct deadline *earliest(void) {
  const struct deadline *first = NULL;
  for (uint32_t i = 0; i < MOST; i++) {
    const struct deadline *x = &expected[i];
    if (x->order == 0) continue;
    if (!first || x->when < first->when || (x->when == first->when && x->order < first->order))
      first = x;
  }
  return first;
}

static void check(void) {
  CHECK(d.count == count && live == d.capacity * sizeof(struct deadline));
  for (uint32_t i = 0; i < MOST; i++) {
    const struct deadline *x = &expected[i], *y;
    CHECK((place(i) != 0) == (x->order != 0) && place(i) <= count);
    if (x->order == 0) continue;
    y = &d.heap[place(i)];
    CHECK(y->when == x->when && y->timeout == x->timeout && y->order == x->order);
    CHECK(y->room == x->room && y->node == x->node);
  }
  if (count) CHECK(d.heap[1].order == earliest()->order);
}

/* }=== */

static void add(uint32_t i) {
  struct deadline x;
  bool fails = random_below(4) == 0;
  uint32_t n = 1 + random_below(2), capacity = d.capacity;
  if (expected[i].order) return;
  exhausted = fails;
  if (!deadlines_reserve(&d, n)) {
    CHECK(fails && d.capacity == capacity && count + n >= capacity);
    return;
  }
  exhausted = false;
  CHECK(count + n < d.capacity);
  x.when = random_below(2) ? random_below(40) : UINT64_C(1) << random_below(64);
  x.timeout = random_below(1000);
  x.order = 99;
  x.room = &rooms[i / NODES];
  x.node = i % NODES;
  deadlines_add(&d, &x);
  expected[i] = x;
  expected[i].order = ++orders;
  count++;
}

/* A smaller block may not be available; then the old one stays. */
static void discard(uint32_t i) {
  if (expected[i].order == 0) return;
  exhausted = random_below(4) == 0;
  deadlines_remove(&d, place(i));
  exhausted = false;
  expected[i].order = 0;
  count--;
}

static void discard_first(void) {
  const struct deadline *first = earliest();
  if (first) discard((uint32_t)(first - expected));
}

int main(void) {
  uint32_t most = 0;
  for (int i = 0; i < ROOMS; i++) rooms[i].nodes = &parties[i];
  for (int i = 0; i < ROOMS; i++) parties[i].at = nodes[i];
  deadlines_init(&d, allocate, &live);
  for (uint32_t step = 0; step < STEPS; step++) {
    bool growing = step / 3000 % 2 == 0; /* it grows, and is emptied again */
    exhausted = false;
    if (random_below(8) < (growing ? 5u : 2u))
      add(random_below(MOST));
    else if (random_below(4) == 0)
      discard(random_below(MOST));
    else
      discard_first();
    if (step % 16 == 0 || count < 10) check();
    if (d.capacity > most) most = d.capacity;
  }
  while (count) discard_first();
  check();
  CHECK(most > 128 && d.capacity <= 64);
  deadlines_destroy(&d);
  CHECK(live == 0 && d.capacity == 0 && d.count == 0);
  printf("fuzz_deadlines: %d steps\n", STEPS);
  return 0;
}
