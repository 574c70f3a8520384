/*
** When waiters resume: the run queue of the barriers that have someone to let
** out, the deadlines of timed waits, and the one luv timer of a Lua state that
** serves both.
**
** A call of the timer's callback is a turn. It serves what was ready when it
** began; what becomes ready meanwhile waits for the next. The timer is started
** again at the beginning of a turn, so that a loop that a resumed coroutine runs
** serves the rest; and it repeats until it is stopped because nothing is left
** to do, so that no error on the way can lose a wake-up.
**
** Before libuv 1.48 a timer that is started with timeout 0 from a timer's
** callback fires again before the loop polls (libuv issue 4245). So after
** CREDIT resumed waiters the next turn is started by an idle handle: everything
** else on the loop gets its chance, and the loop does not sleep.
*/
#ifndef BARRIER_SCHEDULER_H
#define BARRIER_SCHEDULER_H

#include "compat.h"
#include "deadlines.h"
#include "machine.h"

struct scheduler;

/* What the scheduler knows of a barrier; its userdata is anchored while the job
** is queued or has timed waits. */
struct job {
  struct job *prev, *next; /* in the run queue */
  uint32_t since;          /* the turn in which it was queued */
  uint32_t timed;          /* how many nodes have a deadline */
  int anchor;              /* its place in the table of anchors */
  bool queued;
  struct machine machine;
};

/* Lets out whoever is ready. The barrier is on the top of the stack, `errors` is
** a slot for drain.c's report of uncaught errors. [-0, +0, m] */
typedef void (*scheduler_serve)(lua_State *L, struct job *job, uint32_t turn, int errors);

struct scheduler {
  struct job *first, *last; /* ordered by `since` */
  struct deadlines deadlines;
  uint64_t armed; /* when the timer fires; see scheduler.c */
  uint32_t turn;
  uint32_t calls;  /* of luv's functions that start and stop the timer */
  uint32_t credit; /* how many waiters are served before the loop polls */
  bool bound;      /* has it luv's functions? */
  /* What the coroutine gets that is being resumed, until it takes it. */
  const lua_State *released;
  enum machine_outcome outcome;
  uint64_t position;
  const lua_State *returning; /* the coroutine whose wait is returning */
  int ref;                    /* its table in the registry */
  lua_State *stack;           /* for what is to be done when the running one has yielded */
  scheduler_serve serve;
};

/* Makes a Lua state's scheduler; `s` has to live as long as the state.
** [-0, +0, m] */
INTERNAL void scheduler_open(lua_State *L, struct scheduler *s, scheduler_serve serve);

/* Gives the memory back when the Lua state closes. */
INTERNAL void scheduler_destroy(struct scheduler *s);

/* Takes the functions it needs from luv's table at index `uv`. Returns the name
** of the one that is missing, or NULL. [-0, +0, e] */
INTERNAL const char *scheduler_bind(lua_State *L, struct scheduler *s, int uv);

/* A new job; the machine is not touched.
** [-0, +0, m] */
INTERNAL void scheduler_adopt(lua_State *L, struct scheduler *s, struct job *job);

/* Forgets a job whose barrier is going. [-0, +0, -] */
INTERNAL void scheduler_abandon(lua_State *L, struct scheduler *s, struct job *job);

/* Makes sure that a turn comes. Call it before something becomes ready: it may
** raise a memory error, and run finalizers. [-0, +0, e] */
INTERNAL void scheduler_prepare(lua_State *L, struct scheduler *s);

/* Queues a job whose barrier has somebody ready. `self`: its userdata's index.
** Needs scheduler_prepare. [-0, +0, -] */
INTERNAL void scheduler_request(lua_State *L, struct scheduler *s, struct job *job, int self);

/* Takes a job out of the run queue. [-0, +0, -] */
INTERNAL void scheduler_dismiss(lua_State *L, struct scheduler *s, struct job *job);

/* Begins a turn; returns its number. */
INTERNAL uint32_t scheduler_begin(struct scheduler *s);

/* Ends a turn: starts the timer for what is to come, or stops it. [-0, +0, e] */
INTERNAL void scheduler_settle(lua_State *L, struct scheduler *s);

/* Stops the timer if a deadline that was removed was the last thing to wait for.
** [-0, +0, e] */
INTERNAL void scheduler_relax(lua_State *L, struct scheduler *s);

/* Notes that a waiter was served. */
INTERNAL void scheduler_spend(struct scheduler *s);

/* Makes room for a deadline. False if that may have run finalizers: look at the
** state again. [-0, +0, m] */
INTERNAL bool scheduler_reserve_deadline(lua_State *L, struct scheduler *s);

/* Starts the timer for a deadline `timeout` ms from now. Returns when that is. As
** scheduler_prepare. [-0, +0, e] */
INTERNAL uint64_t scheduler_prepare_deadline(lua_State *L, struct scheduler *s, uint64_t timeout);

/* Sets a node's deadline. Needs both of the above. [-0, +0, -] */
INTERNAL void scheduler_set_deadline(lua_State *L, struct scheduler *s, struct job *job, int self,
                                     uint32_t node, uint64_t when);

/* Removes a node's deadline, if it has one. [-0, +0, -] */
INTERNAL void scheduler_clear_deadline(lua_State *L, struct scheduler *s, struct job *job,
                                       uint32_t node);

#endif
