#include "drain.h"

#include "errors.h"
#include "wait.h"

/* What one pass over a barrier has on the stack, all of it before anyone is let
** out, so that nothing has to be made while somebody is on the way. */
struct pass {
  struct barrier *b;
  int self;     /* the barrier */
  int elements; /* its user value */
  int handler;  /* error_report, for lua_pcall */
  int maker;    /* make_error */
  int errors;   /* the report of uncaught errors: nil or a string */
};

/* {=== errors that nobody caught === */

/* (error, thread or nil) -> the error as a string, with a traceback. */
static int error_report(lua_State *L) {
  lua_State *co = lua_tothread(L, 2);
  const char *message;
  lua_settop(L, 1);
  message = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, co ? co : L, message, co ? 0 : 1);
  return 1;
}

/* Adds what error_report made, on the top, to the report. [-1, +0] */
static void add_report(lua_State *L, int errors) {
  if (!lua_isstring(L, -1)) { /* it failed itself */
    lua_pop(L, 1);
    lua_pushliteral(L, "(error in error handling)");
  }
  if (!lua_isnil(L, errors)) {
    lua_pushvalue(L, errors);
    lua_pushliteral(L, "\n");
    lua_pushvalue(L, -3);
    lua_concat(L, 3);
    lua_remove(L, -2);
  }
  lua_replace(L, errors);
}

/* Reports the error on the top, of the coroutine at index `co` or of nobody who
** could be traced (0). [-1, +0] */
static void report(lua_State *L, const struct pass *p, int co) {
  lua_pushvalue(L, p->handler);
  lua_insert(L, -2);
  if (co)
    lua_pushvalue(L, co);
  else
    lua_pushnil(L);
  lua_pcall(L, 2, 1, 0);
  add_report(L, p->errors);
}

/* The coroutine at the top died: its error is on its own top. As lcorolib.c does:
** closes its pending variables, which may raise another error. [-0, +0] */
static void bury(lua_State *L, const struct pass *p, lua_State *co) {
  int thread = lua_gettop(L);
  lua_xmove(co, L, 1);
  lua_pushvalue(L, -1);
  lua_pushvalue(L, -1);
  lua_xmove(L, co, 1);
  report(L, p, thread);
  if (COMPAT_CLOSE) {
    compat_closethread(co);
    if (lua_gettop(co) > 0) {
      lua_xmove(co, L, 1);
      if (!lua_rawequal(L, -1, -2)) {
        lua_pushvalue(L, -1);
        report(L, p, 0);
      }
    }
  }
  lua_settop(L, thread);
}

/* }=== */

/* {=== one waiter === */

/* (barrier, outcome) -> its error */
static int make_error(lua_State *L) {
  barrier_push_error(L, 1, (enum machine_outcome)lua_tointeger(L, 2));
  return 1;
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
  struct scheduler *s = p->b->scheduler;
  uint32_t previous = machine_park(m, leaver->node);
  int nargs = 0;
  int status;
  s->released = co;
  s->outcome = leaver->outcome;
  s->position = leaver->position;
  if (leaver->outcome == MACHINE_FAILED) {
    lua_getfield(L, p->elements, "failure");
    lua_xmove(L, co, 1);
    nargs = 1;
  }
#if !COMPAT_YIELDK
  if (leaver->outcome == MACHINE_PASSED) {
    wait_push_passed(co);
    lua_pushinteger(co, (lua_Integer)leaver->position);
    nargs = 2;
  }
#endif
  status = compat_resume(co, L, nargs);
  if (status > LUA_YIELD && lua_status(co) == LUA_YIELD) {
    /* "C stack overflow": nothing has run; no coverage on Lua 5.1, which counts otherwise */
    lua_pop(co, 1);
    m->parked = previous;
    machine_put_back(m, leaver, s->turn);
    return false;
  }
  s->released = NULL;
  if (machine_unpark(m, leaver->node, previous)) clear(L, p, leaver->node);
  if (status > LUA_YIELD) bury(L, p, co);
  return true;
}

/* Calls the function below `nargs` arguments on the top. [-(nargs + 1), +0] */
static void call(lua_State *L, const struct pass *p, int nargs) {
  if (!lua_toboolean(L, -(nargs + 1)))
    lua_pop(L, nargs + 1); /* closed, or the debug library took it away */
  else if (lua_pcall(L, nargs, 0, p->handler) != LUA_OK)
    add_report(L, p->errors);
}

/* There was no memory for the error of a Waiter: that memory error, on the top, is
** reported, and the Waiter is told in another turn, unless it is closed. [-1, +0] */
static void postpone(lua_State *L, const struct pass *p, struct waiter *w,
                     const struct machine_leaver *leaver) {
  struct machine *m = &p->b->job.machine;
  machine_release(m, leaver->node); /* and taken again: its element is still there */
  w->node = machine_post(m, leaver->outcome, p->b->scheduler->turn);
  report(L, p, 0);
}

/* Calls back the Waiter at the top. False if it has to be done in another turn. */
static bool call_back(lua_State *L, const struct pass *p, struct waiter *w,
                      const struct machine_leaver *leaver) {
  struct machine *m = &p->b->job.machine;
  int nargs = 1;
  w->node = 0; /* from here on it is out, also for a finalizer that closes it */
  if (!compat_getuservalue(L, -1)) { /* the debug library took it away */
    /* no coverage on Lua 5.1, where it is always a table */
    machine_release(m, leaver->node);
    return true;
  }
  if (leaver->outcome == MACHINE_PASSED) {
    lua_pushnil(L);
    lua_pushinteger(L, (lua_Integer)leaver->position);
    nargs = 2;
  } else {
    lua_rawgeti(L, -1, WAITER_ERROR);
    if (!lua_toboolean(L, -1)) { /* none, or an action raised nil: that would look like none */
      lua_pop(L, 1);
      lua_pushvalue(L, p->maker);
      lua_pushvalue(L, p->self);
      lua_pushinteger(L, leaver->outcome);
      if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
        postpone(L, p, w, leaver);
        return false;
      }
    }
  }
  machine_release(m, leaver->node);
  clear(L, p, leaver->node);
  lua_rawgeti(L, -(nargs + 1), WAITER_CALLBACK); /* false: it was closed */
  lua_insert(L, -(nargs + 1));
  lua_pushboolean(L, 0);
  lua_rawseti(L, -(nargs + 3), WAITER_CALLBACK);
  if (leaver->outcome == MACHINE_FAILED && lua_isboolean(L, -2))
    report(L, p, 0); /* the action closed the Waiter, and then failed */
  else
    call(L, p, nargs);
  return true;
}

/* [-0, +0] */
static bool let_out(lua_State *L, const struct pass *p, const struct machine_leaver *leaver) {
  struct machine *m = &p->b->job.machine;
  lua_State *co;
  struct waiter *w;
  bool done = true;
  scheduler_spend(p->b->scheduler);
  if (m->nodes[leaver->node].deadline)
    scheduler_clear_deadline(L, p->b->scheduler, &p->b->job, leaver->node);
  lua_rawgeti(L, p->elements, (compat_index)leaver->node);
  co = lua_tothread(L, -1);
  if (co && co == m->nodes[leaver->node].key) {
    done = resume(L, p, co, leaver);
  } else if (leaver->outcome == MACHINE_CLOSED) {
    machine_release(m, leaver->node);
    clear(L, p, leaver->node);
    call(L, p, 0);
  } else if ((w = waiter_at(L, -1)) != NULL && w->node == leaver->node) {
    done = call_back(L, p, w, leaver);
  } else { /* the debug library took it away */
    machine_release(m, leaver->node);
  }
  lua_settop(L, p->elements); /* the last of the pass's own */
  return done;
}

/* }=== */

/* {=== the barrier === */

int drain_run_action(lua_State *L, int self) {
  self = lua_absindex(L, self);
  if (compat_getuservalue(L, self)) {
    lua_getfield(L, -1, "action");
    lua_remove(L, -2);
  }
  if (!is_callable(L, -1)) { /* the debug library took it away */
    lua_pop(L, 1);
    return LUA_OK;
  }
  lua_pushvalue(L, self);
  return lua_pcall(L, 1, 0, 0);
}

/* The last arrival was let in and the barrier is full: it trips. [-0, +0] */
static void trip(lua_State *L, const struct pass *p) {
  struct barrier *b = p->b;
  struct machine *m = &b->job.machine;
  uint32_t last = m->queues[m->inside].last;
  uint64_t ticket = m->nodes[last].ticket;
  bool full;
  int status;
  if (!b->has_action) {
    machine_trip(m, b->scheduler->turn);
    return;
  }
  machine_hold(m, false);
  status = drain_run_action(L, p->self);
  full = machine_full(m);
  machine_unhold(m, b->scheduler->turn);
  if (b->type == NULL) return; /* the debug library had it collected */
  if (status != LUA_OK) {
    struct machine_node *node = &m->nodes[last];
    if (last <= m->used && node->ticket == ticket && node->place == m->inside) {
      const struct waiter *w;
      lua_rawgeti(L, p->elements, (compat_index)last);
      w = waiter_at(L, -1);
      lua_pushvalue(L, -2);
      if (w)
        waiter_set_error(L, -2);
      else
        lua_setfield(L, p->elements, "failure");
      lua_pop(L, 1);
      node->outcome = MACHINE_FAILED;
    } else { /* the last arrival is gone, so nobody gets the error */
      lua_pushvalue(L, -1);
      report(L, p, 0);
    }
    barrier_break(L, b, p->self);
  } else if (full) {
    machine_trip(m, b->scheduler->turn);
  }
}

/* Lets out and in whoever is ready, of the barrier at `self`. [-0, +0] */
static void drain(lua_State *L, int self, uint32_t turn, int errors) {
  struct pass p;
  struct machine_leaver leaver;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  p.b = lua_touserdata(L, self);
  p.self = self;
  p.errors = errors;
  compat_pushcfunction(L, error_report);
  p.handler = lua_gettop(L);
  compat_pushcfunction(L, make_error);
  p.maker = p.handler + 1;
  p.elements = p.handler + 2;
  if (!compat_getuservalue(L, self)) { /* the debug library took it away: all are lost */
    /* no coverage on Lua 5.1, where it is always a table */
    lua_pop(L, 1);
    lua_newtable(L);
  }
  while (machine_next(&p.b->job.machine, turn, &leaver))
    if (!let_out(L, &p, &leaver)) break;
  if (machine_admit(&p.b->job.machine, turn)) trip(L, &p);
  if (p.b->type) barrier_request(L, p.b, self); /* the action may have run the loop */
  lua_pop(L, 3);
}

/* }=== */

/* {=== the option `schedule` === */

/* drain(): upvalue 1 is the barrier, nil when it has been called. */
static int drain_now(lua_State *L) {
  struct barrier *b = barrier_at(L, lua_upvalueindex(1));
  bool busy;
  if (b == NULL) return 0;
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
  drain(L, 2, scheduler_begin(b->scheduler), 1);
  if (!machine_busy(&b->job.machine)) scheduler_dismiss(L, b->scheduler, &b->job);
  scheduler_settle(L, b->scheduler);
  lua_settop(L, 1);
  return lua_isnil(L, 1) ? 0 : compat_error(L);
}

/* Calls schedule(drain). False if that failed and the waiters are still to be let
** out. [-0, +0] */
static bool hand_over(lua_State *L, struct barrier *b, int self, int errors) {
  bool called = true;
  int top = lua_gettop(L);
  if (!compat_getuservalue(L, self)) return false;
  lua_getfield(L, -1, "schedule");
  if (lua_isnil(L, -1)) { /* the debug library took it away */
    lua_settop(L, top);
    return false;
  }
  lua_settop(L, top);
  lua_pushvalue(L, self);
  lua_pushcclosure(L, drain_now, 1);
  compat_pushcfunction(L, error_report);
  compat_getuservalue(L, self);
  lua_getfield(L, -1, "schedule");
  lua_pushvalue(L, top + 1);
  scheduler_dismiss(L, b->scheduler, &b->job);
  if (lua_pcall(L, 1, 0, top + 2) != LUA_OK) {
    add_report(L, errors);
    lua_getupvalue(L, top + 1, 1);
    called = lua_isnil(L, -1);
  }
  lua_settop(L, top);
  return called;
}

void drain_serve(lua_State *L, struct job *job, uint32_t turn, int errors) {
  int self = lua_gettop(L);
  struct barrier *b = barrier_at(L, self);
  if (b == NULL || job != &b->job) return; /* the debug library changed the anchor */
  if (b->has_schedule) {
    if (hand_over(L, b, self, errors)) return;
    scheduler_prepare(L, b->scheduler); /* schedule may have run the loop */
    scheduler_request(L, b->scheduler, job, self);
  }
  drain(L, self, turn, errors);
}

/* }=== */
