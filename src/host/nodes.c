#include "nodes.h"

#include <string.h>

#define FIRST_CAPACITY 8u
/* Lua 5.1 and 5.2 number the elements of a table with int, 32 bits at least. */
#define MOST_NODES 0x40000000u
/* Less than this is not worth giving back. */
#define SMALL_CAPACITY 64u

/* {=== memory and the index === */

static uint32_t *bucket(const struct nodes *s, const void *key) {
  uint64_t hash = (uint64_t)(uintptr_t)key * UINT64_C(0x9E3779B97F4A7C15);
  return &s->buckets[hash >> s->shift];
}

static void index_add(struct nodes *s, uint32_t n) {
  uint32_t *b = bucket(s, s->at[n].key);
  s->at[n].chain = *b;
  *b = n;
}

static void index_remove(struct nodes *s, uint32_t n) {
  uint32_t *p = bucket(s, s->at[n].key);
  while (*p != n) p = &s->at[*p].chain;
  *p = s->at[n].chain;
}

static size_t block_size(uint32_t capacity) {
  return capacity * (sizeof(struct node) + sizeof(uint32_t));
}

static bool grow(struct nodes *s) {
  uint32_t capacity = s->capacity ? s->capacity * 2 : FIRST_CAPACITY;
  struct node *at;
  if (capacity > MOST_NODES) return false;
  at = (struct node *)s->alloc(s->ud, NULL, 0, block_size(capacity));
  if (at == NULL) return false;
  if (s->capacity) {
    memcpy(at + 1, s->at + 1, s->used * sizeof(*at));
    s->alloc(s->ud, s->at, block_size(s->capacity), 0);
    s->shift--;
  } else {
    s->shift = 64;
    for (uint32_t c = FIRST_CAPACITY; c > 1; c /= 2) s->shift--;
  }
  s->at = at;
  s->capacity = capacity;
  s->buckets = (uint32_t *)(void *)(at + capacity);
  memset(s->buckets, 0, capacity * sizeof(uint32_t));
  for (uint32_t n = 1; n <= s->used; n++)
    if (at[n].key) index_add(s, n);
  return true;
}

void nodes_init(struct nodes *s, nodes_alloc alloc, void *ud) {
  memset(s, 0, sizeof(*s));
  s->alloc = alloc;
  s->ud = ud;
}

void nodes_destroy(struct nodes *s) {
  if (s->capacity) s->alloc(s->ud, s->at, block_size(s->capacity), 0);
  nodes_init(s, s->alloc, s->ud);
}

bool nodes_has_room(const struct nodes *s) { return s->free || s->used + 1 < s->capacity; }

bool nodes_reserve(struct nodes *s) { return nodes_has_room(s) || grow(s); }

static inline uint32_t unused(const struct nodes *s) { return s->free ? s->free : s->used + 1; }

uint32_t nodes_vacant(const struct nodes *s, const void *key) {
  return nodes_comes_back(s, key) ? s->parked : unused(s);
}

uint32_t nodes_take_new(struct nodes *s, const void *key) {
  uint32_t n = unused(s);
  if (n == s->free)
    s->free = s->at[n].next;
  else
    s->used = n;
  s->taken++;
  s->at[n].key = key;
  if (key) index_add(s, n);
  return n;
}

void nodes_free(struct nodes *s, uint32_t n) {
  struct node *node = &s->at[n];
  s->taken--;
  if (node->key) index_remove(s, n);
  node->key = NULL;
  node->place = PLACE_FREE;
  node->next = s->free;
  s->free = n;
}

uint32_t nodes_find(const struct nodes *s, const void *key) {
  uint32_t n = s->capacity ? *bucket(s, key) : 0;
  while (n && !(s->at[n].key == key && s->at[n].place != PLACE_PARKED)) n = s->at[n].chain;
  return n;
}

bool nodes_empty(const struct nodes *s) {
  for (int i = 0; i < QUEUES; i++)
    if (s->queues[i].count) return false;
  return true;
}

bool nodes_rest(struct nodes *s) {
  bool too_large = s->capacity > SMALL_CAPACITY && s->used < s->capacity / 4;
  if (s->taken) return false;
  s->used = s->free = 0;
  return too_large;
}

static void set_parked(struct nodes *s, uint32_t n) {
  s->parked = n;
  s->running = n ? s->at[n].key : NULL;
}

uint32_t nodes_park(struct nodes *s, uint32_t n) {
  uint32_t previous = s->parked;
  set_parked(s, n);
  return previous;
}

bool nodes_unpark(struct nodes *s, uint32_t n, uint32_t previous) {
  bool gone = s->parked == n;
  if (gone) nodes_free(s, n);
  if (s->parked != previous) /* it may have been destroyed */
    set_parked(s, previous <= s->used ? previous : 0);
  return gone;
}

/* }=== */

/* {=== the queues === */

void nodes_append(struct nodes *s, uint8_t place, uint32_t n) {
  struct queue *q = &s->queues[place];
  struct node *node = &s->at[n];
  node->place = place;
  node->prev = q->last;
  node->next = 0;
  node->as.gap = 0;
  if (q->last)
    s->at[q->last].next = n;
  else
    q->first = n;
  q->last = n;
  q->count++;
}

void nodes_prepend(struct nodes *s, uint8_t place, uint32_t n) {
  struct queue *q = &s->queues[place];
  struct node *node = &s->at[n];
  node->place = place;
  node->prev = 0;
  node->next = q->first;
  if (q->first)
    s->at[q->first].prev = n;
  else
    q->last = n;
  q->first = n;
  q->count++;
}

void nodes_unlink(struct nodes *s, uint32_t n) {
  const struct node *node = &s->at[n];
  struct queue *q = &s->queues[node->place];
  if (node->prev)
    s->at[node->prev].next = node->next;
  else
    q->first = node->next;
  if (node->next)
    s->at[node->next].prev = node->prev;
  else
    q->last = node->prev;
  q->count--;
}

uint32_t nodes_pop(struct nodes *s, uint8_t place) {
  struct queue *q = &s->queues[place];
  uint32_t n = q->first;
  q->first = s->at[n].next;
  if (q->first)
    s->at[q->first].prev = 0;
  else
    q->last = 0;
  q->count--;
  s->at[n].place = PLACE_PARKED;
  return n;
}

/* }=== */

/* {=== leaving early === */

void nodes_send_off(struct nodes *s, uint32_t n, enum outcome outcome, uint32_t turn) {
  nodes_append(s, PLACE_LEAVING, n);
  s->at[n].outcome = (uint8_t)outcome;
  s->at[n].as.turn = turn;
}

uint32_t nodes_post(struct nodes *s, const void *key, enum outcome outcome, uint32_t turn) {
  uint32_t n = nodes_take(s, key);
  nodes_send_off(s, n, outcome, turn);
  return n;
}

bool nodes_next_leaving(struct nodes *s, uint32_t turn, uint32_t withheld, struct leaver *leaver) {
  uint32_t n = s->queues[PLACE_LEAVING].first;
  if (n && n == withheld) n = s->at[n].next;
  if (n == 0 || !older(s->at[n].as.turn, turn)) return false;
  leaver->node = n;
  leaver->outcome = (enum outcome)s->at[n].outcome;
  leaver->place = PLACE_LEAVING;
  leaver->position = 0;
  nodes_unlink(s, n);
  s->at[n].place = PLACE_PARKED;
  return true;
}

/* }=== */
