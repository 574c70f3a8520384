#include "loop.h"

#include "luv.h"

/* The credit that each poll of the loop gives. */
#define CREDIT 512u

/* Values of loop.armed besides a time. */
#define ARMED_NOW LOOP_NOW           /* a turn comes as soon as possible */
#define ARMED_AGAIN (UINT64_MAX - 1) /* the timer repeats, started for nothing */
#define ARMED_OFF LOOP_NEVER         /* the timer is stopped */
#define ARMED_LATEST (UINT64_MAX - 2)

/* The longest timeout given to luv, in milliseconds: what a lua_Integer of 32 bits
** holds. When it passes the timer is started again. */
#define LONGEST UINT64_C(0x7fffffff)

/* {=== its handles === */

/* [-0, +1] */
static int push_table(lua_State *L, const struct loop *l) { return luv_push(L, l->ref); }

/* When a Lua state closes, Lua calls finalizers in the reverse order in which they were set. The
** guard comes after luv's loop and its handles, so it goes before them: nothing calls a handle
** that is gone, or starts one in a loop that is being closed, which would never end. [-0, +0] */
static void renew_guard(lua_State *L, struct loop *l, int table) {
  void *guard = lua_newuserdata(L, 1);
  lua_rawgeti(L, table, UV_ON_END);
  lua_setmetatable(L, -2);
  l->guard = guard;
  lua_rawseti(L, table, UV_GUARD);
}

/* Makes the handle if it is not alive. [-0, +0] */
static void renew(lua_State *L, struct loop *l, int table, int handle, int constructor) {
  if (luv_is_alive(L, table, handle)) return;
  lua_rawgeti(L, table, constructor);
  lua_call(L, 0, 1);
  if (luv_is_alive(L, table, handle)) { /* a finalizer or hook has made one meanwhile */
    lua_pop(L, 1);
    return;
  }
  lua_rawseti(L, table, handle);
  renew_guard(L, l, table);
}

/* uv.timer_start(timer, timeout, 1, on_timer). [-0, +0] */
static void start_timer(lua_State *L, int table, uint64_t timeout) {
  if (timeout > LONGEST) timeout = LONGEST;
  lua_rawgeti(L, table, UV_TIMER_START);
  lua_rawgeti(L, table, UV_TIMER);
  lua_pushinteger(L, (lua_Integer)timeout);
  lua_pushinteger(L, 1);
  lua_rawgeti(L, table, UV_ON_TIMER);
  lua_call(L, 4, 0);
}

/* }=== */

/* {=== the clock === */

/* luv's clock is an integer of Lua. Where that has 32 bits it wraps around, so only
** what has passed since the last look counts; turns come often enough (LONGEST).
** [-0, +0] */
static uint64_t read_clock(lua_State *L, struct loop *l, int table) {
  uint32_t ms;
  lua_rawgeti(L, table, UV_NOW);
  lua_call(L, 0, 1);
  ms = (uint32_t)(int64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  l->clock += (uint32_t)(ms - l->seen);
  l->seen = ms;
  return l->clock;
}

uint64_t loop_now(lua_State *L, struct loop *l) {
  uint64_t ms;
  if (l->left) return l->clock;
  ms = read_clock(L, l, push_table(L, l));
  lua_pop(L, 1);
  return ms;
}

/* The most milliseconds that luv's clock, just updated, is behind: the clock leaves out fractions,
** and Linux may have moved it up to one millisecond ago (CLOCK_MONOTONIC_COARSE). [-0, +0] */
static uint64_t read_lag(lua_State *L, const struct loop *l, int table) {
  uint32_t ns;
  lua_rawgeti(L, table, UV_HRTIME);
  lua_call(L, 0, 1);
  ns = (uint32_t)(int64_t)lua_tonumber(L, -1) - l->seen * 1000000u; /* modulo 2^32 */
  lua_pop(L, 1);
  return ns > 1000000 ? 2 : ns > 0;
}

void loop_update(lua_State *L, struct loop *l) {
  int table;
  if (l->left) return;
  table = push_table(L, l);
  lua_rawgeti(L, table, UV_UPDATE_TIME);
  lua_call(L, 0, 0);
  l->base = read_clock(L, l, table);
  l->base += read_lag(L, l, table);
  lua_pop(L, 1);
}

uint64_t loop_after(const struct loop *l, uint64_t timeout) {
  return timeout ? l->base + timeout : l->clock;
}

/* }=== */

/* {=== the timer === */

bool loop_is_timed(const struct loop *l) {
  return l->armed != ARMED_NOW && l->armed <= ARMED_LATEST;
}

/* Starts the timer, which must be alive. A finalizer or hook that runs meanwhile may
** start or stop it as well: then a turn comes, to be on the safe side. [-0, +0] */
static void start(lua_State *L, struct loop *l, int table, uint64_t timeout, uint64_t armed) {
  uint32_t call;
  do {
    call = ++l->calls;
    l->armed = ARMED_AGAIN;
    start_timer(L, table, timeout);
    l->armed = armed;
    timeout = 0;
    armed = ARMED_NOW;
  } while (l->calls != call);
}

/* Makes the timer, which must be alive, call a turn as soon as possible. [-0, +0] */
static void arm_now(lua_State *L, struct loop *l, int table) {
  if (l->credit == 0 && !l->polls) {
    renew(L, l, table, UV_IDLE, UV_NEW_IDLE);
    luv_call_handle(L, table, UV_IDLE_START, UV_IDLE, UV_ON_IDLE);
    start(L, l, table, 1, ARMED_NOW); /* in case other code closes the idle handle */
  } else {
    start(L, l, table, 0, ARMED_NOW);
  }
}

/* [-0, +0] */
static void stop(lua_State *L, struct loop *l, int table) {
  uint32_t call = ++l->calls;
  l->armed = ARMED_OFF;
  if (l->credit == 0 && luv_is_alive(L, table, UV_IDLE))
    luv_call_handle(L, table, UV_IDLE_STOP, UV_IDLE, 0);
  if (luv_is_alive(L, table, UV_TIMER)) {
    luv_call_handle(L, table, UV_TIMER_STOP, UV_TIMER, 0);
    if (l->calls != call) arm_now(L, l, table);
  }
}

/* Makes the handles unless they are alive: both at once, so that their number is the
** same ever after. False if the end has come. [-0, +0] */
static bool ensure_alive(lua_State *L, struct loop *l, int table) {
  if (luv_is_alive(L, table, UV_TIMER)) return true;
  if (loop_has_left(L, l)) return false;
  l->armed = ARMED_OFF;
  renew(L, l, table, UV_IDLE, UV_NEW_IDLE);
  renew(L, l, table, UV_TIMER, UV_NEW_TIMER);
  return true;
}

/* Makes the timer keep the loop alive: other code may have unreferenced it. [-0, +0] */
static void ensure_ref(lua_State *L, int table) {
  if (!luv_ask_handle(L, table, UV_HAS_REF, UV_TIMER))
    luv_call_handle(L, table, UV_REF, UV_TIMER, 0);
}

/* True if the timer will fire at the time `when` or earlier: other code may have stopped or
** closed it. [-0, +0] */
static bool is_running(lua_State *L, const struct loop *l, int table, uint64_t when) {
  return l->armed <= when && luv_ask_handle(L, table, UV_IS_ACTIVE, UV_TIMER);
}

bool loop_wakes_by(const struct loop *l, uint64_t when) { return l->armed <= when; }

void loop_wake(lua_State *L, struct loop *l) {
  int table;
  if (l->left) return;
  table = push_table(L, l);
  do {
    if (!is_running(L, l, table, ARMED_NOW)) {
      if (!ensure_alive(L, l, table)) break;
      arm_now(L, l, table);
    }
    ensure_ref(L, table);
  } while (!loop_wakes_by(l, ARMED_NOW));
  lua_pop(L, 1);
}

void loop_wake_at(lua_State *L, struct loop *l, uint64_t when) {
  int table;
  if (l->armed == ARMED_NOW) return; /* the trip that wants a turn has asked about the timer */
  table = push_table(L, l);
  do {
    if (!is_running(L, l, table, when)) {
      if (!ensure_alive(L, l, table)) break;
      start(L, l, table, when > l->clock ? when - l->clock : 0, when);
    }
    ensure_ref(L, table);
  } while (!loop_wakes_by(l, when));
  lua_pop(L, 1);
}

void loop_fired(lua_State *L, struct loop *l, bool again) {
  l->armed = ARMED_AGAIN;
  if (l->polls) l->credit = CREDIT;
  if (again) {
    int table = push_table(L, l);
    arm_now(L, l, table);
    ensure_ref(L, table);
    lua_pop(L, 1);
  }
}

void loop_settle(lua_State *L, struct loop *l, uint64_t when) {
  int table;
  if (l->armed == when || l->left) return;
  table = push_table(L, l);
  if (when == LOOP_NOW) {
    loop_wake(L, l);
  } else if (when == LOOP_NEVER) {
    stop(L, l, table);
  } else if (luv_is_alive(L, table, UV_TIMER)) {
    uint64_t ms = read_clock(L, l, table);
    if (when > ms)
      start(L, l, table, when - ms, when);
    else
      arm_now(L, l, table);
  }
  lua_pop(L, 1);
}

void loop_spend(struct loop *l) {
  if (l->credit) l->credit--;
}

void loop_yield(struct loop *l) { l->credit = 0; }

/* The loop has polled: turns come again. Upvalue 1: the loop. */
static int on_idle(lua_State *L) {
  struct loop *l = (struct loop *)lua_touserdata(L, lua_upvalueindex(1));
  int table = push_table(L, l);
  luv_call_handle(L, table, UV_IDLE_STOP, UV_IDLE, 0);
  l->credit = CREDIT;
  l->armed = ARMED_AGAIN;
  loop_wake(L, l);
  return 0;
}

/* }=== */

/* {=== leaving === */

void loop_leave(struct loop *l) {
  l->left = true;
  l->armed = ARMED_NOW; /* as if a turn came */
}

void loop_watch_exit(lua_State *L, struct loop *l) {
  int table = push_table(L, l);
  lua_insert(L, -2);
  lua_rawseti(L, table - 1, UV_EXITING);
  lua_pop(L, 1);
}

void loop_guard(lua_State *L, struct loop *l) {
  renew_guard(L, l, push_table(L, l));
  lua_pop(L, 1);
}

bool loop_has_left(lua_State *L, struct loop *l) {
  int table;
  if (l->left) return true;
  table = push_table(L, l);
  lua_rawgeti(L, table, UV_EXITING);
  if (!lua_isnil(L, -1)) {
    lua_call(L, 0, 1);
    if (lua_toboolean(L, -1)) loop_leave(l);
  }
  lua_pop(L, 2);
  return l->left;
}

/* The guard's finalizer, unless another guard has taken its place. Upvalue 1: the loop. */
static int on_end(lua_State *L) {
  struct loop *l = (struct loop *)lua_touserdata(L, lua_upvalueindex(1));
  if (lua_touserdata(L, 1) == l->guard) loop_leave(l);
  return 0;
}

/* }=== */

void loop_open(lua_State *L, struct loop *l) {
  l->armed = ARMED_OFF;
  l->clock = l->base = 1; /* no time is LOOP_NOW */
  l->seen = l->calls = l->credit = 0;
  l->bound = l->polls = l->left = false;
  l->guard = NULL;
  lua_createtable(L, UV_LAST - 1, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, UV_ON_TIMER);
  lua_pushlightuserdata(L, l);
  lua_pushcclosure(L, on_idle, 1);
  lua_rawseti(L, -2, UV_ON_IDLE);
  lua_createtable(L, 0, 1);
  lua_pushlightuserdata(L, l);
  lua_pushcclosure(L, on_end, 1);
  lua_setfield(L, -2, "__gc");
  lua_rawseti(L, -2, UV_ON_END);
  l->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

const char *loop_bind(lua_State *L, struct loop *l, int uv) {
  int table;
  const char *missing;
  uv = lua_absindex(L, uv);
  table = push_table(L, l);
  missing = luv_bind(L, table, uv);
  if (missing == NULL) {
    renew_guard(L, l, table);
    l->polls = luv_is_polling(L, uv);
    l->bound = true;
    l->credit = CREDIT;
  }
  lua_pop(L, 1);
  return missing;
}

void loop_close(lua_State *L, struct loop *l) {
  int table;
  if (l->left) return;
  table = push_table(L, l);
  for (int handle = UV_TIMER; handle <= UV_IDLE; handle++)
    if (luv_is_alive(L, table, handle)) luv_call_handle(L, table, UV_CLOSE, handle, 0);
  l->armed = ARMED_OFF;
  lua_pop(L, 1);
}
