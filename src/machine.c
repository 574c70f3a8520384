#include "machine.h"

#include <string.h>

#define QUEUE(m, place) (&(m)->nodes.queues[place])
#define INSIDE(m) QUEUE(m, (m)->inside)
#define BLOCKED(m) QUEUE(m, (m)->inside ^ 1)
#define NODE(m, n) (&(m)->nodes.at[n])

/* The turn `a` came before `b`; they may have wrapped around. */
static bool older(uint32_t a, uint32_t b) { return (uint32_t)(b - a - 1) < 0x80000000u; }

/* With no parties left, an arrival passes alone, as with one. */
static uint32_t need(const struct machine *m) { return m->parties ? m->parties : 1; }

/* {=== making, memory === */

void machine_init(struct machine *m, uint32_t parties, nodes_alloc alloc, void *ud) {
  memset(m, 0, sizeof(*m));
  nodes_init(&m->nodes, alloc, ud);
  m->parties = parties;
  m->state = MACHINE_FILLING;
}

void machine_destroy(struct machine *m) {
  nodes_destroy(&m->nodes);
  machine_init(m, m->parties, m->nodes.alloc, m->nodes.ud);
}

bool machine_comes_back(const struct machine *m, const void *key) {
  return key && key == m->running;
}

uint32_t machine_vacant(const struct machine *m, const void *key) {
  return machine_comes_back(m, key) ? m->parked : nodes_vacant(&m->nodes);
}

bool machine_rest(struct machine *m) { return m->nodes.taken == 0 && nodes_rewind(&m->nodes); }

/* }=== */

/* {=== coming === */

bool machine_is_open(const struct machine *m) {
  return m->state == MACHINE_FILLING && !m->held && BLOCKED(m)->count == 0;
}

bool machine_would_trip(const struct machine *m) {
  return machine_is_open(m) && INSIDE(m)->count + m->arrived + 1 >= need(m);
}

bool machine_would_wait(const struct machine *m) {
  return nodes_has_room(&m->nodes) && m->state != MACHINE_BROKEN && !machine_would_trip(m);
}

bool machine_arrival_needs_node(const struct machine *m) {
  uint32_t n = BLOCKED(m)->last;
  if (machine_is_open(m)) return false;
  return n == 0 || NODE(m, n)->outcome != MACHINE_ARRIVED || NODE(m, n)->as.count == UINT32_MAX;
}

static inline uint32_t take(struct machine *m, const void *key) {
  uint32_t n;
  struct node *node;
  if (machine_comes_back(m, key)) {
    n = m->parked;
    m->parked = 0;
    m->running = NULL;
  } else {
    n = nodes_take(&m->nodes, key);
  }
  node = NODE(m, n);
  node->ticket = ++m->tickets;
  node->deadline = 0;
  node->outcome = MACHINE_PASSED;
  return n;
}

uint32_t machine_enter(struct machine *m, const void *key) {
  bool open = machine_is_open(m);
  uint32_t n = take(m, key);
  nodes_append(&m->nodes, open ? m->inside : m->inside ^ 1, n);
  return n;
}

void machine_arrive(struct machine *m) {
  if (machine_is_open(m)) {
    m->arrived++;
    return;
  }
  if (machine_arrival_needs_node(m)) {
    uint32_t n = take(m, NULL);
    nodes_append(&m->nodes, m->inside ^ 1, n);
    NODE(m, n)->outcome = MACHINE_ARRIVED;
    m->arrivals++;
  }
  NODE(m, BLOCKED(m)->last)->as.count++;
}

uint32_t machine_watch(struct machine *m, const void *key) {
  uint32_t n = take(m, key);
  NODE(m, n)->ticket = 0;
  nodes_append(&m->nodes, PLACE_WATCHING, n);
  return n;
}

/* A node that is in no queue joins those that leave. */
static void send_off(struct machine *m, uint32_t n, enum machine_outcome outcome, uint32_t turn) {
  nodes_append(&m->nodes, PLACE_LEAVING, n);
  NODE(m, n)->outcome = (uint8_t)outcome;
  NODE(m, n)->as.turn = turn;
}

uint32_t machine_post(struct machine *m, const void *key, enum machine_outcome outcome,
                      uint32_t turn) {
  uint32_t n = take(m, key);
  send_off(m, n, outcome, turn);
  return n;
}

uint32_t machine_absent(const struct machine *m) {
  return m->held ? m->parties : m->parties - machine_counted(m);
}

/* }=== */

/* {=== tripping === */

/* Draining and resetting end when the last one inside is gone. */
static void check_emptied(struct machine *m, uint32_t turn) {
  if (INSIDE(m)->count == 0 && (m->state == MACHINE_DRAINING || m->state == MACHINE_RESETTING)) {
    m->state = MACHINE_FILLING;
    m->blocked_turn = turn;
  }
}

/* Those who watch are told, in a turn to come, of this generation. */
static void tell_watchers(struct machine *m, uint32_t turn) {
  while (QUEUE(m, PLACE_WATCHING)->first) {
    uint32_t n = nodes_pop(&m->nodes, PLACE_WATCHING);
    nodes_append(&m->nodes, PLACE_TOLD, n);
    NODE(m, n)->ticket = m->generation;
    NODE(m, n)->as.turn = turn;
  }
}

/* All who watch fail, those who were told of a trip as well. */
static void spoil(struct machine *m, enum machine_outcome outcome, uint32_t turn) {
  tell_watchers(m, turn);
  m->spoiled = m->generation + 1;
  m->spoiler = (uint8_t)outcome;
}

bool machine_full(const struct machine *m) {
  return m->state == MACHINE_FILLING && !m->held && INSIDE(m)->count + m->arrived >= m->parties;
}

void machine_trip(struct machine *m, uint32_t turn) {
  m->state = MACHINE_DRAINING;
  m->generation++;
  m->arrived = 0;
  m->position = 0;
  m->inside_turn = turn;
  if (QUEUE(m, PLACE_WATCHING)->first) tell_watchers(m, turn);
  check_emptied(m, turn);
}

uint64_t machine_pass(struct machine *m, uint32_t turn) {
  uint64_t position = INSIDE(m)->count;
  machine_trip(m, turn);
  return position;
}

void machine_hold(struct machine *m, uint32_t last, bool runs) {
  m->held = true;
  m->needed = m->parties;
  m->last = last;
  m->runner = runs ? last : 0;
  m->thrown = MACHINE_PASSED;
}

void machine_put_off(struct machine *m, uint32_t last, uint32_t turn) {
  machine_hold(m, last, false);
  m->due = true;
  m->inside_turn = turn;
}

bool machine_is_due(const struct machine *m, uint32_t turn) {
  return m->due && older(m->inside_turn, turn);
}

bool machine_still_full(const struct machine *m) {
  uint32_t least = m->needed < m->parties ? m->needed : m->parties;
  return m->state == MACHINE_FILLING && m->thrown == MACHINE_PASSED &&
         INSIDE(m)->count + m->arrived >= least;
}

bool machine_unhold(struct machine *m, uint32_t turn) {
  m->held = m->due = false;
  m->runner = 0;
  if (m->state == MACHINE_FILLING) m->blocked_turn = turn;
  return machine_still_full(m);
}

/* }=== */

/* {=== leaving === */

/* Out of its queue, other than by its turn. */
static void pull(struct machine *m, uint32_t n, uint32_t turn) {
  const struct node *node = NODE(m, n);
  if (n == m->last) m->last = 0;
  if (node->place == m->inside && m->state == MACHINE_DRAINING && node->next)
    NODE(m, node->next)->as.gap += node->as.gap + 1;
  nodes_unlink(&m->nodes, n);
  if (node->place == m->inside) check_emptied(m, turn);
}

bool machine_waits(const struct machine *m, uint32_t node) {
  uint8_t place = NODE(m, node)->place;
  if (place == m->inside) return m->state == MACHINE_FILLING;
  return place == PLACE_WATCHING || (place == (m->inside ^ 1) && m->state != MACHINE_BROKEN);
}

void machine_leave(struct machine *m, uint32_t node, uint32_t turn) {
  pull(m, node, turn);
  if (node == m->runner) m->runner = 0;
  nodes_free(&m->nodes, node);
}

bool machine_withdraw(struct machine *m, uint32_t node, enum machine_outcome outcome,
                      uint32_t turn) {
  if (NODE(m, node)->place == PLACE_LEAVING) return false;
  if (NODE(m, node)->place >= PLACE_WATCHING) NODE(m, node)->ticket = 0;
  pull(m, node, turn);
  send_off(m, node, outcome, turn);
  return true;
}

/* A trip that was only due is off; the action that runs is told. */
static void throw_out(struct machine *m, enum machine_outcome outcome, uint32_t turn) {
  m->arrived = 0;
  if (m->held) m->thrown = (uint8_t)outcome;
  if (m->due) machine_unhold(m, turn);
}

void machine_reset(struct machine *m, uint32_t turn) {
  throw_out(m, MACHINE_RESET, turn);
  if (m->state == MACHINE_FILLING) m->inside_turn = turn;
  m->state = INSIDE(m)->count ? MACHINE_RESETTING : MACHINE_FILLING;
  spoil(m, MACHINE_RESET, turn);
}

void machine_abort(struct machine *m, uint32_t turn) {
  if (m->state == MACHINE_BROKEN) return;
  throw_out(m, MACHINE_ABORTED, turn);
  if (m->state == MACHINE_FILLING) m->inside_turn = turn;
  m->blocked_turn = turn;
  m->state = MACHINE_BROKEN;
  spoil(m, MACHINE_ABORTED, turn);
}

/* }=== */

/* {=== turns === */

/* The first that can be told something: not the last arrival, whose call still runs. */
static uint32_t first_ready(const struct machine *m, uint8_t place) {
  uint32_t n = QUEUE(m, place)->first;
  return n && n == m->runner ? NODE(m, n)->next : n;
}

/* The first of those inside goes, in its turn. */
static void next_inside(struct machine *m, uint32_t turn, struct machine_leaver *leaver) {
  const struct node *node;
  leaver->place = m->inside;
  leaver->node = nodes_pop(&m->nodes, m->inside);
  node = NODE(m, leaver->node);
  if (node->outcome == MACHINE_FAILED)
    leaver->outcome = MACHINE_FAILED;
  else if (m->state == MACHINE_DRAINING)
    leaver->outcome = MACHINE_PASSED;
  else
    leaver->outcome = m->state == MACHINE_RESETTING ? MACHINE_RESET : MACHINE_ABORTED;
  leaver->position = m->position + node->as.gap;
  m->position = leaver->position + 1;
  if (leaver->node == m->last) m->last = 0;
  check_emptied(m, MACHINE_BEFORE(turn)); /* the blocked come in after it has run */
}

static void next_leaving(struct machine *m, uint32_t n, struct machine_leaver *leaver) {
  leaver->node = n;
  leaver->outcome = (enum machine_outcome)NODE(m, n)->outcome;
  leaver->place = PLACE_LEAVING;
  nodes_unlink(&m->nodes, n);
  NODE(m, n)->place = PLACE_PARKED;
}

/* The blocked of a broken barrier fail. False if only arrivals were left, who have
** nobody to be told. */
static bool next_blocked(struct machine *m, struct machine_leaver *leaver) {
  while (BLOCKED(m)->first) {
    uint32_t n = nodes_pop(&m->nodes, m->inside ^ 1);
    if (NODE(m, n)->outcome != MACHINE_ARRIVED) {
      leaver->node = n;
      leaver->place = m->inside ^ 1;
      leaver->outcome = MACHINE_ABORTED;
      return true;
    }
    m->arrivals--;
    nodes_free(&m->nodes, n);
  }
  return false;
}

static bool next_told(struct machine *m, uint32_t turn, struct machine_leaver *leaver) {
  uint32_t n = QUEUE(m, PLACE_TOLD)->first;
  if (n == 0 || !older(NODE(m, n)->as.turn, turn)) return false;
  leaver->node = nodes_pop(&m->nodes, PLACE_TOLD);
  leaver->place = PLACE_TOLD;
  leaver->position = NODE(m, n)->ticket;
  leaver->outcome =
      leaver->position < m->spoiled ? (enum machine_outcome)m->spoiler : MACHINE_PASSED;
  return true;
}

bool machine_next(struct machine *m, uint32_t turn, struct machine_leaver *leaver) {
  uint32_t left = first_ready(m, PLACE_LEAVING);
  leaver->state = m->state;
  leaver->last = m->last;
  leaver->position = 0;
  if (left && older(NODE(m, left)->as.turn, turn)) {
    next_leaving(m, left, leaver);
    return true;
  }
  if (m->state != MACHINE_FILLING) {
    if (first_ready(m, m->inside) && older(m->inside_turn, turn)) {
      next_inside(m, turn, leaver);
      return true;
    }
    if (m->state == MACHINE_BROKEN && older(m->blocked_turn, turn) && next_blocked(m, leaver))
      return true;
  }
  return next_told(m, turn, leaver);
}

void machine_put_back(struct machine *m, const struct machine_leaver *leaver) {
  uint32_t n = leaver->node;
  nodes_prepend(&m->nodes, leaver->place, n);
  m->state = leaver->state;
  m->last = leaver->last;
  if (leaver->place == m->inside) {
    NODE(m, n)->as.gap = 0;
    m->position = leaver->position;
  }
}

static void set_parked(struct machine *m, uint32_t node) {
  m->parked = node;
  m->running = node ? NODE(m, node)->key : NULL;
}

uint32_t machine_park(struct machine *m, uint32_t node) {
  uint32_t previous = m->parked;
  set_parked(m, node);
  return previous;
}

bool machine_unpark(struct machine *m, uint32_t node, uint32_t previous) {
  bool gone = m->parked == node;
  if (gone) nodes_free(&m->nodes, node);
  if (m->parked != previous) /* it may have been destroyed */
    set_parked(m, previous <= m->nodes.used ? previous : 0);
  return gone;
}

/* Lets in what is first among the blocked: one who waits, or as many arrivals as
** there is need for. */
static void admit_first(struct machine *m) {
  uint32_t n = BLOCKED(m)->first;
  struct node *node = NODE(m, n);
  uint32_t missing;
  m->last = 0;
  if (node->outcome != MACHINE_ARRIVED) {
    nodes_append(&m->nodes, m->inside, nodes_pop(&m->nodes, m->inside ^ 1));
    m->last = n;
    return;
  }
  missing = need(m) - INSIDE(m)->count - m->arrived;
  if (missing < node->as.count) {
    node->as.count -= missing;
    m->arrived += missing;
    return;
  }
  m->arrived += node->as.count;
  m->arrivals--;
  nodes_free(&m->nodes, nodes_pop(&m->nodes, m->inside ^ 1));
}

bool machine_admit(struct machine *m, uint32_t turn) {
  if (m->state != MACHINE_FILLING || !older(m->blocked_turn, turn)) return false;
  if (m->held || BLOCKED(m)->count == 0) return false;
  if (INSIDE(m)->count + m->arrived == 0 && m->arrivals == 0 && BLOCKED(m)->count <= need(m)) {
    m->inside ^= 1; /* all of them at once */
    m->last = INSIDE(m)->last;
  } else {
    while (BLOCKED(m)->first && INSIDE(m)->count + m->arrived < need(m)) admit_first(m);
  }
  return machine_full(m);
}

/* How many in a queue can be told something. */
static uint32_t ready_count(const struct machine *m, uint8_t place) {
  bool withheld = m->runner && NODE(m, m->runner)->place == place;
  return QUEUE(m, place)->count - withheld;
}

bool machine_busy(const struct machine *m) {
  if (m->due || ready_count(m, PLACE_LEAVING) || QUEUE(m, PLACE_TOLD)->count) return true;
  if (m->state != MACHINE_FILLING && ready_count(m, m->inside)) return true;
  if (BLOCKED(m)->count == 0) return false;
  return m->state == MACHINE_BROKEN || (m->state == MACHINE_FILLING && !m->held);
}

/* }=== */

/* {=== looking === */

uint32_t machine_waiting(const struct machine *m) {
  return m->state == MACHINE_FILLING ? INSIDE(m)->count : 0;
}

uint32_t machine_counted(const struct machine *m) {
  return m->state == MACHINE_FILLING ? INSIDE(m)->count + m->arrived : 0;
}

bool machine_anybody_waits(const struct machine *m) {
  return INSIDE(m)->count || BLOCKED(m)->count > m->arrivals || QUEUE(m, PLACE_WATCHING)->count ||
         QUEUE(m, PLACE_TOLD)->count;
}

/* }=== */
