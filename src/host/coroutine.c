#include "coroutine.h"

#include "errors.h"
#include "scheduler.h"

/* The token for an outcome is the address of its element. */
static const char tokens[OUTCOMES] = {0};

static void push_token(lua_State *L, enum outcome outcome) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)&tokens[outcome]);
}

/* The outcome that the token at index `i` stands for; OUTCOMES if it is none. */
static enum outcome outcome_at(lua_State *L, int i) {
  uintptr_t at = (uintptr_t)lua_touserdata(L, i) - (uintptr_t)tokens;
  return at < OUTCOMES ? (enum outcome)at : OUTCOMES;
}

/* {=== checking === */

#if LUA_VERSION_NUM == 501
#define NO_YIELD_ACROSS "a C function (in Lua 5.1 also pcall, a metamethod or an iterator)"
#else
#define NO_YIELD_ACROSS "a C function"
#endif

void coroutine_check(lua_State *L, int level, int yieldable) {
#if COMPAT_ISYIELDABLE
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

/* {=== going on === */

/* The wait ends with an error, which is on the top if it was kept. [-0, +0, v] */
static int end_in_error(lua_State *L, enum outcome outcome) {
  if (!outcome_facts(outcome)->keeps_error) {
    const struct room *r = room_at(L, 1);
    room_push_error(L, 1, outcome, r && nodes_comes_back(r->nodes, L) ? r->nodes->parked : 0);
    if (outcome == OUTCOME_CANCELLED) errors_mark_cancel(L);
  }
  return lua_error(L);
}

/* (room, as light userdata): schedules a turn. */
static int wake(lua_State *L) {
  const struct room *r = (const struct room *)lua_touserdata(L, 1);
  scheduler_ensure_turn(L, r->scheduler, r);
  return 0;
}

/* Other code resumed the coroutine: it leaves the room at index 1, if it is not on its way
** already. False if it is not there any more. [-0, +0, v] */
static bool leave_disturbed(lua_State *L) {
  struct room *r = room_at(L, 1);
  uint32_t n;
  lua_settop(L, 1); /* it may have been resumed with very many values */
  n = r ? nodes_find(r->nodes, L) : 0;
  if (n == 0) return false;
  if (!room_withdraw(L, r, 1, n, OUTCOME_DISTURBED)) return true;
  compat_pushcfunction(L, wake);
  lua_pushlightuserdata(L, r);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return nodes_find(r->nodes, L) != 0;
  /* There is no memory for a turn. */
  n = nodes_find(r->nodes, L); /* no coverage unless every allocation fails once */
  if (n) room_leave(L, r, 1, n);
  if (!r->kind->busy(r)) scheduler_dismiss(L, r->scheduler, r);
  lua_error(L);
  return false;
}

#if COMPAT_YIELDK

int coroutine_return(lua_State *L) {
  (void)L;
  return 1;
}

static int go_on(lua_State *L, int status, lua_KContext context) {
  enum outcome outcome = outcome_at(L, 2);
  (void)status;
  (void)context;
  if (outcome == OUTCOME_PASSED) return 1;
  if (outcome != OUTCOMES) return end_in_error(L, outcome);
  if (!leave_disturbed(L)) return end_in_error(L, OUTCOME_DISTURBED);
  return lua_yieldk(L, 0, 0, go_on);
}

#else

int coroutine_return(lua_State *L) {
  push_token(L, OUTCOME_PASSED);
  lua_insert(L, -2);
  return 2;
}

void coroutine_push_passed(lua_State *L) { push_token(L, OUTCOME_PASSED); }

int coroutine_resumed(lua_State *L) {
  enum outcome outcome = outcome_at(L, 2);
  lua_settop(L, 3);
  if (outcome != OUTCOMES) return end_in_error(L, outcome);
  if (!leave_disturbed(L)) return end_in_error(L, OUTCOME_DISTURBED);
  return lua_yield(L, 0);
}

#endif

/* }=== */

/* {=== suspending === */

/* Inline: half of what it costs is the call. */
INTERNAL_INLINE void coroutine_ready(lua_State *L, struct room *r) {
  if (!nodes_comes_back(r->nodes, L)) { /* otherwise its element is still there */
    lua_pushthread(L);
    room_set_element(L, r, 1, nodes_vacant(r->nodes, L), -1);
    lua_pop(L, 1);
  }
#if COMPAT_CLOSE
  lua_toclose(L, 1);
#endif
}

lua_State *coroutine_stack(lua_State *L, struct room *r) {
#if LUA_VERSION_NUM == 501
  lua_State *S = r->scheduler->spare;
  (void)L; /* it can't be used any more */
  lua_settop(S, 0);
  scheduler_push_all(S, r->scheduler);
  lua_rawgeti(S, 1, r->anchor);
  lua_replace(S, 1);
  return S;
#else
  (void)r;
  return L;
#endif
}

/* Lua 5.1's lua_yield returns, and raises the error where the coroutine can't yield: so it comes
** first there. */
void coroutine_begin(lua_State *L) {
#if LUA_VERSION_NUM == 501
  lua_yield(L, 0);
#else
  (void)L;
#endif
}

int coroutine_end(lua_State *L) {
#if COMPAT_YIELDK
  return lua_yieldk(L, 0, 0, go_on);
#elif LUA_VERSION_NUM == 501
  (void)L;
  return -1; /* as lua_yield did */
#else
  return lua_yield(L, 0);
#endif
}

int coroutine_resume(lua_State *L, lua_State *co, const struct leaver *leaver) {
  push_token(co, leaver->outcome);
  if (leaver->outcome == OUTCOME_PASSED)
    compat_pushcount(co, leaver->position);
  else if (outcome_facts(leaver->outcome)->keeps_error)
    lua_xmove(L, co, 1);
  else
    lua_pushnil(co);
  return compat_resume(co, L, 2);
}

#if COMPAT_CLOSE
int coroutine_closed(lua_State *L) {
  struct room *r = room_at(L, 1);
  uint32_t n;
  if (r == NULL || nodes_comes_back(r->nodes, L)) return 0; /* it has passed */
  n = nodes_find(r->nodes, L);
  if (n) room_leave(L, r, 1, n);
  return 0;
}
#endif

/* }=== */
