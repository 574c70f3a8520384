#include "deadlines.h"

#include "scheduler.h"

static bool before(const struct deadline *a, const struct deadline *b) {
  return a->when < b->when || (a->when == b->when && a->order < b->order);
}

static void put(struct deadlines *d, uint32_t i, const struct deadline *x) {
  d->heap[i] = *x;
  x->job->machine.nodes[x->node].deadline = i;
}

/* Finds the place of x, starting from the empty place i. */
static void sift(struct deadlines *d, uint32_t i, const struct deadline *x) {
  uint32_t child;
  for (; i > 1 && before(x, &d->heap[i / 2]); i /= 2) put(d, i, &d->heap[i / 2]);
  while ((child = i * 2) <= d->count) {
    if (child < d->count && before(&d->heap[child + 1], &d->heap[child])) child++;
    if (!before(&d->heap[child], x)) break;
    put(d, i, &d->heap[child]);
    i = child;
  }
  put(d, i, x);
}

void deadlines_init(struct deadlines *d, machine_alloc alloc, void *ud) {
  d->heap = NULL;
  d->count = 0;
  d->capacity = 0;
  d->orders = 0;
  d->alloc = alloc;
  d->ud = ud;
}

void deadlines_destroy(struct deadlines *d) {
  if (d->capacity) d->alloc(d->ud, d->heap, d->capacity * sizeof(*d->heap), 0);
  deadlines_init(d, d->alloc, d->ud);
}

bool deadlines_reserve(struct deadlines *d) {
  uint32_t capacity = d->capacity ? d->capacity * 2 : 8;
  struct deadline *heap;
  if (d->count + 1 < d->capacity) return true;
  if (capacity == 0) return false;
  heap = d->alloc(d->ud, d->heap, d->capacity * sizeof(*heap), capacity * sizeof(*heap));
  if (heap == NULL) return false;
  d->heap = heap;
  d->capacity = capacity;
  return true;
}

void deadlines_add(struct deadlines *d, uint64_t when, struct job *job, uint32_t node) {
  struct deadline x;
  x.when = when;
  x.order = ++d->orders;
  x.job = job;
  x.node = node;
  d->count++;
  sift(d, d->count, &x);
}

void deadlines_remove(struct deadlines *d, uint32_t i) {
  struct deadline last = d->heap[d->count];
  d->heap[i].job->machine.nodes[d->heap[i].node].deadline = 0;
  d->count--;
  if (i <= d->count) sift(d, i, &last);
}
