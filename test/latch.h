/*
** A latch, another thing that waits, on src/host alone: parties wait until its count is 0.
**
**   l = latch(n)    l:count_down()    l:wait([timeout,] [callback])    l:cancel(co)
*/
#ifndef BARRIER_TEST_LATCH_H
#define BARRIER_TEST_LATCH_H
enum { PLACE_AT_LATCH, PLACE_THROUGH }; /* its queues */
struct latch {
  struct room room;
  struct nodes nodes;
  int count;
};

static bool latch_next(struct room *r, uint32_t turn, struct leaver *leaver) {
  return room_next(r, PLACE_THROUGH, turn, leaver);
}

static bool latch_is_busy(const struct room *r) {
  return r->nodes->queues[PLACE_THROUGH].count || r->nodes->queues[PLACE_LEAVING].count;
}

static bool latch_waits(const struct room *r, uint32_t node) {
  return r->nodes->at[node].place == PLACE_AT_LATCH;
}

static bool latch_withdraw(struct room *r, uint32_t node, enum outcome outcome, uint32_t turn) {
  if (!latch_waits(r, node)) return false;
  room_send_off(r, node, outcome, turn);
  return true;
}

static void latch_add_progress(const struct room *r, struct text *t) {
  text_add(t, ", ");
  text_add_count(t, (uint64_t)((const struct latch *)(const void *)r)->count);
  text_add(t, " missing");
}

static void latch_destroy(lua_State *L, struct room *r) {
  room_close(L, r);
  nodes_destroy(r->nodes);
}

static const struct room_kind latch_kind = {
    .next = latch_next,
    .put_back = room_put_back,
    .busy = latch_is_busy,
    .waits = latch_waits,
    .leave = room_take_out,
    .withdraw = latch_withdraw,
    .is_party = room_is_party,
    .inhabited = room_is_inhabited,
    .add_progress = latch_add_progress,
    .destroy = latch_destroy,
};

static struct latch *latch_check(lua_State *L) {
  struct latch *l = (struct latch *)room_of_kind(L, 1, &latch_kind, sizeof(*l));
  if (l == NULL) luaL_error(L, "latch expected, got %s", luaL_typename(L, 1));
  return l;
}

static uint32_t latch_enter(lua_State *S, struct room *r, const void *key, struct request *q) {
  uint32_t n = nodes_take(r->nodes, key);
  bool open = ((struct latch *)(void *)r)->count == 0;
  nodes_append(r->nodes, open ? PLACE_THROUGH : PLACE_AT_LATCH, n);
  r->nodes->at[n].as.turn = r->scheduler->turn;
  if (open)
    room_changed(S, r, 1);
  else
    wait_set_deadline(S, r, q, n);
  return n;
}

static int latch_wait(lua_State *L) {
  struct latch *l = latch_check(L);
  struct request q = {.name = "wait"};
  if (lua_gettop(L) >= REQUEST_FIRST_ARG) request_check(L, &q);
  if (q.callback)
    waiter_push(L, 1, q.callback);
  else
    coroutine_check(L, REQUEST_LEVEL, 2);
  wait_begin(L, &l->room, &q);
  while (!wait_wakes(L, &l->room, &q, l->count == 0, q.timed ? q.when : LOOP_NEVER) ||
         !room_reserve(L, &l->room, q.timed))
    continue;
  if (!q.callback) return wait_suspend(L, &l->room, &q, latch_enter);
  wait_call_back(L, &l->room, &q, lua_gettop(L), latch_enter);
  return coroutine_return(L);
}

static int latch_count_down(lua_State *L) {
  struct latch *l = latch_check(L);
  struct nodes *nodes = &l->nodes;
  lua_settop(L, 1);
  if (l->count == 1 && !nodes_empty(nodes)) scheduler_prepare(L, l->room.scheduler, &l->room);
  if (l->count == 0 || --l->count > 0) return 0;
  for (uint32_t n; nodes->queues[PLACE_AT_LATCH].count;) {
    n = nodes_pop(nodes, PLACE_AT_LATCH);
    nodes_append(nodes, PLACE_THROUGH, n);
    nodes->at[n].as.turn = l->room.scheduler->turn;
  }
  room_changed(L, &l->room, 1);
  return 0;
}

static int latch_cancel(lua_State *L) { return room_cancel(L, &latch_check(L)->room); }

static int latch_gc(lua_State *L) {
  if (room_at(L, 1)) latch_destroy(L, room_at(L, 1));
  return 0;
}

/* latch(n); upvalues: the core's scheduler, the metatable */
static int latch_new(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  int count = (int)luaL_checkinteger(L, 1);
  void *ud;
  nodes_alloc alloc = lua_getallocf(L, &ud);
  struct latch *l = (struct latch *)room_new(L, sizeof(*l));
  nodes_init(&l->nodes, alloc, ud);
  l->count = count;
  room_open(L, &l->room, &latch_kind, s, &l->nodes);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  return 1;
}

/* latch_open(): sets the field "latch" of the core at index 1. [-0, +0, m] */
static void latch_open(lua_State *L) {
  static const luaL_Reg functions[] = {
    {"wait", latch_wait},
    {"count_down", latch_count_down},
    {"cancel", latch_cancel},
    {"__gc", latch_gc},
#if COMPAT_CLOSE
    {"__close", coroutine_closed},
#endif
    {NULL, NULL}
  };
  lua_getfield(L, 1, "bind");
  lua_getupvalue(L, -1, 1); /* the scheduler */
  lua_newtable(L);
  luaL_setfuncs(L, functions, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pushcclosure(L, latch_new, 2);
  lua_setfield(L, 1, "latch");
}

#endif
