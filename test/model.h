/*
** What fuzz_machine.c expects of a machine: the same barrier made of plain arrays, in which each
** party is an entry that is moved by itself.
*/
#ifndef BARRIER_TEST_MODEL_H
#define BARRIER_TEST_MODEL_H

#include "check.h"

#define CROWD 80 /* most nodes at once */

enum list_name { IN, BLOCKED_OUT, LEAVERS, WATCHERS, NOTIFY, LISTS };

struct member {
  uint32_t node;
  int key;           /* of a coroutine; 0: it has none */
  uint32_t arrivals; /* blocked: so many arrive and do not wait; 0: it waits */
  bool is_party;     /* not one that watches */
  bool is_ready;     /* as things are, it gets `outcome` in the turns after `turn` */
  bool has_failed;   /* ... whatever happens to the barrier */
  enum outcome outcome;
  uint64_t number; /* its position, or generation */
  uint32_t turn;
};

struct list {
  struct member member[CROWD + 8];
  uint32_t count;
};

static struct model {
  struct list lists[LISTS];
  enum machine_state state;
  uint32_t parties, arrived;
  uint64_t generation;
  bool held, due;
  uint32_t runner; /* held: the node of the last arrival whose own call runs the action */
  enum outcome thrown;
  uint32_t due_turn;     /* due: the action runs in the turns after it */
  uint32_t blocked_turn; /* the blocked are let in, or fail, in the turns after it */
} model;

static uint32_t turn; /* the current turn; it may wrap around */

/* {=== lists === */

static struct list *list(enum list_name name) { return &model.lists[name]; }

static void push(enum list_name name, const struct member *x) {
  struct list *l = list(name);
  l->member[l->count++] = *x;
}

static struct member take_at(enum list_name name, uint32_t i) {
  struct list *l = list(name);
  struct member x = l->member[i];
  l->count--;
  memmove(&l->member[i], &l->member[i + 1], (l->count - i) * sizeof(x));
  return x;
}

/* The i-th of all members, and its list in `name`; NULL if there are not so many. */
static struct member *member_at(uint32_t i, enum list_name *name) {
  for (int l = 0; l < LISTS; l++) {
    *name = (enum list_name)l;
    if (i < model.lists[l].count) return &model.lists[l].member[i];
    i -= model.lists[l].count;
  }
  return NULL;
}

/* The member with that node inside, or NULL. */
static struct member *inside_with(uint32_t node) {
  for (uint32_t i = 0; i < list(IN)->count; i++)
    if (list(IN)->member[i].node == node) return &list(IN)->member[i];
  return NULL;
}

static uint32_t model_find(int key) {
  enum list_name name;
  const struct member *x;
  for (uint32_t i = 0; (x = member_at(i, &name)) != NULL; i++)
    if (x->key == key) return x->node;
  return 0;
}

/* `a` comes before `b` on the circle of turns. */
static bool earlier(uint32_t a, uint32_t b) { return a != b && b - a <= 0x80000000u; }

/* }=== */

/* {=== looking === */

static uint64_t model_need(void) { return model.parties > 0 ? model.parties : 1; }

static uint64_t model_counted(void) {
  return model.state == MACHINE_FILLING ? (uint64_t)list(IN)->count + model.arrived : 0;
}

static bool model_is_open(void) {
  return model.state == MACHINE_FILLING && !model.held && list(BLOCKED_OUT)->count == 0;
}

static bool model_would_trip(uint32_t n) {
  return model_is_open() && model_counted() + n >= model_need();
}

static uint32_t model_absent(void) {
  return model.held ? model.parties : model.parties - (uint32_t)model_counted();
}

static uint32_t model_most_arrivals(void) { return model.parties == 0 ? 1 : model_absent(); }

static bool model_needs_node(uint32_t n) {
  const struct list *l = list(BLOCKED_OUT);
  if (model_is_open()) return false;
  return l->count == 0 || l->member[l->count - 1].arrivals == 0 ||
         (uint64_t)l->member[l->count - 1].arrivals + n > UINT32_MAX;
}

static bool model_waits(enum list_name name) {
  if (name == IN) return model.state == MACHINE_FILLING && !model.held;
  return name == WATCHERS || (name == BLOCKED_OUT && model.state != MACHINE_BROKEN);
}

static bool model_has_waiters(void) {
  for (uint32_t i = 0; i < list(BLOCKED_OUT)->count; i++)
    if (list(BLOCKED_OUT)->member[i].arrivals == 0) return true;
  return list(IN)->count || list(WATCHERS)->count || list(NOTIFY)->count;
}

static bool model_busy(void) {
  enum list_name name;
  const struct member *x;
  for (uint32_t i = 0; (x = member_at(i, &name)) != NULL; i++)
    if (x->is_ready && x->node != model.runner) return true;
  if (model.due) return true;
  if (list(BLOCKED_OUT)->count == 0) return false;
  return model.state == MACHINE_BROKEN || (model.state == MACHINE_FILLING && !model.held);
}

/* }=== */

/* {=== what happens === */

static void model_emptied(uint32_t at) {
  if (list(IN)->count) return;
  if (model.state != MACHINE_DRAINING && model.state != MACHINE_RESETTING) return;
  model.state = MACHINE_FILLING;
  model.blocked_turn = at;
}

static void tell(struct member *x, enum outcome outcome, uint64_t number, uint32_t at) {
  x->outcome = outcome;
  x->number = number;
  if (!x->is_ready) x->turn = at;
  x->is_ready = true;
}

static void model_notify_watchers(enum outcome outcome, uint32_t at) {
  while (list(WATCHERS)->count) {
    struct member x = take_at(WATCHERS, 0);
    tell(&x, outcome, model.generation, at);
    push(NOTIFY, &x);
  }
}

static void model_trip(uint32_t at) {
  model.state = MACHINE_DRAINING;
  model.generation++;
  model.arrived = 0;
  for (uint32_t i = 0; i < list(IN)->count; i++) tell(&list(IN)->member[i], OUTCOME_PASSED, i, at);
  model_notify_watchers(OUTCOME_PASSED, at);
  model_emptied(at);
}

static void model_hold(uint32_t runner) {
  model.held = true;
  model.due = false;
  model.runner = runner;
  model.thrown = OUTCOME_PASSED;
}

static void model_defer(uint32_t at) {
  model_hold(0);
  model.due = true;
  model.due_turn = at;
}

/* Returns whether the barrier has to be tripped. */
static bool model_unhold(uint32_t at) {
  bool trips = model.thrown == OUTCOME_PASSED; /* whatever party has left meanwhile */
  model.held = model.due = false;
  model.runner = 0;
  if (model.state == MACHINE_FILLING) model.blocked_turn = at;
  return trips;
}

/* All parties inside and all watchers fail. */
static void throw_out_all(enum outcome outcome) {
  model.arrived = 0;
  model.thrown = outcome;
  if (model.due) model_unhold(turn);
  for (uint32_t i = 0; i < list(IN)->count; i++) {
    struct member *x = &list(IN)->member[i];
    tell(x, x->has_failed ? OUTCOME_FAILED : outcome, 0, turn);
  }
  for (uint32_t i = 0; i < list(NOTIFY)->count; i++) list(NOTIFY)->member[i].outcome = outcome;
  model_notify_watchers(outcome, turn);
}

static void model_reset(void) {
  throw_out_all(MACHINE_RESET);
  model.state = list(IN)->count ? MACHINE_RESETTING : MACHINE_FILLING;
}

static void model_abort(void) {
  if (model.state == MACHINE_BROKEN) return;
  throw_out_all(MACHINE_ABORTED);
  model.state = MACHINE_BROKEN;
  model.blocked_turn = turn;
}

/* Takes the first ready member out of the list into `x`. False if none is ready by now. */
static bool take_ready(enum list_name name, uint32_t at, struct member *x) {
  for (uint32_t i = 0; i < list(name)->count; i++) {
    if (list(name)->member[i].node == model.runner) continue;
    if (!list(name)->member[i].is_ready || !earlier(list(name)->member[i].turn, at)) return false;
    *x = take_at(name, i);
    return true;
  }
  return false;
}

static bool take_blocked(uint32_t at, struct member *x) {
  if (model.state != MACHINE_BROKEN || !earlier(model.blocked_turn, at)) return false;
  while (list(BLOCKED_OUT)->count) {
    *x = take_at(BLOCKED_OUT, 0);
    x->outcome = MACHINE_ABORTED;
    if (x->arrivals == 0) return true;
  }
  return false;
}

/* Takes out the member that is let out next in this turn. False if none is. */
static bool model_next(uint32_t at, struct member *x) {
  if (take_ready(LEAVERS, at, x)) return true;
  if (take_ready(IN, at, x)) {
    model_emptied(at - 1);
    return true;
  }
  return take_blocked(at, x) || take_ready(NOTIFY, at, x);
}

/* Lets the blocked in at the end of a turn. Returns whether anything happened; `last` becomes the
** last node that came in, 0 if it was an arrival. */
static bool model_admit(uint32_t at, uint32_t *last) {
  bool any = false;
  if (model.state != MACHINE_FILLING || model.held || !earlier(model.blocked_turn, at))
    return false;
  while (list(BLOCKED_OUT)->count && model_counted() < model_need()) {
    struct member *first = &list(BLOCKED_OUT)->member[0];
    uint64_t missing = model_need() - model_counted();
    uint32_t n = first->arrivals < missing ? first->arrivals : (uint32_t)missing;
    any = true;
    *last = first->arrivals ? 0 : first->node;
    if (first->arrivals == 0) push(IN, first);
    model.arrived += n;
    first->arrivals -= n;
    if (first->arrivals == 0) take_at(BLOCKED_OUT, 0);
  }
  return any;
}

/* }=== */

#endif
