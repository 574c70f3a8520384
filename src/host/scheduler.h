/*
** When waiters resume: the run queue of the barriers that have someone to let out, and
** the deadlines. The timer of loop.h calls turns.
**
** A turn serves what was ready when it began; what becomes ready meanwhile waits for
** the next. The timer is started again before the first turn of a call, so that a loop that
** a resumed coroutine runs serves the rest.
*/
#ifndef BARRIER_SCHEDULER_H
#define BARRIER_SCHEDULER_H

#include "deadlines.h"
#include "living.h"
#include "loop.h"

/* Lets out whoever is ready. The barrier is on the top of the stack, `report` is
** a slot for the report of uncaught errors. [-0, +0, m] */
typedef void (*scheduler_serve)(lua_State *L, struct job *job, uint32_t turn, int report);

/* A deadline has passed: of the barrier on the top. False if user code ran meanwhile: look
** for the earliest deadline again. [-0, +0, e] */
typedef bool (*scheduler_expire)(lua_State *L, const struct deadline *x);

struct scheduler {
  struct job *first, *last; /* ordered by `since` */
  struct deadlines deadlines;
  struct loop loop;
  struct living living; /* its barriers */
  uint32_t turn;
  int anchors;  /* in the registry: barriers that have to stay, by job.anchor; else false */
  int all;      /* in the registry: all barriers, weak, by job.anchor */
  int bound;    /* no job.anchor was ever greater */
  bool cancels; /* there are coroutines whose next wait is cancelled */
#if LUA_VERSION_NUM == 501
  lua_State *spare; /* see coroutine_stack */
#endif
  scheduler_serve serve;
  scheduler_expire expire;
};

/* Makes a Lua state's scheduler; `s` has to live as long as the state.
** [-0, +0, m] */
INTERNAL void scheduler_open(lua_State *L, struct scheduler *s, scheduler_serve serve,
                             scheduler_expire expire);

/* Gives the memory back when the Lua state closes. */
INTERNAL void scheduler_destroy(struct scheduler *s);

/* A new job, of the userdata on the top; the machine is not touched. [-0, +0, m] */
INTERNAL void scheduler_adopt(lua_State *L, struct scheduler *s, struct job *job);

/* Forgets a job whose barrier is going; it can't be queued any more. [-0, +0, -] */
INTERNAL void scheduler_abandon(lua_State *L, struct scheduler *s, struct job *job);

/* Pushes the table of all barriers, with holes, by job.anchor, and returns a bound of its
** keys. [-0, +1, -] */
INTERNAL int scheduler_push_all(lua_State *L, const struct scheduler *s);

/* Makes sure that a turn comes. Call it before something becomes ready: it may
** raise a memory error, and run finalizers. [-0, +0, e] */
INTERNAL void scheduler_prepare(lua_State *L, struct scheduler *s);

/* The same, but a turn that was called already is taken for granted: for somebody who leaves
** early, as only a trip asks luv whether somebody else has stopped the timer. [-0, +0, e] */
INTERNAL void scheduler_ensure_turn(lua_State *L, struct scheduler *s);

/* Queues a job whose barrier has somebody ready. `self`: its userdata's index.
** Needs scheduler_prepare. [-0, +0, -] */
INTERNAL void scheduler_request(lua_State *L, struct scheduler *s, struct job *job, int self);

/* Takes a job out of the run queue. [-0, +0, -] */
INTERNAL void scheduler_dismiss(lua_State *L, struct scheduler *s, struct job *job);

/* Begins a turn; returns its number. */
INTERNAL uint32_t scheduler_begin(struct scheduler *s);

/* Ends a turn: has the next one called when something is to do. [-0, +0, e] */
INTERNAL void scheduler_settle(lua_State *L, struct scheduler *s);

/* Stops the timer if a deadline that was removed was the last thing to wait for.
** [-0, +0, e] */
INTERNAL void scheduler_relax(lua_State *L, struct scheduler *s);

/* Sets the deadline of a node, or of the phase for node 0, which has none: the time
** `when`, for a timeout of `timeout` ms. Needs room in `deadlines`. The caller sees to
** it that a turn comes then. [-0, +0, -] */
INTERNAL void scheduler_set_deadline(lua_State *L, struct scheduler *s, struct job *job, int self,
                                     uint32_t node, uint64_t when, uint64_t timeout);

/* Removes the deadline of a node, or of the phase, if it has one. [-0, +0, -] */
INTERNAL void scheduler_clear_deadline(lua_State *L, struct scheduler *s, struct job *job,
                                       uint32_t node);

/* {=== for Lua; upvalue 1: the scheduler === */

/* leave(): the end has come. Closes the handles; none is started or made any more. */
INTERNAL int scheduler_leave(lua_State *L);

/* has_left() -> has the end come? */
INTERNAL int scheduler_has_left(lua_State *L);

/* watch_exit(f): f tells whether the loop was closed, though nothing has called leave. */
INTERNAL int scheduler_watch_exit(lua_State *L);

/* }=== */

#endif
