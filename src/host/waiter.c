#include "waiter.h"

#include "errors.h"
#include "request.h"
#include "scheduler.h"

static const char waiter_type = 'w'; /* its address is the type */

enum { WAITER_ROOM = 1, WAITER_CALLBACK }; /* its values */

struct waiter *waiter_at(lua_State *L, int i) {
  struct waiter *w = (struct waiter *)lua_touserdata(L, i);
  if (w == NULL || lua_rawlen(L, i) != sizeof(*w)) return NULL;
  return w->type == &waiter_type && w->self == w ? w : NULL;
}

/* True if the userdata at index 1 has a room. A copy of a Waiter's bytes that lies where the Waiter
** was has none, as luv copies no values. [-0, +0, -] */
static bool has_room(lua_State *L) {
  bool has;
  compat_getvalue(L, 1, WAITER_ROOM);
  has = lua_type(L, -1) == LUA_TUSERDATA;
  lua_pop(L, 1);
  return has;
}

/* The Waiter at index 1, or an error for the method `name`. [-0, +0, v] */
static struct waiter *check_waiter(lua_State *L, const char *name) {
  struct waiter *w = waiter_at(L, 1);
  if (w == NULL || !has_room(L))
    errors_raise(L, 1, "calling '%s' on bad self (Waiter expected, got %s)", name,
                 luaL_typename(L, 1));
  return w;
}

struct waiter *waiter_push(lua_State *L, int self, int callback) {
  struct waiter *w = (struct waiter *)compat_newpair(L, sizeof(*w), self, callback);
  w->node = 0;
  w->self = w;
  w->type = &waiter_type;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &waiter_type);
  lua_setmetatable(L, -2);
  return w;
}

void waiter_take_callback(lua_State *L, int i) {
  waiter_at(L, i)->node = 0;
  compat_takevalue(L, i, WAITER_CALLBACK);
}

/* The room at index 3 will call the function at index 2, in a turn. [-0, +0, e] */
static void notify(lua_State *L, struct room *r) {
  do scheduler_ensure_turn(L, r->scheduler, r);
  while (!room_reserve(L, r, 0));
  room_set_element(L, r, 3, nodes_vacant(r->nodes, NULL), 2);
  nodes_post(r->nodes, NULL, OUTCOME_CLOSED, r->scheduler->turn);
  room_changed(L, r, 3);
}

/* The node of the Waiter at index 1 in the room at index 3, 0 if it is out. [-0, +0] */
static uint32_t node_of(lua_State *L, const struct room *r, const struct waiter *w) {
  const struct nodes *nodes = r->nodes;
  bool same;
  if (w->node == 0 || w->node > nodes->used) return 0;
  room_push_elements(L, 3);
  lua_rawgeti(L, -1, (compat_index)w->node);
  same = lua_rawequal(L, -1, 1) && nodes->at[w->node].place < QUEUES;
  lua_pop(L, 2);
  return same ? w->node : 0; /* unless the debug library took its element away */
}

/* waiter:close([on_close]) */
static int waiter_close(lua_State *L) {
  struct waiter *w = check_waiter(L, "close");
  struct room *r;
  bool notifies = !lua_isnoneornil(L, 2);
  uint32_t n;
  errors_extra(L, 1, 3, 2, "close");
  if (notifies && !is_callable(L, 2))
    errors_argument(L, 1, 1, "close", "on_close must be callable, got %s", luaL_typename(L, 2));
  lua_settop(L, 2);
  compat_getvalue(L, 1, WAITER_ROOM);
  r = room_at(L, 3);
  if (r == NULL) { /* it was collected together with the Waiter, or the Lua state closes */
    waiter_take_callback(L, 1);
    return 0;
  }
  if (notifies) notify(L, r);
  n = node_of(L, r, w);
  waiter_take_callback(L, 1);
  if (n) room_leave(L, r, 3, n);
  return 0;
}

static int waiter_is_closing(lua_State *L) {
  check_waiter(L, "is_closing");
  errors_extra(L, 1, 2, 1, "is_closing");
  compat_getvalue(L, 1, WAITER_CALLBACK);
  lua_pushboolean(L, !lua_toboolean(L, -1));
  return 1;
}

static int waiter_tostring(lua_State *L) {
  const struct waiter *w = check_waiter(L, "tostring");
  lua_pushfstring(L, "<barrier.Waiter object at %p [%s]>", (const void *)w,
                  w->node ? "waiting" : "done");
  return 1;
}

int waiter_callback(lua_State *L) {
  check_waiter(L, "callback_of");
  compat_getvalue(L, 1, WAITER_CALLBACK);
  return 1;
}

static const luaL_Reg waiter_methods[] = {
    {"close", waiter_close}, {"is_closing", waiter_is_closing}, {NULL, NULL}};

void waiter_open(lua_State *L) {
  lua_newtable(L);
  lua_pushliteral(L, "barrier.Waiter");
  lua_setfield(L, -2, "__name");
  lua_pushcfunction(L, waiter_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_newtable(L);
  luaL_setfuncs(L, waiter_methods, 0);
  lua_setfield(L, -2, "__index");
  lua_rawsetp(L, LUA_REGISTRYINDEX, &waiter_type);
}
