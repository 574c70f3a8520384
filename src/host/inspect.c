#include "inspect.h"

#include <stdlib.h>

#include "scheduler.h"

struct listed {
  uint64_t ticket;
  uint32_t node;
};

static int compare_listed(const void *a, const void *b) {
  uint64_t x = ((const struct listed *)a)->ticket;
  uint64_t y = ((const struct listed *)b)->ticket;
  return (x > y) - (x < y);
}

/* True if the node stands for a party in the room: of the nodes that are leaving, if it entered
** and left early. */
static bool is_in(const struct room *r, const struct node *node) {
  if (node->place != PLACE_LEAVING) return r->kind->is_party(node);
  return node->ticket && outcome_facts((enum outcome)node->outcome)->left_early;
}

/* The most parties that the list can have. */
static uint32_t crowd(const struct nodes *nodes) {
  uint32_t count = 0;
  for (int place = 0; place < QUEUES; place++) count += nodes->queues[place].count;
  return count;
}

/* Fills the list, in order of arrival; returns its length. */
static uint32_t fill(const struct room *r, struct listed *list) {
  const struct nodes *nodes = r->nodes;
  uint32_t count = 0;
  for (int place = 0; place < QUEUES; place++) {
    for (uint32_t n = nodes->queues[place].first; n; n = nodes->at[n].next) {
      if (!is_in(r, &nodes->at[n])) continue;
      list[count].ticket = nodes->at[n].ticket;
      list[count++].node = n;
    }
  }
  qsort(list, count, sizeof(*list), compare_listed);
  return count;
}

int inspect_waiters(lua_State *L, const struct room *r) {
  struct listed *list;
  uint32_t most, count;
  lua_settop(L, 1);
  if (r == NULL) {
    lua_newtable(L);
    return 1;
  }
  room_push_elements(L, 1);
  do { /* making the userdata may run finalizers */
    lua_settop(L, 2);
    most = crowd(r->nodes);
    list = (struct listed *)lua_newuserdata(L, ((size_t)most + 1) * sizeof(*list));
    lua_createtable(L, most < 0x7fffffff ? (int)most : 0, 0);
  } while (crowd(r->nodes) > most);
  count = fill(r, list);
  for (uint32_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (compat_index)list[i].node);
    lua_rawseti(L, 4, (compat_index)(i + 1));
  }
  return 1;
}

int inspect_waiters_of(lua_State *L) { return inspect_waiters(L, room_at(L, 1)); }

int inspect_pending(lua_State *L) {
  const struct scheduler *s = (const struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  uint64_t parties = 0;
  int bound;
  lua_settop(L, 0);
  bound = scheduler_push_all(L, s);
  for (int i = 1; i <= bound; i++) {
    const struct room *r;
    lua_rawgeti(L, 1, i);
    r = room_at(L, -1);
    if (r) parties += r->kind->pending ? r->kind->pending(r) : r->kind->busy(r);
    lua_pop(L, 1);
  }
  compat_pushcount(L, parties);
  compat_pushcount(L, s->deadlines.count);
  return 2;
}

/* True if a party waits or watches, or is about to be notified. */
static bool is_inhabited(const struct room *r) {
  if (r->kind->inhabited(r)) return true;
  for (uint32_t n = r->nodes->queues[PLACE_LEAVING].first; n; n = r->nodes->at[n].next)
    if (is_in(r, &r->nodes->at[n])) return true;
  return false;
}

int inspect_rooms(lua_State *L) {
  const struct scheduler *s = (const struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  compat_index count = 0;
  bool all = lua_toboolean(L, 1) != 0;
  int bound;
  lua_settop(L, 0);
  lua_newtable(L);
  bound = scheduler_push_all(L, s);
  for (int i = 1; i <= bound; i++) {
    const struct room *r;
    lua_rawgeti(L, 2, i);
    r = room_at(L, -1);
    if (r && (all || is_inhabited(r)))
      lua_rawseti(L, 1, ++count);
    else
      lua_pop(L, 1);
  }
  lua_settop(L, 1);
  return 1;
}
