#include "barrier.h"

#include "../host/errors.h"

static const char metatable_key = 'b'; /* its address is a key of the registry */

INTERNAL_INLINE struct barrier *barrier_at(lua_State *L, int i) {
  return (struct barrier *)room_of_kind(L, i, &barrier_kind, sizeof(struct barrier));
}

struct barrier *barrier_gone_at(lua_State *L, int i) {
  return (struct barrier *)room_gone_at(L, i, &barrier_kind, sizeof(struct barrier));
}

struct barrier *barrier_check(lua_State *L, int level, const char *name) {
  struct barrier *b = barrier_at(L, 1);
  if (b == NULL && barrier_gone_at(L, 1) == NULL)
    errors_raise(L, level, "calling '%s' on bad self (barrier expected, got %s)", name,
                 luaL_typename(L, 1));
  return b;
}

struct barrier *barrier_new(lua_State *L, struct scheduler *s, uint32_t parties) {
  void *ud;
  nodes_alloc alloc = lua_getallocf(L, &ud);
  struct barrier *b = (struct barrier *)room_new(L, sizeof(*b));
  machine_init(&b->machine, parties, alloc, ud);
  room_open(L, &b->room, &barrier_kind, s, &b->machine.nodes);
  if (s->living.closed) barrier_destroy(L, b);
  return b;
}

void barrier_destroy(lua_State *L, struct barrier *b) {
  room_close(L, &b->room);
  machine_destroy(&b->machine);
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
  lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
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
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
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

/* {=== what happens to it === */

void barrier_break(lua_State *L, struct barrier *b, int self) {
  self = lua_absindex(L, self);
  if (b->machine.state == MACHINE_BROKEN) {
    lua_pop(L, 1);
    return;
  }
  b->has_reason = !lua_isnil(L, -1);
  if (b->has_reason)
    room_set_field(L, self, "reason");
  else
    lua_pop(L, 1); /* nil: its place would be collected */
  machine_abort(&b->machine, b->room.scheduler->turn);
}

void barrier_keep_phase(lua_State *L, struct barrier *b, int self) {
  struct scheduler *s = b->room.scheduler;
  bool begun = b->has_timeout && machine_counted(&b->machine) && !b->machine.held;
  if (begun && b->room.deadline == 0 && deadlines_reserve(&s->deadlines, 1))
    scheduler_set_deadline(L, s, &b->room, self, 0, loop_after(&s->loop, b->timeout), b->timeout);
  else if (!begun && b->room.deadline)
    scheduler_clear_deadline(L, s, &b->room, 0);
}

/* }=== */
