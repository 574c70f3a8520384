/*
** A barrier as a kind of room: what the host asks of it.
*/
#include "action.h"
#include "barrier.h"
#include "../host/errors.h"
#include "../host/report.h"

/* {=== leaving === */

static struct machine *machine_of(struct room *r) {
  return &((struct barrier *)(void *)r)->machine;
}

static const struct machine *machine_in(const struct room *r) {
  return &((const struct barrier *)(const void *)r)->machine;
}

static bool barrier_next(struct room *r, uint32_t turn, struct leaver *leaver) {
  return machine_next(machine_of(r), turn, leaver);
}

/* No coverage on Lua 5.1: see `resume` in drain.c. */
static void barrier_put_back(struct room *r, const struct leaver *leaver) {
  machine_put_back(machine_of(r), leaver);
}

static bool barrier_is_busy(const struct room *r) { return machine_busy(machine_in(r)); }

static bool barrier_waits(const struct room *r, uint32_t node) {
  return machine_waits(machine_in(r), node);
}

static void barrier_leave(struct room *r, uint32_t node, uint32_t turn) {
  machine_leave(machine_of(r), node, turn);
}

static bool barrier_withdraw(struct room *r, uint32_t node, enum outcome outcome, uint32_t turn) {
  return machine_withdraw(machine_of(r), node, outcome, turn);
}

static void barrier_push_error(lua_State *L, int self, enum outcome outcome, uint32_t node) {
  const struct barrier *b = barrier_at(L, self);
  (void)node;
  if (outcome == MACHINE_RESET) {
    errors_push(L, ERROR_BROKEN, "barrier reset", self, 0);
    return;
  } /* otherwise aborted, or an action raised nil or false */
  room_push_elements(L, self);
  if (b && b->has_reason)
    lua_getfield(L, -1, "reason");
  else
    lua_pushnil(L);
  errors_push(L, ERROR_BROKEN, "barrier aborted", self, lua_isnil(L, -1) ? 0 : -1);
  lua_replace(L, -3);
  lua_pop(L, 1);
}

static void barrier_add_progress(const struct room *r, struct text *t) {
  const struct machine *m = machine_in(r);
  if (m->state != MACHINE_FILLING) {
    text_add(t, " while the barrier was ");
    text_add(t, m->state == MACHINE_DRAINING ? "draining" : "resetting");
    return;
  }
  text_add(t, ", ");
  text_add_count(t, machine_counted(m));
  text_add(t, " of ");
  text_add_count(t, m->parties);
  text_add(t, " had arrived");
}

static void barrier_keep_room(lua_State *L, struct room *r, int self) {
  barrier_keep_phase(L, (struct barrier *)(void *)r, self);
}

/* The time of a phase is over. */
static bool barrier_expire(lua_State *L, struct room *r, int self, const struct deadline *x) {
  struct text message;
  room_tell_timeout(r, "", x, &message);
  lua_pushlstring(L, message.at, message.length);
  if (!room_is_earliest(r, x)) return false;
  barrier_break(L, (struct barrier *)(void *)r, self);
  room_changed(L, r, self);
  return true;
}

static bool barrier_is_party(const struct node *node) {
  return node->place <= PLACE_QUEUE_B && node->outcome != MACHINE_ARRIVED;
}

static uint64_t barrier_pending(const struct room *r) { return machine_pending(machine_in(r)); }

static bool barrier_is_inhabited(const struct room *r) {
  return machine_has_waiters(machine_in(r));
}

/* }=== */

/* {=== a turn === */

/* Trips: the parties inside are ready in the turns after `ready`; the blocked come in later.
** [-0, +0] */
static void trip_in_turn(lua_State *L, const struct pass *p, uint32_t ready) {
  struct barrier *b = (struct barrier *)(void *)p->room;
  struct machine *m = &b->machine;
  machine_trip(m, ready);
  if (b->has_timeout) barrier_keep_phase(L, b, p->self); /* it is queued already */
  if (m->state == MACHINE_FILLING) m->blocked_turn = p->room->scheduler->turn; /* none inside */
}

/* The trip is decided, and the machine held: runs the action, if there is one, and trips.
** [-0, +0] */
static void complete_in_turn(lua_State *L, const struct pass *p, uint32_t ready) {
  struct barrier *b = (struct barrier *)(void *)p->room;
  enum action_result result;
  if (!b->has_action) {
    machine_unhold(&b->machine, ready);
    trip_in_turn(L, p, ready);
    return;
  }
  result = action_run(L, b, p->self);
  if (result == ACTION_TRIPS) trip_in_turn(L, p, ready);
  if (result == ACTION_LOST && !machine_has_waiters(&b->machine)) report_error(L, PASS_REPORT, 0);
  action_settle(L, b, p->self);
  lua_settop(L, p->elements);
}

static void barrier_begin(lua_State *L, const struct pass *p, uint32_t turn) {
  if (machine_is_due(machine_of(p->room), turn)) complete_in_turn(L, p, MACHINE_BEFORE(turn));
}

/* Lets the blocked in. [-0, +0] */
static void barrier_end(lua_State *L, const struct pass *p, uint32_t turn) {
  struct barrier *b = (struct barrier *)(void *)p->room;
  struct machine *m = &b->machine;
  if (b->has_timeout) { /* a phase may begin */
    loop_update(L, &b->room.scheduler->loop);
    if (!deadlines_reserve(&b->room.scheduler->deadlines, 1)) return; /* in another turn */
  }
  if (!machine_admit(m, turn)) return;
  if (!b->has_action) {
    trip_in_turn(L, p, b->room.scheduler->turn);
    return;
  }
  machine_defer(m, m->last, MACHINE_BEFORE(turn)); /* should the next fail */
  if (b->has_timeout) barrier_keep_phase(L, b, p->self);
  complete_in_turn(L, p, b->room.scheduler->turn);
}

static void barrier_close_room(lua_State *L, struct room *r) {
  barrier_destroy(L, (struct barrier *)(void *)r);
}

/* }=== */

INTERNAL_DATA const struct room_kind barrier_kind = {
    .next = barrier_next,
    .put_back = barrier_put_back,
    .busy = barrier_is_busy,
    .waits = barrier_waits,
    .leave = barrier_leave,
    .withdraw = barrier_withdraw,
    .is_party = barrier_is_party,
    .pending = barrier_pending,
    .inhabited = barrier_is_inhabited,
    .push_error = barrier_push_error,
    .add_progress = barrier_add_progress,
    .destroy = barrier_close_room,
    .changed = barrier_keep_room,
    .expire = barrier_expire,
    .begin = barrier_begin,
    .end = barrier_end,
};
