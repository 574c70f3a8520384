/*
** When waiters resume: the run queue of the barriers that have parties to let out, and
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

/* Rooms with a party that is ready. */
struct run_queue {
  struct room *first, *last; /* ordered by `since` */
};

struct scheduler {
  struct run_queue timed;  /* served by the timer */
  struct run_queue direct; /* served where `schedule` calls a turn; see scheduler_schedule_by */
  struct deadlines deadlines;
  struct loop loop;
  struct living living; /* its barriers */
  uint32_t turn;
  bool cancels;     /* there are coroutines whose next wait is cancelled */
  uint32_t serving; /* `turn` while a room lets parties out */
  int anchors;      /* in the registry: barriers that have to stay, by room.anchor; else false */
  int all;          /* in the registry: all barriers, weak, by room.anchor */
  int bound;        /* no room.anchor was ever greater */
  int schedule;     /* in the registry: the function of scheduler_schedule_by, */
  int on_schedule;  /* and what it calls */
  bool scheduled;   /* it has yet to make the call that it was given */
  void (*rest)(lua_State *L, void *ud); /* NULL, or called when a turn ends or a party leaves */
  void *rest_ud;
#if LUA_VERSION_NUM == 501
  lua_State *spare; /* see coroutine_stack */
#endif
};

/* Makes a Lua state's scheduler; `s` has to live as long as the state.
** [-0, +0, m] */
INTERNAL void scheduler_open(lua_State *L, struct scheduler *s);

/* Gives the memory back when the Lua state closes. */
INTERNAL void scheduler_destroy(struct scheduler *s);

/* A new room, of the userdata on the top; the machine is not touched. [-0, +0, m] */
INTERNAL void scheduler_adopt(lua_State *L, struct scheduler *s, struct room *room);

/* Forgets a room whose barrier is going; it can't be queued any more. [-0, +0, -] */
INTERNAL void scheduler_abandon(lua_State *L, struct scheduler *s, struct room *room);

/* Pushes the table of all barriers, with holes, by room.anchor, and returns a bound of its
** keys. [-0, +1, -] */
INTERNAL int scheduler_push_all(lua_State *L, const struct scheduler *s);

/* Makes sure that a turn of this room comes, or for NULL of all rooms. Call it before a party
** becomes ready: it may raise a memory error, and run finalizers. [-0, +0, e] */
INTERNAL void scheduler_prepare(lua_State *L, struct scheduler *s, const struct room *room);

/* True if such a turn is scheduled already. */
INTERNAL bool scheduler_is_prepared(const struct scheduler *s, const struct room *room);

/* scheduler_prepare unless it is prepared: for a party that leaves early, as only a trip asks luv
** whether other code has stopped the timer. [-0, +0, e] */
INTERNAL void scheduler_ensure_turn(lua_State *L, struct scheduler *s, const struct room *room);

/* Queues a room that has a ready party. `self`: its userdata's index.
** Needs scheduler_prepare. [-0, +0, -] */
INTERNAL void scheduler_request(lua_State *L, struct scheduler *s, struct room *room, int self);

/* Keeps the room at `self` alive, also while nothing refers to it, until scheduler_let_go.
** [-0, +0, -] */
INTERNAL void scheduler_hold(lua_State *L, struct scheduler *s, struct room *room, int self);
INTERNAL void scheduler_let_go(lua_State *L, struct scheduler *s, struct room *room);

/* Takes a room out of the run queue. [-0, +0, -] */
INTERNAL void scheduler_dismiss(lua_State *L, struct scheduler *s, struct room *room);

/* Begins a turn; returns its number. */
INTERNAL uint32_t scheduler_begin(struct scheduler *s);

/* Ends a turn: schedules the next one if there is something to do. [-0, +0, e] */
INTERNAL void scheduler_settle(lua_State *L, struct scheduler *s);

/* Stops the timer if a deadline that was removed was the last thing to wait for.
** [-0, +0, e] */
INTERNAL void scheduler_relax(lua_State *L, struct scheduler *s);

/* Sets the deadline of a node, or of the phase for node 0, which has none: the time
** `when`, for a timeout of `timeout` ms. Needs room in `deadlines`. The caller sees to
** it that a turn comes then. [-0, +0, -] */
INTERNAL void scheduler_set_deadline(lua_State *L, struct scheduler *s, struct room *room, int self,
                                     uint32_t node, uint64_t when, uint64_t timeout);

/* Removes the deadline of a node, or of the phase, if it has one. [-0, +0, -] */
INTERNAL void scheduler_clear_deadline(lua_State *L, struct scheduler *s, struct room *room,
                                       uint32_t node);

/* {=== for Lua; upvalue 1: the scheduler === */

/* schedule_by(schedule): schedule(f) calls f later. Rooms whose `schedule` is this very function
** are direct: its calls are their turns, without the timer. */
INTERNAL int scheduler_schedule_by(lua_State *L);

/* True if the value on the top is the function of scheduler_schedule_by. [-0, +0, -] */
INTERNAL bool scheduler_is_direct(lua_State *L, const struct scheduler *s);

/* leave(): the end has come. Closes the handles; none is started or made any more. */
INTERNAL int scheduler_leave(lua_State *L);

/* has_left() -> true once the end has come. */
INTERNAL int scheduler_has_left(lua_State *L);

/* watch_exit(f): f returns whether the loop was closed, though nothing has called leave. */
INTERNAL int scheduler_watch_exit(lua_State *L);

/* }=== */

#endif
