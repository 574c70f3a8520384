#include "arrive.h"

#include "action.h"
#include "../host/cancels.h"
#include "../host/errors.h"
#include "../host/wait.h"
#include "../host/waiter.h"

/* This many waits make a barrier worth a metatable of its own. */
#define WORTH_METATABLE 64u

/* What becomes of an arrival. */
enum plan {
  COMES,     /* it counts, waits, or is blocked */
  COMPLETES, /* it is the last that the barrier waits for: the trip is decided */
  FAILS      /* the barrier is broken */
};

/* The method that was called. */
enum method { WAIT, WATCH, ARRIVE, DEREGISTER };

/* What an arrival asks for, and what was planned for it. */
struct arrival {
  struct request q; /* is first: the host hands it back */
  enum method method;
  uint32_t n;    /* how many; of waits 1 */
  bool deferred; /* a trip waits for a turn */
  enum plan plan;
};

static struct barrier *barrier_of(struct room *r) { return (struct barrier *)(void *)r; }

/* {=== preparing === */

static enum plan plan_of(const struct machine *m, const struct arrival *a) {
  bool completes;
  if (m->state == MACHINE_BROKEN || a->q.cancelled) return FAILS;
  switch (a->method) {
    case WATCH: completes = false; break;
    case DEREGISTER:
      completes = m->state == MACHINE_FILLING && machine_absent(m) == a->n && !m->held;
      break;
    default: completes = machine_would_trip(m, a->n); break;
  }
  return completes ? COMPLETES : COMES;
}

/* True if a turn has to come, to let a party out. */
static bool needs_turn(const struct barrier *b, const struct arrival *a, enum plan plan) {
  bool waits = a->method == WAIT || a->method == WATCH;
  if (plan == FAILS) return waits;
  return plan == COMPLETES && (a->q.callback || a->deferred || !nodes_empty(&b->machine.nodes));
}

/* When a deadline wakes the loop; LOOP_NEVER if no deadline is needed. */
static uint64_t wakes_at(const struct barrier *b, const struct arrival *a, enum plan plan) {
  uint64_t when = a->q.timed ? a->q.when : LOOP_NEVER;
  uint64_t phase = loop_after(&b->room.scheduler->loop, b->timeout);
  bool begins = b->has_timeout && b->room.deadline == 0 &&
                (a->method == WAIT || a->method == ARRIVE) && machine_is_open(&b->machine);
  if (plan != COMES) return LOOP_NEVER;
  return begins && phase < when ? phase : when;
}

/* Does all that can fail or run user code, so that the caller can carry out the plan. User code
** may change the plan, so after each step it looks again. [-0, +(0|1), e] */
static enum plan prepare(lua_State *L, struct barrier *b, struct arrival *a) {
  struct machine *m = &b->machine;
  uint32_t deadlines = (uint32_t)a->q.timed + (uint32_t)b->has_timeout;
  bool asked = !b->room.defers;
  int error = 0; /* the index of a broken barrier's error */
  if (deadlines) {
    loop_update(L, &b->room.scheduler->loop);
    a->q.when = loop_after(&b->room.scheduler->loop, a->q.timeout);
  }
  for (;;) {
    enum plan plan = a->plan = plan_of(m, a);
    bool needs_node = a->method < ARRIVE || deadlines || machine_arrivals_need_node(m, a->n);
    a->q.error = plan == FAILS ? error : 0;
    if (plan == FAILS && error == 0 && !a->q.cancelled) {
      room_ensure_errors(L, 1);
      room_push_error(L, 1, MACHINE_ABORTED, 0);
      error = lua_gettop(L);
    } else if (plan == COMPLETES && !asked) {
      a->deferred = wait_is_deferred(L, &b->room);
      asked = true;
    } else if (wait_wakes(L, &b->room, &a->q, needs_turn(b, a, plan), wakes_at(b, a, plan)) &&
               (!needs_node || room_reserve(L, &b->room, deadlines))) {
      return plan;
    }
  }
}

/* }=== */

/* {=== all parties are there === */

/* Trips the barrier, whose last arrival has the node `n`, 0 if it does not wait; or runs the
** action and acts on its result; or leaves all of that to a turn. [-0, +(0|1), e] */
static enum action_result complete(lua_State *L, struct barrier *b, const struct arrival *a,
                                   uint32_t n) {
  struct machine *m = &b->machine;
  enum action_result result;
  if (a->deferred || !b->has_action) {
    if (a->deferred)
      machine_defer(m, n, b->room.scheduler->turn);
    else
      machine_trip(m, b->room.scheduler->turn);
    room_changed(L, &b->room, 1);
    return ACTION_TRIPS;
  }
  machine_hold(m, n, n != 0);
  barrier_keep_phase(L, b, 1);
  result = action_run(L, b, 1);
  if (result == ACTION_TRIPS) machine_trip(m, b->room.scheduler->turn);
  action_settle(L, b, 1);
  return result;
}

/* The last arrival, a coroutine, has the node `n` and has run the action: it passes, or is
** suspended. */
static int pass_or_suspend(lua_State *L, struct barrier *b, enum action_result result, uint32_t n) {
  struct machine *m = &b->machine;
  bool is_inside = m->last == n;
  if (result == ACTION_TRIPS && is_inside) {
    uint64_t position;
    room_clear_element(L, 1, n);
    machine_leave(m, n, b->room.scheduler->turn);
    position = machine_pass(m, b->room.scheduler->turn);
    action_settle(L, b, 1);
    compat_pushcount(L, position);
    return coroutine_return(L);
  }
  if (result == ACTION_TRIPS) machine_trip(m, b->room.scheduler->turn); /* it was cancelled */
  action_settle(L, b, 1);
  if (result == ACTION_LOST) action_lost(L, b, 1);
  if (nodes_find(&m->nodes, L) == 0) return luaL_error(L, "the barrier was collected by hand");
  lua_settop(L, 1);
  coroutine_begin(L);
  return coroutine_end(L);
}

/* }=== */

/* {=== coroutine style === */

/* The host's `enter`: waits or watches. `complete` takes care of a last arrival. */
static uint32_t enter(lua_State *S, struct room *r, const void *key, struct request *q) {
  struct barrier *b = barrier_of(r);
  const struct arrival *a = (const struct arrival *)(void *)q;
  uint32_t n =
      a->method == WATCH ? machine_watch(&b->machine, key) : machine_enter(&b->machine, key);
  if (a->plan == COMES) {
    wait_set_deadline(S, r, q, n);
    barrier_keep_phase(S, b, 1);
  }
  return n;
}

/* The same for a last arrival that goes on in a turn. */
static uint32_t enter_deferred(lua_State *S, struct room *r, const void *key, struct request *q) {
  struct machine *m = &barrier_of(r)->machine;
  uint32_t n = machine_enter(m, key);
  (void)q;
  machine_defer(m, n, r->scheduler->turn);
  room_changed(S, r, 1);
  return n;
}

/* The coroutine is the last arrival. */
static int complete_in_coroutine(lua_State *L, struct barrier *b, struct arrival *a) {
  struct machine *m = &b->machine;
  uint32_t n;
  if (a->deferred) return wait_suspend(L, &b->room, &a->q, enter_deferred);
  if (!b->has_action) {
    uint64_t position = machine_pass(m, b->room.scheduler->turn);
    room_changed(L, &b->room, 1);
    scheduler_relax(L, b->room.scheduler);
    compat_pushcount(L, position);
    return coroutine_return(L);
  }
  coroutine_ready(L, &b->room);
  n = machine_enter(m, L);
  machine_hold(m, n, true);
  barrier_keep_phase(L, b, 1);
  return pass_or_suspend(L, b, action_run(L, b, 1), n);
}

static int come_in_coroutine(lua_State *L, struct barrier *b, struct arrival *a) {
  enum plan plan;
  wait_check(L, &b->room, &a->q);
  plan = prepare(L, b, a);
  if (plan == COMPLETES) return complete_in_coroutine(L, b, a);
  return wait_suspend(L, &b->room, &a->q, enter);
}

/* The usual wait, which suspends and for which there is nothing to prepare. */
static int just_wait(lua_State *L, struct barrier *b) {
  coroutine_check(L, REQUEST_LEVEL, 2);
  coroutine_ready(L, &b->room);
  coroutine_begin(L);
  machine_enter(&b->machine, L);
  return coroutine_end(L);
}

/* }=== */

/* {=== callback style === */

static int come_with_callback(lua_State *L, struct barrier *b, struct arrival *a) {
  int index;
  uint32_t n;
  waiter_push(L, 1, a->q.callback);
  index = lua_gettop(L);
  prepare(L, b, a);
  n = wait_call_back(L, &b->room, &a->q, index, enter);
  if (a->plan == COMPLETES && complete(L, b, a, n) == ACTION_LOST) action_lost(L, b, 1);
  lua_settop(L, index);
  return coroutine_return(L);
}

/* }=== */

/* {=== the methods === */

static int come(lua_State *L, struct barrier *b, enum method method, const char *name) {
  struct arrival a = {.method = method, .n = 1, .q = {.name = name}};
  if (lua_gettop(L) >= REQUEST_FIRST_ARG) request_check(L, &a.q);
  if (b == NULL) return wait_too_late(L, &a.q);
  if (!b->has_metatable && b->machine.nodes.tickets >= WORTH_METATABLE)
    barrier_own_metatable(L, b, 1);
  return a.q.callback ? come_with_callback(L, b, &a) : come_in_coroutine(L, b, &a);
}

int arrive_wait(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b && b->is_plain && lua_gettop(L) < REQUEST_FIRST_ARG && machine_would_wait(&b->machine) &&
      !b->room.scheduler->cancels)
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

/* The optional number of parties at index 2 of the method `name`, from 1 on, which is its last
** argument. What is more than a barrier can have counts as one more than that. [-0, +0, v] */
static uint32_t request_count(lua_State *L, const char *name) {
  int64_t n = 1;
  errors_extra(L, 1, 3, 2, name);
  if (lua_isnoneornil(L, 2)) return 1;
  if (!compat_tointeger(L, 2, &n) || n < 1) {
    bool number = lua_type(L, 2) == LUA_TNUMBER;
    const char *got = number ? luaL_tolstring(L, 2, NULL) : luaL_typename(L, 2);
    errors_argument(L, 1, 1, name, "n must be an integer >= 1, got %s", got);
  }
  return n > MACHINE_MOST_PARTIES ? MACHINE_MOST_PARTIES + 1 : (uint32_t)n;
}

/* The results of the methods that do not wait: true, or nil and the error. */
static int finish(lua_State *L, struct barrier *b, const struct arrival *a, enum plan plan) {
  enum action_result result = ACTION_TRIPS;
  if (plan == FAILS) {
    lua_pushvalue(L, a->q.error);
    return return_error(L);
  }
  if (plan == COMPLETES)
    result = complete(L, b, a, 0);
  else
    barrier_keep_phase(L, b, 1);
  scheduler_relax(L, b->room.scheduler);
  if (result == ACTION_THROWN) room_push_error(L, 1, (enum outcome)b->machine.thrown, 0);
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
  struct arrival a = {.method = ARRIVE, .n = 1, .q = {.name = "arrive"}};
  enum plan plan = COMES;
  if (lua_gettop(L) > 1) a.n = request_count(L, "arrive");
  lua_settop(L, 1);
  if (b == NULL) return succeed(L);
  m = &b->machine;
  if (a.n <= machine_most_arrivals(m)) {
    if (!b->has_timeout && machine_is_open(m) && !machine_would_trip(m, a.n)) {
      machine_arrive(m, a.n);
      return succeed(L);
    }
    plan = prepare(L, b, &a);
  }
  if (a.n > machine_most_arrivals(m) && m->parties == 0)
    return errors_argument(L, 1, 1, "arrive", "with no party left, one arrives at a time");
  if (a.n > machine_most_arrivals(m)) return too_many(L, m, "arrive");
  if (plan != FAILS) machine_arrive(m, a.n);
  return finish(L, b, &a, plan);
}

int arrive_register(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "register");
  uint32_t n = request_count(L, "register");
  if (b == NULL) return 0;
  if (n > MACHINE_MOST_PARTIES - b->machine.parties)
    return errors_argument(L, 1, 1, "register", "a barrier has at most %d parties",
                           (int)MACHINE_MOST_PARTIES);
  b->machine.parties += n;
  return 0;
}

int arrive_deregister(lua_State *L) {
  struct barrier *b = barrier_check(L, 1, "deregister");
  struct machine *m;
  struct arrival a = {.method = DEREGISTER, .q = {.name = "deregister"}};
  enum plan plan;
  a.n = request_count(L, "deregister");
  lua_settop(L, 1);
  if (b == NULL) return succeed(L);
  m = &b->machine;
  plan = a.n > machine_absent(m) ? COMES : prepare(L, b, &a);
  if (a.n > machine_absent(m)) return too_many(L, m, "deregister");
  m->parties -= a.n;
  return finish(L, b, &a, plan);
}

/* }=== */
