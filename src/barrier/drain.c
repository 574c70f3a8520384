#include "drain.h"

#include "action.h"
#include "../host/coroutine.h"
#include "../host/report.h"
#include "../host/waiter.h"

/* What one pass over a barrier has on the stack, all of it before anyone is let
** out, so that nothing has to be made while somebody is on the way. */
struct pass {
  struct barrier *b;
  int self;       /* the barrier */
  int elements;   /* its user value */
  int handler;    /* report_handler, for lua_pcall */
  int maker;      /* make_error */
  int report;     /* of uncaught errors: nil or a string */
  uint32_t spent; /* how many were let out */
};

/* What is left on the stack of so many who were let out is popped in one go: one by one costs
** 2 % of a wait. It is at most 2 values each. */
#define SPENT 8

/* {=== one waiter === */

/* (barrier, outcome) -> its error */
static int make_error(lua_State *L) {
  barrier_push_error(L, 1, (enum machine_outcome)lua_tointeger(L, 2));
  return 1;
}

static bool has_own_error(enum machine_outcome outcome) {
  return outcome == MACHINE_FAILED || outcome == MACHINE_TIMED_OUT || outcome == MACHINE_UNCAUGHT;
}

/* The element of a parked node becomes false. [-0, +0] */
static void clear(lua_State *L, const struct pass *p, uint32_t node) {
  lua_pushboolean(L, 0);
  lua_rawseti(L, p->elements, (compat_index)node);
}

/* Resumes the coroutine at the top. False if there was no room to resume it: it is
** back in the barrier. [-0, +0] */
static bool resume(lua_State *L, const struct pass *p, lua_State *co,
                   const struct machine_leaver *leaver) {
  struct machine *m = &p->b->job.machine;
  uint32_t previous = machine_park(m, leaver->node);
  bool own = leaver->outcome != MACHINE_PASSED && has_own_error(leaver->outcome);
  int status;
  if (own) {
    barrier_take_error(L, p->self, leaver->node);
    lua_pushvalue(L, -1);
  }
  status = coroutine_resume(L, co, leaver);
  if (status > LUA_YIELD && lua_status(co) == LUA_YIELD) {
    /* "C stack overflow": nothing has run; no coverage on Lua 5.1, which counts otherwise */
    lua_pop(co, 1);
    if (own) barrier_keep_error(L, p->self, leaver->node);
    machine_park(m, previous);
    machine_put_back(m, leaver);
    return false;
  }
  if (own) lua_pop(L, 1);
  if (machine_unpark(m, leaver->node, previous)) clear(L, p, leaver->node);
  if (status > LUA_YIELD) report_death(L, p->report, co);
  return true;
}

/* Calls the function below `nargs` arguments on the top. [-(nargs + 1), +0] */
static void call(lua_State *L, const struct pass *p, int nargs) {
  if (!lua_toboolean(L, -(nargs + 1)))
    lua_pop(L, nargs + 1); /* closed, or the debug library took it away */
  else if (lua_pcall(L, nargs, 0, p->handler) != LUA_OK)
    report_add(L, p->report);
}

/* Pushes the error for a Waiter's callback; false with a memory error instead. An action's
** error that is nil would look like success: the callback gets a BrokenBarrierError.
** [-0, +1] */
static bool push_error(lua_State *L, const struct pass *p, const struct machine_leaver *leaver) {
  if (has_own_error(leaver->outcome)) {
    barrier_take_error(L, p->self, leaver->node);
    if (lua_toboolean(L, -1)) return true;
    lua_pop(L, 1);
  }
  lua_pushvalue(L, p->maker);
  lua_pushvalue(L, p->self);
  lua_pushinteger(L, leaver->outcome);
  return lua_pcall(L, 2, 1, 0) == LUA_OK;
}

/* Calls back the Waiter at the top. False if it has to be done in another turn, as there was
** no memory for its error: that is reported. */
static bool call_back(lua_State *L, const struct pass *p, struct waiter *w,
                      const struct machine_leaver *leaver) {
  struct machine *m = &p->b->job.machine;
  int nargs = 1;
  w->node = 0; /* from here on it is out, also for a finalizer that closes it */
  if (leaver->outcome == MACHINE_PASSED) {
    lua_pushnil(L);
    compat_pushcount(L, leaver->position);
    nargs = 2;
  } else if (!push_error(L, p, leaver)) {
    nodes_free(&m->nodes, leaver->node); /* and taken again: its element is still there */
    w->node = machine_post(m, NULL, leaver->outcome, p->b->scheduler->turn);
    report_error(L, p->report, 0);
    return false;
  }
  nodes_free(&m->nodes, leaver->node);
  clear(L, p, leaver->node);
  waiter_take_callback(L, -(nargs + 1));
  lua_insert(L, -(nargs + 1));
  call(L, p, nargs);
  return true;
}

/* Lets one out who is not resumed or called back. [-0, +0] */
static void let_go(lua_State *L, const struct pass *p, const struct machine_leaver *leaver) {
  nodes_free(&p->b->job.machine.nodes, leaver->node);
  clear(L, p, leaver->node);
  if (leaver->outcome == MACHINE_CLOSED) {
    call(L, p, 0); /* on_close */
  } else if (has_own_error(leaver->outcome)) {
    barrier_take_error(L, p->self, leaver->node);
    if (leaver->outcome == MACHINE_UNCAUGHT) report_error(L, p->report, 0);
  } /* otherwise the coroutine is dead, or the debug library took the element away */
}

/* False if the pass has to end. [-0, +0] */
static bool let_out(lua_State *L, struct pass *p, const struct machine_leaver *leaver) {
  const struct node *node = &p->b->job.machine.nodes.at[leaver->node];
  lua_State *co;
  struct waiter *w;
  bool done = true;
  loop_spend(&p->b->scheduler->loop);
  if (node->deadline) scheduler_clear_deadline(L, p->b->scheduler, &p->b->job, leaver->node);
  lua_rawgeti(L, p->elements, (compat_index)leaver->node);
  co = lua_tothread(L, -1);
  if (co && co == node->key && lua_status(co) == LUA_YIELD)
    done = resume(L, p, co, leaver);
  else if ((w = waiter_at(L, -1)) != NULL && w->node == leaver->node)
    done = call_back(L, p, w, leaver);
  else
    let_go(L, p, leaver);
  if (++p->spent % SPENT == 0) lua_settop(L, p->elements);
  return done;
}

/* }=== */

/* {=== the barrier === */

/* The trip is decided, and the machine held: runs the action, if there is one, and trips, so
** that those inside are ready in the turns after `ready`; the blocked come in later. [-0, +0] */
static void complete_in_turn(lua_State *L, const struct pass *p, uint32_t ready) {
  struct barrier *b = p->b;
  struct machine *m = &b->job.machine;
  enum action_result result = ACTION_TRIPS;
  if (b->has_action)
    result = action_run(L, b, p->self);
  else
    machine_unhold(m, ready);
  if (result == ACTION_TRIPS) {
    machine_trip(m, ready);
    barrier_changed(L, b, p->self);
    if (m->state == MACHINE_FILLING) m->blocked_turn = b->scheduler->turn; /* nobody was inside */
  }
  if (result == ACTION_LOST && !machine_anybody_waits(m)) report_error(L, p->report, 0);
  if (b->has_action) action_settle(L, b, p->self);
  lua_settop(L, p->elements);
}

/* Lets the blocked in. [-0, +0] */
static void admit(lua_State *L, const struct pass *p, uint32_t turn) {
  struct barrier *b = p->b;
  struct machine *m = &b->job.machine;
  if (b->has_timeout) { /* a phase may begin */
    loop_update(L, &b->scheduler->loop);
    if (!deadlines_reserve(&b->scheduler->deadlines, 1)) return; /* in another turn */
  }
  if (!machine_admit(m, turn)) return;
  machine_put_off(m, m->last, MACHINE_BEFORE(turn)); /* should the next fail */
  barrier_keep_phase(L, b, p->self);
  complete_in_turn(L, p, b->scheduler->turn);
}

/* Nobody is left: gives back the memory that a crowd needed. [-0, +0] */
static void rest(lua_State *L, const struct pass *p) {
  if (!machine_rest(&p->b->job.machine)) return;
  compat_pushcfunction(L, barrier_shrink);
  lua_pushvalue(L, p->self);
  lua_pcall(L, 1, 0, 0); /* without memory it stays as it is */
  lua_settop(L, p->elements);
}

/* Lets out and in whoever is ready, of the barrier at `self`. [-0, +0] */
static void drain(lua_State *L, struct barrier *b, int self, uint32_t turn, int report) {
  struct pass p;
  struct machine_leaver leaver;
  luaL_checkstack(L, LUA_MINSTACK + 2 * SPENT, NULL);
  p.b = b;
  p.self = self;
  p.report = report;
  p.spent = 0;
  compat_pushcfunction(L, report_handler);
  p.handler = lua_gettop(L);
  compat_pushcfunction(L, make_error);
  p.maker = p.handler + 1;
  barrier_push_elements(L, self);
  p.elements = p.handler + 2;
  if (machine_is_due(&p.b->job.machine, turn)) complete_in_turn(L, &p, MACHINE_BEFORE(turn));
  while (machine_next(&p.b->job.machine, turn, &leaver))
    if (!let_out(L, &p, &leaver)) break;
  lua_settop(L, p.elements);
  admit(L, &p, turn);
  barrier_changed(L, p.b, self);
  rest(L, &p);
  lua_pop(L, 3);
}

/* }=== */

/* {=== the option `schedule` === */

/* drain(): upvalue 1 is the barrier, nil when it has been called. */
static int drain_now(lua_State *L) {
  struct barrier *b = barrier_at(L, lua_upvalueindex(1));
  bool busy;
  if (b == NULL || b->scheduler->loop.left) return 0;
  lua_settop(L, 0);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushnil(L); /* 1: the report of uncaught errors */
  lua_pushvalue(L, lua_upvalueindex(1));
  busy = machine_busy(&b->job.machine);
  if (busy) { /* for loops that run inside; should it fail, it can be called again */
    scheduler_request(L, b->scheduler, &b->job, 2);
    scheduler_prepare(L, b->scheduler);
  }
  lua_pushnil(L);
  lua_replace(L, lua_upvalueindex(1));
  if (!busy) return 0;
  drain(L, b, 2, scheduler_begin(b->scheduler), 1);
  if (!machine_busy(&b->job.machine)) scheduler_dismiss(L, b->scheduler, &b->job);
  scheduler_settle(L, b->scheduler);
  lua_settop(L, 1);
  return lua_isnil(L, 1) ? 0 : compat_error(L);
}

/* Calls schedule(drain). False if that failed: then the caller drains, which finds no party if
** drain was called before. [-0, +0] */
static bool hand_over(lua_State *L, struct barrier *b, int self, int report) {
  bool succeeds;
  int top = lua_gettop(L);
  lua_pushvalue(L, self);
  lua_pushcclosure(L, drain_now, 1);
  compat_pushcfunction(L, report_handler);
  barrier_push_field(L, self, "schedule");
  if (!is_callable(L, -1)) { /* the debug library took it away */
    lua_settop(L, top);
    return false;
  }
  lua_pushvalue(L, top + 1);
  scheduler_dismiss(L, b->scheduler, &b->job);
  succeeds = lua_pcall(L, 1, 0, top + 2) == LUA_OK;
  if (!succeeds) report_add(L, report);
  lua_settop(L, top);
  return succeeds;
}

void drain_serve(lua_State *L, struct job *job, uint32_t turn, int report) {
  int self = lua_gettop(L);
  struct barrier *b = barrier_at(L, self);
  if (b == NULL || job != &b->job) return; /* the debug library changed the anchor */
  if (b->has_schedule) {
    if (hand_over(L, b, self, report)) return;
    scheduler_prepare(L, b->scheduler); /* schedule may have run the loop */
    scheduler_request(L, b->scheduler, job, self);
  }
  drain(L, b, self, turn, report);
}

/* }=== */
