#include "barrier.h"

#include "errors.h"

static const char barrier_type = 'b'; /* its address is the type */

struct barrier *barrier_at(lua_State *L, int i) {
  struct barrier *b = lua_touserdata(L, i);
  return b && lua_rawlen(L, i) == sizeof(*b) && b->type == &barrier_type ? b : NULL;
}

struct barrier *barrier_check(lua_State *L, int level, const char *name) {
  struct barrier *b = barrier_at(L, 1);
  if (b == NULL)
    errors_raise(L, level, "calling '%s' on bad self (barrier expected, got %s)", name,
                 luaL_typename(L, 1));
  return b;
}

struct barrier *barrier_new(lua_State *L, struct scheduler *s, uint64_t parties) {
  void *ud;
  machine_alloc alloc = lua_getallocf(L, &ud);
  struct barrier *b = compat_newuserdata(L, sizeof(*b), 0);
  b->type = NULL; /* not before it is complete */
  b->scheduler = s;
  b->has_action = b->has_schedule = b->has_reason = false;
  machine_init(&b->job.machine, parties, alloc, ud);
  compat_getuservalue(L, -1);
  lua_pushboolean(L, 0); /* so that setting them later allocates nothing */
  lua_setfield(L, -2, "reason");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "failure");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "runner");
  lua_pop(L, 1);
  scheduler_adopt(L, s, &b->job);
  b->type = &barrier_type;
  return b;
}

void barrier_destroy(lua_State *L, struct barrier *b) {
  scheduler_abandon(L, b->scheduler, &b->job);
  machine_destroy(&b->job.machine);
  b->type = NULL;
}

void barrier_push_error(lua_State *L, int self, enum machine_outcome outcome) {
  int top = lua_gettop(L);
  self = lua_absindex(L, self);
  switch (outcome) {
    case MACHINE_ABORTED: {
      const struct barrier *b = barrier_at(L, self);
      if (b && b->has_reason && compat_getuservalue(L, self))
        lua_getfield(L, -1, "reason");
      else
        lua_pushnil(L);
      errors_push(L, ERROR_BROKEN, "barrier aborted", self, lua_isnil(L, -1) ? 0 : -1);
      lua_replace(L, top + 1);
      lua_settop(L, top + 1);
      break;
    }
    case MACHINE_RESET: errors_push(L, ERROR_BROKEN, "barrier reset", self, 0); break;
    case MACHINE_TIMED_OUT: errors_push(L, ERROR_TIMEOUT, "wait timed out", self, 0); break;
    default: errors_push(L, ERROR_CANCELLED, "wait cancelled", self, 0); break;
  }
}

void barrier_break(lua_State *L, struct barrier *b, int self) {
  b->has_reason = !lua_isnil(L, -1);
  self = lua_absindex(L, self);
  if (compat_getuservalue(L, self)) {
    if (b->has_reason)
      lua_pushvalue(L, -2);
    else
      lua_pushboolean(L, 0);
    lua_setfield(L, -2, "reason");
  }
  lua_pop(L, 2);
  machine_abort(&b->job.machine, b->scheduler->turn);
}

void barrier_push_elements(lua_State *L, int self) {
  if (!compat_getuservalue(L, self)) luaL_error(L, "the barrier's user value was taken away");
}

void barrier_clear_element(lua_State *L, int self, uint32_t node) {
  if (compat_getuservalue(L, self)) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, -2, (compat_index)node);
  }
  lua_pop(L, 1);
}

void barrier_leave(lua_State *L, struct barrier *b, int self, uint32_t node) {
  scheduler_clear_deadline(L, b->scheduler, &b->job, node);
  barrier_clear_element(L, self, node);
  machine_leave(&b->job.machine, node, b->scheduler->turn);
  if (machine_busy(&b->job.machine) && !b->job.queued) {
    scheduler_request(L, b->scheduler, &b->job, self);
    scheduler_prepare(L, b->scheduler);
  } else {
    scheduler_relax(L, b->scheduler);
  }
}

void barrier_request(lua_State *L, struct barrier *b, int self) {
  if (machine_busy(&b->job.machine)) scheduler_request(L, b->scheduler, &b->job, self);
}

bool is_callable(lua_State *L, int i) {
  if (lua_isfunction(L, i)) return true;
  if (!luaL_getmetafield(L, i, "__call")) return false;
  lua_pop(L, 1);
  return true;
}
