#include "scheduler.h"

#include "drain.h"
#include "room.h"

/* The most passed deadlines that one call of the timer serves. */
#define MOST_EXPIRE 512

/* Where the anchors are while a call lets parties out. */
#define ANCHORS (PASS_FRAME + 1)

/* {=== the run queue === */

/* [-0, +1] */
static void push_anchors(lua_State *L, const struct scheduler *s) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchors);
}

static struct run_queue *queue_of(struct scheduler *s, const struct room *room) {
  return room->is_direct ? &s->direct : &s->timed;
}

static void append_room(struct scheduler *s, struct room *room) {
  struct run_queue *q = queue_of(s, room);
  room->prev = q->last;
  room->next = NULL;
  if (q->last)
    q->last->next = room;
  else
    q->first = room;
  q->last = room;
  room->since = s->turn;
  room->queued = true;
}

static void unlink_room(struct scheduler *s, struct room *room) {
  struct run_queue *q = queue_of(s, room);
  if (room->prev)
    room->prev->next = room->next;
  else
    q->first = room->next;
  if (room->next)
    room->next->prev = room->prev;
  else
    q->last = room->prev;
  room->queued = false;
}

/* Anchors the userdata at `self`, or nothing for 0. The place exists already, so
** this allocates nothing. [-0, +0] */
static void anchor(lua_State *L, struct scheduler *s, struct room *room, int self) {
  if (self) self = lua_absindex(L, self);
  push_anchors(L, s);
  if (self)
    lua_pushvalue(L, self);
  else
    lua_pushboolean(L, 0);
  lua_rawseti(L, -2, room->anchor);
  lua_pop(L, 1);
}

void scheduler_request(lua_State *L, struct scheduler *s, struct room *room, int self) {
  if (room->queued || room->anchor == 0) return;
  if (room->pins == 0) anchor(L, s, room, self);
  append_room(s, room);
}

void scheduler_dismiss(lua_State *L, struct scheduler *s, struct room *room) {
  if (!room->queued) return;
  unlink_room(s, room);
  if (room->pins == 0) anchor(L, s, room, 0);
}

void scheduler_adopt(lua_State *L, struct scheduler *s, struct room *room) {
  push_anchors(L, s);
  lua_pushboolean(L, 0);
  room->anchor = luaL_ref(L, -2);
  if (room->anchor > s->bound) s->bound = room->anchor;
  lua_pop(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->all);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, room->anchor);
  lua_pop(L, 1);
}

/* One more reason to keep the room alive. [-0, +0] */
static void pin(lua_State *L, struct scheduler *s, struct room *room, int self) {
  if (room->pins++ == 0 && !room->queued) anchor(L, s, room, self);
}

/* One reason less. [-0, +0] */
static void unpinned(lua_State *L, struct scheduler *s, struct room *room) {
  if (room->pins == 0 && !room->queued) anchor(L, s, room, 0);
}

void scheduler_hold(lua_State *L, struct scheduler *s, struct room *room, int self) {
  if (room->held || room->anchor == 0) return;
  room->held = true;
  pin(L, s, room, self);
}

void scheduler_let_go(lua_State *L, struct scheduler *s, struct room *room) {
  if (!room->held) return;
  room->held = false;
  room->pins--;
  unpinned(L, s, room);
}

/* }=== */

/* {=== deadlines === */

void scheduler_set_deadline(lua_State *L, struct scheduler *s, struct room *room, int self,
                            uint32_t node, uint64_t when, uint64_t timeout) {
  struct deadline x;
  if (room->anchor == 0) return;
  pin(L, s, room, self);
  x.when = when;
  x.timeout = timeout;
  x.order = 0;
  x.room = room;
  x.node = node;
  deadlines_add(&s->deadlines, &x);
}

/* False if there is no such deadline, or none any more: the state is closing, and another
** deadline may be at its place now. */
static bool remove_deadline(struct scheduler *s, struct room *room, uint32_t node) {
  uint32_t i = node ? room->nodes->at[node].deadline : room->deadline;
  if (i == 0 || i > s->deadlines.count) return false;
  if (s->deadlines.heap[i].room != room || s->deadlines.heap[i].node != node) return false;
  deadlines_remove(&s->deadlines, i);
  room->pins--;
  return true;
}

void scheduler_clear_deadline(lua_State *L, struct scheduler *s, struct room *room, uint32_t node) {
  if (remove_deadline(s, room, node)) unpinned(L, s, room);
}

void scheduler_abandon(lua_State *L, struct scheduler *s, struct room *room) {
  if (room->queued) unlink_room(s, room);
  for (uint32_t n = 0; room->pins && n <= room->nodes->used; n++) remove_deadline(s, room, n);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->all);
  lua_rawgeti(L, -1, room->anchor);
  if (!lua_isnil(L, -1)) { /* or else a nil might want memory, as the collector was here before */
    lua_pushnil(L);
    lua_rawseti(L, -3, room->anchor);
  }
  lua_pop(L, 2);
  push_anchors(L, s);
  luaL_unref(L, -1, room->anchor);
  lua_pop(L, 1);
  room->anchor = 0;
}

/* Deadlines that have passed do their work: at most MOST_EXPIRE in one call of the timer; the
** others after the loop has polled. [-0, +0] */
static void expire(lua_State *L, struct scheduler *s) {
  uint64_t ms;
  if (s->deadlines.count == 0) return;
  ms = loop_now(L, &s->loop);
  for (int i = 0; s->deadlines.count && s->deadlines.heap[1].when <= ms; i++) {
    struct deadline x = s->deadlines.heap[1];
    if (i == MOST_EXPIRE) {
      loop_yield(&s->loop);
      return;
    }
    lua_rawgeti(L, ANCHORS, x.room->anchor);
    if (room_expire(L, &x)) scheduler_clear_deadline(L, s, x.room, x.node);
    lua_settop(L, ANCHORS);
  }
}

/* }=== */

/* {=== turns === */

uint32_t scheduler_begin(struct scheduler *s) { return ++s->turn; }

/* Schedules a turn of the direct rooms: by the timer if the loop has to poll before. [-0, +0] */
static void schedule(lua_State *L, struct scheduler *s) {
  if (s->scheduled || s->loop.left) return;
  if (s->loop.credit == 0) {
    loop_wake(L, &s->loop);
    return;
  }
  luaL_checkstack(L, 3, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->schedule);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->on_schedule);
  lua_call(L, 1, 0);
  s->scheduled = true;
}

void scheduler_prepare(lua_State *L, struct scheduler *s, const struct room *room) {
  if (room && room->is_direct)
    schedule(L, s);
  else
    loop_wake(L, &s->loop);
}

bool scheduler_is_prepared(const struct scheduler *s, const struct room *room) {
  return (room && room->is_direct && s->scheduled) || loop_wakes_by(&s->loop, LOOP_NOW);
}

void scheduler_ensure_turn(lua_State *L, struct scheduler *s, const struct room *room) {
  if (!scheduler_is_prepared(s, room)) scheduler_prepare(L, s, room);
}

void scheduler_settle(lua_State *L, struct scheduler *s) {
  uint64_t next = LOOP_NEVER;
  if (s->rest) s->rest(L, s->rest_ud); /* should it fail, another turn comes */
  if (s->timed.first || (s->direct.first && !s->scheduled))
    next = LOOP_NOW;
  else if (s->deadlines.count)
    next = s->deadlines.heap[1].when;
  loop_settle(L, &s->loop, next);
}

void scheduler_relax(lua_State *L, struct scheduler *s) {
  if (s->timed.first == NULL && s->deadlines.count == 0 && loop_is_timed(&s->loop))
    loop_settle(L, &s->loop, LOOP_NEVER);
  if (s->rest) s->rest(L, s->rest_ud);
}

/* [-0, +0] */
static void serve_room(lua_State *L, struct scheduler *s, struct room *room, uint32_t turn) {
  loop_spend(&s->loop);
  if (room->next) { /* behind the others, where a nested turn finds it */
    unlink_room(s, room);
    append_room(s, room);
  }
  room->since = s->turn;
  lua_rawgeti(L, ANCHORS, room->anchor);
  if (lua_touserdata(L, -1) == room)
    drain_serve(L, room, turn);
  else
    scheduler_dismiss(L, s, room); /* the debug library changed the anchor */
  lua_settop(L, ANCHORS);
}

/* Serves the rooms of the queue that are ready now. [-0, +0] */
static void run_turn(lua_State *L, struct scheduler *s, const struct run_queue *q) {
  uint32_t turn = scheduler_begin(s);
  while (q->first && q->first->since != turn && (uint32_t)(turn - q->first->since) < 0x80000000u)
    serve_room(L, s, q->first, turn);
}

/* Turns, one after the other as long as there is credit, since scheduling each of them costs more
** than a small trip. An error is reported at once. [-0, +0] */
static void run_turns(lua_State *L, struct scheduler *s, const struct run_queue *q) {
  while (q->first && lua_isnil(L, PASS_REPORT)) {
    scheduler_ensure_turn(L, s, q->first); /* for loops that run inside */
    run_turn(L, s, q);
    if (s->loop.credit == 0) break;
  }
}

/* The timer's callback. Upvalue 1: the scheduler. */
static int on_timer(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  if (s->loop.left) return 0;
  drain_begin(L);
  push_anchors(L, s);
  loop_fired(L, &s->loop, s->timed.first != NULL);
  expire(L, s);
  if (s->direct.first) schedule(L, s);
  run_turns(L, s, &s->timed);
  return drain_end(L, s);
}

/* What `schedule` calls. Upvalue 1: the scheduler. */
static int on_schedule(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  s->scheduled = false;
  if (s->loop.left || s->direct.first == NULL) return 0;
  drain_begin(L);
  push_anchors(L, s);
  if (s->loop.credit) run_turns(L, s, &s->direct); /* otherwise the loop polls before */
  return drain_end(L, s);
}

/* }=== */

/* [-0, +0] */
static void make_tables(lua_State *L, struct scheduler *s) {
  lua_newtable(L);
  lua_pushinteger(L, 0);
  lua_rawseti(L, -2, 0); /* before Lua 5.4, luaL_unref would want memory for it, in a finalizer */
  s->anchors = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  s->all = luaL_ref(L, LUA_REGISTRYINDEX);
#if LUA_VERSION_NUM == 501
  s->spare = lua_newthread(L);
  luaL_ref(L, LUA_REGISTRYINDEX);
#endif
}

void scheduler_open(lua_State *L, struct scheduler *s) {
  void *ud;
  nodes_alloc alloc = lua_getallocf(L, &ud);
  deadlines_init(&s->deadlines, alloc, ud);
  memset(&s->living, 0, sizeof(s->living));
  s->timed.first = s->timed.last = s->direct.first = s->direct.last = NULL;
  s->schedule = LUA_NOREF;
  s->scheduled = false;
  s->turn = s->serving = 0;
  s->serving--;
  s->bound = 0;
  s->rest = NULL;
  s->cancels = false;
  make_tables(L, s);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, on_timer, 1);
  loop_open(L, &s->loop);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, on_schedule, 1);
  s->on_schedule = luaL_ref(L, LUA_REGISTRYINDEX);
}

void scheduler_destroy(struct scheduler *s) {
  deadlines_destroy(&s->deadlines);
  living_close(&s->living);
}

int scheduler_push_all(lua_State *L, const struct scheduler *s) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->all);
  return s->bound;
}

static struct scheduler *upvalue_scheduler(lua_State *L) {
  return (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
}

int scheduler_schedule_by(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, upvalue_scheduler(L)->schedule);
  upvalue_scheduler(L)->schedule = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

bool scheduler_is_direct(lua_State *L, const struct scheduler *s) {
  bool direct;
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->schedule);
  direct = !lua_isnil(L, -1) && lua_rawequal(L, -1, -2);
  lua_pop(L, 1);
  return direct;
}

/* {=== the end === */

static struct loop *upvalue_loop(lua_State *L) { return &upvalue_scheduler(L)->loop; }

int scheduler_leave(lua_State *L) {
  loop_close(L, upvalue_loop(L));
  loop_leave(upvalue_loop(L));
  return 0;
}

int scheduler_has_left(lua_State *L) {
  lua_pushboolean(L, loop_has_left(L, upvalue_loop(L)));
  return 1;
}

int scheduler_watch_exit(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  loop_watch_exit(L, upvalue_loop(L));
  return 0;
}

/* }=== */
