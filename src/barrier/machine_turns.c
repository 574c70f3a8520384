/*
** The turns of machine.h: which node leaves next, and letting the blocked in.
*/
#include "machine_parts.h"

/* The first node that can leave: not the last arrival while its own call runs the action. */
static uint32_t first_ready(const struct machine *m, uint8_t place) {
  uint32_t n = QUEUE(m, place)->first;
  return n && n == m->runner ? NODE(m, n)->next : n;
}

/* The first party inside leaves, in its turn. */
static void next_inside(struct machine *m, uint32_t turn, struct leaver *leaver) {
  const struct node *node;
  leaver->state = m->state;
  leaver->last = m->last;
  leaver->place = m->inside;
  leaver->node = nodes_pop(&m->nodes, m->inside);
  node = NODE(m, leaver->node);
  if (node->outcome == OUTCOME_FAILED)
    leaver->outcome = OUTCOME_FAILED;
  else if (m->state == MACHINE_DRAINING)
    leaver->outcome = OUTCOME_PASSED;
  else
    leaver->outcome = m->state == MACHINE_RESETTING ? MACHINE_RESET : MACHINE_ABORTED;
  leaver->position = m->position + node->as.gap;
  m->position = leaver->position + 1;
  if (leaver->node == m->last) m->last = 0;
  check_emptied(m, MACHINE_BEFORE(turn)); /* the blocked come in after it has run */
}

/* The blocked of a broken barrier fail. False if only arrivals that do not wait were left:
** there is no party to notify. */
static bool next_blocked(struct machine *m, struct leaver *leaver) {
  while (BLOCKED(m)->first) {
    uint32_t n = nodes_pop(&m->nodes, m->inside ^ 1);
    if (NODE(m, n)->outcome != MACHINE_ARRIVED) {
      leaver->node = n;
      leaver->position = 0;
      leaver->place = m->inside ^ 1;
      leaver->outcome = MACHINE_ABORTED;
      return true;
    }
    m->arrivals--;
    nodes_free(&m->nodes, n);
  }
  return false;
}

static bool next_to_notify(struct machine *m, uint32_t turn, struct leaver *leaver) {
  uint32_t n = QUEUE(m, PLACE_NOTIFY)->first;
  if (n == 0 || !older(NODE(m, n)->as.turn, turn)) return false;
  leaver->node = nodes_pop(&m->nodes, PLACE_NOTIFY);
  leaver->place = PLACE_NOTIFY;
  leaver->position = NODE(m, n)->ticket;
  leaver->outcome = leaver->position < m->spoiled ? (enum outcome)m->spoiler : OUTCOME_PASSED;
  return true;
}

/* All but a plain pass. */
static bool next_other(struct machine *m, uint32_t turn, struct leaver *leaver) {
  if (nodes_next_leaving(&m->nodes, turn, m->runner, leaver)) return true;
  if (m->state != MACHINE_FILLING) {
    if (first_ready(m, m->inside) && older(m->inside_turn, turn)) {
      next_inside(m, turn, leaver);
      return true;
    }
    if (m->state == MACHINE_BROKEN && older(m->blocked_turn, turn) && next_blocked(m, leaver))
      return true;
  }
  return next_to_notify(m, turn, leaver);
}

bool machine_next(struct machine *m, uint32_t turn, struct leaver *leaver) {
  uint32_t n;
  if (m->state != MACHINE_DRAINING || QUEUE(m, PLACE_LEAVING)->count ||
      !older(m->inside_turn, turn))
    return next_other(m, turn, leaver);
  leaver->node = n = nodes_pop(&m->nodes, m->inside);
  leaver->outcome = OUTCOME_PASSED;
  leaver->place = m->inside;
  leaver->state = MACHINE_DRAINING;
  leaver->position = m->position + NODE(m, n)->as.gap;
  m->position = leaver->position + 1;
  check_emptied(m, MACHINE_BEFORE(turn)); /* the blocked come in after it has run */
  return true;
}

void machine_put_back(struct machine *m, const struct leaver *leaver) {
  uint32_t n = leaver->node;
  uint32_t withheld = NODE(m, n)->prev; /* the last arrival, if it had to be passed over */
  if (withheld) nodes_pop(&m->nodes, leaver->place);
  nodes_prepend(&m->nodes, leaver->place, n);
  if (withheld) nodes_prepend(&m->nodes, leaver->place, withheld);
  if (leaver->place == m->inside) {
    m->state = leaver->state;
    if (leaver->state != MACHINE_DRAINING) m->last = leaver->last;
    NODE(m, n)->as.gap = 0;
    m->position = leaver->position;
  }
}

/* Lets in the first of the blocked: one waiting party, or as many arrivals as are needed. */
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

/* The number of nodes in a queue that can leave. */
static uint32_t ready_count(const struct machine *m, uint8_t place) {
  bool withheld = m->runner && NODE(m, m->runner)->place == place;
  return QUEUE(m, place)->count - withheld;
}

bool machine_busy(const struct machine *m) {
  if (m->state == MACHINE_DRAINING && m->runner == 0 && INSIDE(m)->count) return true; /* mostly */
  if (m->due || ready_count(m, PLACE_LEAVING) || QUEUE(m, PLACE_NOTIFY)->count) return true;
  if (m->state != MACHINE_FILLING && ready_count(m, m->inside)) return true;
  if (BLOCKED(m)->count == 0) return false;
  return m->state == MACHINE_BROKEN || (m->state == MACHINE_FILLING && !m->held);
}

uint64_t machine_pending(const struct machine *m) {
  uint64_t count = (uint64_t)QUEUE(m, PLACE_LEAVING)->count + QUEUE(m, PLACE_NOTIFY)->count;
  count += BLOCKED(m)->count;
  if (m->state != MACHINE_FILLING || m->held) count += INSIDE(m)->count;
  return count == 0 && machine_busy(m) ? 1 : count;
}
