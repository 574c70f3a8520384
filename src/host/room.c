#include "room.h"

#include <string.h>

#include "errors.h"
#include "scheduler.h"
#include "waiter.h"

static const char room_tag = 'r'; /* its address is the tag, */
static const char gone_tag = 'g'; /* and this one's the tag of a closed room */

static const struct outcome_facts outcome_table[OUTCOMES] = {
    [OUTCOME_CANCELLED] = {false, true, "wait cancelled"},
    [OUTCOME_DISTURBED] = {false, true, "wait cancelled: resumed by somebody else"},
    [OUTCOME_TIMED_OUT] = {true, true, NULL},
    [OUTCOME_FAILED] = {true, false, NULL},
    [OUTCOME_UNCAUGHT] = {true, false, NULL},
};

const struct outcome_facts *outcome_facts(enum outcome outcome) { return &outcome_table[outcome]; }

/* {=== making === */

void *room_new(lua_State *L, size_t size) {
  void *p = compat_newuserdata(L, size, 0, 0);
  memset(p, 0, size);
  return p;
}

void room_open(lua_State *L, struct room *r, const struct room_kind *kind, struct scheduler *s,
               struct nodes *nodes) {
  r->scheduler = s;
  r->nodes = nodes;
  scheduler_adopt(L, s, r);
  for (size_t size = 1024; !living_reserve(&s->living); size *= 2) {
    scheduler_abandon(L, s, r);
    errors_memory(L, size); /* more each time, until there is room, or Lua's memory error */
    scheduler_adopt(L, s, r);
  }
  r->kind = kind;
  r->self = r;
  r->mark = living_take(&s->living, r);
  r->tag = &room_tag;
}

void room_close(lua_State *L, struct room *r) {
  scheduler_abandon(L, r->scheduler, r);
  living_release(&r->scheduler->living, r->mark);
  r->tag = &gone_tag; /* a turn may still hold it, and ask its kind */
}

void room_close_all(lua_State *L, struct scheduler *s) {
  int bound = scheduler_push_all(L, s);
  for (int i = 1; i <= bound; i++) {
    struct room *r;
    lua_rawgeti(L, -1, i);
    r = room_at(L, -1);
    if (r) r->kind->destroy(L, r);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* The userdata of `size` bytes or more at an index, if it has that tag. [-0, +0] */
static inline struct room *tagged_at(lua_State *L, int i, const void *tag, size_t size) {
  struct room *r = (struct room *)lua_touserdata(L, i);
  if (r == NULL || lua_rawlen(L, i) < size) return NULL;
  return r->tag == tag && r->self == r ? r : NULL;
}

/* Inline, as is the next: a wait asks each of them once. */
INTERNAL_INLINE struct room *room_at(lua_State *L, int i) {
  struct room *r = (struct room *)lua_touserdata(L, i);
  if (r == NULL || lua_rawlen(L, i) < sizeof(*r)) return NULL;
  return r->tag == &room_tag && r->mark->owner == r ? r : NULL;
}

INTERNAL_INLINE void *room_of_kind(lua_State *L, int i, const struct room_kind *kind, size_t size) {
  struct room *r = (struct room *)lua_touserdata(L, i);
  if (r == NULL || lua_rawlen(L, i) != size) return NULL;
  return r->kind == kind && r->mark->owner == r ? r : NULL;
}

void *room_gone_at(lua_State *L, int i, const struct room_kind *kind, size_t size) {
  struct room *r = tagged_at(L, i, &gone_tag, size);
  return r && r->kind == kind ? r : NULL;
}

/* }=== */

/* {=== what it keeps === */

void room_push_elements(lua_State *L, int self) {
  self = lua_absindex(L, self);
  if (compat_getuservalue(L, self)) return;
  /* The debug library took it away; all parties are lost. */
  lua_pop(L, 1); /* no coverage on Lua 5.1, where it is always a table */
  lua_newtable(L);
  lua_pushvalue(L, -1);
  compat_setuservalue(L, self);
}

void room_push_field(lua_State *L, int self, const char *name) {
  room_push_elements(L, self);
  lua_getfield(L, -1, name);
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  lua_remove(L, -2);
}

void room_ensure_field(lua_State *L, int self, const char *name) {
  room_push_elements(L, self);
  lua_getfield(L, -1, name);
  if (lua_isnil(L, -1)) {
    lua_pushboolean(L, 0);
    lua_setfield(L, -3, name);
  }
  lua_pop(L, 2);
}

void room_set_field(lua_State *L, int self, const char *name) {
  room_push_elements(L, self);
  lua_insert(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

void room_schedule_by(lua_State *L, struct room *r, int elements) {
  r->is_direct = lua_toboolean(L, -1) && scheduler_is_direct(L, r->scheduler);
  r->has_schedule = !r->is_direct && lua_toboolean(L, -1);
  if (r->has_schedule)
    lua_setfield(L, elements, "schedule");
  else
    lua_pop(L, 1);
}

void room_set_element(lua_State *L, const struct room *r, int self, uint32_t node, int index) {
  index = lua_absindex(L, index);
  if (r->may_fail) {
    lua_pushboolean(L, 0);
    room_keep_error(L, self, node);
  }
  room_push_elements(L, self);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, (compat_index)node);
  lua_pop(L, 1);
}

void room_clear_element(lua_State *L, int self, uint32_t node) {
  room_push_elements(L, self);
  lua_pushboolean(L, 0);
  lua_rawseti(L, -2, (compat_index)node);
  lua_pop(L, 1);
}

void room_ensure_errors(lua_State *L, int self) {
  bool exist;
  self = lua_absindex(L, self);
  room_push_field(L, self, "errors");
  exist = lua_istable(L, -1);
  lua_pop(L, 1);
  if (exist) return;
  lua_newtable(L);
  room_push_field(L, self, "errors"); /* a finalizer may have made it */
  if (lua_istable(L, -1)) {
    lua_pop(L, 2);
    return;
  }
  lua_pop(L, 1);
  room_set_field(L, self, "errors");
}

void room_keep_error(lua_State *L, int self, uint32_t node) {
  room_push_field(L, self, "errors");
  lua_insert(L, -2);
  if (lua_istable(L, -2))
    lua_rawseti(L, -2, (compat_index)node);
  else
    lua_pop(L, 1);
  lua_pop(L, 1);
}

void room_take_error(lua_State *L, int self, uint32_t node) {
  room_push_field(L, self, "errors");
  if (!lua_istable(L, -1)) return; /* nil */
  lua_rawgeti(L, -1, (compat_index)node);
  if (!lua_isnil(L, -1)) {
    lua_pushboolean(L, 0); /* keeps the place */
    lua_rawseti(L, -3, (compat_index)node);
  }
  lua_remove(L, -2);
}

int room_shrink(lua_State *L) {
  struct room *r = room_at(L, 1);
  if (r == NULL) return 0;
  lua_settop(L, 1);
  room_push_elements(L, 1);
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
  if (!nodes_empty(r->nodes)) return 0; /* a finalizer has come in */
  compat_setuservalue(L, 1);
  nodes_destroy(r->nodes);
  return 0;
}

/* }=== */

/* {=== what happens in it === */

bool room_reserve(lua_State *L, struct room *r, uint32_t n) {
  struct deadlines *deadlines = &r->scheduler->deadlines;
  bool quiet = true;
  for (size_t size = 1024; !nodes_reserve(r->nodes) || (n && !deadlines_reserve(deadlines, n));
       size *= 2) {
    errors_memory(L, size); /* more each time, until there is room, or Lua's memory error */
    quiet = false;
  }
  return quiet;
}

void room_push_error(lua_State *L, int self, enum outcome outcome, uint32_t node) {
  const struct outcome_facts *facts = outcome_facts(outcome);
  const struct room *r = room_at(L, self);
  if (facts->message || r == NULL)
    errors_push(L, ERROR_CANCELLED, facts->message ? facts->message : "wait cancelled", self, 0);
  else
    r->kind->push_error(L, lua_absindex(L, self), outcome, node);
}

void room_changed(lua_State *L, struct room *r, int self) {
  if (r->kind->changed) r->kind->changed(L, r, self);
  if (r->kind->busy(r)) scheduler_request(L, r->scheduler, r, self);
}

/* Drops the error that was kept for a node that leaves in another way. [-0, +0] */
static void drop_error(lua_State *L, int self, uint32_t node) {
  room_take_error(L, self, node);
  lua_pop(L, 1);
}

void room_leave(lua_State *L, struct room *r, int self, uint32_t node) {
  bool queued = r->queued;
  scheduler_clear_deadline(L, r->scheduler, r, node);
  room_clear_element(L, self, node);
  if (r->nodes->at[node].outcome != OUTCOME_PASSED) drop_error(L, self, node);
  r->kind->leave(r, node, r->scheduler->turn);
  room_changed(L, r, self);
  if (r->queued && !queued)
    scheduler_prepare(L, r->scheduler, r);
  else
    scheduler_relax(L, r->scheduler);
}

bool room_withdraw(lua_State *L, struct room *r, int self, uint32_t node, enum outcome outcome) {
  bool failed = r->nodes->at[node].outcome == OUTCOME_FAILED;
  if (!r->kind->withdraw(r, node, outcome, r->scheduler->turn)) return false;
  if (failed && outcome != OUTCOME_TIMED_OUT) drop_error(L, self, node);
  scheduler_clear_deadline(L, r->scheduler, r, node);
  room_changed(L, r, self);
  return true;
}

int room_cancel(lua_State *L, struct room *r) {
  const lua_State *co = lua_tothread(L, 2);
  const struct nodes *nodes;
  uint32_t n;
  if (co == NULL)
    errors_argument(L, 1, 1, "cancel", "coroutine expected, got %s",
                    waiter_at(L, 2) ? "Waiter (it has a method close)" : luaL_typename(L, 2));
  lua_settop(L, 2);
  if (r == NULL) {
    lua_pushboolean(L, 0);
    return 1;
  }
  nodes = r->nodes;
  n = nodes_find(nodes, co);
  if (n && nodes->at[n].place != PLACE_LEAVING) {
    scheduler_ensure_turn(L, r->scheduler, r);
    n = nodes_find(nodes, co);
  }
  lua_pushboolean(L, n && room_withdraw(L, r, 1, n, OUTCOME_CANCELLED));
  return 1;
}

/* }=== */

/* {=== timeouts === */

void room_tell_timeout(const struct room *r, const char *what, const struct deadline *x,
                       struct text *t) {
  t->length = 0;
  text_add(t, what);
  text_add(t, "timed out after ");
  text_add_count(t, x->timeout);
  text_add(t, " ms");
  r->kind->add_progress(r, t);
}

bool room_is_earliest(const struct room *r, const struct deadline *x) {
  const struct deadlines *d = &r->scheduler->deadlines;
  return d->count && d->heap[1].order == x->order;
}

static bool expire_wait(lua_State *L, struct room *r, int self, const struct deadline *x) {
  struct text message;
  if (!r->kind->waits(r, x->node)) return true;
  room_ensure_errors(L, self);
  room_tell_timeout(r, "wait ", x, &message);
  errors_push(L, ERROR_TIMEOUT, message.at, self, 0);
  compat_pushcount(L, x->timeout);
  lua_setfield(L, -2, "timeout");
  if (!room_is_earliest(r, x)) return false;
  room_keep_error(L, self, x->node);
  if (!room_withdraw(L, r, self, x->node, OUTCOME_TIMED_OUT)) drop_error(L, self, x->node);
  return true;
}

bool room_expire(lua_State *L, const struct deadline *x) {
  int self = lua_gettop(L);
  struct room *r = room_at(L, self);
  bool done = true;
  if (r && r == x->room) /* unless the debug library changed the anchor */
    done = x->node ? expire_wait(L, r, self, x) : r->kind->expire(L, r, self, x);
  lua_settop(L, self);
  return done;
}

/* }=== */

/* {=== for kinds that need no more === */

bool room_next(struct room *r, uint8_t place, uint32_t turn, struct leaver *leaver) {
  uint32_t n = r->nodes->queues[place].first;
  if (nodes_next_leaving(r->nodes, turn, 0, leaver)) return true;
  if (n == 0 || !older(r->nodes->at[n].as.turn, turn)) return false;
  leaver->node = nodes_pop(r->nodes, place);
  leaver->place = place;
  leaver->outcome = (enum outcome)r->nodes->at[n].outcome;
  leaver->position = 0;
  return true;
}

/* No coverage on Lua 5.1: see `resume` in drain.c. */
void room_put_back(struct room *r, const struct leaver *leaver) {
  nodes_prepend(r->nodes, leaver->place, leaver->node);
}

void room_take_out(struct room *r, uint32_t node, uint32_t turn) {
  (void)turn;
  nodes_unlink(r->nodes, node);
  nodes_free(r->nodes, node);
}

bool room_is_party(const struct node *node) {
  (void)node;
  return true;
}

bool room_is_inhabited(const struct room *r) {
  return r->nodes->taken > r->nodes->queues[PLACE_LEAVING].count;
}

void room_send_off(struct room *r, uint32_t node, enum outcome outcome, uint32_t turn) {
  nodes_unlink(r->nodes, node);
  nodes_send_off(r->nodes, node, outcome, turn);
}

/* }=== */
