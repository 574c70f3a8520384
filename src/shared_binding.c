#include "shared_binding.h"

#include "shared_reason.h"

/* luv copies userdata into other threads byte by byte: `self`, its own address, tells a
** copy from what was made here. */
struct shared_handle {
  const void *self;
  struct shared_barrier *barrier; /* NULL when it has been collected */
  struct shared_handle *next, *previous;
};

struct shared_wait {
  const void *self;
  struct shared_arrival *arrival; /* NULL when it is over */
};

static const char *const native_outcomes[] = {"passed",    "reset",     "aborted",
                                              "timed out", "cancelled", "disturbed"};

/* {=== what every function has for upvalues === */

struct native_state {
  struct shared_state state; /* first, so that its address is this one's */
  struct shared_handle *handles;
};

enum { NATIVE_STATE = 1, NATIVE_HANDLE, NATIVE_WAIT, NATIVE_UPVALUES = NATIVE_WAIT };

static struct shared_state *native_state(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(NATIVE_STATE));
}

static struct shared_handle *native_handle_at(lua_State *L, int i) {
  struct shared_handle *h = lua_touserdata(L, i);
  bool is = h && lua_rawlen(L, i) == sizeof(*h) && h->self == h && h->barrier;
  return is ? h : NULL;
}

static struct shared_wait *native_wait_at(lua_State *L, int i) {
  struct shared_wait *w = lua_touserdata(L, i);
  bool is = w && lua_rawlen(L, i) == sizeof(*w) && w->self == &w->arrival;
  return is ? w : NULL;
}

static const struct shared_handle *native_check(lua_State *L) {
  const struct shared_handle *h = native_handle_at(L, 1);
  if (h == NULL) luaL_error(L, "bad self (shared barrier expected, got %s)", luaL_typename(L, 1));
  return h;
}

/* A wait that is not over. */
static const struct shared_wait *native_check_wait(lua_State *L) {
  const struct shared_wait *w = native_wait_at(L, 1);
  if (w == NULL || w->arrival == NULL) luaL_error(L, "this wait is over");
  return w;
}

/* }=== */

/* {=== barriers === */

static void native_keep(struct native_state *n, struct shared_handle *h) {
  h->previous = NULL;
  h->next = n->handles;
  if (h->next) h->next->previous = h;
  n->handles = h;
}

static void native_release(struct native_state *n, struct shared_handle *h) {
  struct shared_barrier *b = h->barrier;
  if (h->previous)
    h->previous->next = h->next;
  else
    n->handles = h->next;
  if (h->next) h->next->previous = h->previous;
  h->barrier = NULL;
  shared_release(b);
}

static int native_handle_gc(lua_State *L) {
  struct shared_handle *h = native_handle_at(L, 1);
  if (h) native_release(lua_touserdata(L, lua_upvalueindex(NATIVE_STATE)), h);
  return 0;
}

/* join(name, parties) -> barrier; nil and their number if it has other parties */
static int native_join(lua_State *L) {
  size_t length;
  const char *name = luaL_checklstring(L, 1, &length);
  uint64_t parties = (uint64_t)luaL_checkinteger(L, 2);
  struct native_state *n = lua_touserdata(L, lua_upvalueindex(NATIVE_STATE));
  struct shared_status status;
  struct shared_handle *h = lua_newuserdata(L, sizeof(*h));
  h->self = h;
  h->barrier = NULL;
  lua_pushvalue(L, lua_upvalueindex(NATIVE_HANDLE));
  lua_setmetatable(L, -2);
  if (n->state.closed) luaL_error(L, "the Lua state is closing");
  h->barrier = shared_join(name, length, parties);
  if (h->barrier == NULL) return shared_memory_error(L);
  native_keep(n, h);
  shared_get_status(h->barrier, &status);
  if (status.parties == parties) return 1;
  native_release(n, h);
  lua_pushnil(L);
  lua_pushinteger(L, (lua_Integer)status.parties);
  return 2;
}

static int native_is_barrier(lua_State *L) {
  lua_pushboolean(L, native_handle_at(L, 1) != NULL);
  return 1;
}

/* status(barrier) -> parties, n_waiting, n_arrived, generation, broken */
static int native_status(lua_State *L) {
  struct shared_status status;
  shared_get_status(native_check(L)->barrier, &status);
  lua_pushinteger(L, (lua_Integer)status.parties);
  lua_pushinteger(L, (lua_Integer)status.n_waiting);
  lua_pushinteger(L, (lua_Integer)status.n_arrived);
  lua_pushinteger(L, (lua_Integer)status.generation);
  lua_pushboolean(L, status.broken);
  return 5;
}

static int native_reset(lua_State *L) {
  shared_reset(native_check(L)->barrier);
  return 0;
}

/* abort(barrier, reason) */
static int native_abort(lua_State *L) {
  struct shared_barrier *b = native_check(L)->barrier;
  shared_abort(b, shared_to_reason(L, 2));
  return 0;
}

/* }=== */

/* {=== waits === */

static struct shared_wait *native_push_wait(lua_State *L, struct shared_barrier *b, bool waits) {
  struct shared_state *s = native_state(L);
  struct shared_wait *w = lua_newuserdata(L, sizeof(*w));
  w->self = &w->arrival;
  w->arrival = NULL;
  lua_pushvalue(L, lua_upvalueindex(NATIVE_WAIT));
  lua_setmetatable(L, -2);
  if (s->closed) luaL_error(L, "the Lua state is closing");
  w->arrival = shared_new(s, b, w, waits);
  if (w->arrival == NULL) shared_memory_error(L);
  return w;
}

static int native_wait_gc(lua_State *L) {
  struct shared_wait *w = native_wait_at(L, 1);
  if (w && w->arrival) {
    struct shared_arrival *a = w->arrival;
    w->arrival = NULL;
    shared_free(a);
  }
  return 0;
}

/* new(barrier) -> a wait that is to enter, and its key */
static int native_new(lua_State *L) {
  const struct shared_wait *w = native_push_wait(L, native_check(L)->barrier, true);
  lua_pushlightuserdata(L, w->arrival);
  return 2;
}

/* key(wait) -> its key; nil if it is over; false if it is no wait */
static int native_key(lua_State *L) {
  const struct shared_wait *w = native_wait_at(L, 1);
  if (w == NULL)
    lua_pushboolean(L, 0);
  else if (w->arrival)
    lua_pushlightuserdata(L, w->arrival);
  else
    lua_pushnil(L);
  return 1;
}

/* pass(barrier) -> the position if this is the last arrival; otherwise nil */
static int native_pass(lua_State *L) {
  uint64_t position;
  if (!shared_pass(native_check(L)->barrier, &position)) return 0;
  lua_pushinteger(L, (lua_Integer)position);
  return 1;
}

/* Calls hold(handle), the second and third argument: from now on the loop is kept alive,
** and nothing can fail any more, but a yield in Lua 5.1. */
static struct shared_arrival *native_hold(lua_State *L) {
  struct shared_arrival *a = native_check_wait(L)->arrival;
  lua_settop(L, 3);
  lua_call(L, 1, 0);
  return a;
}

/* enter(wait, hold, handle) */
static int native_enter(lua_State *L) {
  shared_enter(native_hold(L));
  return 0;
}

/* suspend(wait, hold, handle): enters, and yields. */
static int native_suspend(lua_State *L) {
  struct shared_arrival *a = native_hold(L);
#if LUA_VERSION_NUM == 501
  int n = lua_yield(L, 0); /* returns, and raises the error where the coroutine cannot yield */
  shared_enter(a);
  return n;
#else
  shared_enter(a);
  return lua_yield(L, 0);
#endif
}

/* absent(wait) -> has it not entered yet? */
static int native_absent(lua_State *L) {
  const struct shared_wait *w = native_wait_at(L, 1);
  lua_pushboolean(L, w && w->arrival && shared_absent(w->arrival));
  return 1;
}

/* leave(wait, outcome) -> was it waiting? */
static int native_leave(lua_State *L) {
  enum shared_outcome outcome = (enum shared_outcome)luaL_checkoption(L, 2, NULL, native_outcomes);
  lua_pushboolean(L, shared_leave(native_check_wait(L)->arrival, outcome));
  return 1;
}

/* arrive(barrier) -> true; or false and the reason of a broken one */
static int native_arrive(lua_State *L) {
  struct shared_wait *w = native_push_wait(L, native_check(L)->barrier, false);
  bool enters = shared_enter(w->arrival);
  if (enters) w->arrival = NULL;
  lua_pushboolean(L, enters);
  if (enters) return 1;
  shared_push_reason(L, w->arrival->reason);
  return 2;
}

/* }=== */

/* {=== the state === */

/* peek() -> the key of the next to be told in this turn, its outcome, and its position, the
** reason, or how many had arrived */
static int native_peek(lua_State *L) {
  const struct shared_arrival *a = shared_next(native_state(L));
  if (a == NULL) return 0;
  lua_pushlightuserdata(L, (void *)(uintptr_t)a);
  lua_pushstring(L, native_outcomes[a->outcome]);
  if (a->outcome == SHARED_ABORTED)
    shared_push_reason(L, a->reason);
  else
    lua_pushinteger(L, (lua_Integer)a->value);
  return 3;
}

static void native_finish(struct shared_arrival *a) {
  struct shared_wait *w = a->owner;
  w->arrival = NULL;
  shared_free(a);
}

/* pop(): what peek told of is over. */
static int native_pop(lua_State *L) {
  struct shared_arrival *a = shared_next(native_state(L));
  if (a) native_finish(a);
  return 0;
}

static int native_begin(lua_State *L) {
  shared_begin(native_state(L));
  return 0;
}

static int native_settle(lua_State *L) {
  shared_settle(native_state(L));
  return 0;
}

static int native_acknowledge(lua_State *L) {
  lua_pushboolean(L, shared_acknowledge(native_state(L)));
  return 1;
}

static int native_wake(lua_State *L) {
  shared_wake(native_state(L));
  return 0;
}

/* descriptor() -> what the loop has to poll; nil if there is nothing */
static int native_descriptor(lua_State *L) {
  int fd = shared_descriptor(native_state(L));
  if (fd == -1) return 0;
  lua_pushinteger(L, fd);
  return 1;
}

/* resting() -> does nobody wait in this state? */
static int native_resting(lua_State *L) {
  lua_pushboolean(L, shared_resting(native_state(L)));
  return 1;
}

/* in_work() -> is this a state of uv.new_work, whose loop nobody runs? luv keeps what it
** runs there in the registry, with its code, a string, as the key. */
static int native_in_work(lua_State *L) {
  lua_settop(L, 0);
  lua_pushnil(L);
  while (lua_next(L, LUA_REGISTRYINDEX)) {
    bool found = lua_type(L, 1) == LUA_TSTRING && lua_isfunction(L, 2) && !lua_iscfunction(L, 2);
    if (found) {
      lua_pushboolean(L, 1);
      return 1;
    }
    lua_pop(L, 1);
  }
  return 0;
}

/* What is still there has come into being while the Lua state was closing, and will not be
** finalized. */
static int native_state_gc(lua_State *L) {
  struct native_state *n = lua_touserdata(L, lua_upvalueindex(NATIVE_STATE));
  if (lua_touserdata(L, 1) != n) return 0;
  shared_close(&n->state);
  while (n->state.others.first) native_finish(n->state.others.first);
  while (n->handles) native_release(n, n->handles);
  return 0;
}

/* }=== */

static const luaL_Reg native_functions[] = {
    {"join", native_join},
    {"is_barrier", native_is_barrier},
    {"status", native_status},
    {"reset", native_reset},
    {"abort", native_abort},
    {"arrive", native_arrive},
    {"new", native_new},
    {"key", native_key},
    {"pass", native_pass},
    {"enter", native_enter},
    {"suspend", native_suspend},
    {"absent", native_absent},
    {"leave", native_leave},
    {"free", native_wait_gc},
    {"begin", native_begin},
    {"peek", native_peek},
    {"pop", native_pop},
    {"settle", native_settle},
    {"acknowledge", native_acknowledge},
    {"wake", native_wake},
    {"descriptor", native_descriptor},
    {"resting", native_resting},
    {"in_work", native_in_work},
    {NULL, NULL},
};

/* A metatable of userdata, with the state at the index `state` as upvalue of its __gc.
** [-0, +1, m] */
static void native_push_metatable(lua_State *L, const char *name, lua_CFunction gc, int state) {
  lua_createtable(L, 0, 8);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__metatable");
  lua_pushvalue(L, state);
  lua_pushcclosure(L, gc, 1);
  lua_setfield(L, -2, "__gc");
}

/* The userdata has to be there before any handle of luv's: it is finalized after them. */
void shared_open(lua_State *L) {
  int top = lua_gettop(L);
  struct native_state *n = lua_newuserdata(L, sizeof(*n));
  n->handles = NULL;
  shared_init(&n->state);
  native_push_metatable(L, "barrier.SharedState", native_state_gc, top + 1);
  lua_setmetatable(L, top + 1);
  native_push_metatable(L, "barrier.Shared", native_handle_gc, top + 1);
  native_push_metatable(L, "barrier.SharedWait", native_wait_gc, top + 1);
  lua_newtable(L);
  lua_pushvalue(L, top + 2);
  lua_setfield(L, -2, "barrier_metatable");
  lua_pushvalue(L, top + 3);
  lua_setfield(L, -2, "wait_metatable");
  lua_insert(L, top + 1);
  luaL_setfuncs(L, native_functions, NATIVE_UPVALUES);
  lua_setfield(L, top, "shared");
}
