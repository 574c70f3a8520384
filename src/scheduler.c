#include "scheduler.h"

#include "errors.h"

/* How many waiters are served before the loop polls. */
#define CREDIT 512u

/* Values of scheduler.armed besides a time on the loop's clock. */
#define ARMED_NOW UINT64_C(0)        /* a turn comes as soon as it can */
#define ARMED_AGAIN (UINT64_MAX - 1) /* the timer repeats, started for nothing */
#define ARMED_OFF UINT64_MAX         /* the timer is stopped */
#define ARMED_LATEST (UINT64_MAX - 2)

/* The elements of the scheduler's table. */
enum {
  SLOT_ANCHORS = 1, /* barriers that have to stay, by job.anchor */
  SLOT_TIMER,
  SLOT_IDLE,
  SLOT_ON_TIMER,
  SLOT_ON_IDLE,
  SLOT_STACK,
  SLOT_NEW_TIMER, /* and on in the order of uv_names */
  SLOT_NEW_IDLE,
  SLOT_TIMER_START,
  SLOT_TIMER_STOP,
  SLOT_IDLE_START,
  SLOT_IDLE_STOP,
  SLOT_IS_CLOSING,
  SLOT_NOW,
  SLOT_LAST
};

static const char *const uv_names[] = {"new_timer",  "new_idle",  "timer_start", "timer_stop",
                                       "idle_start", "idle_stop", "is_closing",  "now"};

/* {=== luv === */

/* [-0, +1] */
static int push_table(lua_State *L, const struct scheduler *s) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, s->ref);
  return lua_gettop(L);
}

/* Is the handle in `slot` there, and not closed by somebody else? luv must not be
** asked to start a closed handle. [-0, +0] */
static bool is_alive(lua_State *L, int table, int slot) {
  bool alive;
  lua_rawgeti(L, table, SLOT_IS_CLOSING);
  lua_rawgeti(L, table, slot);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 2);
    return false;
  }
  lua_call(L, 1, 1);
  alive = !lua_toboolean(L, -1);
  lua_pop(L, 1);
  return alive;
}

/* [-0, +0] */
static void renew(lua_State *L, int table, int slot, int constructor) {
  if (is_alive(L, table, slot)) return;
  lua_rawgeti(L, table, constructor);
  lua_call(L, 0, 1);
  if (is_alive(L, table, slot)) /* a finalizer or hook has made one meanwhile */
    lua_pop(L, 1);
  else
    lua_rawseti(L, table, slot);
}

/* uv.timer_start(timer, timeout, 1, on_timer). [-0, +0] */
static void start_timer(lua_State *L, int table, uint64_t timeout) {
  if (timeout > COMPAT_MAX_TIMEOUT) timeout = COMPAT_MAX_TIMEOUT; /* it is started again then */
  lua_rawgeti(L, table, SLOT_TIMER_START);
  lua_rawgeti(L, table, SLOT_TIMER);
  lua_pushinteger(L, (lua_Integer)timeout);
  lua_pushinteger(L, 1);
  lua_rawgeti(L, table, SLOT_ON_TIMER);
  lua_call(L, 4, 0);
}

/* uv[function](handle [, callback]). [-0, +0] */
static void call_handle(lua_State *L, int table, int function, int handle, int callback) {
  lua_rawgeti(L, table, function);
  lua_rawgeti(L, table, handle);
  if (callback) lua_rawgeti(L, table, callback);
  lua_call(L, callback ? 2 : 1, 0);
}

/* The loop's clock, in milliseconds. [-0, +0] */
static uint64_t now(lua_State *L, int table) {
  uint64_t ms;
  lua_rawgeti(L, table, SLOT_NOW);
  lua_call(L, 0, 1);
  ms = (uint64_t)lua_tonumber(L, -1);
  lua_pop(L, 1);
  return ms;
}

static bool is_time(uint64_t armed) { return armed != ARMED_NOW && armed <= ARMED_LATEST; }

/* Starts the timer, which must be alive. luv's functions may run a finalizer or a
** hook that starts or stops it as well: then a turn comes, to be on the safe
** side. [-0, +0] */
static void start(lua_State *L, struct scheduler *s, int table, uint64_t timeout, uint64_t armed) {
  uint32_t call;
  do {
    call = ++s->calls;
    s->armed = ARMED_AGAIN;
    start_timer(L, table, timeout);
    s->armed = armed;
    timeout = 0;
    armed = ARMED_NOW;
  } while (s->calls != call);
}

/* Has the timer call a turn as soon as it can. It must be alive. [-0, +0] */
static void arm_now(lua_State *L, struct scheduler *s, int table) {
  if (s->credit == 0) {
    renew(L, table, SLOT_IDLE, SLOT_NEW_IDLE);
    call_handle(L, table, SLOT_IDLE_START, SLOT_IDLE, SLOT_ON_IDLE);
    start(L, s, table, 1, ARMED_NOW); /* should somebody close the idle handle */
  } else {
    start(L, s, table, 0, ARMED_NOW);
  }
}

/* [-0, +0] */
static void stop(lua_State *L, struct scheduler *s, int table) {
  uint32_t call = ++s->calls;
  s->armed = ARMED_OFF;
  if (s->credit == 0 && is_alive(L, table, SLOT_IDLE))
    call_handle(L, table, SLOT_IDLE_STOP, SLOT_IDLE, 0);
  if (is_alive(L, table, SLOT_TIMER)) {
    call_handle(L, table, SLOT_TIMER_STOP, SLOT_TIMER, 0);
    if (s->calls != call) arm_now(L, s, table);
  }
}

/* Both at once, so that their number is the same ever after. [-0, +0] */
static void make_handles(lua_State *L, struct scheduler *s, int table) {
  s->armed = ARMED_OFF;
  renew(L, table, SLOT_IDLE, SLOT_NEW_IDLE);
  renew(L, table, SLOT_TIMER, SLOT_NEW_TIMER);
}

void scheduler_prepare(lua_State *L, struct scheduler *s) {
  int table;
  luaL_checkstack(L, 10, NULL);
  table = push_table(L, s);
  if (!is_alive(L, table, SLOT_TIMER)) make_handles(L, s, table);
  if (s->armed != ARMED_NOW) arm_now(L, s, table);
  lua_pop(L, 1);
}

void scheduler_settle(lua_State *L, struct scheduler *s) {
  int table = push_table(L, s);
  if (s->first) {
    if (s->armed != ARMED_NOW) scheduler_prepare(L, s);
  } else if (s->deadlines.count) {
    uint64_t when = s->deadlines.heap[1].when;
    if (s->armed != when && is_alive(L, table, SLOT_TIMER)) {
      uint64_t ms = now(L, table);
      if (when > ms)
        start(L, s, table, when - ms, when);
      else
        arm_now(L, s, table);
    }
  } else if (s->armed != ARMED_OFF) {
    stop(L, s, table);
  }
  lua_pop(L, 1);
}

void scheduler_relax(lua_State *L, struct scheduler *s) {
  if (s->first || s->deadlines.count || !is_time(s->armed)) return;
  stop(L, s, push_table(L, s));
  lua_pop(L, 1);
}

/* }=== */

/* {=== the run queue === */

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
  int table;
  if (self) self = lua_absindex(L, self);
  table = push_table(L, s);
  lua_rawgeti(L, table, SLOT_ANCHORS);
  if (self)
    lua_pushvalue(L, self);
  else
    lua_pushboolean(L, 0);
  lua_rawseti(L, -2, job->anchor);
  lua_pop(L, 2);
}

void scheduler_request(lua_State *L, struct scheduler *s, struct job *job, int self) {
  if (job->queued) return;
  if (job->timed == 0) anchor(L, s, job, self);
  append_job(s, job);
}

void scheduler_dismiss(lua_State *L, struct scheduler *s, struct job *job) {
  if (!job->queued) return;
  unlink_job(s, job);
  if (job->timed == 0) anchor(L, s, job, 0);
}

/* False if the node has no deadline, or none any more: the state is closing, and what
** is at that place now is another's. */
static bool remove_deadline(struct scheduler *s, struct job *job, uint32_t node) {
  uint32_t i = job->machine.nodes[node].deadline;
  if (i == 0 || i > s->deadlines.count) return false;
  if (s->deadlines.heap[i].job != job || s->deadlines.heap[i].node != node) return false;
  deadlines_remove(&s->deadlines, i);
  job->timed--;
  return true;
}

void scheduler_adopt(lua_State *L, struct scheduler *s, struct job *job) {
  push_table(L, s);
  lua_rawgeti(L, -1, SLOT_ANCHORS);
  lua_pushboolean(L, 0);
  job->anchor = luaL_ref(L, -2);
  job->timed = 0;
  job->queued = false;
  lua_pop(L, 2);
}

void scheduler_abandon(lua_State *L, struct scheduler *s, struct job *job) {
  if (job->queued) unlink_job(s, job);
  for (uint32_t n = 1; job->timed && n <= job->machine.used; n++) remove_deadline(s, job, n);
  push_table(L, s);
  lua_rawgeti(L, -1, SLOT_ANCHORS);
  luaL_unref(L, -1, job->anchor);
  lua_pop(L, 2);
}

uint32_t scheduler_begin(struct scheduler *s) { return ++s->turn; }

void scheduler_spend(struct scheduler *s) {
  if (s->credit) s->credit--;
}

/* }=== */

/* {=== deadlines === */

bool scheduler_reserve_deadline(lua_State *L, struct scheduler *s) {
  size_t size = ((size_t)s->deadlines.capacity + 4) * 2 * sizeof(struct deadline);
  if (deadlines_reserve(&s->deadlines)) return true;
  do { /* as wait.c does */
    errors_memory(L, size);
    size *= 2;
  } while (!deadlines_reserve(&s->deadlines));
  return false;
}

uint64_t scheduler_prepare_deadline(lua_State *L, struct scheduler *s, uint64_t timeout) {
  uint64_t when;
  int table;
  luaL_checkstack(L, 10, NULL);
  table = push_table(L, s);
  if (!is_alive(L, table, SLOT_TIMER)) make_handles(L, s, table);
  when = now(L, table) + timeout; /* each is less than 2^63 */
  if (when == ARMED_NOW) when++;
  if (s->armed != ARMED_NOW && s->armed > when) start(L, s, table, timeout, when);
  lua_pop(L, 1);
  return when;
}

void scheduler_set_deadline(lua_State *L, struct scheduler *s, struct job *job, int self,
                            uint32_t node, uint64_t when) {
  if (job->timed == 0 && !job->queued) anchor(L, s, job, self);
  deadlines_add(&s->deadlines, when, job, node);
  job->timed++;
}

void scheduler_clear_deadline(lua_State *L, struct scheduler *s, struct job *job, uint32_t node) {
  if (remove_deadline(s, job, node) && job->timed == 0 && !job->queued) anchor(L, s, job, 0);
}

/* Those whose time has come leave. [-0, +0] */
static void expire(lua_State *L, struct scheduler *s, int table) {
  uint64_t ms;
  if (s->deadlines.count == 0) return;
  ms = now(L, table);
  while (s->deadlines.count && s->deadlines.heap[1].when <= ms) {
    struct job *job = s->deadlines.heap[1].job;
    uint32_t node = s->deadlines.heap[1].node;
    if (machine_waits(&job->machine, node)) {
      machine_withdraw(&job->machine, node, MACHINE_TIMED_OUT, s->turn);
      scheduler_request(L, s, job, 0); /* it is anchored */
    }
    scheduler_clear_deadline(L, s, job, node);
  }
}

/* }=== */

/* {=== turns === */

/* [-0, +0] */
static void serve_job(lua_State *L, struct scheduler *s, struct job *job, uint32_t turn,
                      int errors) {
  int top = lua_gettop(L);
  unlink_job(s, job); /* behind the others, where a nested turn finds it */
  append_job(s, job);
  push_table(L, s);
  lua_rawgeti(L, -1, SLOT_ANCHORS);
  lua_rawgeti(L, -1, job->anchor);
  if (lua_touserdata(L, -1)) s->serve(L, job, turn, errors);
  if (!machine_busy(&job->machine)) scheduler_dismiss(L, s, job);
  lua_settop(L, top);
}

/* The timer's callback: a turn. */
static int on_timer(lua_State *L) {
  struct scheduler *s = lua_touserdata(L, lua_upvalueindex(1));
  uint32_t turn;
  int table;
  lua_settop(L, 0);
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushnil(L); /* 1: the report of uncaught errors */
  table = push_table(L, s);
  s->armed = ARMED_AGAIN;
  expire(L, s, table);
  if (s->first) {
    arm_now(L, s, table);
    turn = scheduler_begin(s);
    while (s->first && s->first->since != turn && (uint32_t)(turn - s->first->since) < 0x80000000u)
      serve_job(L, s, s->first, turn, 1);
  }
  scheduler_settle(L, s);
  lua_settop(L, 1);
  return lua_isnil(L, 1) ? 0 : compat_error(L);
}

/* The loop has polled: a turn comes again. */
static int on_idle(lua_State *L) {
  struct scheduler *s = lua_touserdata(L, lua_upvalueindex(1));
  int table = push_table(L, s);
  call_handle(L, table, SLOT_IDLE_STOP, SLOT_IDLE, 0);
  s->credit = CREDIT;
  s->armed = ARMED_AGAIN;
  scheduler_settle(L, s);
  return 0;
}

/* }=== */

void scheduler_open(lua_State *L, struct scheduler *s, scheduler_serve serve) {
  void *ud;
  machine_alloc alloc = lua_getallocf(L, &ud);
  deadlines_init(&s->deadlines, alloc, ud);
  s->first = s->last = NULL;
  s->released = s->returning = NULL;
  s->outcome = MACHINE_PASSED;
  s->position = 0;
  s->armed = ARMED_OFF;
  s->turn = s->calls = 0;
  s->credit = CREDIT;
  s->bound = false;
  s->serve = serve;
  lua_createtable(L, SLOT_LAST - 1, 0);
  lua_newtable(L);
  lua_rawseti(L, -2, SLOT_ANCHORS);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, on_timer, 1);
  lua_rawseti(L, -2, SLOT_ON_TIMER);
  lua_pushlightuserdata(L, s);
  lua_pushcclosure(L, on_idle, 1);
  lua_rawseti(L, -2, SLOT_ON_IDLE);
  s->stack = lua_newthread(L);
  lua_rawseti(L, -2, SLOT_STACK);
  s->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void scheduler_destroy(struct scheduler *s) { deadlines_destroy(&s->deadlines); }

const char *scheduler_bind(lua_State *L, struct scheduler *s, int uv) {
  int table;
  uv = lua_absindex(L, uv);
  table = push_table(L, s);
  for (int i = 0; SLOT_NEW_TIMER + i < SLOT_LAST; i++) {
    lua_getfield(L, uv, uv_names[i]);
    if (!lua_isfunction(L, -1)) {
      lua_pop(L, 2);
      return uv_names[i];
    }
    lua_rawseti(L, table, SLOT_NEW_TIMER + i);
  }
  lua_pop(L, 1);
  s->bound = true;
  return NULL;
}
