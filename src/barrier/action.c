#include "action.h"

#include "../host/request.h"

/* The action has raised the error on the top, which stays there if it is lost.
** [-(0|1), +0, -] */
static enum action_result take_failure(lua_State *L, struct barrier *b, int self) {
  uint32_t last = b->machine.last; /* 0 if it has left */
  lua_pushvalue(L, -1);
  barrier_break(L, b, self);
  if (last == 0) return ACTION_LOST;
  b->machine.nodes.at[last].outcome = OUTCOME_FAILED;
  room_keep_error(L, self, last);
  return ACTION_FAILS;
}

enum action_result action_run(lua_State *L, struct barrier *b, int self) {
  struct machine *m = &b->machine;
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
  if (status != LUA_OK) return take_failure(L, b, self);
  return trips ? ACTION_TRIPS : ACTION_THROWN;
}

void action_settle(lua_State *L, struct barrier *b, int self) {
  room_changed(L, &b->room, self);
  if (nodes_empty(&b->machine.nodes))
    scheduler_relax(L, b->room.scheduler);
  else
    scheduler_prepare(L, b->room.scheduler, &b->room);
}

void action_lost(lua_State *L, struct barrier *b, int self) {
  struct machine *m = &b->machine;
  self = lua_absindex(L, self);
  do {
    room_ensure_errors(L, self);
    scheduler_prepare(L, b->room.scheduler, &b->room);
  } while (!room_reserve(L, &b->room, 0));
  if (machine_has_waiters(m)) {
    lua_pop(L, 1);
    return;
  }
  room_keep_error(L, self, nodes_vacant(&m->nodes, NULL));
  nodes_post(&m->nodes, NULL, OUTCOME_UNCAUGHT, b->room.scheduler->turn);
  room_changed(L, &b->room, self);
}
