#include "machine.h"

#include <string.h>

#define FIRST_CAPACITY 8u
/* Lua 5.1 and 5.2 number the elements of a table with int, 32 bits at least. */
#define MOST_NODES 0x40000000u

#define INSIDE(m) (&(m)->queues[(m)->inside])
#define BLOCKED(m) (&(m)->queues[(m)->inside ^ 1])

/* The turn `a` came before `b`; they may have wrapped around. */
static bool older(uint32_t a, uint32_t b) { return (uint32_t)(b - a - 1) < 0x80000000u; }

/* {=== memory and the index by key === */

static uint32_t *bucket(const struct machine *m, const void *key) {
  uint64_t hash = (uint64_t)(uintptr_t)key * UINT64_C(0x9E3779B97F4A7C15);
  return &m->buckets[hash >> m->shift];
}

static void index_add(struct machine *m, uint32_t n) {
  uint32_t *b = bucket(m, m->nodes[n].key);
  m->nodes[n].chain = *b;
  *b = n;
}

static void index_remove(struct machine *m, uint32_t n) {
  uint32_t *p = bucket(m, m->nodes[n].key);
  while (*p != n) p = &m->nodes[*p].chain;
  *p = m->nodes[n].chain;
}

static size_t block_size(uint32_t capacity) {
  return capacity * (sizeof(struct machine_node) + sizeof(uint32_t));
}

static bool grow(struct machine *m) {
  uint32_t capacity = m->capacity ? m->capacity * 2 : FIRST_CAPACITY;
  struct machine_node *nodes;
  if (capacity > MOST_NODES) return false;
  nodes = m->alloc(m->ud, NULL, 0, block_size(capacity));
  if (nodes == NULL) return false;
  if (m->capacity) {
    memcpy(nodes + 1, m->nodes + 1, m->used * sizeof(*nodes));
    m->alloc(m->ud, m->nodes, block_size(m->capacity), 0);
    m->shift--;
  } else {
    m->shift = 64;
    for (uint32_t c = FIRST_CAPACITY; c > 1; c /= 2) m->shift--;
  }
  m->nodes = nodes;
  m->capacity = capacity;
  m->buckets = (uint32_t *)(void *)(nodes + capacity);
  memset(m->buckets, 0, capacity * sizeof(uint32_t));
  for (uint32_t n = 1; n <= m->used; n++)
    if (nodes[n].key) index_add(m, n);
  return true;
}

static void make_free(struct machine *m, uint32_t n) {
  struct machine_node *node = &m->nodes[n];
  if (node->key) index_remove(m, n);
  node->key = NULL;
  node->place = MACHINE_FREE;
  node->next = m->free;
  m->free = n;
}

static inline uint32_t take(struct machine *m, const void *key) {
  bool back = machine_comes_back(m, key);
  uint32_t n = back ? m->parked : machine_vacant(m, NULL);
  struct machine_node *node = &m->nodes[n];
  if (back) {
    m->parked = 0;
  } else {
    if (n == m->free)
      m->free = node->next;
    else
      m->used = n;
    node->key = key;
    if (key) index_add(m, n);
  }
  node->ticket = ++m->tickets;
  node->deadline = 0;
  node->outcome = MACHINE_PASSED;
  return n;
}

/* }=== */

/* {=== the queues === */

static inline void append(struct machine *m, uint8_t place, uint32_t n) {
  struct machine_queue *q = &m->queues[place];
  struct machine_node *node = &m->nodes[n];
  node->place = place;
  node->prev = q->last;
  node->next = 0;
  node->as.gap = 0;
  if (q->last)
    m->nodes[q->last].next = n;
  else
    q->first = n;
  q->last = n;
  q->count++;
}

static void prepend(struct machine *m, uint8_t place, uint32_t n) {
  struct machine_queue *q = &m->queues[place];
  struct machine_node *node = &m->nodes[n];
  node->place = place;
  node->prev = 0;
  node->next = q->first;
  node->as.gap = 0;
  if (q->first)
    m->nodes[q->first].prev = n;
  else
    q->last = n;
  q->first = n;
  q->count++;
}

static void unlink_node(struct machine *m, uint32_t n) {
  struct machine_node *node = &m->nodes[n];
  struct machine_queue *q = &m->queues[node->place];
  if (node->prev)
    m->nodes[node->prev].next = node->next;
  else
    q->first = node->next;
  if (node->next)
    m->nodes[node->next].prev = node->prev;
  else
    q->last = node->prev;
  q->count--;
}

/* Takes the first out of a queue that is not empty. */
static inline uint32_t pop(struct machine *m, uint8_t place) {
  struct machine_queue *q = &m->queues[place];
  uint32_t n = q->first;
  q->first = m->nodes[n].next;
  if (q->first)
    m->nodes[q->first].prev = 0;
  else
    q->last = 0;
  q->count--;
  m->nodes[n].place = MACHINE_PARKED;
  return n;
}

/* Draining and resetting end when the last one inside is gone. */
static void check_emptied(struct machine *m, uint32_t turn) {
  if (INSIDE(m)->count == 0 && (m->state == MACHINE_DRAINING || m->state == MACHINE_RESETTING)) {
    m->state = MACHINE_FILLING;
    m->blocked_turn = turn;
  }
}

/* Out of its queue, other than by its turn. */
static void pull(struct machine *m, uint32_t n, uint32_t turn) {
  struct machine_node *node = &m->nodes[n];
  if (node->place == m->inside && m->state == MACHINE_DRAINING && node->next)
    m->nodes[node->next].as.gap += node->as.gap + 1;
  unlink_node(m, n);
  if (node->place == m->inside) check_emptied(m, turn);
}

/* }=== */

void machine_init(struct machine *m, uint64_t parties, machine_alloc alloc, void *ud) {
  memset(m, 0, sizeof(*m));
  m->parties = parties;
  m->alloc = alloc;
  m->ud = ud;
  m->state = MACHINE_FILLING;
}

void machine_destroy(struct machine *m) {
  if (m->capacity) m->alloc(m->ud, m->nodes, block_size(m->capacity), 0);
  machine_init(m, m->parties, m->alloc, m->ud);
}

static bool has_room(const struct machine *m) { return m->free || m->used + 1 < m->capacity; }

bool machine_reserve(struct machine *m) { return has_room(m) || grow(m); }

bool machine_comes_back(const struct machine *m, const void *key) {
  return m->parked && key && m->nodes[m->parked].key == key;
}

uint32_t machine_vacant(const struct machine *m, const void *key) {
  if (machine_comes_back(m, key)) return m->parked;
  return m->free ? m->free : m->used + 1;
}

bool machine_full(const struct machine *m) {
  return m->state == MACHINE_FILLING && INSIDE(m)->count + (uint64_t)m->extra == m->parties;
}

bool machine_lacks_one(const struct machine *m) {
  return m->state == MACHINE_FILLING && INSIDE(m)->count + UINT64_C(1) == m->parties;
}

bool machine_would_trip(const struct machine *m) {
  return machine_lacks_one(m) && !m->held && BLOCKED(m)->count == 0;
}

bool machine_would_wait(const struct machine *m) {
  return has_room(m) && m->state != MACHINE_BROKEN && !machine_would_trip(m);
}

uint32_t machine_enter(struct machine *m, const void *key) {
  uint32_t n = take(m, key);
  bool waits = m->state == MACHINE_FILLING && !m->held && BLOCKED(m)->count == 0;
  append(m, waits ? m->inside : m->inside ^ 1, n);
  return n;
}

uint32_t machine_stay(struct machine *m, const void *key) {
  uint32_t n = take(m, key);
  m->nodes[n].ticket = m->held_ticket;
  append(m, m->inside, n);
  return n;
}

uint32_t machine_post(struct machine *m, enum machine_outcome outcome, uint32_t turn) {
  uint32_t n = take(m, NULL);
  append(m, MACHINE_LEAVING, n);
  m->nodes[n].outcome = (uint8_t)outcome;
  m->nodes[n].as.turn = turn;
  return n;
}

void machine_trip(struct machine *m, uint32_t turn) {
  m->state = MACHINE_DRAINING;
  m->generation++;
  m->position = 0;
  m->inside_turn = turn;
  check_emptied(m, turn);
}

void machine_hold(struct machine *m, bool extra) {
  m->held = true;
  m->extra = extra;
  if (extra) m->held_ticket = ++m->tickets;
  m->verdict = MACHINE_PASSED;
}

enum machine_outcome machine_unhold(struct machine *m, uint32_t turn) {
  m->held = false;
  m->extra = 0;
  if (m->state == MACHINE_FILLING) m->blocked_turn = turn;
  return (enum machine_outcome)m->verdict;
}

void machine_dismiss_extra(struct machine *m) {
  m->extra = 0;
  m->verdict = MACHINE_CANCELLED;
}

uint32_t machine_find(const struct machine *m, const void *key) {
  uint32_t n = m->capacity ? *bucket(m, key) : 0;
  while (n && !(m->nodes[n].key == key && m->nodes[n].place != MACHINE_PARKED))
    n = m->nodes[n].chain;
  return n;
}

bool machine_waits(const struct machine *m, uint32_t node) {
  uint8_t place = m->nodes[node].place;
  if (place == m->inside) return m->state == MACHINE_FILLING;
  return place == (m->inside ^ 1) && m->state != MACHINE_BROKEN;
}

void machine_leave(struct machine *m, uint32_t node, uint32_t turn) {
  pull(m, node, turn);
  make_free(m, node);
}

bool machine_withdraw(struct machine *m, uint32_t node, enum machine_outcome outcome,
                      uint32_t turn) {
  if (m->nodes[node].place == MACHINE_LEAVING) return false;
  pull(m, node, turn);
  append(m, MACHINE_LEAVING, node);
  m->nodes[node].outcome = (uint8_t)outcome;
  m->nodes[node].as.turn = turn;
  return true;
}

void machine_reset(struct machine *m, uint32_t turn) {
  if (m->extra) m->verdict = MACHINE_RESET;
  if (INSIDE(m)->count == 0) {
    m->state = MACHINE_FILLING;
  } else {
    if (m->state == MACHINE_FILLING) m->inside_turn = turn;
    m->state = MACHINE_RESETTING;
  }
}

void machine_abort(struct machine *m, uint32_t turn) {
  if (m->extra) m->verdict = MACHINE_ABORTED;
  if (m->state == MACHINE_FILLING) m->inside_turn = turn;
  if (m->state != MACHINE_BROKEN) m->blocked_turn = turn;
  m->state = MACHINE_BROKEN;
}

/* The first of those inside goes, in its turn. */
static void next_inside(struct machine *m, uint32_t turn, struct machine_leaver *leaver) {
  const struct machine_node *node;
  leaver->place = m->inside;
  leaver->node = pop(m, m->inside);
  node = &m->nodes[leaver->node];
  if (node->outcome == MACHINE_FAILED)
    leaver->outcome = MACHINE_FAILED;
  else if (m->state == MACHINE_DRAINING)
    leaver->outcome = MACHINE_PASSED;
  else
    leaver->outcome = m->state == MACHINE_RESETTING ? MACHINE_RESET : MACHINE_ABORTED;
  leaver->position = m->position + node->as.gap;
  m->position = leaver->position + 1;
  check_emptied(m, turn - 1); /* the blocked come in this turn, after it has run */
}

bool machine_next(struct machine *m, uint32_t turn, struct machine_leaver *leaver) {
  uint32_t left = m->queues[MACHINE_LEAVING].first;
  leaver->state = m->state;
  leaver->position = 0;
  if (left && older(m->nodes[left].as.turn, turn)) {
    leaver->node = pop(m, MACHINE_LEAVING);
    leaver->outcome = (enum machine_outcome)m->nodes[left].outcome;
    leaver->place = MACHINE_LEAVING;
  } else if (m->state == MACHINE_FILLING) {
    return false;
  } else if (INSIDE(m)->first && older(m->inside_turn, turn)) {
    next_inside(m, turn, leaver);
  } else if (m->state == MACHINE_BROKEN && BLOCKED(m)->first && older(m->blocked_turn, turn)) {
    leaver->place = m->inside ^ 1;
    leaver->node = pop(m, leaver->place);
    leaver->outcome = MACHINE_ABORTED;
  } else {
    return false;
  }
  return true;
}

void machine_put_back(struct machine *m, const struct machine_leaver *leaver, uint32_t turn) {
  uint32_t n = leaver->node;
  prepend(m, leaver->place, n);
  m->state = leaver->state;
  if (leaver->place == MACHINE_LEAVING)
    m->nodes[n].as.turn = turn - 1;
  else if (leaver->place == m->inside)
    m->position = leaver->position;
}

void machine_release(struct machine *m, uint32_t node) { make_free(m, node); }

uint32_t machine_park(struct machine *m, uint32_t node) {
  uint32_t previous = m->parked;
  m->parked = node;
  return previous;
}

bool machine_unpark(struct machine *m, uint32_t node, uint32_t previous) {
  bool gone = m->parked == node;
  if (gone) make_free(m, node);
  m->parked = previous;
  return gone;
}

bool machine_admit(struct machine *m, uint32_t turn) {
  if (m->state != MACHINE_FILLING || !older(m->blocked_turn, turn)) return false;
  if (m->held || BLOCKED(m)->count == 0) return false;
  if (INSIDE(m)->count == 0 && BLOCKED(m)->count <= m->parties) {
    m->inside ^= 1; /* all of them at once */
    return machine_full(m);
  }
  while (BLOCKED(m)->first && !machine_full(m)) {
    append(m, m->inside, pop(m, m->inside ^ 1));
  }
  return machine_full(m);
}

bool machine_busy(const struct machine *m) {
  if (m->queues[MACHINE_LEAVING].count) return true;
  if (m->state != MACHINE_FILLING && INSIDE(m)->count) return true;
  if (BLOCKED(m)->count == 0) return false;
  return m->state == MACHINE_BROKEN || (m->state == MACHINE_FILLING && !m->held);
}

uint32_t machine_waiting(const struct machine *m) {
  bool extra = m->extra && m->verdict == MACHINE_PASSED; /* and not thrown out by the action */
  return m->state == MACHINE_FILLING ? INSIDE(m)->count + extra : 0;
}
