/*
** Checks that machine.c keeps its promises. A fuzzer's bytes become calls as the binding
** makes them. Each call is compared with a model made of plain arrays, and all invariants
** are checked after it.
**
** With libFuzzer:   clang -std=c99 -g -O1 -DLIBFUZZER -fsanitize=fuzzer,address,undefined \
**                     test/fuzz_machine.c -o fuzz && ./fuzz test/corpus
** Without, replay:  cc -std=c99 -g test/fuzz_machine.c -o fuzz && ./fuzz test/corpus/[0-9a-f]*
** (test/run fuzz does both.)
*/
#define INTERNAL static
#include "../src/machine.c"

#include "invariants.h"

#define KEYS 12  /* number of coroutines */
#define CROWD 96 /* most nodes at once */
#define DEPTH 16 /* most nested frames */
#define MAX_STEPS 4096

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
  return malloc(nsize);
}

/* }=== */

/* {=== the model === */

struct member {
  uint32_t node;
  int key; /* 1 to KEYS; 0: a callback */
  uint64_t position;
  bool has_failed;
  enum machine_outcome outcome; /* leaving */
  uint32_t turn;                /* leaving */
};

struct list {
  struct member member[CROWD + 8];
  uint32_t count;
};

struct model {
  struct list inside, blocked, leaving;
  enum machine_state state;
  uint64_t parties, generation;
  bool held, extra;
  enum machine_outcome verdict;
  uint32_t inside_turn, blocked_turn;
};

/* What is running: the action of a barrier, or a coroutine that was let out. */
struct frame {
  bool is_action;
  bool extra;        /* action: its last arrival has no node */
  int key;           /* the coroutine that was let out, or the last arrival */
  uint32_t node;     /* coroutine: its parked node */
  uint32_t previous; /* what machine_park returned */
  bool is_back;      /* the coroutine waits again, so it has yielded */
};

static struct machine m;
static struct model model;
static struct frame frames[DEPTH];
static uint32_t depth;
static uint32_t turn;
static char keys[KEYS + 1]; /* addresses for machine_find */

static const void *key_of(int key) { return key ? &keys[key] : NULL; }

static void push(struct list *l, const struct member *x) { l->member[l->count++] = *x; }

static struct member take_at(struct list *l, uint32_t i) {
  struct member x = l->member[i];
  l->count--;
  memmove(&l->member[i], &l->member[i + 1], (l->count - i) * sizeof(x));
  return x;
}

/* `a` comes before `b` on the circle of turns. */
static bool earlier(uint32_t a, uint32_t b) { return a != b && b - a <= 0x80000000u; }

static void model_emptied(uint32_t at) {
  if (model.inside.count) return;
  if (model.state != MACHINE_DRAINING && model.state != MACHINE_RESETTING) return;
  model.state = MACHINE_FILLING;
  model.blocked_turn = at;
}

static void model_trip(void) {
  for (uint32_t i = 0; i < model.inside.count; i++) model.inside.member[i].position = i;
  model.state = MACHINE_DRAINING;
  model.generation++;
  model.inside_turn = turn;
  model_emptied(turn);
}

static bool model_full(void) {
  return model.state == MACHINE_FILLING && model.inside.count + model.extra == model.parties;
}

static bool model_lets_in(void) {
  return model.state == MACHINE_FILLING && !model.held && model.blocked.count == 0;
}

static bool model_busy(void) {
  bool released = model.state != MACHINE_FILLING && model.inside.count;
  bool comes_in = model.state == MACHINE_BROKEN || (model.state == MACHINE_FILLING && !model.held);
  return model.leaving.count || released || (model.blocked.count && comes_in);
}

static struct list *list_at(uint32_t *i) {
  struct list *lists[] = {&model.inside, &model.blocked, &model.leaving};
  for (int l = 0; l < 3; l++) {
    if (*i < lists[l]->count) return lists[l];
    *i -= lists[l]->count;
  }
  return NULL;
}

static uint32_t crowd(void) {
  return model.inside.count + model.blocked.count + model.leaving.count + depth;
}

/* }=== */

/* {=== machine and model === */

static void compare_queue(const struct list *l, uint8_t place) {
  uint32_t n = m.queues[place].first;
  CHECK(m.queues[place].count == l->count);
  for (uint32_t i = 0; i < l->count; i++, n = m.nodes[n].next) {
    const struct member *x = &l->member[i];
    CHECK(n == x->node && m.nodes[n].key == key_of(x->key));
    if (place == MACHINE_LEAVING)
      CHECK(m.nodes[n].outcome == x->outcome && m.nodes[n].as.turn == x->turn);
  }
}

/* Everybody has the position given out at the trip. */
static void compare_positions(void) {
  uint64_t next = m.position;
  if (model.state != MACHINE_DRAINING) return;
  for (uint32_t i = 0; i < model.inside.count; i++) {
    const struct member *x = &model.inside.member[i];
    CHECK(next + m.nodes[x->node].as.gap == x->position);
    next = x->position + 1;
  }
}

/* The nodes of running coroutines stay parked. */
static void compare_frames(uint32_t parked) {
  for (uint32_t i = 0; i < depth; i++) {
    const struct frame *f = &frames[i];
    if (f->is_action || f->is_back) continue;
    CHECK(m.nodes[f->node].place == MACHINE_PARKED && m.nodes[f->node].key == key_of(f->key));
    parked--;
  }
  CHECK(parked == 0);
}

static uint32_t model_find(int key) {
  struct list *l;
  for (uint32_t i = 0, j = 0; (l = list_at(&j)) != NULL; j = ++i)
    if (l->member[j].key == key) return l->member[j].node;
  return 0;
}

static bool model_waits(const struct list *l) {
  if (l == &model.inside) return model.state == MACHINE_FILLING;
  return l == &model.blocked && model.state != MACHINE_BROKEN;
}

static void check(void) {
  bool filling = model.state == MACHINE_FILLING;
  struct list *l;
  compare_frames(check_machine(&m));
  compare_queue(&model.inside, m.inside);
  compare_queue(&model.blocked, m.inside ^ 1);
  compare_queue(&model.leaving, MACHINE_LEAVING);
  compare_positions();
  CHECK(m.state == model.state && m.generation == model.generation);
  CHECK(m.parties == model.parties && m.held == model.held);
  CHECK(machine_full(&m) == model_full());
  CHECK(machine_busy(&m) == model_busy());
  CHECK(machine_would_trip(&m) ==
        (model_lets_in() && model.inside.count + UINT64_C(1) == model.parties));
  if (machine_would_wait(&m)) CHECK(model.state != MACHINE_BROKEN && !machine_would_trip(&m));
  CHECK(machine_waiting(&m) ==
        (filling ? model.inside.count + (model.extra && model.verdict == MACHINE_PASSED) : 0));
  for (int key = 1; key <= KEYS; key++) CHECK(machine_find(&m, key_of(key)) == model_find(key));
  for (uint32_t i = 0, j = 0; (l = list_at(&j)) != NULL; j = ++i)
    CHECK(machine_waits(&m, l->member[j].node) == model_waits(l));
  CHECK(live == (m.capacity ? block_size(m.capacity) : 0));
}

/* }=== */

/* {=== what a caller does === */

/* Makes room. With `fail` the allocator refuses, and nothing changes. */
static void reserve(bool fail) {
  struct machine before = m;
  void *block = NULL;
  size_t size = m.capacity ? block_size(m.capacity) : 0;
  uint32_t refused = refusals;
  if (fail) {
    if (size) {
      block = malloc(size);
      memcpy((char *)block, m.nodes, size);
    }
    exhausted = true;
    if (!machine_reserve(&m)) {
      CHECK(refusals == refused + 1);
      CHECK(memcmp(&before, &m, sizeof(m)) == 0);
      /* nodes[0] and nodes not handed out yet may hold anything */
      if (size)
        CHECK(memcmp((struct machine_node *)block + 1, m.nodes + 1,
                     m.used * sizeof(struct machine_node)) == 0);
    } else {
      CHECK(refusals == refused);
    }
    exhausted = false;
    free(block);
  }
  CHECK(machine_reserve(&m));
}

/* The coroutine that arrives for the byte `arg`: the running one comes back, any other is
** neither waiting nor suspended in a call of its own. 0: none. */
static int arriving(uint8_t arg) {
  const struct frame *top = depth ? &frames[depth - 1] : NULL;
  int key = arg % KEYS + 1;
  if (arg & 0x80 && top && !top->is_action) return top->key;
  for (uint32_t i = 0; i < depth; i++)
    if (frames[i].key == key) return 0;
  return model_find(key) ? 0 : key;
}

/* The coroutine waits: if it was let out, it yields to the frame that did. */
static void yielded(int key) {
  struct frame *top = depth ? &frames[depth - 1] : NULL;
  if (top && key && !top->is_action && top->key == key) top->is_back = true;
}

static bool has_yielded(void) { return depth && frames[depth - 1].is_back; }

static void do_enter(int key) {
  struct member x = {0, key, 0, false, MACHINE_PASSED, 0};
  bool lets_in = model_lets_in();
  uint32_t vacant = machine_vacant(&m, key_of(key));
  x.node = machine_enter(&m, key_of(key));
  CHECK(x.node == vacant && m.nodes[x.node].deadline == 0);
  push(lets_in ? &model.inside : &model.blocked, &x);
  yielded(key);
}

static void do_trip(void) {
  machine_trip(&m, turn);
  model_trip();
}

static void push_action(int key, bool extra) {
  struct frame *f = &frames[depth++];
  memset(f, 0, sizeof(*f));
  f->is_action = true;
  f->extra = extra;
  f->key = key;
  machine_hold(&m, extra);
  model.held = true;
  model.extra = extra;
  model.verdict = MACHINE_PASSED;
}

static void op_arrive(uint8_t arg, uint8_t how) {
  int key = how & 1 ? 0 : arriving(arg);
  if ((!key && !(how & 1)) || model.state == MACHINE_BROKEN || crowd() >= CROWD) return;
  reserve(how & 2);
  if (!machine_would_trip(&m)) {
    CHECK(machine_would_wait(&m));
    do_enter(key);
  } else if (how & 4 && depth < DEPTH) {
    push_action(key, true); /* a coroutine, let out, whose own last arrival this is */
  } else {
    if (!key) do_enter(0);
    do_trip();
  }
}

/* An action ends, well or with an error (`fails`). */
static void pop_action(bool fails, bool refuse) {
  struct frame f = frames[--depth];
  bool full = machine_full(&m);
  struct member x = {0, f.key, 0, false, MACHINE_PASSED, 0};
  enum machine_outcome verdict = model.verdict;
  CHECK(full == model_full());
  CHECK(machine_unhold(&m, turn) == verdict);
  model.held = model.extra = false;
  if (model.state == MACHINE_FILLING) model.blocked_turn = turn;
  if (fails) {
    if (!f.extra && full) {
      struct member *last = &model.inside.member[model.inside.count - 1];
      m.nodes[last->node].outcome = MACHINE_FAILED;
      last->has_failed = true;
    }
    machine_abort(&m, turn);
    if (model.state == MACHINE_FILLING) model.inside_turn = turn;
    if (model.state != MACHINE_BROKEN) model.blocked_turn = turn;
    model.state = MACHINE_BROKEN;
    return;
  }
  if (!f.extra || verdict != MACHINE_PASSED) {
    if (!f.extra && full) do_trip();
    return;
  }
  if (full && f.key) {
    do_trip();
    return;
  }
  if (crowd() >= CROWD) return;
  reserve(refuse);
  x.node = machine_stay(&m, key_of(f.key));
  push(&model.inside, &x);
  if (full) do_trip();
  yielded(f.key);
}

static void op_return(uint8_t how) {
  struct frame f;
  bool gone;
  if (depth == 0) return;
  if (frames[depth - 1].is_action) {
    pop_action(how & 1, how & 2);
    return;
  }
  f = frames[--depth];
  gone = machine_unpark(&m, f.node, f.previous);
  CHECK(gone == !f.is_back);
}

static void op_post(uint8_t how) {
  struct member x = {0, 0, 0, false, how & 1 ? MACHINE_CLOSED : MACHINE_FAILED, turn};
  if (crowd() >= CROWD) return;
  reserve(how & 2);
  x.node = machine_post(&m, x.outcome, turn);
  push(&model.leaving, &x);
}

/* Some node leaves early. A party that left a draining barrier keeps its position. */
static void op_leave(uint8_t which, uint8_t how) {
  uint32_t i = crowd() ? which % crowd() : 0;
  struct list *l = list_at(&i);
  struct member x;
  if (l == NULL) return;
  if (how & 1) {
    x = take_at(l, i);
    machine_leave(&m, x.node, turn);
  } else {
    enum machine_outcome outcome = how & 2 ? MACHINE_CANCELLED : MACHINE_TIMED_OUT;
    bool can = l != &model.leaving;
    CHECK(machine_withdraw(&m, l->member[i].node, outcome, turn) == can);
    if (!can) return;
    x = take_at(l, i);
    x.outcome = outcome;
    x.turn = turn;
    push(&model.leaving, &x);
  }
  if (l == &model.inside) model_emptied(turn);
}

static void op_reset(void) {
  machine_reset(&m, turn);
  if (model.extra) model.verdict = MACHINE_RESET;
  if (model.inside.count == 0) {
    model.state = MACHINE_FILLING;
  } else {
    if (model.state == MACHINE_FILLING) model.inside_turn = turn;
    model.state = MACHINE_RESETTING;
  }
}

static void op_abort(void) {
  machine_abort(&m, turn);
  if (model.extra) model.verdict = MACHINE_ABORTED;
  if (model.state == MACHINE_FILLING) model.inside_turn = turn;
  if (model.state != MACHINE_BROKEN) model.blocked_turn = turn;
  model.state = MACHINE_BROKEN;
}

static void op_dismiss(void) {
  if (!model.extra) return;
  machine_dismiss_extra(&m);
  model.extra = false;
  model.verdict = MACHINE_CANCELLED;
}

/* Finds who is next in this turn, by the contract. Returns false if nobody is. */
static bool model_next(uint32_t at, struct member *x, enum machine_outcome *outcome) {
  if (model.leaving.count && earlier(model.leaving.member[0].turn, at)) {
    *x = take_at(&model.leaving, 0);
    *outcome = x->outcome;
  } else if (model.state == MACHINE_FILLING) {
    return false;
  } else if (model.inside.count && earlier(model.inside_turn, at)) {
    *x = take_at(&model.inside, 0);
    *outcome = x->has_failed                      ? MACHINE_FAILED
               : model.state == MACHINE_DRAINING  ? MACHINE_PASSED
               : model.state == MACHINE_RESETTING ? MACHINE_RESET
                                                  : MACHINE_ABORTED;
    model_emptied(at - 1);
  } else if (model.state == MACHINE_BROKEN && model.blocked.count &&
             earlier(model.blocked_turn, at)) {
    *x = take_at(&model.blocked, 0);
    *outcome = MACHINE_ABORTED;
  } else {
    return false;
  }
  return true;
}

/* Lets one out, in a pass that began in turn `at`. */
static bool op_next(uint32_t at, uint8_t how) {
  static struct model before;
  struct machine_leaver leaver;
  struct member x = {0, 0, 0, false, MACHINE_PASSED, 0};
  enum machine_outcome outcome = MACHINE_PASSED;
  bool expected;
  before = model;
  expected = model_next(at, &x, &outcome);
  CHECK(machine_next(&m, at, &leaver) == expected);
  if (!expected) return false;
  CHECK(leaver.node == x.node && leaver.outcome == outcome);
  if (outcome == MACHINE_PASSED) CHECK(leaver.position == x.position);
  CHECK(m.nodes[x.node].place == MACHINE_PARKED);
  if (how & 1 && x.key) { /* there was no room to resume it */
    machine_put_back(&m, &leaver, turn);
    model = before;
    if (leaver.place == MACHINE_LEAVING) model.leaving.member[0].turn = turn - 1;
  } else if (x.key && depth < DEPTH) {
    struct frame *f = &frames[depth++];
    memset(f, 0, sizeof(*f));
    f->key = x.key;
    f->node = x.node;
    f->previous = machine_park(&m, x.node);
  } else {
    machine_release(&m, x.node);
  }
  return true;
}

/* Lets the blocked in at the end of a pass. */
static bool op_admit(uint32_t at, bool acts) {
  uint32_t in = 0;
  bool full;
  if (model.state == MACHINE_FILLING && earlier(model.blocked_turn, at) && !model.held) {
    while (model.blocked.count && model.inside.count < model.parties) {
      struct member x = take_at(&model.blocked, 0);
      push(&model.inside, &x);
      in++;
    }
  }
  full = machine_admit(&m, at);
  if (in) CHECK(full == model_full());
  if (!full) return in;
  CHECK(in);
  if (acts && depth < DEPTH)
    push_action(0, false);
  else
    do_trip();
  return true;
}

/* }=== */

/* Unwinds and drains. Whoever is ready is served in the next turn, so the machine comes to
** rest, and no wake-up is lost. */
static void finish(void) {
  uint32_t turns = 0;
  while (depth) {
    op_return(0);
    check();
  }
  while (machine_busy(&m)) {
    bool progress = false;
    turn++;
    while (op_next(turn, 0)) {
      progress = true;
      check();
      if (depth) op_return(0);
      check();
    }
    progress |= op_admit(turn, false);
    check();
    CHECK(progress);
    CHECK(++turns <= 2 * CROWD);
  }
  CHECK(model.leaving.count == 0 && (model.state == MACHINE_FILLING || model.inside.count == 0));
  machine_destroy(&m);
  CHECK(live == 0 && m.capacity == 0 && machine_find(&m, key_of(1)) == 0);
}

static void step(uint8_t op, uint8_t arg) {
  uint8_t how = op >> 4;
  uint32_t at = turn - (how >> 3); /* an outer pass goes on */
  if (has_yielded()) op_return(0);
  switch (op & 15) {
    case 0:
    case 1:
    case 2:
    case 3: op_arrive(arg, how); break;
    case 4:
    case 5: op_return(how); break;
    case 6: op_post(how); break;
    case 7:
    case 8: op_leave(arg, how); break;
    case 9: op_reset(); break;
    case 10: op_abort(); break;
    case 11: op_dismiss(); break;
    case 12: op_next(at, how); break;
    case 13: op_admit(at, how & 1); break;
    case 14: turn++; break;
    default: /* a whole pass */
      turn++;
      while (op_next(turn, 0)) {
        check();
        if (depth) op_return(0);
        check();
      }
      op_admit(turn, false);
      break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  memset(&model, 0, sizeof(model));
  memset(frames, 0, sizeof(frames));
  depth = 0;
  turn = (uint32_t)(data[1] & 15) - 8; /* the count of turns wraps around */
  model.parties = data[0] == 255 ? UINT64_C(1) << 40 : data[0] % 24 + UINT64_C(1);
  machine_init(&m, model.parties, allocate, &live);
  m.inside_turn = m.blocked_turn = model.inside_turn = model.blocked_turn = turn - 1;
  check();
  for (size_t i = 2; i + 1 < size && i < 2 * MAX_STEPS; i += 2) {
    step(data[i], data[i + 1]);
    check();
  }
  finish();
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
