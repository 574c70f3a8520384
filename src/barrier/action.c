#include "action.h"

/* The action has raised the error on the top; `last` is the last arrival if it is still
** inside. [-0, +0] */
static void take_failure(lua_State *L, struct barrier *b, int self, uint32_t last) {
  if (last) {
    b->machine.nodes.at[last].outcome = OUTCOME_FAILED;
    lua_pushvalue(L, -1);
    room_keep_error(L, self, last);
  }
  lua_pushvalue(L, -1);
  barrier_break(L, b, self);
}

enum action_result action_run(lua_State *L, struct barrier *b, int self) {
  struct machine *m = &b->machine;
  enum action_result result = ACTION_FAILS;
  int status = LUA_OK;
  bool trips;
  self = lua_absindex(L, self);
  m->due = false;
  room_push_field(L, self, "action");
  if (is_callable(L, -1)) { /* unless the debug library took it away */
    lua_pushvalue(L, self);
    status = lua_pcall(L, 1, 0, 0);
  } else {
    lua_pop(L, 1);
  }
  trips = machine_unhold(m, b->room.scheduler->turn);
  if (status != LUA_OK)
    take_failure(L, b, self, m->last);
  else if (trips)
    result = ACTION_TRIPS;
  else
    result = m->thrown == OUTCOME_PASSED ? ACTION_WAITS : ACTION_THROWN;
  return result;
}

void action_settle(lua_State *L, struct barrier *b, int self) {
  room_changed(L, &b->room, self);
  if (nodes_empty(&b->machine.nodes))
    scheduler_relax(L, b->room.scheduler);
  else
    scheduler_prepare(L, b->room.scheduler);
}

void action_lost(lua_State *L, struct barrier *b, int self) {
  struct machine *m = &b->machine;
  self = lua_absindex(L, self);
  do {
    room_ensure_errors(L, self);
    scheduler_prepare(L, b->room.scheduler);
  } while (!room_reserve(L, &b->room, 0));
  if (machine_anybody_waits(m)) {
    lua_pop(L, 1);
    return;
  }
  room_keep_error(L, self, nodes_vacant(&m->nodes, NULL));
  nodes_post(&m->nodes, NULL, OUTCOME_UNCAUGHT, b->room.scheduler->turn);
  room_changed(L, &b->room, self);
}
