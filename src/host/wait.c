#include "wait.h"

#include "cancels.h"
#include "coroutine.h"
#include "scheduler.h"
#include "waiter.h"

void wait_check(lua_State *L, const struct room *r, struct request *q) {
  coroutine_check(L, REQUEST_LEVEL, 2);
  q->cancelled = r->scheduler->cancels && cancels_take(L, r->scheduler);
}

void wait_begin(lua_State *L, const struct room *r, struct request *q) {
  struct loop *loop = &r->scheduler->loop;
  if (!q->timed) return;
  loop_update(L, loop);
  q->when = loop_after(loop, q->timeout);
}

bool wait_is_deferred(lua_State *L, const struct room *r) {
  bool deferred;
  if (!r->defers) return false;
  room_push_field(L, 1, "defers");
  lua_call(L, 0, 1);
  deferred = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return deferred;
}

bool wait_wakes(lua_State *L, struct room *r, struct request *q, bool turn, uint64_t when) {
  struct loop *loop = &r->scheduler->loop;
  if (turn && !(q->woken && scheduler_is_prepared(r->scheduler, r))) {
    scheduler_prepare(L, r->scheduler, r);
    q->woken = true;
    return false;
  }
  if (when != LOOP_NEVER && !(q->armed && loop_wakes_by(loop, when))) {
    loop_wake_at(L, loop, when);
    q->armed = true;
    return false;
  }
  return true;
}

void wait_set_deadline(lua_State *S, struct room *r, const struct request *q, uint32_t node) {
  if (q->timed) scheduler_set_deadline(S, r->scheduler, r, 1, node, q->when, q->timeout);
}

/* Keeps the error with which the node that comes next will fail. [-0, +0, m] */
static void keep_error(lua_State *L, const struct room *r, const struct request *q,
                       const void *key) {
  if (q->error == 0) return;
  lua_pushvalue(L, q->error);
  room_keep_error(L, 1, nodes_vacant(r->nodes, key));
}

static uint32_t enter_or_fail(lua_State *S, struct room *r, const void *key, struct request *q,
                              wait_enter enter) {
  uint32_t n;
  if (q->error == 0 && !q->cancelled) return enter(S, r, key, q);
  n = nodes_post(r->nodes, key, q->cancelled ? OUTCOME_CANCELLED : OUTCOME_FAILED,
                 r->scheduler->turn);
  room_changed(S, r, 1);
  return n;
}

int wait_too_late(lua_State *L, const struct request *q) {
  if (q->callback) {
    waiter_push(L, 1, q->callback);
    return coroutine_return(L);
  }
  coroutine_check(L, REQUEST_LEVEL, 2);
  lua_settop(L, 1);
  coroutine_begin(L);
  return coroutine_end(L);
}

int wait_suspend(lua_State *L, struct room *r, struct request *q, wait_enter enter) {
  lua_State *S;
  coroutine_ready(L, r);
  keep_error(L, r, q, L);
  coroutine_begin(L);
  S = coroutine_stack(L, r);
  enter_or_fail(S, r, L, q, enter);
  lua_settop(S, S == L ? 1 : 0);
  return coroutine_end(L);
}

uint32_t wait_call_back(lua_State *L, struct room *r, struct request *q, int waiter,
                        wait_enter enter) {
  struct waiter *w = waiter_at(L, waiter);
  room_set_element(L, r, 1, nodes_vacant(r->nodes, NULL), waiter);
  keep_error(L, r, q, NULL);
  w->node = enter_or_fail(L, r, NULL, q, enter);
  return w->node;
}
