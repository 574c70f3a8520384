#include "binding.h"

#include "reason.h"

/*
** A handle, which Lua has for a barrier, and a wait are userdata with an arrival. That of a
** handle never arrives: it holds the barrier, for as long as its state does.
**
** When a state closes it frees its arrivals, whatever becomes of the userdata: Lua does not
** finalize what comes into being while it closes a state, or when memory runs out.
*/
struct native_box {
  const void *self; /* luv copies userdata into other threads byte by byte: this tells a copy */
  struct shared_arrival *arrival; /* NULL when it is over */
};

static const char *const native_outcomes[] = {"passed",    "reset",     "aborted",
                                              "timed out", "cancelled", "disturbed"};

/* {=== what every function has for upvalues === */

enum { NATIVE_STATE = 1, NATIVE_HANDLE, NATIVE_WAIT, NATIVE_UPVALUES = NATIVE_WAIT };

static struct shared_state *native_state(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(NATIVE_STATE));
}

static struct native_box *native_box_at(lua_State *L, int i) {
  struct native_box *box = lua_touserdata(L, i);
  return box && lua_rawlen(L, i) == sizeof(*box) && !native_state(L)->closed ? box : NULL;
}

static struct native_box *native_handle_at(lua_State *L, int i) {
  struct native_box *box = native_box_at(L, i);
  return box && box->self == box && box->arrival ? box : NULL;
}

static struct native_box *native_wait_at(lua_State *L, int i) {
  struct native_box *box = native_box_at(L, i);
  return box && box->self == &box->arrival ? box : NULL;
}

static const struct native_box *native_check_handle(lua_State *L) {
  const struct native_box *box = native_handle_at(L, 1);
  if (box == NULL) luaL_error(L, "bad self (shared barrier expected, got %s)", luaL_typename(L, 1));
  return box;
}

static struct shared_barrier *native_check(lua_State *L) {
  return native_check_handle(L)->arrival->barrier;
}

/* A wait that is not over. */
static const struct native_box *native_check_wait(lua_State *L) {
  const struct native_box *box = native_wait_at(L, 1);
  if (box == NULL || box->arrival == NULL) luaL_error(L, "this wait is over");
  return box;
}

/* A new one, with the metatable at the upvalue `metatable`, and no arrival. [-0, +1, m] */
static struct native_box *native_push_box(lua_State *L, int metatable) {
  struct native_box *box = lua_newuserdata(L, sizeof(*box));
  box->self = metatable == NATIVE_HANDLE ? (const void *)box : &box->arrival;
  box->arrival = NULL;
  lua_pushvalue(L, lua_upvalueindex(metatable));
  lua_setmetatable(L, -2);
  if (native_state(L)->closed) luaL_error(L, "the Lua state is closing");
  return box;
}

static int native_gc(lua_State *L) {
  struct native_box *box = native_box_at(L, 1);
  if (box && (box->self == box || box->self == &box->arrival) && box->arrival) {
    struct shared_arrival *a = box->arrival;
    box->arrival = NULL;
    shared_free(a);
  }
  return 0;
}

/* }=== */

/* {=== barriers === */

/* join(name, parties) -> barrier; nil and their number if it has other parties */
static int native_join(lua_State *L) {
  size_t length;
  const char *name = luaL_checklstring(L, 1, &length);
  uint64_t parties = (uint64_t)luaL_checkinteger(L, 2);
  struct shared_status status;
  struct native_box *box = native_push_box(L, NATIVE_HANDLE);
  struct shared_barrier *b = shared_join(name, length, parties);
  if (b == NULL) return shared_memory_error(L);
  shared_get_status(b, &status);
  if (status.parties == parties) {
    box->arrival = shared_new(native_state(L), b, box, false);
    shared_release(b);
    return box->arrival ? 1 : shared_memory_error(L);
  }
  shared_release(b);
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
  shared_get_status(native_check(L), &status);
  lua_pushinteger(L, (lua_Integer)status.parties);
  lua_pushinteger(L, (lua_Integer)status.n_waiting);
  lua_pushinteger(L, (lua_Integer)status.n_arrived);
  lua_pushinteger(L, (lua_Integer)status.generation);
  lua_pushboolean(L, status.broken);
  return 5;
}

static int native_reset(lua_State *L) {
  shared_reset(native_check(L));
  return 0;
}

/* abort(barrier, reason) */
static int native_abort(lua_State *L) {
  struct shared_barrier *b = native_check(L);
  shared_abort(b, shared_to_reason(L, 2));
  return 0;
}

/* }=== */

/* {=== waits === */

static struct native_box *native_push_wait(lua_State *L, struct shared_barrier *b, bool waits) {
  struct native_box *box = native_push_box(L, NATIVE_WAIT);
  box->arrival = shared_new(native_state(L), b, box, waits);
  if (box->arrival == NULL) shared_memory_error(L);
  return box;
}

/* new(barrier) -> a wait that is to enter, and its key */
static int native_new(lua_State *L) {
  const struct native_box *w = native_push_wait(L, native_check(L), true);
  lua_pushlightuserdata(L, w->arrival);
  return 2;
}

/* key(wait) -> its key; nil if it is over; false if it is no wait */
static int native_key(lua_State *L) {
  const struct native_box *w = native_wait_at(L, 1);
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
  if (!shared_pass(native_check(L), &position)) return 0;
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
  const struct native_box *w = native_wait_at(L, 1);
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
  struct native_box *w = native_push_wait(L, native_check(L), false);
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

/* pop(): what peek told of is over. */
static int native_pop(lua_State *L) {
  struct shared_arrival *a = shared_next(native_state(L));
  if (a) {
    ((struct native_box *)a->owner)->arrival = NULL;
    shared_free(a);
  }
  return 0;
}

static int native_begin(lua_State *L) {
  shared_begin(native_state(L));
  return 0;
}

/* settle() -> is somebody ready already? */
static int native_settle(lua_State *L) {
  lua_pushboolean(L, shared_settle(native_state(L)));
  return 1;
}

static int native_acknowledge(lua_State *L) {
  lua_pushboolean(L, shared_acknowledge(native_state(L)));
  return 1;
}

static int native_wake(lua_State *L) {
  shared_wake(native_state(L));
  return 0;
}

/* pipe() -> what the loop has to wait for: a descriptor that it polls; on Windows the name of
** a pipe that it reads; nil if there is nothing */
static int native_pipe(lua_State *L) {
  const struct threads_pipe *p = shared_pipe(native_state(L));
  if (p == NULL) return 0;
#ifdef _WIN32
  lua_pushstring(L, p->name);
#else
  lua_pushinteger(L, p->read_end);
#endif
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

static int native_state_gc(lua_State *L) {
  struct shared_state *s = native_state(L);
  if (lua_touserdata(L, 1) == s) shared_close(s);
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
    {"free", native_gc},
    {"begin", native_begin},
    {"peek", native_peek},
    {"pop", native_pop},
    {"settle", native_settle},
    {"acknowledge", native_acknowledge},
    {"wake", native_wake},
    {"pipe", native_pipe},
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
  struct shared_state *s = lua_newuserdata(L, sizeof(*s));
  shared_init(s);
  native_push_metatable(L, "barrier.SharedState", native_state_gc, top + 1);
  lua_setmetatable(L, top + 1);
  native_push_metatable(L, "barrier.Shared", native_gc, top + 1);
  native_push_metatable(L, "barrier.SharedWait", native_gc, top + 1);
  lua_newtable(L);
  lua_pushvalue(L, top + 2);
  lua_setfield(L, -2, "barrier_metatable");
  lua_pushvalue(L, top + 3);
  lua_setfield(L, -2, "wait_metatable");
  lua_insert(L, top + 1);
  luaL_setfuncs(L, native_functions, NATIVE_UPVALUES);
  lua_setfield(L, top, "shared");
}
