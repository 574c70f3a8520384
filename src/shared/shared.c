#include "shared.h"

#include <string.h>

#include "../host/coroutine.h"
#include "../host/errors.h"
#include "../host/wait.h"
#include "../host/waiter.h"

/* True if the hub must not be asked any more. */
bool shared_is_cut_off(const struct shared *b) {
  return b->member == NULL || b->state->hub.closed || hub_is_forked(&b->state->hub);
}

/* {=== the state === */

/* Unless a party waits, the loop may end. [-0, +0, e] */
static void let_loop_go(lua_State *L, void *ud) {
  struct shared_state *s = (struct shared_state *)ud;
  if (s->waiting == 0 && s->wake.holds) wake_let_go(L, &s->wake);
}

struct shared_state *shared_open(lua_State *L, struct scheduler *s) {
  struct shared_state *state = (struct shared_state *)lua_newuserdata(L, sizeof(*state));
  memset(state, 0, sizeof(*state));
  hub_open(&state->hub);
  state->scheduler = s;
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  state->known = luaL_ref(L, LUA_REGISTRYINDEX);
  s->rest = let_loop_go;
  s->rest_ud = state;
  return state;
}

void shared_close(struct shared_state *s) {
  s->scheduler->rest = NULL;
  hub_close(&s->hub);
}

/* The callback of the handle: a party of this state is ready. Upvalue 1: the state. */
static int on_wake(lua_State *L) {
  struct shared_state *s = (struct shared_state *)lua_touserdata(L, lua_upvalueindex(1));
  lua_settop(L, 0);
  if (s->hub.closed || s->scheduler->loop.left) return 0;
  if (hub_is_forked(&s->hub)) { /* the pipe is the parent's */
    wake_close(L, &s->wake);
    return 0;
  }
  scheduler_prepare(L, s->scheduler, NULL); /* should it fail, the pipe is still readable */
  hub_acknowledge(&s->hub);
  shared_collect(L, s);
  return 0;
}

void shared_bind(lua_State *L, struct shared_state *s, int uv) {
  uv = lua_absindex(L, uv);
  if (!s->is_bound) {
    lua_pushlightuserdata(L, s);
    lua_pushcclosure(L, on_wake, 1);
    wake_open(L, &s->wake, &s->scheduler->loop);
  }
  s->is_bound = true;
  wake_bind(L, &s->wake, uv);
}

/* }=== */

/* {=== the userdata === */

struct shared *shared_at(lua_State *L, int i) {
  return (struct shared *)room_of_kind(L, i, &shared_kind, sizeof(struct shared));
}

struct shared *shared_check(lua_State *L, int level, const char *name) {
  struct shared *b = shared_at(L, 1);
  if (b == NULL && room_gone_at(L, 1, &shared_kind, sizeof(struct shared)) == NULL)
    errors_raise(L, level, "calling '%s' on bad self (shared barrier expected, got %s)", name,
                 luaL_typename(L, 1));
  if (b == NULL || b->state->hub.closed || b->member == NULL) return NULL;
  if (hub_is_forked(&b->state->hub)) errors_raise(L, level, SHARED_FORKED);
  return b;
}

struct shared *shared_push(lua_State *L, struct shared_state *s, uint32_t parties) {
  struct shared *b;
  size_t length = lua_rawlen(L, 1);
  void *ud;
  nodes_alloc alloc = lua_getallocf(L, &ud);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->known);
  lua_pushvalue(L, 1);
  lua_rawget(L, -2);
  b = shared_at(L, -1);
  if (b && b->member) {
    lua_remove(L, -2);
    return b;
  }
  lua_pop(L, 1);
  b = (struct shared *)room_new(L, sizeof(*b));
  nodes_init(&b->nodes, alloc, ud);
  b->state = s;
  room_open(L, &b->room, &shared_kind, s->scheduler, &b->nodes);
  if (s->hub.closed || s->scheduler->living.closed) {
    room_close(L, &b->room);
    lua_remove(L, -2);
    return b;
  }
  while ((b->member = hub_join(&s->hub, lua_tostring(L, 1), length, parties, b)) == NULL)
    errors_memory(L, 4096 + length);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, -2);
  lua_rawset(L, -4);
  lua_remove(L, -2);
  return b;
}

void shared_push_name(lua_State *L, const struct shared *b) {
  struct hub_status status;
  hub_get_status(b->member, &status);
  lua_pushlstring(L, status.name, status.length);
}

void shared_destroy(lua_State *L, struct shared *b) {
  struct shared_state *s = b->state;
  if (!shared_is_cut_off(b)) hub_quit(b->member);
  b->member = NULL;
  s->waiting -= b->nodes.queues[PLACE_WAITING].count;
  room_close(L, &b->room);
  nodes_destroy(&b->nodes);
}

/* }=== */

/* {=== waiting === */

/* True if a turn comes, so that the hub need not wake the state. */
static bool is_quiet(const struct shared *b, const struct request *q) {
  return q->woken && scheduler_is_prepared(b->state->scheduler, &b->room);
}

/* The host's `enter`. */
static uint32_t shared_enter(lua_State *S, struct room *r, const void *key, struct request *q) {
  struct shared *b = shared_of(r);
  uint32_t n = nodes_take(r->nodes, key);
  nodes_append(r->nodes, PLACE_WAITING, n);
  b->state->waiting++;
  scheduler_hold(S, r->scheduler, r, 1);
  wait_set_deadline(S, r, q, n);
  hub_enter(b->member, n, is_quiet(b, q));
  if (is_quiet(b, q)) shared_collect(S, b->state);
  return n;
}

/* An error if the barrier was collected by hand while user code ran. [-0, +0, v] */
static void check_member(lua_State *L, const struct shared *b) {
  if (shared_is_cut_off(b)) luaL_error(L, "the barrier was collected by hand");
}

bool shared_prepare(lua_State *L, struct shared *b, struct request *q, bool fails) {
  do check_member(L, b);
  while (b->state->waiting && (fails || hub_foresees(b->member)) &&
         !wait_wakes(L, &b->room, q, true, LOOP_NEVER));
  return is_quiet(b, q);
}

/* Passes if it is the last arrival, with this position. [-0, +0, e] */
static bool pass_alone(lua_State *L, struct shared *b, struct request *q, uint64_t *position) {
  bool quiet = shared_prepare(L, b, q, false);
  if (!hub_pass(b->member, position, quiet)) return false;
  if (quiet) shared_collect(L, b->state);
  scheduler_relax(L, b->room.scheduler);
  return true;
}

/* Makes sure that other threads can wake the loop. Within a turn one look will do: code
** that closes handles there has to mean it. True if no user code has run. [-0, +0, e] */
static bool can_be_woken(lua_State *L, struct shared_state *s) {
  const struct scheduler *scheduler = s->scheduler;
  if (s->wake.holds && s->looked == scheduler->turn && scheduler->serving == scheduler->turn)
    return true;
  s->looked = scheduler->turn;
  /* The turn finds out if no party enters after all. */
  if (!s->wake.holds) scheduler_prepare(L, s->scheduler, NULL);
  if (!wake_hold(L, &s->wake, &s->hub)) scheduler_prepare(L, s->scheduler, NULL);
  return false;
}

/* Does all that can fail or run user code before a party with this key enters. [-0, +0, e] */
static void prepare_party(lua_State *L, struct shared *b, struct request *q, const void *key) {
  bool looked = false;
  for (;;) {
    check_member(L, b);
    if (!(looked && b->state->wake.holds) && !can_be_woken(L, b->state)) {
      looked = true;
    } else if (!wait_wakes(L, &b->room, q, hub_foresees(b->member),
                           q->timed ? q->when : LOOP_NEVER) ||
               !room_reserve(L, &b->room, q->timed)) {
      continue;
    } else if (!hub_reserve(b->member, nodes_vacant(&b->nodes, key))) {
      errors_memory(L, 4096);
    } else {
      return;
    }
  }
}

static int wait_in_coroutine(lua_State *L, struct shared *b, struct request *q) {
  uint64_t position;
  bool deferred = wait_is_deferred(L, &b->room);
  check_member(L, b);
  if (!deferred && pass_alone(L, b, q, &position)) {
    compat_pushcount(L, position);
    return coroutine_return(L);
  }
  check_member(L, b);
  wait_begin(L, &b->room, q);
  prepare_party(L, b, q, L);
  return wait_suspend(L, &b->room, q, shared_enter);
}

static int wait_with_callback(lua_State *L, struct shared *b, struct request *q) {
  int waiter;
  wait_begin(L, &b->room, q);
  waiter_push(L, 1, q->callback);
  waiter = lua_gettop(L);
  prepare_party(L, b, q, NULL);
  wait_call_back(L, &b->room, q, waiter, shared_enter);
  lua_settop(L, waiter);
  return coroutine_return(L);
}

/* luv keeps what it runs for uv.new_work in the registry, with its code, a string, as the
** key. No loop runs in such a state. [-0, +0] */
static bool is_in_work(lua_State *L, struct shared_state *s) {
  int top = lua_gettop(L);
  if (s->checked) return s->in_work;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushnil(L);
  while (!s->in_work && lua_next(L, LUA_REGISTRYINDEX)) {
    s->in_work = lua_type(L, -2) == LUA_TSTRING && lua_isfunction(L, -1) && !lua_iscfunction(L, -1);
    lua_pop(L, 1);
  }
  lua_settop(L, top);
  s->checked = true;
  return s->in_work;
}

int shared_wait(lua_State *L) {
  struct shared *b = shared_check(L, REQUEST_LEVEL, "wait");
  struct request q = {.name = "wait"};
  if (lua_gettop(L) >= REQUEST_FIRST_ARG) request_check(L, &q);
  if (b == NULL) return wait_too_late(L, &q);
  if (is_in_work(L, b->state))
    errors_raise(L, REQUEST_LEVEL,
                 "cannot wait in a function of uv.new_work: no loop runs there; use arrive");
  if (q.callback) return wait_with_callback(L, b, &q);
  wait_check(L, &b->room, &q);
  if (q.cancelled) {
    while (!wait_wakes(L, &b->room, &q, true, LOOP_NEVER) || !room_reserve(L, &b->room, 0))
      continue;
    return wait_suspend(L, &b->room, &q, shared_enter);
  }
  return wait_in_coroutine(L, b, &q);
}

/* }=== */
