/*
** Checks that machine.c keeps its promises. A fuzzer's bytes become calls as the binding
** makes them. Each call is compared with a model made of plain arrays (model.h), and all
** invariants are checked after it.
**
** With libFuzzer:   clang -std=c99 -g -O1 -DLIBFUZZER -fsanitize=fuzzer,address,undefined \
**                     test/fuzz_machine.c -o fuzz && ./fuzz test/corpus
** Without, replay:  cc -std=c99 -g test/fuzz_machine.c -o fuzz && ./fuzz test/corpus/[0-9a-f]*
** (test/run fuzz does both.)
*/
#define INTERNAL static
#include "../src/host/nodes.c"

#include "../src/barrier/machine.c"
#include "../src/barrier/machine_turns.c"

#include "compare.h"

#define MAX_STEPS 4096

/* {=== coming === */

/* Makes room. With `fail` the allocator refuses, and nothing changes. */
static void reserve(bool fail) {
  struct machine before = m;
  void *block = NULL;
  size_t size = m.nodes.capacity ? block_size(m.nodes.capacity) : 0;
  uint32_t refused = refusals;
  if (fail) {
    if (size) block = memcpy(malloc(size), m.nodes.at, size);
    exhausted = true;
    if (!nodes_reserve(&m.nodes)) {
      CHECK(refusals == refused + 1 && !nodes_has_room(&m.nodes));
      CHECK(memcmp(&before, &m, sizeof(m)) == 0);
      if (size) CHECK(memcmp(block, m.nodes.at, size) == 0);
    } else {
      CHECK(refusals == refused);
    }
    exhausted = false;
    free(block);
  }
  CHECK(nodes_reserve(&m.nodes) && nodes_has_room(&m.nodes));
}

/* The coroutine that comes for the byte `arg`: the running one comes back, any other is
** neither in the barrier nor suspended in a call of its own. 0: none. */
static int coming(uint8_t arg) {
  const struct frame *top = depth ? &frames[depth - 1] : NULL;
  int key = arg % KEYS + 1;
  if (arg & 0x80 && top && top->kind == COROUTINE) return top->key;
  for (uint32_t i = 0; i < depth; i++)
    if (frames[i].key == key) return 0;
  return model_find(key) ? 0 : key;
}

/* The coroutine waits: if it was let out, it yields to the frame that did. */
static void yielded(int key) {
  struct frame *top = depth ? &frames[depth - 1] : NULL;
  if (top && key && top->kind == COROUTINE && top->key == key) top->is_back = true;
}

static bool has_yielded(void) { return depth && frames[depth - 1].is_back; }

/* What every new member begins with; `expected` is the node that it was to get. */
static void add(enum list_name name, uint32_t node, uint32_t expected, const struct member *x) {
  struct member added = *x;
  CHECK(node == expected && node_at(node)->deadline == 0);
  if (model_comes_back(x->key)) innermost()->keeps_node = false;
  added.node = node;
  push(name, &added);
  if (crowd() > most) most = crowd();
}

static uint32_t do_enter(int key) {
  struct member x = {0, key, 0, true, false, false, OUTCOME_PASSED, 0, 0};
  enum list_name name = model_is_open() ? IN : BLOCKED_OUT;
  uint32_t vacant = nodes_vacant(&m.nodes, key_of(key));
  uint32_t node = machine_enter(&m, key_of(key));
  add(name, node, vacant, &x);
  return node;
}

static void do_watch(int key) {
  struct member x = {0, key, 0, false, false, false, OUTCOME_PASSED, 0, 0};
  uint32_t vacant = nodes_vacant(&m.nodes, key_of(key));
  add(WATCHERS, machine_watch(&m, key_of(key)), vacant, &x);
}

static uint32_t do_post(int key, enum outcome outcome) {
  struct member x = {0, key, 0, true, true, false, OUTCOME_PASSED, 0, 0};
  uint32_t vacant = nodes_vacant(&m.nodes, key_of(key));
  uint32_t node = nodes_post(&m.nodes, key_of(key), outcome, turn);
  x.outcome = outcome;
  x.turn = turn;
  add(LEAVERS, node, vacant, &x);
  return node;
}

/* `n` parties arrive without waiting; `more` come after them if they are blocked. */
static void do_arrive(uint32_t n, uint32_t more) {
  struct member x = {0, 0, 1, true, false, false, OUTCOME_PASSED, 0, 0};
  uint32_t vacant = nodes_vacant(&m.nodes, NULL);
  bool open = model_is_open(), adds = model_needs_node(n);
  machine_arrive(&m, n);
  if (open) {
    model.arrived += n;
  } else {
    struct list *l = list(BLOCKED_OUT);
    struct member *last;
    if (adds) {
      add(BLOCKED_OUT, m.nodes.queues[m.inside ^ 1].last, vacant, &x);
      l->member[l->count - 1].arrivals = 0;
    }
    last = &l->member[l->count - 1];
    last->arrivals += n;
    if (more > UINT32_MAX - last->arrivals) more = UINT32_MAX - last->arrivals;
    node_at(last->node)->as.count += more; /* as so many calls would */
    last->arrivals += more;
  }
}

/* }=== */

/* {=== all parties have arrived === */

static void do_trip(uint32_t ready) {
  machine_trip(&m, ready);
  model_trip(ready);
}

static void do_hold(uint32_t last, bool runs) {
  machine_hold(&m, last, runs);
  model_hold(runs ? last : 0);
}

static void do_defer(uint32_t last, uint32_t at) {
  machine_defer(&m, last, at);
  model_defer(at);
}

/* What a last arrival does: run an action, defer the trip, or trip at once. */
static bool has_action(uint8_t how) { return how & 1 && depth < DEPTH; }

static bool is_deferred(uint8_t how) { return how & 2; }

/* The last arrival has come, and waits at `node`, or does not wait: 0. */
static void complete(int key, uint32_t node, uint8_t how) {
  if (is_deferred(how)) {
    do_defer(node, turn);
    yielded(key);
  } else if (has_action(how)) {
    do_hold(node, node != 0);
    push_frame(ACTION, key, node);
  } else {
    do_trip(turn);
  }
}

static void op_wait(uint8_t arg, uint8_t how) {
  int key = how & 4 ? 0 : coming(arg);
  if ((!key && !(how & 4)) || is_crowded()) return;
  reserve(how & 8);
  if (model.state == MACHINE_BROKEN) {
    do_post(key, OUTCOME_FAILED);
    yielded(key);
  } else if (!model_would_trip(1)) {
    CHECK(machine_would_wait(&m));
    do_enter(key);
    yielded(key);
  } else if (key && !has_action(how) && !is_deferred(how)) {
    uint64_t position = list(IN)->count;
    CHECK(machine_pass(&m, turn) == position);
    model_trip(turn);
  } else {
    complete(key, do_enter(key), how);
  }
}

static void op_watch(uint8_t arg, uint8_t how) {
  int key = how & 4 ? 0 : coming(arg);
  if ((!key && !(how & 4)) || is_crowded()) return;
  reserve(how & 8);
  if (model.state == MACHINE_BROKEN)
    do_post(key, OUTCOME_FAILED);
  else
    do_watch(key);
  yielded(key);
}

static void op_arrive(uint8_t arg, uint8_t how) {
  uint32_t limit = model_most_arrivals(), n = arg < 4 ? 1 : how & 8 ? limit : arg;
  bool last;
  if (n > limit) n = limit;
  if (model.state == MACHINE_BROKEN || is_crowded()) return;
  last = model_would_trip(n);
  if (model_needs_node(n)) reserve(how & 4);
  do_arrive(n, arg & 64 ? UINT32_MAX - arg : 0);
  if (last) complete(0, 0, how);
}

/* As many callbacks come as may without being the last. */
static void op_crowd(uint8_t arg) {
  if (model.state == MACHINE_BROKEN) return;
  for (uint32_t i = 0; i < arg && !is_crowded() && !model_would_trip(1); i++) {
    reserve(false);
    do_enter(0);
  }
}

static void op_register(uint8_t arg, uint8_t how) {
  uint32_t absent = model_absent(), n = how & 4 ? absent : arg % 4 + 1u;
  bool trips;
  if (how & 8) {
    if (n > MACHINE_MOST_PARTIES - model.parties) return;
    m.parties += n;
    model.parties += n;
    return;
  }
  if (n == 0 || n > absent) return;
  trips = model.state == MACHINE_FILLING && !model.held && n == absent;
  m.parties -= n;
  model.parties -= n;
  if (trips) complete(0, 0, how);
}

/* Even if no party is inside, the blocked have to wait for a turn. */
static void trip_in_turn(uint32_t ready) {
  do_trip(ready);
  if (model.state == MACHINE_FILLING) m.blocked_turn = model.blocked_turn = turn;
}

/* No party gets the error of an action: it is posted, unless a party waits. */
static void lose_error(void) {
  if (machine_has_waiters(&m) || is_crowded()) return;
  reserve(false);
  do_post(0, OUTCOME_UNCAUGHT);
}

static void fail_action(const struct frame *f, struct member *last) {
  bool lost = last == NULL && f->node && !f->in_turn;
  if (last) {
    node_at(f->node)->outcome = OUTCOME_FAILED;
    last->outcome = OUTCOME_FAILED;
    last->has_failed = true;
  }
  machine_abort(&m, turn);
  model_abort();
  if (lost) lose_error();
}

/* The last arrival, a coroutine that has run the action, goes on at once. */
static void pass(const struct frame *f, struct member *last) {
  uint64_t position = list(IN)->count - 1;
  CHECK(last == &list(IN)->member[position]);
  take_at(IN, (uint32_t)position);
  machine_leave(&m, f->node, turn);
  CHECK(machine_pass(&m, turn) == position);
  model_trip(turn);
}

/* An action ends, well or with an error (`fails`). */
static void pop_action(bool fails) {
  struct frame f = frames[--depth];
  struct member *last = inside_with(f.node);
  bool trips = model_unhold(turn);
  CHECK(m.last == (last ? f.node : 0));
  CHECK(machine_unhold(&m, turn) == trips);
  if (fails) {
    fail_action(&f, last);
  } else if (trips && f.key && last && !f.in_turn) {
    pass(&f, last);
    return;
  } else if (trips && f.in_turn) {
    trip_in_turn(f.ready);
  } else if (trips) {
    do_trip(turn);
  }
  if (f.key && !f.in_turn) yielded(f.key);
}

static void op_return(uint8_t how) {
  struct frame f;
  if (depth == 0) return;
  if (frames[depth - 1].kind == ACTION) {
    pop_action(how & 1);
    return;
  }
  f = frames[--depth];
  if (f.kind == COROUTINE) {
    CHECK(nodes_unpark(&m.nodes, f.node, f.previous) == f.keeps_node);
    return;
  }
  nodes_free(&m.nodes, f.node);
  if (how & 1) CHECK(do_post(0, MACHINE_RESET) == f.node); /* there was no memory */
}

/* }=== */

/* {=== leaving === */

/* Some node leaves early. A party that left a draining barrier keeps its position. */
static void op_leave(uint8_t which, uint8_t how) {
  static const enum outcome outcomes[] = {OUTCOME_CANCELLED, OUTCOME_DISTURBED,
                                                  OUTCOME_TIMED_OUT, OUTCOME_CANCELLED};
  enum list_name name;
  uint32_t i = crowd() ? which % crowd() : 0;
  struct member *found = member_at(i, &name), x;
  if (found == NULL || found->arrivals) return;
  if (how & 1) {
    if (found->key && found->node == model.runner) return; /* it is running */
    if (found->node == model.runner) model.runner = 0;
    x = take_at(name, (uint32_t)(found - list(name)->member));
    machine_leave(&m, x.node, turn);
  } else {
    enum outcome outcome = outcomes[how >> 1 & 3];
    CHECK(machine_withdraw(&m, found->node, outcome, turn) == (name != LEAVERS));
    if (name == LEAVERS) return;
    x = take_at(name, (uint32_t)(found - list(name)->member));
    x.is_ready = true;
    x.outcome = outcome;
    x.turn = turn;
    push(LEAVERS, &x);
  }
  if (name == IN) model_emptied(turn);
}

static void op_reset(void) {
  machine_reset(&m, turn);
  model_reset();
}

static void op_abort(void) {
  machine_abort(&m, turn);
  model_abort();
}

/* }=== */

/* {=== turns === */

/* There was no room to resume the coroutine. The blocked arrivals before it, which notify no party,
** are gone. */
static void put_back(const struct leaver *leaver, const struct model *before, uint32_t at) {
  bool after_blocked = leaver->place == (m.inside ^ 1) || leaver->place == PLACE_NOTIFY;
  machine_put_back(&m, leaver);
  model = *before;
  if (model.state != MACHINE_BROKEN || !after_blocked || !earlier(model.blocked_turn, at)) return;
  while (list(BLOCKED_OUT)->count && list(BLOCKED_OUT)->member[0].arrivals) take_at(BLOCKED_OUT, 0);
}

/* Lets one out, in a pass that began in turn `at`. */
static bool op_next(uint32_t at, uint8_t how) {
  static struct model before;
  struct leaver leaver;
  struct member x = {0, 0, 0, false, false, false, OUTCOME_PASSED, 0, 0};
  bool expected;
  before = model;
  expected = model_next(at, &x);
  CHECK(machine_next(&m, at, &leaver) == expected);
  if (!expected) return false;
  CHECK(leaver.node == x.node && leaver.outcome == x.outcome);
  if (x.outcome == OUTCOME_PASSED) CHECK(leaver.position == x.number);
  CHECK(node_at(x.node)->place == PLACE_PARKED);
  if (how & 1 && x.key) {
    put_back(&leaver, &before, at);
  } else if (x.key && depth < DEPTH) {
    push_frame(COROUTINE, x.key, x.node)->previous = nodes_park(&m.nodes, x.node);
  } else if (how & 2 && depth < DEPTH) {
    push_frame(CALLBACK, 0, x.node);
  } else {
    nodes_free(&m.nodes, x.node);
  }
  return true;
}

/* The trip is decided, in a turn: as complete_in_turn of drain.c. */
static void complete_in_turn(uint32_t ready, uint8_t how) {
  if (has_action(how)) {
    struct frame *f = push_frame(ACTION, 0, m.last);
    f->ready = ready;
    f->in_turn = true;
    m.due = model.due = false;
  } else {
    CHECK(model_unhold(ready) && machine_unhold(&m, ready));
    trip_in_turn(ready);
  }
}

static void op_due(uint32_t at, uint8_t how) {
  bool due = model.due && earlier(model.due_turn, at);
  CHECK(machine_is_due(&m, at) == due);
  if (due) complete_in_turn(MACHINE_BEFORE(at), how);
}

/* Lets the blocked in at the end of a pass. What comes next may fail: then it is due. */
static bool op_admit(uint32_t at, uint8_t how) {
  uint32_t last = 0;
  bool any = model_admit(at, &last);
  bool full = any && model_counted() >= model.parties;
  CHECK(machine_admit(&m, at) == full);
  if (!full) return any;
  CHECK(m.last == last);
  do_defer(last, MACHINE_BEFORE(at));
  if (!(how & 4)) complete_in_turn(turn, how);
  return true;
}

static void op_pass(uint8_t how) {
  turn++;
  op_due(turn, how);
  while (op_next(turn, 0)) {
    check();
    if (depth) op_return(0);
    check();
  }
  op_admit(turn, how);
}

/* If no node is left, the memory of a crowd can be given back. */
static void op_rest(uint8_t how) {
  bool spare = m.nodes.capacity > 64 && most < m.nodes.capacity / 4;
  bool is_empty = crowd() == 0;
  CHECK(nodes_rest(&m.nodes) == (is_empty && spare));
  if (!is_empty) return;
  CHECK(m.nodes.used == 0 && m.nodes.free == 0);
  most = 0;
  if (spare && how & 1) nodes_destroy(&m.nodes);
}

/* }=== */

/* Unwinds and drains. Each ready party is served in the next turn, so the machine comes to
** rest, and no wake-up is lost. */
static void come_to_rest(void) {
  uint32_t turns = 0;
  while (depth) {
    op_return(0);
    check();
  }
  for (uint32_t i = 0; i < list(BLOCKED_OUT)->count; i++) {
    struct member *x = &list(BLOCKED_OUT)->member[i];
    if (x->arrivals > 8) x->arrivals = node_at(x->node)->as.count = 8;
  }
  while (machine_busy(&m)) {
    bool progress = model.due;
    uint32_t blocked = list(BLOCKED_OUT)->count;
    turn++;
    op_due(turn, 0);
    while (op_next(turn, 0)) {
      progress = true;
      check();
      if (depth) op_return(0);
      check();
    }
    progress |= op_admit(turn, 0);
    check();
    CHECK(progress || list(BLOCKED_OUT)->count < blocked);
    CHECK(++turns <= 10 * CROWD);
  }
  CHECK(list(LEAVERS)->count == 0 && list(NOTIFY)->count == 0);
  CHECK(model.state == MACHINE_FILLING || list(IN)->count == 0);
}

/* Destroys it, also while coroutines that it has let out run. */
static void finish(bool unwinds) {
  if (unwinds) {
    come_to_rest();
    op_rest(0);
  }
  machine_destroy(&m);
  CHECK(live == 0 && m.nodes.capacity == 0 && nodes_find(&m.nodes, key_of(1)) == 0);
  while (depth--)
    if (frames[depth].kind == COROUTINE)
      CHECK(!nodes_unpark(&m.nodes, frames[depth].node, frames[depth].previous) && m.nodes.parked == 0);
  depth = 0;
}

static void step(uint8_t op, uint8_t arg) {
  uint8_t how = op >> 4;
  uint32_t at = turn - (how >> 3); /* an outer pass goes on */
  if (has_yielded()) op_return(0);
  switch (op & 15) {
    case 0:
    case 1: op_wait(arg, how); break;
    case 2: op_watch(arg, how); break;
    case 3: op_arrive(arg, how); break;
    case 4: op_register(arg, how); break;
    case 5: op_return(how); break;
    case 6: op_leave(arg, how); break;
    case 7: op_reset(); break;
    case 8: op_abort(); break;
    case 9: op_next(at, how); break;
    case 10: op_admit(at, how); break;
    case 11: op_due(at, how); break;
    case 12: turn++; break;
    case 13: op_rest(how); break;
    case 14: op_crowd(arg); break;
    default: op_pass(how); break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  memset(&model, 0, sizeof(model));
  depth = most = 0;
  turn = (uint32_t)(data[1] & 15) - 8; /* the count of turns wraps around */
  model.parties = data[0] == 255 ? MACHINE_MOST_PARTIES : data[0] % 24 + 1u;
  machine_init(&m, model.parties, allocate, &live);
  m.inside_turn = m.blocked_turn = model.blocked_turn = turn - 1;
  check();
  for (size_t i = 2; i + 1 < size && i < 2 * MAX_STEPS; i += 2) {
    step(data[i], data[i + 1]);
    check();
  }
  finish(data[1] < 224);
  return 0;
}

#ifndef LIBFUZZER

int main(int argc, char **argv) {
  static uint8_t data[2 * MAX_STEPS];
  for (int i = 1; i < argc; i++) {
    FILE *f = fopen(argv[i], "rb");
    if (f == NULL) {
      perror(argv[i]);
      return 1;
    }
    LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), f));
    fclose(f);
  }
  printf("fuzz_machine: %d inputs replayed\n", argc - 1);
  return argc < 2;
}

#endif
