/*
** The machine of fuzz_machine.c, what runs while it is used, and the comparison of both with
** the model. For test programs that include machine.c.
*/
#ifndef BARRIER_TEST_COMPARE_H
#define BARRIER_TEST_COMPARE_H

#include "invariants.h"
#include "model.h"

#define KEYS 12  /* number of coroutines */
#define DEPTH 16 /* most nested frames */

/* {=== memory === */

static size_t live;    /* bytes handed out */
static bool exhausted; /* the next allocation fails */
static uint32_t refusals;

static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize) {
  CHECK(ud == &live);
  if (nsize == 0) {
    live -= osize;
    free(ptr);
    return NULL;
  }
  CHECK(ptr == NULL && osize == 0);
  if (exhausted) {
    refusals++;
    return NULL;
  }
  live += nsize;
  return memset(malloc(nsize), 0xa5, nsize);
}

/* }=== */

/* {=== what is running === */

enum frame_kind {
  COROUTINE, /* a coroutine that was let out */
  CALLBACK,  /* a callback whose error is being made: its node is in no queue */
  ACTION     /* a barrier's action */
};

struct frame {
  enum frame_kind kind;
  int key;           /* the coroutine; action: that of the last arrival, 0 if it is none */
  uint32_t node;     /* action: of the last arrival, 0 if it does not wait */
  uint32_t previous; /* coroutine: what nodes_park returned */
  bool in_turn;      /* action: not run by a last arrival, ... */
  uint32_t ready;    /* and the parties that pass are ready in the turns after this one */
  bool keeps_node;   /* coroutine, callback: the node is still parked for it */
  bool is_back;      /* coroutine: it waits again, so it has yielded */
};

static struct machine m;
static struct frame frames[DEPTH];
static uint32_t depth;
static uint32_t most;       /* the most nodes at once, since the last nodes_rest */
static char keys[KEYS + 1]; /* addresses for nodes_find */

static const void *key_of(int key) { return key ? &keys[key] : NULL; }

static struct node *node_at(uint32_t n) { return &m.nodes.at[n]; }

static struct frame *push_frame(enum frame_kind kind, int key, uint32_t node) {
  struct frame *f = &frames[depth++];
  memset(f, 0, sizeof(*f));
  f->kind = kind;
  f->key = key;
  f->node = node;
  f->keeps_node = kind != ACTION;
  return f;
}

/* The innermost coroutine that was let out, or NULL. */
static struct frame *innermost(void) {
  for (uint32_t i = depth; i > 0; i--)
    if (frames[i - 1].kind == COROUTINE) return &frames[i - 1];
  return NULL;
}

static bool model_comes_back(int key) {
  const struct frame *f = innermost();
  return f && f->keeps_node && f->key == key;
}

static uint32_t crowd(void) {
  uint32_t count = 0;
  for (int l = 0; l < LISTS; l++) count += model.lists[l].count;
  for (uint32_t i = 0; i < depth; i++) count += frames[i].keeps_node;
  return count;
}

static bool is_crowded(void) { return crowd() >= CROWD; }

/* }=== */

/* {=== machine and model === */

static void compare_queue(enum list_name name, uint8_t place) {
  uint32_t n = m.nodes.queues[place].first;
  CHECK(m.nodes.queues[place].count == list(name)->count);
  for (uint32_t i = 0; i < list(name)->count; i++, n = node_at(n)->next) {
    const struct member *x = &list(name)->member[i];
    CHECK(n == x->node && node_at(n)->key == key_of(x->key));
    CHECK((node_at(n)->outcome == MACHINE_ARRIVED) == (x->arrivals > 0));
    if (x->arrivals) CHECK(node_at(n)->as.count == x->arrivals);
    if (name == LEAVERS) CHECK(node_at(n)->outcome == x->outcome);
    if (name == LEAVERS || name == NOTIFY) CHECK(node_at(n)->as.turn == x->turn);
    if (name == NOTIFY)
      CHECK(node_at(n)->ticket == x->number);
    else
      CHECK((node_at(n)->ticket != 0) == x->is_party);
    CHECK(machine_waits(&m, n) == model_waits(name));
  }
}

/* Each party has the position that it was given at the trip. */
static void compare_positions(void) {
  uint64_t next = m.position;
  if (model.state != MACHINE_DRAINING) return;
  for (uint32_t i = 0; i < list(IN)->count; i++) {
    const struct member *x = &list(IN)->member[i];
    CHECK(next + node_at(x->node)->as.gap == x->number);
    next = x->number + 1;
  }
}

/* The nodes of running coroutines stay parked. */
static void compare_frames(uint32_t parked) {
  for (uint32_t i = 0; i < depth; i++) {
    const struct frame *f = &frames[i];
    if (!f->keeps_node) continue;
    CHECK(node_at(f->node)->place == PLACE_PARKED && node_at(f->node)->key == key_of(f->key));
    parked--;
  }
  CHECK(parked == 0);
}

static void compare_coming(void) {
  bool open = model_is_open(), trips = model_would_trip(1);
  CHECK(machine_is_open(&m) == open && machine_would_trip(&m, 1) == trips);
  CHECK(machine_would_trip(&m, 3) == model_would_trip(3));
  CHECK(machine_would_wait(&m) ==
        (nodes_has_room(&m.nodes) && !trips && model.state != MACHINE_BROKEN));
  CHECK(machine_most_arrivals(&m) == model_most_arrivals());
  for (uint32_t n = 1; n < 0x80000000u; n = n * 8 + 7)
    CHECK(machine_arrivals_need_node(&m, n) == model_needs_node(n));
  CHECK(machine_absent(&m) == model_absent());
  for (int key = 1; key <= KEYS; key++) {
    CHECK(nodes_find(&m.nodes, key_of(key)) == model_find(key));
    CHECK(nodes_comes_back(&m.nodes, key_of(key)) == model_comes_back(key));
  }
  CHECK(!nodes_comes_back(&m.nodes, NULL));
}

static void check(void) {
  uint64_t waiting = model.state == MACHINE_FILLING ? list(IN)->count : 0;
  compare_frames(check_machine(&m));
  compare_queue(IN, m.inside);
  compare_queue(BLOCKED_OUT, m.inside ^ 1);
  compare_queue(LEAVERS, PLACE_LEAVING);
  compare_queue(WATCHERS, PLACE_WATCHING);
  compare_queue(NOTIFY, PLACE_NOTIFY);
  compare_positions();
  compare_coming();
  CHECK(m.state == model.state && m.generation == model.generation);
  CHECK(m.parties == model.parties && m.arrived == model.arrived);
  CHECK(m.held == model.held && m.due == model.due && m.runner == model.runner);
  if (m.held) CHECK(m.thrown == model.thrown);
  CHECK(machine_full(&m) ==
        (model.state == MACHINE_FILLING && !model.held && model_counted() >= model.parties));
  CHECK(machine_waiting(&m) == waiting && machine_counted(&m) == model_counted());
  CHECK(machine_has_waiters(&m) == model_has_waiters());
  CHECK(machine_busy(&m) == model_busy());
  CHECK(!machine_busy(&m) || machine_pending(&m) > 0);
  CHECK(live == (m.nodes.capacity ? block_size(m.nodes.capacity) : 0));
}

/* }=== */

#endif
