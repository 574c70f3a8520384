/*
** What holds for a machine between any two calls, whatever happened before. For test
** programs that include machine.c.
*/
#ifndef BARRIER_TEST_INVARIANTS_H
#define BARRIER_TEST_INVARIANTS_H

#include "check.h"

/* The tickets grow in the queues of parties: first come, first served. A watcher has none, and one
** that is yet to be notified has a generation instead. */
static void check_ticket(const struct machine *m, const struct node *node,
                         const struct node *before) {
  switch (node->place) {
    case PLACE_QUEUE_A:
    case PLACE_QUEUE_B:
      CHECK(node->ticket > (before ? before->ticket : 0) && node->ticket <= m->nodes.tickets);
      break;
    case PLACE_WATCHING: CHECK(node->ticket == 0); break;
    case PLACE_NOTIFY:
      CHECK(node->ticket >= (before ? before->ticket : 0) && node->ticket <= m->generation);
      break;
    default: CHECK(node->ticket <= m->nodes.tickets); break;
  }
}

/* Walks a queue both ways. Returns its length; `seen` counts the nodes. */
static uint32_t check_queue(const struct machine *m, uint8_t place, char *seen) {
  const struct node *at = m->nodes.at;
  const struct queue *q = &m->nodes.queues[place];
  uint32_t count = 0, back = 0, last = 0;
  for (uint32_t n = q->first; n; n = at[n].next) {
    CHECK(n <= m->nodes.used && at[n].place == place && at[n].prev == last);
    CHECK(++seen[n] == 1);
    check_ticket(m, &at[n], last ? &at[last] : NULL);
    last = n;
    count++;
  }
  CHECK(q->last == last && q->count == count);
  for (uint32_t n = q->last; n; n = at[n].prev) back++;
  CHECK(back == count);
  return count;
}

/* Every keyed node is in the chain of its bucket once, and nothing else is. */
static void check_index(const struct nodes *s) {
  uint32_t chained = 0, keyed = 0;
  for (uint32_t i = 0; i < s->capacity; i++)
    for (uint32_t n = s->buckets[i]; n; n = s->at[n].chain) {
      CHECK(n <= s->used && bucket(s, s->at[n].key) == &s->buckets[i]);
      CHECK(++chained <= s->used);
    }
  for (uint32_t n = 1; n <= s->used; n++) keyed += s->at[n].key != NULL;
  CHECK(chained == keyed);
}

/* Every node is in a queue, free or parked. Returns how many are parked. */
static uint32_t check_nodes(const struct machine *m) {
  const struct nodes *s = &m->nodes;
  char *seen = calloc((size_t)s->used + 1, 1);
  uint32_t queued = 0, freed = 0, parked = 0;
  for (uint8_t place = 0; place < QUEUES; place++) queued += check_queue(m, place, seen);
  for (uint32_t n = s->free; n; n = s->at[n].next) {
    CHECK(n <= s->used && s->at[n].place == PLACE_FREE && s->at[n].key == NULL);
    CHECK(++seen[n] == 1);
    freed++;
  }
  for (uint32_t n = 1; n <= s->used; n++) {
    if (seen[n]) continue;
    CHECK(s->at[n].place == PLACE_PARKED);
    parked++;
  }
  CHECK(queued + freed + parked == s->used && (s->used < s->capacity || s->used == 0));
  CHECK(nodes_empty(s) == (queued == 0) && s->taken == queued + parked);
  free(seen);
  return parked;
}

/* Only blocked nodes stand for arrivals, each for one at least. */
static void check_arrivals(const struct machine *m) {
  uint32_t arrivals = 0;
  for (uint8_t place = 0; place < QUEUES; place++)
    for (uint32_t n = m->nodes.queues[place].first; n; n = m->nodes.at[n].next) {
      if (m->nodes.at[n].outcome != MACHINE_ARRIVED) continue;
      CHECK(place == (m->inside ^ 1) && m->nodes.at[n].as.count && !m->nodes.at[n].key);
      arrivals++;
    }
  CHECK(m->arrivals == arrivals);
}

/* While the barrier is held, the last arrival is the last inside. */
static void check_hold(const struct machine *m) {
  if (!m->held) {
    CHECK(!m->due && m->runner == 0);
    return;
  }
  CHECK(m->last == 0 || m->last == INSIDE(m)->last);
  if (m->due) CHECK(m->state == MACHINE_FILLING && m->runner == 0);
  if (m->runner == 0) return;
  CHECK(m->runner <= m->nodes.used);
  CHECK(m->runner == m->last || m->nodes.at[m->runner].place == PLACE_LEAVING);
}

/* Checks all of it. Returns how many nodes are parked: in no queue, but not free. */
static uint32_t check_machine(const struct machine *m) {
  uint32_t parked = check_nodes(m);
  CHECK(m->nodes.running == (m->nodes.parked ? m->nodes.at[m->nodes.parked].key : NULL));
  CHECK(m->nodes.parked <= m->nodes.used && m->parties <= MACHINE_MOST_PARTIES);
  if (INSIDE(m)->last && BLOCKED(m)->first)
    CHECK(m->nodes.at[INSIDE(m)->last].ticket < m->nodes.at[BLOCKED(m)->first].ticket);
  CHECK(INSIDE(m)->count || (m->state != MACHINE_DRAINING && m->state != MACHINE_RESETTING));
  CHECK(m->state == MACHINE_FILLING || m->arrived == 0);
  if (m->state == MACHINE_FILLING && !m->held) CHECK(machine_counted(m) < need(m));
  check_arrivals(m);
  check_hold(m);
  check_index(&m->nodes);
  return parked;
}

#endif
