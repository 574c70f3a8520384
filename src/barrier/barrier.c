#include "barrier.h"

#include <string.h>

#include "../host/errors.h"

static const char barrier_type = 'b'; /* its address is the type */
static const char gone_type = 'g';    /* the same, of one that was finalized */

/* [-0, +0] */
static inline struct barrier *typed_at(lua_State *L, int i, const void *type) {
  struct barrier *b = (struct barrier *)lua_touserdata(L, i);
  if (b == NULL || lua_rawlen(L, i) != sizeof(*b)) return NULL;
  return b->type == type ? b : NULL;
}

/* Inline, as a wait asks twice: 15 of 1,500 instructions each time. */
inline struct barrier *barrier_at(lua_State *L, int i) {
  struct barrier *b = typed_at(L, i, &barrier_type);
  return b && b->mark->owner == b ? b : NULL;
}

struct barrier *barrier_gone_at(lua_State *L, int i) {
  struct barrier *b = typed_at(L, i, &gone_type);
  return b && b->self == b ? b : NULL;
}

struct barrier *barrier_check(lua_State *L, int level, const char *name) {
  struct barrier *b = barrier_at(L, 1);
  if (b == NULL && barrier_gone_at(L, 1) == NULL)
    errors_raise(L, level, "calling '%s' on bad self (barrier expected, got %s)", name,
                 luaL_typename(L, 1));
  return b;
}

struct barrier *barrier_new(lua_State *L, struct scheduler *s, uint32_t parties) {
  static const char *const fields[] = {"reason", "errors"};
  void *ud;
  nodes_alloc alloc = lua_getallocf(L, &ud);
  struct barrier *b = (struct barrier *)compat_newuserdata(L, sizeof(*b), 0, 5);
  memset(b, 0, sizeof(*b)); /* no barrier before it is complete */
  b->scheduler = s;
  machine_init(&b->job.machine, parties, alloc, ud);
  compat_getuservalue(L, -1);
  for (int i = 0; i < 2; i++) { /* so that setting them later allocates nothing */
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, fields[i]);
  }
  lua_pop(L, 1);
  scheduler_adopt(L, s, &b->job);
  for (size_t size = 1024; !living_reserve(&s->living); size *= 2) {
    scheduler_abandon(L, s, &b->job);
    errors_memory(L, size); /* more each time, until there is room, or Lua's memory error */
    scheduler_adopt(L, s, &b->job);
  }
  b->self = b;
  b->mark = living_take(&s->living, b);
  b->type = &barrier_type;
  if (s->living.closed) barrier_destroy(L, b);
  return b;
}

void barrier_destroy(lua_State *L, struct barrier *b) {
  scheduler_abandon(L, b->scheduler, &b->job);
  machine_destroy(&b->job.machine);
  living_release(&b->scheduler->living, b->mark);
  b->type = &gone_type;
}

void barrier_close(lua_State *L, struct scheduler *s) {
  int bound = scheduler_push_all(L, s);
  for (int i = 1; i <= bound; i++) {
    struct barrier *b;
    lua_rawgeti(L, -1, i);
    b = barrier_at(L, -1);
    if (b) barrier_destroy(L, b);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* {=== metatables === */

enum { MEMBERS = 1 }; /* what the metatable has besides metamethods */

/* [-0, +1] */
static void push_index(lua_State *L, int members, lua_CFunction index, int self) {
  lua_pushvalue(L, members);
  if (self)
    lua_pushvalue(L, self);
  else
    lua_pushnil(L);
  lua_pushcclosure(L, index, 2);
}

void barrier_open(lua_State *L, int metatable, int members, lua_CFunction index) {
  metatable = lua_absindex(L, metatable);
  push_index(L, members, index, 0);
  lua_setfield(L, metatable, "__index");
  lua_pushvalue(L, members);
  lua_rawseti(L, metatable, MEMBERS);
  lua_pushvalue(L, metatable);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &barrier_type);
}

/* Copies the metamethods from the table at `from` to the one on the top. [-0, +0] */
static void copy_metamethods(lua_State *L, int from) {
  int to = lua_gettop(L);
  lua_getfield(L, from, "__close"); /* first, so that nothing is in its way in the hash */
  lua_setfield(L, to, "__close");
  lua_pushnil(L);
  while (lua_next(L, from)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, to);
    } else {
      lua_pop(L, 1);
    }
  }
}

void barrier_own_metatable(lua_State *L, struct barrier *b, int self) {
  int top = lua_gettop(L);
  b->has_metatable = true; /* or it will not get one */
  b->is_plain = !b->has_timeout;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &barrier_type);
  lua_getfield(L, -1, "__index");
  lua_rawgeti(L, -2, MEMBERS);
  /* unless the debug library has changed something */
  if (lua_iscfunction(L, -2) && lua_istable(L, -1) && lua_getmetatable(L, self) &&
      lua_rawequal(L, -1, top + 1)) {
    lua_createtable(L, 0, 8); /* top + 5: the metatable */
    copy_metamethods(L, top + 1);
    lua_createtable(L, 0, 1); /* top + 6: its __index */
    lua_getfield(L, top + 3, "wait");
    lua_setfield(L, top + 6, "wait");
    lua_createtable(L, 0, 1); /* the metatable of that */
    push_index(L, top + 3, lua_tocfunction(L, top + 2), self);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, top + 6);
    lua_setfield(L, top + 5, "__index");
    lua_setmetatable(L, self);
  }
  lua_settop(L, top);
}

/* }=== */

/* {=== what it keeps === */

void barrier_push_elements(lua_State *L, int self) {
  self = lua_absindex(L, self);
  if (compat_getuservalue(L, self)) return;
  /* The debug library took it away; everybody in it is lost. */
  lua_pop(L, 1); /* no coverage on Lua 5.1, where it is always a table */
  lua_newtable(L);
  lua_pushvalue(L, -1);
  compat_setuservalue(L, self);
}

void barrier_push_field(lua_State *L, int self, const char *name) {
  barrier_push_elements(L, self);
  lua_getfield(L, -1, name);
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  lua_remove(L, -2);
}

void barrier_set_field(lua_State *L, int self, const char *name) {
  barrier_push_elements(L, self);
  lua_insert(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

void barrier_set_element(lua_State *L, const struct barrier *b, int self, uint32_t node,
                         int index) {
  index = lua_absindex(L, index);
  if (b->has_action) {
    lua_pushboolean(L, 0);
    barrier_keep_error(L, self, node);
  }
  barrier_push_elements(L, self);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, (compat_index)node);
  lua_pop(L, 1);
}

void barrier_clear_element(lua_State *L, int self, uint32_t node) {
  barrier_push_elements(L, self);
  lua_pushboolean(L, 0);
  lua_rawseti(L, -2, (compat_index)node);
  lua_pop(L, 1);
}

void barrier_ensure_errors(lua_State *L, int self) {
  bool exist;
  self = lua_absindex(L, self);
  barrier_push_field(L, self, "errors");
  exist = lua_istable(L, -1);
  lua_pop(L, 1);
  if (exist) return;
  lua_newtable(L);
  barrier_set_field(L, self, "errors");
}

void barrier_keep_error(lua_State *L, int self, uint32_t node) {
  barrier_push_field(L, self, "errors");
  lua_insert(L, -2);
  if (lua_istable(L, -2))
    lua_rawseti(L, -2, (compat_index)node);
  else
    lua_pop(L, 1);
  lua_pop(L, 1);
}

void barrier_take_error(lua_State *L, int self, uint32_t node) {
  barrier_push_field(L, self, "errors");
  if (!lua_istable(L, -1)) return; /* nil */
  lua_rawgeti(L, -1, (compat_index)node);
  if (!lua_isnil(L, -1)) {
    lua_pushboolean(L, 0); /* keeps the place */
    lua_rawseti(L, -3, (compat_index)node);
  }
  lua_remove(L, -2);
}

/* }=== */

/* {=== what happens to it === */

bool barrier_make_room(lua_State *L, struct barrier *b, uint32_t n) {
  struct nodes *nodes = &b->job.machine.nodes;
  bool quiet = true;
  for (size_t size = 1024;
       !nodes_reserve(nodes) || (n && !deadlines_reserve(&b->scheduler->deadlines, n)); size *= 2) {
    errors_memory(L, size); /* more each time, until there is room, or Lua's memory error */
    quiet = false;
  }
  return quiet;
}

void barrier_push_error(lua_State *L, int self, enum machine_outcome outcome) {
  self = lua_absindex(L, self);
  switch (outcome) {
    case MACHINE_RESET: errors_push(L, ERROR_BROKEN, "barrier reset", self, 0); break;
    case MACHINE_CANCELLED: errors_push(L, ERROR_CANCELLED, "wait cancelled", self, 0); break;
    case MACHINE_DISTURBED:
      errors_push(L, ERROR_CANCELLED, "wait cancelled: resumed by somebody else", self, 0);
      break;
    default: { /* aborted, or an action raised nil or false */
      const struct barrier *b = barrier_at(L, self);
      barrier_push_elements(L, self);
      if (b && b->has_reason)
        lua_getfield(L, -1, "reason");
      else
        lua_pushnil(L);
      errors_push(L, ERROR_BROKEN, "barrier aborted", self, lua_isnil(L, -1) ? 0 : -1);
      lua_replace(L, -3);
      lua_pop(L, 1);
      break;
    }
  }
}

void barrier_break(lua_State *L, struct barrier *b, int self) {
  self = lua_absindex(L, self);
  if (b->job.machine.state == MACHINE_BROKEN) {
    lua_pop(L, 1);
    return;
  }
  b->has_reason = !lua_isnil(L, -1);
  if (!b->has_reason) { /* the place of a nil would be collected */
    lua_pop(L, 1);
    lua_pushboolean(L, 0);
  }
  barrier_set_field(L, self, "reason");
  machine_abort(&b->job.machine, b->scheduler->turn);
}

void barrier_keep_phase(lua_State *L, struct barrier *b, int self) {
  struct scheduler *s = b->scheduler;
  bool begun = b->has_timeout && machine_counted(&b->job.machine) && !b->job.machine.held;
  if (begun && b->job.deadline == 0 && deadlines_reserve(&s->deadlines, 1))
    scheduler_set_deadline(L, s, &b->job, self, 0, loop_after(&s->loop, b->timeout), b->timeout);
  else if (!begun && b->job.deadline)
    scheduler_clear_deadline(L, s, &b->job, 0);
}

void barrier_changed(lua_State *L, struct barrier *b, int self) {
  barrier_keep_phase(L, b, self);
  if (machine_busy(&b->job.machine)) scheduler_request(L, b->scheduler, &b->job, self);
}

/* Forgets what a node that leaves otherwise would have been told. [-0, +0] */
static void drop_error(lua_State *L, int self, uint32_t node) {
  barrier_take_error(L, self, node);
  lua_pop(L, 1);
}

void barrier_leave(lua_State *L, struct barrier *b, int self, uint32_t node) {
  bool queued = b->job.queued;
  scheduler_clear_deadline(L, b->scheduler, &b->job, node);
  barrier_clear_element(L, self, node);
  if (b->job.machine.nodes.at[node].outcome != MACHINE_PASSED) drop_error(L, self, node);
  machine_leave(&b->job.machine, node, b->scheduler->turn);
  barrier_changed(L, b, self);
  if (b->job.queued && !queued)
    scheduler_prepare(L, b->scheduler);
  else
    scheduler_relax(L, b->scheduler);
}

bool barrier_withdraw(lua_State *L, struct barrier *b, int self, uint32_t node,
                      enum machine_outcome outcome) {
  bool failed = b->job.machine.nodes.at[node].outcome == MACHINE_FAILED; /* by its action */
  if (!machine_withdraw(&b->job.machine, node, outcome, b->scheduler->turn)) return false;
  if (failed && outcome != MACHINE_TIMED_OUT) drop_error(L, self, node);
  scheduler_clear_deadline(L, b->scheduler, &b->job, node);
  barrier_changed(L, b, self);
  return true;
}

int barrier_shrink(lua_State *L) {
  struct barrier *b = barrier_at(L, 1);
  if (b == NULL) return 0;
  lua_settop(L, 1);
  barrier_push_elements(L, 1);
  lua_createtable(L, 0, 8); /* with room for all fields: nothing is allocated below */
  lua_newtable(L);          /* 4: the errors */
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, 3);
    } else {
      lua_pop(L, 1);
    }
  }
  lua_setfield(L, 3, "errors");
  if (!nodes_empty(&b->job.machine.nodes)) return 0; /* a finalizer has come in */
  compat_setuservalue(L, 1);
  nodes_destroy(&b->job.machine.nodes);
  return 0;
}

/* }=== */

bool is_callable(lua_State *L, int i) {
  if (lua_isfunction(L, i)) return true;
  if (lua_type(L, i) > LUA_TTHREAD) return false; /* LuaJIT's cdata: each has a __call */
  if (!luaL_getmetafield(L, i, "__call")) return false;
  lua_pop(L, 1);
  return true;
}
