/*
** The luv loop as this module uses it: one timer that calls a turn, one idle handle
** that lets the loop poll in between, and the loop's clock.
**
** Before libuv 1.48 a timer that is started with timeout 0 from a timer's callback
** fires again before the loop polls (libuv issue 4245), and one call of it may be several
** turns (scheduler.c). So each room and each party that is served spends
** credit, and when the credit is used up an idle handle starts the next turn: everything
** else on the loop gets its chance, and the loop does not sleep.
**
** From libuv 1.48 on each call of the timer comes after a poll, and has new credit.
**
** The timer repeats until it is stopped because nothing is left to do, so that no
** error on the way can lose a wake-up.
**
** luv's functions may collect garbage and so run finalizers, or call a hook, which
** may use this module: call these before anything becomes ready.
*/
#ifndef BARRIER_LOOP_H
#define BARRIER_LOOP_H

#include "compat.h"

struct loop {
  uint64_t armed;  /* when the timer fires; see loop.c */
  uint64_t clock;  /* milliseconds, when loop_now last asked */
  uint64_t base;   /* on that clock, not before the last loop_update */
  uint32_t seen;   /* what luv's clock said then, modulo 2^32 */
  uint32_t calls;  /* of luv's functions that start and stop the timer */
  uint32_t credit; /* how many rooms and parties may be served before the loop polls */
  int ref;         /* its table in the registry */
  bool bound;      /* it has luv's functions */
  bool polls;      /* the loop polls before each call of the timer: libuv 1.48 or newer */
  bool left;       /* see loop_leave */
  void *guard;     /* its finalizer leaves, before luv closes the loop */
};

/* Makes the loop's table, from the timer's callback on the top. `l` has to live as
** long as the Lua state. [-1, +0, m] */
INTERNAL void loop_open(lua_State *L, struct loop *l);

/* Takes the functions it needs from luv's table at index `uv`. Returns the name
** of a missing function, or NULL. [-0, +0, e] */
INTERNAL const char *loop_bind(lua_State *L, struct loop *l, int uv);

/* The loop's clock in milliseconds, which does not wrap around. [-0, +0, e] */
INTERNAL uint64_t loop_now(lua_State *L, struct loop *l);

/* Brings the clock up to date, as user code may have taken its time: timeouts begin now.
** [-0, +0, e] */
INTERNAL void loop_update(lua_State *L, struct loop *l);

/* When `timeout` milliseconds since the last loop_update have passed for certain. luv's clock
** counts whole milliseconds, so this is later than the sum on the clock; but 0 have always
** passed. */
INTERNAL uint64_t loop_after(const struct loop *l, uint64_t timeout);

/* Schedules a turn as soon as possible, also if other code has stopped, closed or
** unreferenced the timer. [-0, +0, e] */
INTERNAL void loop_wake(lua_State *L, struct loop *l);

/* Schedules a turn at the time `when`, unless one comes earlier. [-0, +0, e] */
INTERNAL void loop_wake_at(lua_State *L, struct loop *l, uint64_t when);

/* The timer's callback began, so the timer is alive: it will repeat, for nothing so far, or
** calls the next turn as soon as possible. [-0, +0, e] */
INTERNAL void loop_fired(lua_State *L, struct loop *l, bool again);

/* At the end of a turn: schedules the next one at `when`, LOOP_NOW for as soon as
** possible, LOOP_NEVER for none. [-0, +0, e] */
INTERNAL void loop_settle(lua_State *L, struct loop *l, uint64_t when);

#define LOOP_NOW UINT64_C(0)
#define LOOP_NEVER UINT64_MAX

/* True while a turn is scheduled at the time `when`, LOOP_NOW for as soon as possible, or
** earlier; no longer if luv's functions ran user code that has run the loop. */
INTERNAL bool loop_wakes_by(const struct loop *l, uint64_t when);

/* True while the timer is set to a time, and not to as soon as possible. */
INTERNAL bool loop_is_timed(const struct loop *l);

/* Notes that a room or a party was served. */
INTERNAL void loop_spend(struct loop *l);

/* Uses the credit up: the next turn comes after the loop has polled. */
INTERNAL void loop_yield(struct loop *l);

/* Closes both handles. New ones are made when they are needed. [-0, +0, e] */
INTERNAL void loop_close(lua_State *L, struct loop *l);

/* {=== leaving === */

/* The Lua state or Neovim ends: from now on no handle is started or made, no turn comes, and
** every other function above does nothing. */
INTERNAL void loop_leave(struct loop *l);

/* Call it when other code of this module has made a handle: the guard has to come after that one.
** [-0, +0, m] */
INTERNAL void loop_guard(lua_State *L, struct loop *l);

/* Takes the function on the top, which returns whether the loop has been closed: it is called
** before handles are made. [-1, +0, m] */
INTERNAL void loop_watch_exit(lua_State *L, struct loop *l);

/* True if the end has begun; calls the function of loop_watch_exit. [-0, +0, e] */
INTERNAL bool loop_has_left(lua_State *L, struct loop *l);

/* }=== */

#endif
