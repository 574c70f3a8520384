#include "scheduler.h"

/* How many deadlines that have passed are served in one call of the timer. */
#define MOST_EXPIRE 512

/* {=== the run queue === */

/* [-0, +1] */
static void push_anchors(lua_State *L, const struct scheduler *s) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->anchors);
}

static void append_job(struct scheduler *s, struct job *job) {
  job->prev = s->last;
  job->next = NULL;
  if (s->last)
    s->last->next = job;
  else
    s->first = job;
  s->last = job;
  job->since = s->turn;
  job->queued = true;
}

static void unlink_job(struct scheduler *s, struct job *job) {
  if (job->prev)
    job->prev->next = job->next;
  else
    s->first = job->next;
  if (job->next)
    job->next->prev = job->prev;
  else
    s->last = job->prev;
  job->queued = false;
}

/* Anchors the userdata at `self`, or nothing for 0. The place exists already, so
** this allocates nothing. [-0, +0] */
static void anchor(lua_State *L, struct scheduler *s, struct job *job, int self) {
  if (self) self = lua_absindex(L, self);
  push_anchors(L, s);
  if (self)
    lua_pushvalue(L, self);
  else
    lua_pushboolean(L, 0);
  lua_rawseti(L, -2, job->anchor);
  lua_pop(L, 1);
}

void scheduler_request(lua_State *L, struct scheduler *s, struct job *job, int self) {
  if (job->queued || job->anchor == 0) return;
  if (job->timed == 0) anchor(L, s, job, self);
  append_job(s, job);
}

void scheduler_dismiss(lua_State *L, struct scheduler *s, struct job *job) {
  if (!job->queued) return;
  unlink_job(s, job);
  if (job->timed == 0) anchor(L, s, job, 0);
}

void scheduler_adopt(lua_State *L, struct scheduler *s, struct job *job) {
  push_anchors(L, s);
  lua_pushboolean(L, 0);
  job->anchor = luaL_ref(L, -2);
  if (job->anchor > s->bound) s->bound = job->anchor;
  lua_pop(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->all);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, job->anchor);
  lua_pop(L, 1);
}

/* }=== */

/* {=== deadlines === */

void scheduler_set_deadline(lua_State *L, struct scheduler *s, struct job *job, int self,
                            uint32_t node, uint64_t when, uint64_t timeout) {
  struct deadline x;
  if (job->anchor == 0) return;
  if (job->timed == 0 && !job->queued) anchor(L, s, job, self);
  x.when = when;
  x.timeout = timeout;
  x.order = 0;
  x.job = job;
  x.node = node;
  deadlines_add(&s->deadlines, &x);
  job->timed++;
}

/* False if there is no such deadline, or none any more: the state is closing, and what
** is at that place now is another's. */
static bool remove_deadline(struct scheduler *s, struct job *job, uint32_t node) {
  uint32_t i = node ? job->machine.nodes.at[node].deadline : job->deadline;
  if (i == 0 || i > s->deadlines.count) return false;
  if (s->deadlines.heap[i].job != job || s->deadlines.heap[i].node != node) return false;
  deadlines_remove(&s->deadlines, i);
  job->timed--;
  return true;
}

void scheduler_clear_deadline(lua_State *L, struct scheduler *s, struct job *job, uint32_t node) {
  if (remove_deadline(s, job, node) && job->timed == 0 && !job->queued) anchor(L, s, job, 0);
}

void scheduler_abandon(lua_State *L, struct scheduler *s, struct job *job) {
  if (job->queued) unlink_job(s, job);
  for (uint32_t n = 0; job->timed && n <= job->machine.nodes.used; n++) remove_deadline(s, job, n);
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->all);
  lua_pushnil(L);
  lua_rawseti(L, -2, job->anchor);
  lua_pop(L, 1);
  push_anchors(L, s);
  luaL_unref(L, -1, job->anchor);
  lua_pop(L, 1);
  job->anchor = 0;
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
    push_anchors(L, s);
    lua_rawgeti(L, -1, x.job->anchor);
    if (s->expire(L, &x)) scheduler_clear_deadline(L, s, x.job, x.node);
    lua_pop(L, 2);
  }
}

/* }=== */

/* {=== turns === */

uint32_t scheduler_begin(struct scheduler *s) { return ++s->turn; }

void scheduler_prepare(lua_State *L, struct scheduler *s) { loop_wake(L, &s->loop); }

void scheduler_ensure_turn(lua_State *L, struct scheduler *s) {
  if (!loop_wakes_by(&s->loop, LOOP_NOW)) loop_wake(L, &s->loop);
}

void scheduler_settle(lua_State *L, struct scheduler *s) {
  uint64_t next = LOOP_NEVER;
  if (s->first)
    next = LOOP_NOW;
  else if (s->deadlines.count)
    next = s->deadlines.heap[1].when;
  loop_settle(L, &s->loop, next);
}

void scheduler_relax(lua_State *L, struct scheduler *s) {
  if (s->first == NULL && s->deadlines.count == 0 && loop_is_timed(&s->loop))
    loop_settle(L, &s->loop, LOOP_NEVER);
}

/* [-0, +0] */
static void serve_job(lua_State *L, struct scheduler *s, struct job *job, uint32_t turn,
                      int report) {
  int top = lua_gettop(L);
  loop_spend(&s->loop);
  unlink_job(s, job); /* behind the others, where a nested turn finds it */
  append_job(s, job);
  push_anchors(L, s);
  lua_rawgeti(L, -1, job->anchor);
  s->serve(L, job, turn, report);
  if (!machine_busy(&job->machine)) scheduler_dismiss(L, s, job);
  lua_settop(L, top);
}

/* Serves what is ready now. `report`: its slot. [-0, +0] */
static void run_turn(lua_State *L, struct scheduler *s, int report) {
  uint32_t turn = scheduler_begin(s);
  while (s->first && s->first->since != turn && (uint32_t)(turn - s->first->since) < 0x80000000u)
    serve_job(L, s, s->first, turn, report);
}

/* The timer's callback: turns, one after the other as long as there is credit, since to start
** the timer for each costs more than a small trip. An error is reported at once. Upvalue 1: the
** scheduler. */
static int on_timer(lua_State *L) {
  struct scheduler *s = (struct scheduler *)lua_touserdata(L, lua_upvalueindex(1));
  lua_settop(L, 0);
  if (s->loop.left) return 0;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushnil(L); /* 1: the report of uncaught errors */
  loop_fired(L, &s->loop, s->first != NULL);
  expire(L, s);
  while (s->first && lua_isnil(L, 1)) {
    scheduler_ensure_turn(L, s);
    run_turn(L, s, 1);
    if (s->loop.credit == 0) break;
  }
  scheduler_settle(L, s);
  lua_settop(L, 1);
  return lua_isnil(L, 1) ? 0 : compat_error(L);
}

/* }=== */

/* [-0, +0] */
static void make_tables(lua_State *L, struct scheduler *s) {
  lua_newtable(L);
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

void scheduler_open(lua_State *L, struct scheduler *s, scheduler_serve serve,
                    scheduler_expire on_expiry) {
  void *ud;
  nodes_alloc alloc = lua_getallocf(L, &ud);
  deadlines_init(&s->deadlines, alloc, ud);
  memset(&s->living, 0, sizeof(s->living));
  s->first = s->last = NULL;
  s->turn = 0;
  s->bound = 0;
  s->cancels = false;
  s->serve = serve;
  s->expire = on_expiry;
  make_tables(L, s);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, on_timer, 1);
  loop_open(L, &s->loop);
}

void scheduler_destroy(struct scheduler *s) {
  deadlines_destroy(&s->deadlines);
  living_close(&s->living);
}

int scheduler_push_all(lua_State *L, const struct scheduler *s) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->all);
  return s->bound;
}

/* {=== the end === */

static struct loop *upvalue_loop(lua_State *L) {
  return &((struct scheduler *)lua_touserdata(L, lua_upvalueindex(1)))->loop;
}

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
