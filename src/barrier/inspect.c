#include "inspect.h"

#include <stdlib.h>

#include "../host/errors.h"

static const char *const state_names[] = {"filling", "draining", "resetting", "broken"};

const char *inspect_state(const struct barrier *b) { return state_names[b->job.machine.state]; }

/* {=== who is in it === */

struct listed {
  uint64_t ticket;
  uint32_t node;
};

static int compare_listed(const void *a, const void *b) {
  uint64_t x = ((const struct listed *)a)->ticket;
  uint64_t y = ((const struct listed *)b)->ticket;
  return (x > y) - (x < y);
}

/* Does the node stand for a party that is in the barrier: no mere arrival, none that has
** closed its Waiter or failed for good, nor one that watches? */
static bool is_in(const struct node *node) {
  if (node->place != PLACE_LEAVING) return node->outcome != MACHINE_ARRIVED;
  return node->ticket && (node->outcome == MACHINE_CANCELLED ||
                          node->outcome == MACHINE_DISTURBED || node->outcome == MACHINE_TIMED_OUT);
}

/* How many there are at the most. */
static uint32_t crowd(const struct nodes *nodes) {
  uint32_t count = 0;
  for (int place = PLACE_QUEUE_A; place <= PLACE_LEAVING; place++)
    count += nodes->queues[place].count;
  return count;
}

/* Fills the list, in order of arrival; returns its length. */
static uint32_t fill(const struct nodes *nodes, struct listed *list) {
  uint32_t count = 0;
  for (int place = PLACE_QUEUE_A; place <= PLACE_LEAVING; place++) {
    for (uint32_t n = nodes->queues[place].first; n; n = nodes->at[n].next) {
      if (!is_in(&nodes->at[n])) continue;
      list[count].ticket = nodes->at[n].ticket;
      list[count++].node = n;
    }
  }
  qsort(list, count, sizeof(*list), compare_listed);
  return count;
}

int inspect_waiters(lua_State *L) {
  const struct barrier *b = barrier_check(L, 1, "waiters");
  const struct nodes *nodes;
  struct listed *list;
  uint32_t most, count;
  errors_extra(L, 1, 2, 1, "waiters");
  lua_settop(L, 1);
  if (b == NULL) {
    lua_newtable(L);
    return 1;
  }
  nodes = &b->job.machine.nodes;
  barrier_push_elements(L, 1);
  do { /* making the userdata may run finalizers */
    lua_settop(L, 2);
    most = crowd(nodes);
    list = (struct listed *)lua_newuserdata(L, ((size_t)most + 1) * sizeof(*list));
    lua_createtable(L, most < 0x7fffffff ? (int)most : 0, 0);
  } while (crowd(nodes) > most);
  count = fill(nodes, list);
  for (uint32_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (compat_index)list[i].node);
    lua_rawseti(L, 4, (compat_index)(i + 1));
  }
  return 1;
}

int inspect_watchers(lua_State *L) {
  const struct barrier *b = barrier_check(L, 1, "watchers");
  const struct nodes *nodes;
  compat_index i = 0;
  lua_settop(L, 1);
  barrier_push_elements(L, 1);
  lua_newtable(L);
  if (b == NULL) return 1;
  nodes = &b->job.machine.nodes;
  for (uint32_t n = nodes->queues[PLACE_WATCHING].first; n; n = nodes->at[n].next) {
    lua_rawgeti(L, 2, (compat_index)n);
    lua_rawseti(L, 3, ++i);
  }
  return 1;
}

/* Does anybody wait or watch, or is about to be told? */
static bool has_anybody(const struct machine *m) {
  if (machine_anybody_waits(m)) return true;
  for (uint32_t n = m->nodes.queues[PLACE_LEAVING].first; n; n = m->nodes.at[n].next)
    if (is_in(&m->nodes.at[n])) return true;
  return false;
}

int inspect_pending(lua_State *L) {
  const struct scheduler *s = (const struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  uint64_t parties = 0;
  int bound;
  lua_settop(L, 0);
  bound = scheduler_push_all(L, s);
  for (int i = 1; i <= bound; i++) {
    const struct barrier *b;
    lua_rawgeti(L, 1, i);
    b = barrier_at(L, -1);
    if (b) parties += machine_pending(&b->job.machine);
    lua_pop(L, 1);
  }
  compat_pushcount(L, parties);
  compat_pushcount(L, s->deadlines.count);
  return 2;
}

int inspect_barriers(lua_State *L) {
  const struct scheduler *s = (const struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  compat_index count = 0;
  int bound;
  lua_settop(L, 0);
  lua_newtable(L);
  bound = scheduler_push_all(L, s);
  for (int i = 1; i <= bound; i++) {
    const struct barrier *b;
    lua_rawgeti(L, 2, i);
    b = barrier_at(L, -1);
    if (b && has_anybody(&b->job.machine))
      lua_rawseti(L, 1, ++count);
    else
      lua_pop(L, 1);
  }
  lua_settop(L, 1);
  return 1;
}

/* }=== */

int inspect_tostring(lua_State *L) {
  barrier_check(L, 1, "tostring"); /* A finalized barrier passes, too. */
  const struct barrier *b = (const struct barrier *)lua_touserdata(L, 1);
  const struct machine *m = &b->job.machine;
  int waiting = (int)machine_waiting(m), counted = (int)machine_counted(m);
  const char *state = inspect_state(b);
  lua_pushfstring(L, "<barrier.Barrier object at %p [%s", (const void *)b, state);
  if (m->state != MACHINE_BROKEN) {
    lua_pushfstring(L, ", waiters:%d/%d", waiting, (int)m->parties);
    lua_concat(L, 2);
  }
  if (counted > waiting) {
    lua_pushfstring(L, ", arrived:%d", counted);
    lua_concat(L, 2);
  }
  lua_pushliteral(L, "]>");
  lua_concat(L, 2);
  return 1;
}
