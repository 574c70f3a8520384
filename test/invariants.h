/*
** What holds for a machine between any two calls, whatever happened before. For test
** programs that include machine.c.
*/
#ifndef BARRIER_TEST_INVARIANTS_H
#define BARRIER_TEST_INVARIANTS_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(x) ((x) ? (void)0 : failed(#x, __FILE__, __LINE__))

static void failed(const char *what, const char *file, int line) {
  fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
  abort();
}

/* Walks a queue both ways. Returns its length; `seen` counts the nodes. */
static uint32_t check_queue(const struct machine *m, uint8_t place, char *seen) {
  const struct machine_queue *q = &m->queues[place];
  uint32_t count = 0, back = 0, last = 0;
  for (uint32_t n = q->first; n; n = m->nodes[n].next) {
    const struct machine_node *node = &m->nodes[n];
    CHECK(n <= m->used && node->place == place && node->prev == last);
    CHECK(node->ticket <= m->tickets && ++seen[n] == 1);
    if (last && place != MACHINE_LEAVING) /* first come, first served */
      CHECK(m->nodes[last].ticket < node->ticket);
    last = n;
    count++;
  }
  CHECK(q->last == last && q->count == count);
  for (uint32_t n = q->last; n; n = m->nodes[n].prev) back++;
  CHECK(back == count);
  return count;
}

/* The positions of those inside a draining machine grow, and stay below parties. */
static void check_positions(const struct machine *m) {
  uint64_t position = m->position;
  if (m->state != MACHINE_DRAINING) return;
  for (uint32_t n = INSIDE(m)->first; n; n = m->nodes[n].next)
    position += m->nodes[n].as.gap + UINT64_C(1);
  CHECK(position <= m->parties);
}

/* Every keyed node is in the chain of its bucket once, and nothing else is. */
static void check_index(const struct machine *m) {
  uint32_t chained = 0, keyed = 0;
  for (uint32_t i = 0; i < m->capacity; i++)
    for (uint32_t n = m->buckets[i]; n; n = m->nodes[n].chain) {
      CHECK(n <= m->used && bucket(m, m->nodes[n].key) == &m->buckets[i]);
      CHECK(++chained <= m->used);
    }
  for (uint32_t n = 1; n <= m->used; n++) keyed += m->nodes[n].key != NULL;
  CHECK(chained == keyed);
}

/* Checks all of it. Returns how many nodes are parked: in no queue, but not free. */
static uint32_t check_machine(const struct machine *m) {
  char *seen = calloc((size_t)m->used + 1, 1);
  uint32_t queued = check_queue(m, MACHINE_QUEUE_A, seen) +
                    check_queue(m, MACHINE_QUEUE_B, seen) + check_queue(m, MACHINE_LEAVING, seen);
  uint32_t freed = 0, parked = 0;
  for (uint32_t n = m->free; n; n = m->nodes[n].next) {
    CHECK(n <= m->used && m->nodes[n].place == MACHINE_FREE && m->nodes[n].key == NULL);
    CHECK(++seen[n] == 1);
    freed++;
  }
  for (uint32_t n = 1; n <= m->used; n++) {
    if (seen[n]) continue;
    CHECK(m->nodes[n].place == MACHINE_PARKED);
    parked++;
  }
  CHECK(queued + freed + parked == m->used && (m->used < m->capacity || m->used == 0));
  CHECK(m->parked <= m->used);
  if (INSIDE(m)->last && BLOCKED(m)->first)
    CHECK(m->nodes[INSIDE(m)->last].ticket < m->nodes[BLOCKED(m)->first].ticket);
  CHECK(INSIDE(m)->count || (m->state != MACHINE_DRAINING && m->state != MACHINE_RESETTING));
  CHECK(m->state != MACHINE_FILLING || INSIDE(m)->count <= m->parties);
  check_positions(m);
  check_index(m);
  free(seen);
  return parked;
}

#endif
