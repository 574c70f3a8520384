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
  struct barrier *b = compat_newuserdata(L, sizeof(*b), 0, 4);
  b->type = NULL; /* not before it is complete */
  b->scheduler = s;
  b->has_action = b->has_schedule = b->has_reason = b->has_metatable = false;
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

/* {=== metatables === */

/* What the metatable of new barriers has besides metamethods. */
enum { MEMBERS = 1, REST }; /* REST: the metatable of the tables of methods */

void barrier_open(lua_State *L, int metatable, int members) {
  metatable = lua_absindex(L, metatable);
  lua_pushvalue(L, members);
  lua_rawseti(L, metatable, MEMBERS);
  lua_createtable(L, 0, 1);
  lua_getfield(L, metatable, "__index");
  lua_setfield(L, -2, "__index");
  lua_rawseti(L, metatable, REST);
  lua_pushvalue(L, metatable);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &barrier_type);
}

/* Copies what has a string for its key and is no number (a property) from the table
** at `from` to the one on the top: `first` before the others, so that nothing is in
** its way in the hash table. [-0, +0] */
static void copy_fields(lua_State *L, int from, const char *first) {
  if (!lua_istable(L, from)) return; /* the debug library took it away */
  lua_getfield(L, from, first);
  lua_setfield(L, -2, first);
  lua_pushnil(L);
  while (lua_next(L, from)) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4);
    } else {
      lua_pop(L, 1);
    }
  }
}

void barrier_push_owner(lua_State *L, int table) { lua_rawgetp(L, table, &barrier_type); }

void barrier_own_metatable(lua_State *L, struct barrier *b, int self) {
  int top = lua_gettop(L);
  b->has_metatable = true; /* or it will not get one */
  lua_rawgetp(L, LUA_REGISTRYINDEX, &barrier_type);
  if (!lua_getmetatable(L, self) || !lua_rawequal(L, -1, top + 1)) {
    lua_settop(L, top);
    return;
  }
  lua_createtable(L, 0, 8);
  copy_fields(L, top + 1, "__close");
  lua_rawgeti(L, top + 1, MEMBERS);
  lua_createtable(L, 0, 8);
  copy_fields(L, top + 4, "wait");
  lua_pushvalue(L, self);
  lua_rawsetp(L, -2, &barrier_type);
  lua_rawgeti(L, top + 1, REST);
  lua_setmetatable(L, -2);
  lua_setfield(L, top + 3, "__index");
  lua_pop(L, 1);
  lua_setmetatable(L, self);
  lua_settop(L, top);
}

/* }=== */

void barrier_destroy(lua_State *L, struct barrier *b) {
  scheduler_abandon(L, b->scheduler, &b->job);
  machine_destroy(&b->job.machine);
  b->type = NULL;
}

void barrier_push_error(lua_State *L, int self, enum machine_outcome outcome) {
  int top = lua_gettop(L);
  self = lua_absindex(L, self);
  switch (outcome) {
    case MACHINE_FAILED: /* the action raised nil or false */
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
  if (lua_type(L, i) > LUA_TTHREAD) return false; /* LuaJIT's cdata: each has a __call */
  if (!luaL_getmetafield(L, i, "__call")) return false;
  lua_pop(L, 1);
  return true;
}
