#include "arrive.h"

#include "action.h"
#include "../host/cancels.h"
#include "../host/errors.h"
#include "../host/request.h"
#include "../host/waiter.h"

/* So many waits make a barrier worth a metatable of its own. */
#define WORTH_METATABLE 64u

/* What becomes of it. */
enum plan {
  COMES,     /* it counts, waits, or is blocked */
  COMPLETES, /* it is the last that the barrier waits for: the trip is decided */
  FAILS      /* the barrier is broken */
};

/* {=== preparing === */

static enum plan plan_of(const struct machine *m, const struct request *r) {
  bool completes;
  if (m->state == MACHINE_BROKEN || r->cancelled) return FAILS;
  switch (r->kind) {
    case WATCH: completes = false; break;
    case DEREGISTER:
      completes = m->state == MACHINE_FILLING && machine_absent(m) == r->n && !m->held;
      break;
    default: completes = machine_would_trip(m, r->n); break;
  }
  return completes ? COMPLETES : COMES;
}

/* Does a turn have to come, to let somebody out? */
static bool needs_turn(const struct barrier *b, const struct request *r, enum plan plan) {
  bool waits = r->kind == WAIT || r->kind == WATCH;
  if (plan == FAILS) return waits;
  return plan == COMPLETES && (r->callback || r->deferred || !nodes_empty(&b->job.machine.nodes));
}

/* When a deadline wakes the loop; LOOP_NEVER if none is to be set. */
static uint64_t wakes_at(const struct barrier *b, const struct request *r, enum plan plan) {
  uint64_t when = r->timed ? r->when : LOOP_NEVER;
  uint64_t phase = loop_after(&b->scheduler->loop, b->timeout);
  bool begins = b->has_timeout && b->job.deadline == 0 && (r->kind == WAIT || r->kind == ARRIVE) &&
                machine_is_open(&b->job.machine);
  if (plan != COMES) return LOOP_NEVER;
  return begins && phase < when ? phase : when;
}

/* Does a last arrival wait for its turn? In Neovim, inside a fast event. [-0, +0, e] */
static bool is_deferred(lua_State *L, const struct barrier *b) {
  bool deferred;
  if (!b->defers) return false;
  barrier_push_field(L, 1, "defers");
  lua_call(L, 0, 1);
  deferred = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return deferred;
}

/* Does all that can fail or run user code, so that the caller can carry out the plan:
** makes the error of a broken barrier and room for what is to be kept, and has a turn
** called. User code may change the plan, so after each of these it looks again.
** [-0, +(0|1), e] */
static enum plan prepare(lua_State *L, struct barrier *b, struct request *r) {
  struct machine *m = &b->job.machine;
  struct loop *loop = &b->scheduler->loop;
  uint32_t deadlines = (uint32_t)r->timed + (uint32_t)b->has_timeout;
  bool asked = !b->defers, woken = false, timed = false;
  if (deadlines) {
    loop_update(L, loop);
    r->when = loop_after(loop, r->timeout);
  }
  for (;;) {
    enum plan plan = plan_of(m, r);
    uint64_t when = wakes_at(b, r, plan);
    if (plan == FAILS && r->error == 0 && !r->cancelled) {
      barrier_ensure_errors(L, 1);
      barrier_push_error(L, 1, MACHINE_ABORTED);
      r->error = lua_gettop(L);
    } else if (plan == COMPLETES && !asked) {
      r->deferred = is_deferred(L, b);
      asked = true;
    } else if (needs_turn(b, r, plan) && !(woken && loop_wakes_by(loop, LOOP_NOW))) {
      scheduler_prepare(L, b->scheduler);
      woken = true;
    } else if (when != LOOP_NEVER && !(timed && loop_wakes_by(loop, when))) {
      loop_wake_at(L, loop, when);
      timed = true;
    } else if (r->kind >= ARRIVE && deadlines == 0 && !machine_arrivals_need_node(m, r->n)) {
      return plan;
    } else if (barrier_make_room(L, b, deadlines)) {
      return plan;
    }
  }
}

/* }=== */

/* {=== everybody is there === */

/* Trips the barrier, whose last arrival has the node `n`, 0 if it does not wait; or runs the
** action and does what comes of it; or has a turn do so. [-0, +(0|1), e] */
static enum action_result complete(lua_State *L, struct barrier *b, const struct request *r,
                                   uint32_t n) {
  struct machine *m = &b->job.machine;
  enum action_result result;
  if (r->deferred || !b->has_action) {
    if (r->deferred)
      machine_put_off(m, n, b->scheduler->turn);
    else
      machine_trip(m, b->scheduler->turn);
    barrier_changed(L, b, 1);
    return ACTION_TRIPS;
  }
  machine_hold(m, n, n != 0);
  barrier_keep_phase(L, b, 1);
  result = action_run(L, b, 1);
  if (result == ACTION_TRIPS) machine_trip(m, b->scheduler->turn);
  action_settle(L, b, 1);
  return result;
}

/* The last arrival, a coroutine, has the node `n` and has run the action: it passes, or is
** suspended. */
static int pass_or_suspend(lua_State *L, struct barrier *b, enum action_result result, uint32_t n) {
  struct machine *m = &b->job.machine;
  bool is_inside = m->last == n;
  if (result == ACTION_TRIPS && is_inside) {
    uint64_t position;
    barrier_clear_element(L, 1, n);
    machine_leave(m, n, b->scheduler->turn);
    position = machine_pass(m, b->scheduler->turn);
    action_settle(L, b, 1);
    compat_pushcount(L, position);
    return coroutine_return(L);
  }
  if (result == ACTION_TRIPS) machine_trip(m, b->scheduler->turn); /* it was cancelled */
  action_settle(L, b, 1);
  if (result == ACTION_LOST) action_lost(L, b, 1);
  if (nodes_find(&m->nodes, L) == 0) return luaL_error(L, "the barrier was collected by hand");
  lua_settop(L, 1);
  coroutine_begin(L);
  return coroutine_end(L);
}

/* }=== */

/* {=== coroutine style === */

/* Sets the deadline of a node that waits. [-0, +0] */
static void set_deadline(lua_State *S, struct barrier *b, const struct request *r, uint32_t n) {
  if (r->timed) scheduler_set_deadline(S, b->scheduler, &b->job, 1, n, r->when, r->timeout);
}

/* The plan was carried out: whoever just comes makes nobody ready. [-0, +0] */
static void note_arrival(lua_State *S, struct barrier *b, enum plan plan) {
  if (plan == COMES)
    barrier_keep_phase(S, b, 1);
  else
    barrier_changed(S, b, 1);
}

/* The coroutine is suspended: it waits, watches, or will fail. */
static int enter_and_suspend(lua_State *L, struct barrier *b, const struct request *r,
                             enum plan plan) {
  struct machine *m = &b->job.machine;
  lua_State *S;
  uint32_t n;
  coroutine_ready(L, b);
  if (plan == FAILS && !r->cancelled) {
    lua_pushvalue(L, r->error);
    barrier_keep_error(L, 1, machine_vacant(m, L));
  }
  S = coroutine_stack(L, b);
  coroutine_begin(L);
  if (plan == FAILS) {
    machine_post(m, L, r->cancelled ? MACHINE_CANCELLED : MACHINE_FAILED, b->scheduler->turn);
  } else {
    n = r->kind == WATCH ? machine_watch(m, L) : machine_enter(m, L);
    if (plan == COMES) set_deadline(S, b, r, n);
    if (plan == COMPLETES) machine_put_off(m, n, b->scheduler->turn);
  }
  note_arrival(S, b, plan);
  lua_settop(S, S == L ? 1 : 0);
  return coroutine_end(L);
}

/* The coroutine is the last arrival. */
static int complete_in_coroutine(lua_State *L, struct barrier *b, const struct request *r) {
  struct machine *m = &b->job.machine;
  uint32_t n;
  if (r->deferred) return enter_and_suspend(L, b, r, COMPLETES);
  if (!b->has_action) {
    uint64_t position = machine_pass(m, b->scheduler->turn);
    barrier_changed(L, b, 1);
    scheduler_relax(L, b->scheduler);
    compat_pushcount(L, position);
    return coroutine_return(L);
  }
  coroutine_ready(L, b);
  n = machine_enter(m, L);
  machine_hold(m, n, true);
  barrier_keep_phase(L, b, 1);
  return pass_or_suspend(L, b, action_run(L, b, 1), n);
}

static int come_in_coroutine(lua_State *L, struct barrier *b, struct request *r) {
  enum plan plan;
  coroutine_check(L, REQUEST_LEVEL, 2);
  r->cancelled = b->scheduler->cancels && cancels_take(L, b->scheduler);
  plan = prepare(L, b, r);
  if (plan == COMPLETES) return complete_in_coroutine(L, b, r);
  return enter_and_suspend(L, b, r, plan);
}

/* The usual wait, which suspends and for which there is nothing to prepare. */
static int just_wait(lua_State *L, struct barrier *b) {
  coroutine_check(L, REQUEST_LEVEL, 2);
  coroutine_ready(L, b);
  coroutine_begin(L);
  machine_enter(&b->job.machine, L);
  return coroutine_end(L);
}

/* }=== */

/* {=== callback style === */

static int come_with_callback(lua_State *L, struct barrier *b, struct request *r) {
  struct machine *m = &b->job.machine;
  struct waiter *w = waiter_push(L, 1, r->callback);
  int index = lua_gettop(L);
  enum plan plan = prepare(L, b, r);
  barrier_set_element(L, b, 1, nodes_vacant(&m->nodes), index);
  if (plan == FAILS) {
    lua_pushvalue(L, r->error);
    barrier_keep_error(L, 1, nodes_vacant(&m->nodes));
    w->node = machine_post(m, NULL, MACHINE_FAILED, b->scheduler->turn);
  } else {
    w->node = r->kind == WATCH ? machine_watch(m, NULL) : machine_enter(m, NULL);
    if (plan == COMES) set_deadline(L, b, r, w->node);
  }
  if (plan != COMPLETES)
    note_arrival(L, b, plan);
  else if (complete(L, b, r, w->node) == ACTION_LOST)
    action_lost(L, b, 1);
  lua_settop(L, index);
  return coroutine_return(L);
}

/* }=== */

/* {=== the methods === */

/* The barrier was finalized: the callback is never called, the coroutine never resumed. */
static int come_too_late(lua_State *L, const struct request *r) {
  if (r->callback) {
    waiter_push(L, 1, r->callback);
    return coroutine_return(L);
  }
  coroutine_check(L, REQUEST_LEVEL, 2);
  lua_settop(L, 1);
  coroutine_begin(L);
  return coroutine_end(L);
}

static int come(lua_State *L, struct barrier *b, enum request_kind kind, const char *name) {
  struct request r = {WAIT, NULL, 1, false, false, false, 0, 0, 0, 0};
  r.kind = kind;
  r.name = name;
  if (lua_gettop(L) >= REQUEST_FIRST_ARG) request_check(L, &r);
  if (b == NULL) return come_too_late(L, &r);
  if (!b->has_metatable && b->job.machine.tickets >= WORTH_METATABLE)
    barrier_own_metatable(L, b, 1);
  return r.callback ? come_with_callback(L, b, &r) : come_in_coroutine(L, b, &r);
}

int arrive_wait(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b && b->is_plain && lua_gettop(L) < REQUEST_FIRST_ARG &&
      machine_would_wait(&b->job.machine) && !b->scheduler->cancels)
    return just_wait(L, b);
  return come(L, b ? b : barrier_check(L, REQUEST_LEVEL, "wait"), WAIT, "wait");
}

int arrive_await_trip(lua_State *L) {
  return come(L, barrier_check(L, REQUEST_LEVEL, "await_trip"), WATCH, "await_trip");
}

static int succeed(lua_State *L) {
  lua_pushboolean(L, 1);
  return 1;
}

/* (nil, the error on the top) */
static int return_error(lua_State *L) {
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* The results of those that do not wait: true, or nil and the error. */
static int finish(lua_State *L, struct barrier *b, const struct request *r, enum plan plan) {
  enum action_result result = ACTION_TRIPS;
  if (plan == FAILS) {
    lua_pushvalue(L, r->error);
    return return_error(L);
  }
  if (plan == COMPLETES)
    result = complete(L, b, r, 0);
  else
    barrier_keep_phase(L, b, 1);
  scheduler_relax(L, b->scheduler);
  if (result == ACTION_THROWN)
    barrier_push_error(L, 1, (enum machine_outcome)b->job.machine.thrown);
  if (result == ACTION_LOST || result == ACTION_THROWN) return return_error(L);
  return succeed(L);
}

/* There are fewer parties than were named. [-0, +0, v] */
static int too_many(lua_State *L, const struct machine *m, const char *name) {
  return errors_argument(L, 1, 1, name, "only %d of %d parties have yet to arrive",
                         (int)machine_absent(m), (int)m->parties);
}

int arrive_arrive(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "arrive");
  struct machine *m;
  struct request r = {ARRIVE, "arrive", 1, false, false, false, 0, 0, 0, 0};
  enum plan plan = COMES;
  if (lua_gettop(L) > 1) r.n = request_count(L, "arrive");
  lua_settop(L, 1);
  if (b == NULL) return succeed(L);
  m = &b->job.machine;
  if (r.n <= machine_most_arrivals(m)) {
    if (!b->has_timeout && machine_is_open(m) && !machine_would_trip(m, r.n)) {
      machine_arrive(m, r.n);
      return succeed(L);
    }
    plan = prepare(L, b, &r);
  }
  if (r.n > machine_most_arrivals(m) && m->parties == 0)
    return errors_argument(L, 1, 1, "arrive", "with no party left, one arrives at a time");
  if (r.n > machine_most_arrivals(m)) return too_many(L, m, "arrive");
  if (plan != FAILS) machine_arrive(m, r.n);
  return finish(L, b, &r, plan);
}

int arrive_register(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "register");
  uint32_t n = request_count(L, "register");
  if (b == NULL) return 0;
  if (n > MACHINE_MOST_PARTIES - b->job.machine.parties)
    return errors_argument(L, 1, 1, "register", "a barrier has at most %d parties",
                           (int)MACHINE_MOST_PARTIES);
  b->job.machine.parties += n;
  return 0;
}

int arrive_deregister(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "deregister");
  struct machine *m;
  struct request r = {DEREGISTER, "deregister", 0, false, false, false, 0, 0, 0, 0};
  enum plan plan;
  r.n = request_count(L, "deregister");
  lua_settop(L, 1);
  if (b == NULL) return succeed(L);
  m = &b->job.machine;
  plan = r.n > machine_absent(m) ? COMES : prepare(L, b, &r);
  if (r.n > machine_absent(m)) return too_many(L, m, "deregister");
  m->parties -= r.n;
  return finish(L, b, &r, plan);
}

/* }=== */
