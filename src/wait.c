#include "wait.h"

#include <string.h>

#include "drain.h"
#include "errors.h"

static const char waiter_type = 'w'; /* its address is the type */

/* What `wait` was asked for. */
struct request {
  uint64_t timeout; /* milliseconds */
  uint64_t when;    /* on the loop's clock; 0: not yet known, or not needed */
  bool timed;
  int callback; /* its index; 0: a coroutine waits */
};

/* {=== the arguments === */

static void check_timeout(lua_State *L, struct request *r) {
  lua_Integer timeout = 0;
  if (!compat_tointeger(L, WAIT_FIRST_ARG, &timeout) || timeout < 0) {
    const char *got = luaL_tolstring(L, WAIT_FIRST_ARG, NULL);
    errors_argument(L, WAIT_LEVEL, 1, "wait",
                    "timeout must be an integer >= 0" COMPAT_MOST ", in milliseconds, got %s", got);
  }
  r->timed = true;
  r->timeout = (uint64_t)timeout;
}

static void check_request(lua_State *L, struct request *r) {
  int second = WAIT_FIRST_ARG + 1;
  int type = lua_type(L, WAIT_FIRST_ARG);
  if (type == LUA_TNUMBER)
    check_timeout(L, r);
  else if (type > LUA_TNIL && is_callable(L, WAIT_FIRST_ARG))
    r->callback = WAIT_FIRST_ARG;
  else if (type > LUA_TNIL)
    errors_argument(L, WAIT_LEVEL, 1, "wait", "timeout or callback expected, got %s",
                    luaL_typename(L, WAIT_FIRST_ARG));
  if (lua_isnoneornil(L, second)) return;
  if (r->callback) errors_argument(L, WAIT_LEVEL, 2, "wait", "nothing comes after the callback");
  if (!is_callable(L, second))
    errors_argument(L, WAIT_LEVEL, 2, "wait", "callback must be callable, got %s",
                    luaL_typename(L, second));
  r->callback = second;
}

#if LUA_VERSION_NUM == 501
#define NO_YIELD_ACROSS "a C function (in Lua 5.1 also pcall, a metamethod or an iterator)"
#else
#define NO_YIELD_ACROSS "a C function"
#endif

void wait_check_can_suspend(lua_State *L, int level, int yieldable) {
#if COMPAT_YIELDK
  bool can = lua_isyieldable(L);
  (void)yieldable;
#else
  bool can = lua_toboolean(L, yieldable);
#endif
  if (can) return;
  if (lua_pushthread(L))
    errors_raise(L, level,
                 "cannot wait outside a coroutine; give wait a callback, or call it in one");
  errors_raise(L, level,
               "cannot wait here: the coroutine cannot yield across " NO_YIELD_ACROSS
               "; give wait a callback");
}

/* }=== */

/* {=== arriving === */

/* Makes room for one node; false if that may have run user code. [-0, +0, m] */
static bool reserve(lua_State *L, struct machine *m) {
  size_t size = ((size_t)m->capacity + 8) * 2 * sizeof(struct machine_node);
  if (machine_reserve(m)) return true;
  do { /* asking for more each time, until there is room, or Lua's memory error */
    errors_memory(L, size);
    size *= 2;
  } while (!machine_reserve(m));
  return false;
}

/* So many waits make a barrier worth a metatable of its own. */
#define WORTH_METATABLE 64u

/* Does all of a wait that may fail or run user code: gives the barrier a metatable,
** starts the timer if the wait makes somebody ready to leave, or for its timeout, and
** makes room for one node. Returns whether it is the last arrival of its trip.
** [-0, +0, e] */
static bool prepare(lua_State *L, struct barrier *b, struct request *r) {
  struct machine *m = &b->job.machine;
  bool prepared = false;
  if (!b->has_metatable && m->tickets >= WORTH_METATABLE) barrier_own_metatable(L, b, 1);
  for (;;) {
    bool trips = machine_would_trip(m);
    bool suspends = !trips && m->state != MACHINE_BROKEN;
    if (!suspends && !prepared && (r->callback || (trips && m->parties > 1))) {
      scheduler_prepare(L, b->scheduler);
      prepared = true;
    } else if (suspends && r->timed && r->when == 0) {
      r->when = scheduler_prepare_deadline(L, b->scheduler, r->timeout);
    } else if (reserve(L, m) && (!r->when || scheduler_reserve_deadline(L, b->scheduler))) {
      return trips;
    }
  }
}

/* The element of the node that comes next becomes the value at `index`: a
** coroutine, a Waiter or an on_close function. [-0, +0, m] */
static void set_element(lua_State *L, struct barrier *b, int index) {
  barrier_push_elements(L, 1);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, (compat_index)machine_vacant(&b->job.machine, NULL));
  lua_pop(L, 1);
}

/* Runs the action for a last arrival that did not enter: the coroutine or Waiter on
** the top. Returns what became of it: MACHINE_PASSED if it may pass or go on waiting,
** MACHINE_FAILED with the error on the top. A turn comes for everybody whom it made
** ready, even if that is what raises an error. [-1, +(0|1), e] */
static enum machine_outcome run_action(lua_State *L, struct barrier *b) {
  struct machine *m = &b->job.machine;
  enum machine_outcome verdict;
  int status;
  barrier_push_elements(L, 1);
  lua_insert(L, -2);
  lua_setfield(L, -2, "runner");
  lua_pop(L, 1);
  machine_hold(m, true);
  status = drain_run_action(L, 1);
  if (compat_getuservalue(L, 1)) {
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "runner");
  }
  lua_pop(L, 1);
  verdict = machine_unhold(m, b->scheduler->turn);
  if (b->type == NULL) luaL_error(L, "the barrier was collected by hand");
  barrier_request(L, b, 1);
  scheduler_prepare(L, b->scheduler); /* the action may have run the loop */
  if (status == LUA_OK) return verdict;
  lua_pushvalue(L, -1);
  barrier_break(L, b, 1);
  barrier_request(L, b, 1);
  return MACHINE_FAILED;
}

/* }=== */

/* {=== coroutine style === */

/* The wait ends with an error. [-0, +0, v] */
static int fail(lua_State *L, enum machine_outcome outcome) {
  if (outcome != MACHINE_FAILED) barrier_push_error(L, 1, outcome);
  return lua_error(L); /* the error is on the top */
}

/* The coroutine was resumed by somebody else. [-0, +0, v] */
static int leave_and_fail(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  lua_settop(L, 1); /* it may have been resumed with very many values */
  if (b) {
    uint32_t n = machine_find(&b->job.machine, L);
    if (n) barrier_leave(L, b, 1, n);
  }
  return fail(L, MACHINE_CANCELLED);
}

#if COMPAT_YIELDK

/* The coroutine goes on, resumed by the barrier or by somebody else. The context is the
** scheduler, which lives as long as the Lua state. */
static int continue_wait(lua_State *L, int status, lua_KContext context) {
  struct scheduler *s = (struct scheduler *)context;
  (void)status;
  if (s->released != L) return leave_and_fail(L);
  s->released = NULL;
  if (s->outcome != MACHINE_PASSED) return fail(L, s->outcome);
  lua_pushinteger(L, (lua_Integer)s->position);
  s->returning = L;
  return 1;
}

#else

void wait_push_passed(lua_State *L) {
  static const char passed = 'p';
  lua_pushlightuserdata(L, (void *)(uintptr_t)&passed);
}

/* (barrier, what wait_arrive returned or what the coroutine was resumed with, but not by
** a barrier that let it pass) */
int wait_finish(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b == NULL) return leave_and_fail(L); /* the debug library, or a late finalizer */
  if (b->scheduler->released == L) {
    b->scheduler->released = NULL;
    return fail(L, b->scheduler->outcome);
  }
  if (machine_find(&b->job.machine, L)) return leave_and_fail(L);
  return lua_gettop(L) - 1; /* it did not suspend */
}

#endif

/* The coroutine waits, among those who come, or `stays` ahead of them. */
static int enter_and_suspend(lua_State *L, struct barrier *b, const struct request *r, bool stays) {
  struct machine *m = &b->job.machine;
  lua_State *S = L; /* what is left to do uses its stack */
  uint32_t n;
  if (!machine_comes_back(m, L)) { /* otherwise its element is still there */
    lua_pushthread(L);
    set_element(L, b, lua_gettop(L));
  }
#if COMPAT_CLOSE
  lua_toclose(L, 1);
#elif LUA_VERSION_NUM == 501
  if (r->when) {
    S = b->scheduler->stack;
    lua_settop(S, 0);
    lua_pushvalue(L, 1);
    lua_xmove(L, S, 1);
  }
  lua_yield(L, 0); /* returns, and raises the error where the coroutine cannot yield */
#endif
  b->scheduler->returning = NULL;
  n = stays ? machine_stay(m, L) : machine_enter(m, L);
  if (r->when) scheduler_set_deadline(S, b->scheduler, &b->job, 1, n, r->when);
#if COMPAT_YIELDK
  return lua_yieldk(L, 0, (lua_KContext)b->scheduler, continue_wait);
#elif LUA_VERSION_NUM == 502
  return lua_yield(L, 0);
#else
  if (r->when) lua_settop(S, 0);
  return -1; /* as lua_yield did */
#endif
}

/* The last arrival runs the action. */
static int act_and_pass(lua_State *L, struct barrier *b, struct request *r) {
  struct machine *m = &b->job.machine;
  enum machine_outcome outcome;
  lua_pushthread(L);
  outcome = run_action(L, b);
  if (outcome != MACHINE_PASSED) return fail(L, outcome);
  if (!machine_lacks_one(m)) { /* somebody left meanwhile: it goes on waiting */
    prepare(L, b, r);
    if (m->state == MACHINE_BROKEN) return fail(L, MACHINE_ABORTED);
  }
  if (!machine_lacks_one(m)) return enter_and_suspend(L, b, r, m->state == MACHINE_FILLING);
  machine_trip(m, b->scheduler->turn);
  barrier_request(L, b, 1);
  lua_pushinteger(L, (lua_Integer)(m->parties - 1));
  return 1;
}

static int wait_in_coroutine(lua_State *L, struct barrier *b, struct request *r) {
  struct machine *m = &b->job.machine;
  bool trips;
  wait_check_can_suspend(L, WAIT_LEVEL, 2);
  if (b->has_metatable && !r->timed && machine_would_wait(m)) /* there is nothing to prepare */
    return enter_and_suspend(L, b, r, false);
  trips = prepare(L, b, r);
  if (m->state == MACHINE_BROKEN) return fail(L, MACHINE_ABORTED);
  if (!trips) return enter_and_suspend(L, b, r, false);
  if (b->has_action) return act_and_pass(L, b, r);
  machine_trip(m, b->scheduler->turn);
  if (m->parties > 1) barrier_request(L, b, 1); /* otherwise no turn is prepared, or needed */
  lua_pushinteger(L, (lua_Integer)(m->parties - 1));
  return 1;
}

#if COMPAT_CLOSE
int wait_close(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b == NULL) return 0;
  if (b->scheduler->returning == L) { /* the usual case: it does not wait any more */
    b->scheduler->returning = NULL;
  } else {
    uint32_t n = machine_find(&b->job.machine, L);
    if (n) barrier_leave(L, b, 1, n);
  }
  return 0;
}
#endif

/* }=== */

/* {=== callback style === */

struct waiter *waiter_at(lua_State *L, int i) {
  struct waiter *w = lua_touserdata(L, i);
  return w && lua_rawlen(L, i) == sizeof(*w) && w->type == &waiter_type ? w : NULL;
}

void waiter_set_error(lua_State *L, int i) {
  if (compat_getuservalue(L, i)) {
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, WAITER_ERROR);
  }
  lua_pop(L, 2);
}

/* [-0, +1, m] */
static struct waiter *push_waiter(lua_State *L, int callback) {
  struct waiter *w = compat_newuserdata(L, sizeof(*w), WAITER_ERROR, 0);
  w->node = 0;
  w->type = &waiter_type;
  compat_getuservalue(L, -1);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, WAITER_BARRIER);
  lua_pushvalue(L, callback);
  lua_rawseti(L, -2, WAITER_CALLBACK);
  lua_pop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &waiter_type);
  lua_setmetatable(L, -2);
  return w;
}

/* The Waiter at `index` never got in, or was thrown out. Its callback gets the
** error on the top, if `outcome` is MACHINE_FAILED. Needs room for a node.
** [-(0|1), +0, m] */
static void post(lua_State *L, struct barrier *b, struct waiter *w, int index,
                 enum machine_outcome outcome) {
  if (outcome == MACHINE_FAILED) waiter_set_error(L, index);
  set_element(L, b, index);
  w->node = machine_post(&b->job.machine, outcome, b->scheduler->turn);
}

/* The Waiter at `index` waits, as in enter_and_suspend. */
static void enter(lua_State *L, struct barrier *b, const struct request *r, struct waiter *w,
                  int index, bool stays) {
  struct machine *m = &b->job.machine;
  set_element(L, b, index);
  w->node = stays ? machine_stay(m, NULL) : machine_enter(m, NULL);
  if (r->when) scheduler_set_deadline(L, b->scheduler, &b->job, 1, w->node, r->when);
}

/* The last arrival, a Waiter, runs the action. */
static void act_and_enter(lua_State *L, struct barrier *b, struct request *r, struct waiter *w,
                          int index) {
  struct machine *m = &b->job.machine;
  enum machine_outcome outcome;
  lua_pushvalue(L, index);
  outcome = run_action(L, b);
  if (outcome == MACHINE_ABORTED) { /* with the reason of now */
    barrier_push_error(L, 1, outcome);
    outcome = MACHINE_FAILED;
  }
  prepare(L, b, r);
  if (outcome == MACHINE_PASSED && m->state != MACHINE_BROKEN) {
    bool trips = machine_lacks_one(m);
    if (trips) r->when = 0; /* after the trip its timeout does not count */
    enter(L, b, r, w, index, m->state == MACHINE_FILLING);
    if (trips) machine_trip(m, b->scheduler->turn);
  } else if (outcome != MACHINE_CANCELLED) { /* that is a Waiter that was closed */
    post(L, b, w, index, outcome == MACHINE_PASSED ? MACHINE_ABORTED : outcome);
  }
}

static int wait_with_callback(lua_State *L, struct barrier *b, struct request *r) {
  struct machine *m = &b->job.machine;
  struct waiter *w = push_waiter(L, r->callback);
  int index = lua_gettop(L);
  bool trips = prepare(L, b, r);
  bool suspends = !trips && m->state != MACHINE_BROKEN;
  if (m->state == MACHINE_BROKEN) { /* the error, which may run finalizers */
    barrier_push_error(L, 1, MACHINE_ABORTED);
    prepare(L, b, r);
    post(L, b, w, index, MACHINE_FAILED);
  } else if (trips && b->has_action) {
    act_and_enter(L, b, r, w, index);
  } else {
    enter(L, b, r, w, index, false);
    if (trips) machine_trip(m, b->scheduler->turn);
  }
  if (!suspends) barrier_request(L, b, 1); /* otherwise no turn is prepared, or needed */
  lua_settop(L, index);
  return 1;
}

/* Takes the Waiter at index 1 out; its barrier is at index 3, its user value at 4. */
static void take_out(lua_State *L, struct barrier *b, struct waiter *w) {
  lua_pushboolean(L, 0);
  lua_rawseti(L, 4, WAITER_CALLBACK);
  if (w->node) {
    uint32_t n = w->node;
    w->node = 0;
    barrier_leave(L, b, 3, n);
  } else if (b->job.machine.extra && compat_getuservalue(L, 3)) {
    lua_getfield(L, -1, "runner"); /* it is called by the action */
    if (lua_rawequal(L, -1, 1)) machine_dismiss_extra(&b->job.machine);
  }
}

/* waiter:close([on_close]) */
static int waiter_close(lua_State *L) {
  struct waiter *w = waiter_at(L, 1);
  struct barrier *b;
  bool notify = !lua_isnoneornil(L, 2);
  if (w == NULL)
    errors_raise(L, 1, "calling 'close' on bad self (Waiter expected, got %s)",
                 luaL_typename(L, 1));
  if (notify && !is_callable(L, 2))
    errors_argument(L, 1, 1, "close", "on_close must be callable, got %s", luaL_typename(L, 2));
  lua_settop(L, 3);
  if (!compat_getuservalue(L, 1)) return 0;
  lua_rawgeti(L, 4, WAITER_BARRIER);
  lua_replace(L, 3);
  b = barrier_at(L, 3);
  if (b == NULL) return 0; /* it was collected together with the Waiter */
  if (notify) {
    do scheduler_prepare(L, b->scheduler);
    while (!reserve(L, &b->job.machine));
    barrier_push_elements(L, 3);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, (compat_index)machine_vacant(&b->job.machine, NULL));
    machine_post(&b->job.machine, MACHINE_CLOSED, b->scheduler->turn);
    barrier_request(L, b, 3);
  }
  take_out(L, b, w);
  return 0;
}

static int waiter_tostring(lua_State *L) {
  const struct waiter *w = waiter_at(L, 1);
  if (w == NULL) return luaL_error(L, "Waiter expected, got %s", luaL_typename(L, 1));
  lua_pushfstring(L, "<barrier.Waiter object at %p [%s]>", (const void *)w,
                  w->node ? "waiting" : "done");
  return 1;
}

void wait_open(lua_State *L) {
  lua_newtable(L);
  lua_pushliteral(L, "barrier.Waiter");
  lua_setfield(L, -2, "__name");
  lua_pushcfunction(L, waiter_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_newtable(L);
  lua_pushcfunction(L, waiter_close);
  lua_setfield(L, -2, "close");
  lua_setfield(L, -2, "__index");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &waiter_type);
}

/* }=== */

int wait_arrive(lua_State *L) {
  struct barrier *b = barrier_check(L, WAIT_LEVEL, "wait");
  struct request r = {0, 0, false, 0};
#if !COMPAT_YIELDK
  b->scheduler->released = NULL; /* the last one took `passed` for it */
#endif
  if (lua_gettop(L) >= WAIT_FIRST_ARG) check_request(L, &r);
  if (r.callback) return wait_with_callback(L, b, &r);
  return wait_in_coroutine(L, b, &r);
}

/* {=== can the running coroutine yield? === */

#if LUA_VERSION_NUM == 502

static int raise_nil(lua_State *L) {
  lua_pushnil(L);
  return lua_error(L);
}

static int can_yield(lua_State *L) {
  lua_pushboolean(L, 1);
  return 1;
}

/* Lua 5.2 calls the continuation of a protected call that failed only where the
** coroutine can yield. */
static int isyieldable(lua_State *L) {
  lua_pushcfunction(L, raise_nil);
  lua_pcallk(L, 0, 0, 0, 0, can_yield);
  lua_pushboolean(L, 0);
  return 1;
}

void wait_push_isyieldable(lua_State *L) { lua_pushcfunction(L, isyieldable); }

#elif LUA_VERSION_NUM == 501

/* Lua 5.1 can yield where no C function, iterator or metamethod has called Lua.
** What it cannot be asked is whether a metamethod has; then lua_yield itself
** raises the error. */
static int isyieldable(lua_State *L) {
  lua_Debug ar;
  bool can = !lua_pushthread(L);
  for (int level = 1; can && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "nS", &ar);
    can = *ar.what != 'C' && !(ar.name && strcmp(ar.name, "(for generator)") == 0);
  }
  lua_pushboolean(L, can);
  return 1;
}

void wait_push_isyieldable(lua_State *L) {
  lua_getglobal(L, "coroutine");
  lua_getfield(L, -1, "isyieldable"); /* LuaJIT has it */
  lua_remove(L, -2);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_pushcfunction(L, isyieldable);
}

#endif

/* }=== */
