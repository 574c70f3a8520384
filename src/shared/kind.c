/*
** A shared barrier as a kind of room: what the host asks of it, and what comes from the hub.
*/
#include "../host/errors.h"
#include "../host/room.h"
#include "reason.h"
#include "shared.h"

#define SHARED_RESET OUTCOME_OWN
#define SHARED_ABORTED ((enum outcome)(OUTCOME_OWN + 1))

static const struct shared *shared_in(const struct room *r) {
  return (const struct shared *)(const void *)r;
}

/* {=== from the hub === */

static enum outcome outcome_of(const struct hub_seat *seat) {
  switch (seat->outcome) {
    case HUB_PASSED: return OUTCOME_PASSED;
    case HUB_RESET: return SHARED_RESET;
    default: return SHARED_ABORTED;
  }
}

/* A list of ready seats: their parties leave in a turn to come. */
static void accept(struct shared *b, uint32_t first) {
  for (uint32_t n = first; n; n = b->member->seats[n].next_ready) {
    struct node *node = &b->nodes.at[n];
    nodes_unlink(&b->nodes, n);
    nodes_append(&b->nodes, PLACE_GOING, n);
    node->outcome = (uint8_t)outcome_of(&b->member->seats[n]);
    node->as.turn = b->state->scheduler->turn;
    b->state->waiting--;
  }
}

void shared_collect(lua_State *L, struct shared_state *s) {
  struct hub_member *m;
  uint32_t first;
  while ((m = hub_take(&s->hub, &first)) != NULL) {
    struct shared *b = (struct shared *)m->owner;
    accept(b, first);
    scheduler_request(L, s->scheduler, &b->room, 0); /* it is held: nothing has to anchor it */
  }
}

/* }=== */

/* {=== what the host asks === */

static bool shared_next(struct room *r, uint32_t turn, struct leaver *leaver) {
  const struct shared *b = shared_in(r);
  if (!room_next(r, PLACE_GOING, turn, leaver)) return false;
  if (leaver->outcome == OUTCOME_PASSED && b->member)
    leaver->position = b->member->seats[leaver->node].position;
  return true;
}

static bool shared_is_busy(const struct room *r) {
  return r->nodes->queues[PLACE_LEAVING].count || r->nodes->queues[PLACE_GOING].count;
}

static bool shared_waits(const struct room *r, uint32_t node) {
  return r->nodes->at[node].place == PLACE_WAITING && !shared_is_cut_off(shared_in(r));
}

static void shared_leave(struct room *r, uint32_t node, uint32_t turn) {
  struct shared *b = shared_of(r);
  if (shared_waits(r, node) && !hub_leave(b->member, node))
    accept(b, hub_take_from(b->member)); /* it was decided already */
  if (r->nodes->at[node].place == PLACE_WAITING) b->state->waiting--;
  room_take_out(r, node, turn);
}

static bool shared_withdraw(struct room *r, uint32_t node, enum outcome outcome, uint32_t turn) {
  struct shared *b = shared_of(r);
  if (!shared_waits(r, node) || !hub_leave(b->member, node)) return false;
  b->state->waiting--;
  room_send_off(r, node, outcome, turn);
  return true;
}

/* Counts waiting parties, too: other threads can wake the loop only while the handle is there. */
static uint64_t shared_pending(const struct room *r) {
  uint64_t count = 0;
  for (int place = 0; place < QUEUES; place++) count += r->nodes->queues[place].count;
  return count;
}

/* (reason) -> its value, for lua_pcall */
static int copy_reason(lua_State *L) {
  reason_push(L, (const struct hub_reason *)lua_touserdata(L, 1));
  return 1;
}

void shared_push_copier(lua_State *L) { compat_pushcfunction(L, copy_reason); }

void shared_push_reason(lua_State *L, struct hub_reason *reason) {
  int status;
  lua_pushlightuserdata(L, reason);
  status = lua_pcall(L, 1, 1, 0);
  if (reason) hub_drop_reason(reason);
  if (status != LUA_OK) lua_error(L);
}

static void shared_push_error(lua_State *L, int self, enum outcome outcome, uint32_t node) {
  const struct shared *b = shared_at(L, self);
  struct hub_reason *reason = NULL;
  if (outcome == SHARED_RESET) {
    errors_push(L, ERROR_BROKEN, "barrier reset", self, 0);
    return;
  }
  shared_push_copier(L);
  if (b && b->member && node) reason = hub_hold_reason(b->member->seats[node].reason);
  shared_push_reason(L, reason);
  errors_push(L, ERROR_BROKEN, "barrier aborted", self, lua_isnil(L, -1) ? 0 : -1);
  lua_remove(L, -2);
}

static void shared_add_progress(const struct room *r, struct text *t) {
  struct hub_status status = {0};
  if (!shared_is_cut_off(shared_in(r))) hub_get_status(shared_in(r)->member, &status);
  text_add(t, ", ");
  text_add_count(t, status.n_arrived);
  text_add(t, " of ");
  text_add_count(t, status.parties);
  text_add(t, " had arrived");
}

/* Other states can let the parties out that wait: nothing else has to refer to the barrier. */
static void shared_changed(lua_State *L, struct room *r, int self) {
  (void)self;
  if (r->nodes->queues[PLACE_WAITING].count == 0) scheduler_let_go(L, r->scheduler, r);
}

static void shared_close_room(lua_State *L, struct room *r) { shared_destroy(L, shared_of(r)); }

INTERNAL_DATA const struct room_kind shared_kind = {
    .next = shared_next,
    .put_back = room_put_back,
    .busy = shared_is_busy,
    .waits = shared_waits,
    .leave = shared_leave,
    .withdraw = shared_withdraw,
    .is_party = room_is_party,
    .pending = shared_pending,
    .inhabited = room_is_inhabited,
    .push_error = shared_push_error,
    .add_progress = shared_add_progress,
    .destroy = shared_close_room,
    .changed = shared_changed,
};

/* }=== */
