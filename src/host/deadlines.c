#include "deadlines.h"

#define FIRST_CAPACITY 8u

static bool before(const struct deadline *a, const struct deadline *b) {
  return a->when < b->when || (a->when == b->when && a->order < b->order);
}

/* Where the owner of a deadline notes its place. */
static uint32_t *place_of(const struct deadline *x) {
  return x->node ? &x->room->nodes->at[x->node].deadline : &x->room->deadline;
}

static void put(struct deadlines *d, uint32_t i, const struct deadline *x) {
  d->heap[i] = *x;
  *place_of(x) = i;
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

void deadlines_init(struct deadlines *d, nodes_alloc alloc, void *ud) {
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

/* False, and nothing changed, when out of memory. */
static bool resize(struct deadlines *d, uint32_t capacity) {
  struct deadline *heap = (struct deadline *)d->alloc(d->ud, d->heap, d->capacity * sizeof(*heap),
                                                      capacity * sizeof(*heap));
  if (heap == NULL) return false;
  d->heap = heap;
  d->capacity = capacity;
  return true;
}

bool deadlines_reserve(struct deadlines *d, uint32_t n) {
  uint32_t capacity = d->capacity ? d->capacity * 2 : FIRST_CAPACITY;
  if (d->count + n < d->capacity) return true;
  return capacity != 0 && resize(d, capacity);
}

void deadlines_add(struct deadlines *d, const struct deadline *added) {
  struct deadline x = *added;
  x.order = ++d->orders;
  d->count++;
  sift(d, d->count, &x);
}

void deadlines_remove(struct deadlines *d, uint32_t i) {
  struct deadline last = d->heap[d->count];
  *place_of(&d->heap[i]) = 0;
  d->count--;
  if (i <= d->count) sift(d, i, &last);
  /* Far above what is needed, so that a size that comes and goes does not thrash. */
  if (d->capacity > FIRST_CAPACITY && d->count < d->capacity / 8) resize(d, d->capacity / 2);
}
