#include "inspect.h"

static const char *const state_names[] = {"filling", "draining", "resetting", "broken"};

const char *inspect_state(const struct barrier *b) { return state_names[b->machine.state]; }

int inspect_watchers(lua_State *L) {
  const struct barrier *b = barrier_at(L, 1);
  const struct nodes *nodes;
  compat_index i = 0;
  lua_settop(L, 1);
  if (b == NULL) { /* another room, or one that is gone */
    lua_newtable(L);
    return 1;
  }
  room_push_elements(L, 1);
  lua_newtable(L);
  nodes = &b->machine.nodes;
  for (uint32_t n = nodes->queues[PLACE_WATCHING].first; n; n = nodes->at[n].next) {
    lua_rawgeti(L, 2, (compat_index)n);
    lua_rawseti(L, 3, ++i);
  }
  return 1;
}

int inspect_tostring(lua_State *L) {
  const struct barrier *checked = barrier_check(L, 1, "tostring");
  const struct barrier *b = checked ? checked : barrier_gone_at(L, 1);
  const struct machine *m = &b->machine;
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
