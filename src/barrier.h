/*
** The Barrier userdata, as the files above the scheduler see it.
**
** Its user value is a table. Elements 1, 2, ... belong to the nodes of the
** machine: the coroutine, the Waiter or the on_close function behind each, false
** where there is none; that anchors them, and nothing else does. Its fields are
** `reason`, `action`, `schedule`; `failure`, the error of an action that is still
** to be raised in the last arrival; and `runner`, the last arrival while it runs
** the action.
*/
#ifndef BARRIER_BARRIER_H
#define BARRIER_BARRIER_H

#include "compat.h"
#include "scheduler.h"

struct barrier {
  const void *type; /* tells a barrier from any other userdata */
  struct scheduler *scheduler;
  struct job job;
  bool has_action;
  bool has_schedule;
  bool has_reason;
  bool has_metatable; /* of its own */
};

/* A new, empty barrier without metatable, for `parties` >= 1. [-0, +1, m] */
INTERNAL struct barrier *barrier_new(lua_State *L, struct scheduler *s, uint64_t parties);

/* Gives everything back, at the latest when the userdata is collected. */
INTERNAL void barrier_destroy(lua_State *L, struct barrier *b);

/* Makes the metatable at index `metatable` the one of new barriers. Its __index must
** be a function, that finds a value in the table `members` or hands out properties,
** given the barrier or its own table of methods. [-0, +0, m] */
INTERNAL void barrier_open(lua_State *L, int metatable, int members);

/* Pushes the barrier of the table of methods at index `table`, or what the debug
** library has made of it. [-0, +1, -] */
INTERNAL void barrier_push_owner(lua_State *L, int table);

/* Gives the barrier at `self` a metatable of its own, whose __index is a table, so
** that b:wait() is found without calling a function. That is worth its 500 bytes for
** a barrier that is used a lot. Not if the debug library has changed the
** metatable. [-0, +0, m] */
INTERNAL void barrier_own_metatable(lua_State *L, struct barrier *b, int self);

/* The barrier at an index, or NULL if it is anything else. Looks at the value
** itself, so debug.setmetatable fools it neither way. */
INTERNAL struct barrier *barrier_at(lua_State *L, int i);

/* The barrier at index 1, or an error for the method `name` that speaks of the
** function at `level`. [-0, +0, v] */
INTERNAL struct barrier *barrier_check(lua_State *L, int level, const char *name);

/* The error that a waiter gets for any outcome but passed and failed.
** [-0, +1, m] */
INTERNAL void barrier_push_error(lua_State *L, int self, enum machine_outcome outcome);

/* Sets the reason of the broken state to the value on the top, or to none, and
** aborts the machine. [-1, +0, -] */
INTERNAL void barrier_break(lua_State *L, struct barrier *b, int self);

/* Pushes the user value; an error if the debug library took it away.
** [-0, +1, v] */
INTERNAL void barrier_push_elements(lua_State *L, int self);

/* Empties the element of a node. [-0, +0, -] */
INTERNAL void barrier_clear_element(lua_State *L, int self, uint32_t node);

/* Takes a node out for good: one whose coroutine is dead or was resumed by a
** stranger, or whose Waiter was closed. [-0, +0, e] */
INTERNAL void barrier_leave(lua_State *L, struct barrier *b, int self, uint32_t node);

/* Has the scheduler serve the barrier if somebody is to be let out or in. Needs
** scheduler_prepare. [-0, +0, -] */
INTERNAL void barrier_request(lua_State *L, struct barrier *b, int self);

/* Is the value a function, or has it a __call? [-0, +0] */
INTERNAL bool is_callable(lua_State *L, int i);

#endif
