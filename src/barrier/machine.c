#include "machine_parts.h"

#include <string.h>

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

/* }=== */

/* {=== coming === */

bool machine_is_open(const struct machine *m) {
  return m->state == MACHINE_FILLING && !m->held && BLOCKED(m)->count == 0;
}

bool machine_would_trip(const struct machine *m, uint32_t n) {
  return machine_is_open(m) && INSIDE(m)->count + m->arrived + n >= need(m);
}

bool machine_would_wait(const struct machine *m) {
  return nodes_has_room(&m->nodes) && m->state != MACHINE_BROKEN && !machine_would_trip(m, 1);
}

uint32_t machine_most_arrivals(const struct machine *m) {
  return m->parties ? machine_absent(m) : 1;
}

bool machine_arrivals_need_node(const struct machine *m, uint32_t n) {
  uint32_t last = BLOCKED(m)->last;
  if (machine_is_open(m)) return false;
  return last == 0 || NODE(m, last)->outcome != MACHINE_ARRIVED ||
         NODE(m, last)->as.count > UINT32_MAX - n;
}

uint32_t machine_enter(struct machine *m, const void *key) {
  bool open = machine_is_open(m);
  uint32_t n = nodes_take(&m->nodes, key);
  nodes_append(&m->nodes, open ? m->inside : m->inside ^ 1, n);
  return n;
}

void machine_arrive(struct machine *m, uint32_t n) {
  if (machine_is_open(m)) {
    m->arrived += n;
    return;
  }
  if (machine_arrivals_need_node(m, n)) {
    uint32_t node = nodes_take(&m->nodes, NULL);
    nodes_append(&m->nodes, m->inside ^ 1, node);
    NODE(m, node)->outcome = MACHINE_ARRIVED;
    m->arrivals++;
  }
  NODE(m, BLOCKED(m)->last)->as.count += n;
}

uint32_t machine_watch(struct machine *m, const void *key) {
  uint32_t n = nodes_take(&m->nodes, key);
  NODE(m, n)->ticket = 0;
  nodes_append(&m->nodes, PLACE_WATCHING, n);
  return n;
}

uint32_t machine_absent(const struct machine *m) {
  return m->held ? m->parties : m->parties - machine_counted(m);
}

/* }=== */

/* {=== tripping === */

/* Queues a notice of this generation for each watcher, for a turn to come. */
static void notify_watchers(struct machine *m, uint32_t turn) {
  while (QUEUE(m, PLACE_WATCHING)->first) {
    uint32_t n = nodes_pop(&m->nodes, PLACE_WATCHING);
    nodes_append(&m->nodes, PLACE_NOTIFY, n);
    NODE(m, n)->ticket = m->generation;
    NODE(m, n)->as.turn = turn;
  }
}

/* All watchers fail, also those queued to be notified of a trip. */
static void spoil(struct machine *m, enum outcome outcome, uint32_t turn) {
  notify_watchers(m, turn);
  m->spoiled = m->generation + 1;
  m->spoiler = (uint8_t)outcome;
}

bool machine_full(const struct machine *m) {
  return m->state == MACHINE_FILLING && !m->held && INSIDE(m)->count + m->arrived >= m->parties;
}

void machine_trip(struct machine *m, uint32_t turn) {
  m->state = MACHINE_DRAINING;
  m->generation++;
  m->arrived = m->last = 0;
  m->position = 0;
  m->inside_turn = turn;
  if (QUEUE(m, PLACE_WATCHING)->first) notify_watchers(m, turn);
  check_emptied(m, turn);
}

uint64_t machine_pass(struct machine *m, uint32_t turn) {
  uint64_t position = INSIDE(m)->count;
  machine_trip(m, turn);
  return position;
}

void machine_hold(struct machine *m, uint32_t last, bool runs) {
  m->held = true;
  m->last = last;
  m->runner = runs ? last : 0;
  m->thrown = OUTCOME_PASSED;
}

void machine_defer(struct machine *m, uint32_t last, uint32_t turn) {
  machine_hold(m, last, false);
  m->due = true;
  m->inside_turn = turn;
}

bool machine_is_due(const struct machine *m, uint32_t turn) {
  return m->due && older(m->inside_turn, turn);
}

bool machine_unhold(struct machine *m, uint32_t turn) {
  m->held = m->due = false;
  m->runner = 0;
  if (m->state == MACHINE_FILLING) m->blocked_turn = turn;
  return m->thrown == OUTCOME_PASSED;
}

/* }=== */

/* {=== leaving === */

/* Takes a node out of its queue, other than in its turn. */
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
  if (place == m->inside) return m->state == MACHINE_FILLING && !m->held;
  return place == PLACE_WATCHING || (place == (m->inside ^ 1) && m->state != MACHINE_BROKEN);
}

void machine_leave(struct machine *m, uint32_t node, uint32_t turn) {
  pull(m, node, turn);
  if (node == m->runner) m->runner = 0;
  nodes_free(&m->nodes, node);
}

bool machine_withdraw(struct machine *m, uint32_t node, enum outcome outcome, uint32_t turn) {
  uint8_t place = NODE(m, node)->place;
  if (place == PLACE_LEAVING) return false;
  if (place == PLACE_WATCHING || place == PLACE_NOTIFY) NODE(m, node)->ticket = 0;
  pull(m, node, turn);
  nodes_send_off(&m->nodes, node, outcome, turn);
  return true;
}

/* Notes the outcome for the action of a held machine, and calls off a trip that is only due. */
static void throw_out(struct machine *m, enum outcome outcome, uint32_t turn) {
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

/* {=== looking === */

uint32_t machine_waiting(const struct machine *m) {
  return m->state == MACHINE_FILLING ? INSIDE(m)->count : 0;
}

uint32_t machine_counted(const struct machine *m) {
  return m->state == MACHINE_FILLING ? INSIDE(m)->count + m->arrived : 0;
}

bool machine_has_waiters(const struct machine *m) {
  return INSIDE(m)->count || BLOCKED(m)->count > m->arrivals || QUEUE(m, PLACE_WATCHING)->count ||
         QUEUE(m, PLACE_NOTIFY)->count;
}

/* }=== */
