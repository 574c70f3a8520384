#include "drain.h"

#include "coroutine.h"
#include "report.h"
#include "request.h"
#include "scheduler.h"
#include "waiter.h"

/* {=== one waiter === */

/* (room, outcome, node) -> its error */
static int make_error(lua_State *L) {
  room_push_error(L, 1, (enum outcome)lua_tointeger(L, 2), (uint32_t)lua_tointeger(L, 3));
  return 1;
}

static bool keeps_error(enum outcome outcome) { return outcome_facts(outcome)->keeps_error; }

/* The element of a parked node becomes false. [-0, +0] */
static void clear(lua_State *L, const struct pass *p, uint32_t node) {
  lua_pushboolean(L, 0);
  lua_rawseti(L, p->elements, (compat_index)node);
}

/* Resumes the coroutine at the top. False if no C stack is left to resume it: the party is
** back in the barrier. [-0, +0] */
static bool resume(lua_State *L, const struct pass *p, lua_State *co, const struct leaver *leaver) {
  struct nodes *nodes = p->nodes;
  uint32_t previous = nodes_park(nodes, leaver->node);
  bool own = leaver->outcome != OUTCOME_PASSED && keeps_error(leaver->outcome);
  int status;
  if (own) {
    room_take_error(L, p->self, leaver->node);
    lua_pushvalue(L, -1);
  }
  status = coroutine_resume(L, co, leaver);
  if (status > LUA_YIELD && lua_status(co) == LUA_YIELD) {
    /* "C stack overflow": nothing has run; no coverage on Lua 5.1, which counts otherwise */
    lua_pop(co, 1);
    if (own) room_keep_error(L, p->self, leaver->node);
    nodes_park(nodes, previous);
    p->room->kind->put_back(p->room, leaver);
    return false;
  }
  if (own) lua_pop(L, 1);
  if (nodes_unpark(nodes, leaver->node, previous)) clear(L, p, leaver->node);
  if (status > LUA_YIELD) report_death(L, PASS_REPORT, co);
  return true;
}

/* Calls the function below `nargs` arguments on the top. [-(nargs + 1), +0] */
static void call(lua_State *L, int nargs) {
  if (!lua_toboolean(L, -(nargs + 1)))
    lua_pop(L, nargs + 1); /* closed, or the debug library took it away */
  else if (lua_pcall(L, nargs, 0, PASS_HANDLER) != LUA_OK)
    report_add(L, PASS_REPORT);
}

/* Pushes the error for a Waiter's callback; false with a memory error instead. An action's
** error that is nil would look like success: the callback gets a BrokenBarrierError.
** [-0, +1] */
static bool push_error(lua_State *L, const struct pass *p, const struct leaver *leaver) {
  if (keeps_error(leaver->outcome)) {
    room_take_error(L, p->self, leaver->node);
    if (lua_toboolean(L, -1)) return true;
    lua_pop(L, 1);
  }
  lua_pushvalue(L, PASS_MAKER);
  lua_pushvalue(L, p->self);
  lua_pushinteger(L, leaver->outcome);
  lua_pushinteger(L, (lua_Integer)leaver->node);
  return lua_pcall(L, 3, 1, 0) == LUA_OK;
}

/* Calls back the Waiter at the top. False if another turn has to do so, as there was no
** memory for its error: the memory error is reported. */
static bool call_back(lua_State *L, const struct pass *p, struct waiter *w,
                      const struct leaver *leaver) {
  struct nodes *nodes = p->nodes;
  int nargs = 1;
  w->node = 0; /* from here on it is out, also for a finalizer that closes it */
  if (leaver->outcome == OUTCOME_PASSED) {
    lua_pushnil(L);
    compat_pushcount(L, leaver->position);
    nargs = 2;
  } else if (!push_error(L, p, leaver)) {
    nodes_free(nodes, leaver->node); /* and taken again: its element is still there */
    w->node = nodes_post(nodes, NULL, leaver->outcome, p->room->scheduler->turn);
    report_error(L, PASS_REPORT, 0);
    return false;
  }
  nodes_free(nodes, leaver->node);
  clear(L, p, leaver->node);
  waiter_take_callback(L, -(nargs + 1));
  lua_insert(L, -(nargs + 1));
  call(L, nargs);
  return true;
}

/* Lets out a leaver that is neither resumed nor called back. Its element is at the top: nil for a
** lost error, where clearing it would want memory, and the error would be lost once more.
** [-0, +0] */
static void let_go(lua_State *L, const struct pass *p, const struct leaver *leaver) {
  nodes_free(p->nodes, leaver->node);
  if (!lua_isnil(L, -1)) clear(L, p, leaver->node);
  if (leaver->outcome == OUTCOME_CLOSED) {
    call(L, 0); /* on_close */
  } else if (keeps_error(leaver->outcome)) {
    room_take_error(L, p->self, leaver->node);
    if (leaver->outcome == OUTCOME_UNCAUGHT) report_error(L, PASS_REPORT, 0);
  } /* otherwise the coroutine is dead, or the debug library took the element away */
}

/* False if the pass has to end. [-0, +0] */
static bool let_out(lua_State *L, struct pass *p, const struct leaver *leaver) {
  const struct node *node = &p->nodes->at[leaver->node];
  lua_State *co;
  struct waiter *w;
  bool done = true;
  loop_spend(&p->room->scheduler->loop);
  if (node->deadline) scheduler_clear_deadline(L, p->room->scheduler, p->room, leaver->node);
  lua_rawgeti(L, p->elements, (compat_index)leaver->node);
  co = lua_tothread(L, -1);
  if (co && co == node->key && lua_status(co) == LUA_YIELD)
    done = resume(L, p, co, leaver);
  else if ((w = waiter_at(L, -1)) != NULL && w->node == leaver->node)
    done = call_back(L, p, w, leaver);
  else
    let_go(L, p, leaver);
  if (++p->spent % DRAIN_SPENT == 0) lua_settop(L, p->elements);
  return done;
}

/* }=== */

/* {=== the room === */

/* No party is left: gives back the memory that a crowd needed. [-0, +0] */
static void rest(lua_State *L, const struct pass *p) {
  if (!nodes_rest(p->nodes)) return;
  compat_pushcfunction(L, room_shrink);
  lua_pushvalue(L, p->self);
  lua_pcall(L, 1, 0, 0); /* without memory it stays as it is */
  lua_settop(L, p->elements);
}

/* Lets out the parties of the room at `self`, on the top, that are ready. What it leaves on the
** stack is for the caller to pop, all at once. */
static void drain(lua_State *L, struct room *r, int self, uint32_t turn) {
  bool (*next)(struct room *, uint32_t, struct leaver *) = r->kind->next;
  struct pass p = {r, r->nodes, self, self + 1, 0};
  struct leaver leaver;
  room_push_elements(L, self);
  r->scheduler->serving = r->scheduler->turn;
  if (r->kind->begin) r->kind->begin(L, &p, turn);
  while (next(r, turn, &leaver))
    if (!let_out(L, &p, &leaver)) break;
  if (r->kind->end) r->kind->end(L, &p, turn);
  r->scheduler->serving = r->scheduler->turn - 1;
  if (r->kind->changed) r->kind->changed(L, r, self);
  if (r->kind->busy(r))
    scheduler_request(L, r->scheduler, r, self);
  else
    scheduler_dismiss(L, r->scheduler, r);
  rest(L, &p);
}

/* }=== */

/* {=== the option `schedule` === */

void drain_begin(lua_State *L) {
  lua_settop(L, 0);
  luaL_checkstack(L, DRAIN_STACK, NULL);
  lua_pushnil(L);
  compat_pushcfunction(L, report_handler);
  compat_pushcfunction(L, make_error);
}

int drain_end(lua_State *L, struct scheduler *s) {
  scheduler_settle(L, s);
  lua_settop(L, PASS_REPORT);
  return lua_isnil(L, PASS_REPORT) ? 0 : compat_error(L);
}

/* drain(): upvalue 1 is the room, nil once drain has been called. */
static int drain_now(lua_State *L) {
  struct room *r = room_at(L, lua_upvalueindex(1));
  bool busy;
  if (r == NULL || r->scheduler->loop.left) return 0;
  drain_begin(L);
  lua_pushvalue(L, lua_upvalueindex(1));
  busy = r->kind->busy(r);
  if (busy) { /* for loops that run inside; should it fail, it can be called again */
    scheduler_request(L, r->scheduler, r, PASS_FRAME + 1);
    scheduler_prepare(L, r->scheduler, r);
  }
  lua_pushnil(L);
  lua_replace(L, lua_upvalueindex(1));
  if (!busy) return 0;
  drain(L, r, PASS_FRAME + 1, scheduler_begin(r->scheduler));
  return drain_end(L, r->scheduler);
}

/* Calls schedule(drain). False if that failed: then the caller drains, which finds no party if
** drain was called before. [-0, +0] */
static bool hand_over(lua_State *L, struct room *r, int self) {
  bool succeeds;
  int top = lua_gettop(L);
  lua_pushvalue(L, self);
  lua_pushcclosure(L, drain_now, 1);
  room_push_field(L, self, "schedule");
  if (!is_callable(L, -1)) { /* the debug library took it away */
    lua_settop(L, top);
    return false;
  }
  lua_pushvalue(L, top + 1);
  scheduler_dismiss(L, r->scheduler, r);
  succeeds = lua_pcall(L, 1, 0, PASS_HANDLER) == LUA_OK;
  if (!succeeds) report_add(L, PASS_REPORT);
  lua_settop(L, top);
  return succeeds;
}

void drain_serve(lua_State *L, struct room *r, uint32_t turn) {
  int self = lua_gettop(L);
  if (r->has_schedule) {
    if (hand_over(L, r, self)) {
      if (!r->kind->busy(r)) scheduler_dismiss(L, r->scheduler, r); /* all left meanwhile */
      return;
    }
    scheduler_prepare(L, r->scheduler, r); /* schedule may have run the loop */
    scheduler_request(L, r->scheduler, r, self);
  }
  drain(L, r, self, turn);
}

/* }=== */
