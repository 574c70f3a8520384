/*
** The Barrier userdata, as the files above the scheduler see it.
**
** Its user value is a table. Elements 1, 2, ... belong to the nodes of the
** machine: the coroutine, the Waiter or the on_close function behind each, false
** where there is none; that anchors them, and nothing else does. Its fields are
** `reason`, `action`, `schedule`, `defers` (the function that tells whether a last arrival
** is in a fast event), and `errors`, a table of the errors that nodes are about to get.
**
** The debug library can take the user value away, or change it. Nothing here trusts
** what it reads from it, and barrier_push_elements puts an empty one in its place.
*/
#ifndef BARRIER_BARRIER_H
#define BARRIER_BARRIER_H

#include "../host/compat.h"
#include "../host/scheduler.h"

struct barrier {
  const void *type;           /* tells a barrier from any other userdata */
  const struct barrier *self; /* and from a copy of its bytes, */
  struct living_mark *mark;   /* also from one that lies where it was */
  struct scheduler *scheduler;
  struct job job;
  uint64_t timeout; /* of a phase, in milliseconds */
  bool has_timeout;
  bool has_action;
  bool has_schedule;
  bool has_reason;
  bool has_metatable; /* of its own */
  bool is_plain;      /* it has, and no timeout: most waits have nothing to prepare */
  bool defers;        /* does a last arrival in a fast event go on in a turn? */
};

/* A new, empty barrier without metatable, for `parties` >= 1. [-0, +1, m] */
INTERNAL struct barrier *barrier_new(lua_State *L, struct scheduler *s, uint32_t parties);

/* Gives everything back, at the latest when the userdata is collected. */
INTERNAL void barrier_destroy(lua_State *L, struct barrier *b);

/* Destroys those barriers that Lua does not finalize: it made them while it closed the state.
** From now on new ones are destroyed at once. [-0, +0, -] */
INTERNAL void barrier_close(lua_State *L, struct scheduler *s);

/* Makes the metatable at index `metatable` the one of new barriers. Its __index must be a
** closure of `index`, a C function whose first upvalue is the table `members`. The second
** is the barrier, or nil: then it is the function's first argument. [-0, +0, m] */
INTERNAL void barrier_open(lua_State *L, int metatable, int members, lua_CFunction index);

/* Gives the barrier at `self` a metatable of its own, so that b:wait() is found without
** calling a function: 290 of 1,710 instructions a wait, for 500 bytes. [-0, +0, m] */
INTERNAL void barrier_own_metatable(lua_State *L, struct barrier *b, int self);

/* The barrier at an index, or NULL if it is anything else. Looks at the value
** itself, so debug.setmetatable fools it neither way. */
INTERNAL struct barrier *barrier_at(lua_State *L, int i);

/* The same of a barrier that was finalized: its machine is empty. When a Lua state closes, luv's
** callbacks come after that, so the methods of such a barrier do nothing, quietly. */
INTERNAL struct barrier *barrier_gone_at(lua_State *L, int i);

/* The barrier at index 1, NULL if it was finalized, or an error for the method `name` that
** speaks of the function at `level`. [-0, +0, v] */
INTERNAL struct barrier *barrier_check(lua_State *L, int level, const char *name);

/* {=== what it keeps === */

/* Pushes the user value. [-0, +1, -] */
INTERNAL void barrier_push_elements(lua_State *L, int self);

/* Pushes a field of the user value, nil if it is false. [-0, +1, -] */
INTERNAL void barrier_push_field(lua_State *L, int self, const char *name);

/* Sets a field that is there already to the value on the top. [-1, +0, -] */
INTERNAL void barrier_set_field(lua_State *L, int self, const char *name);

/* The element of `node` becomes the value at `index`; with an action there is a place for its
** error as well. It may raise a memory error, but runs no user code. [-0, +0, m] */
INTERNAL void barrier_set_element(lua_State *L, const struct barrier *b, int self, uint32_t node,
                                  int index);

/* Empties the element of a node. [-0, +0, -] */
INTERNAL void barrier_clear_element(lua_State *L, int self, uint32_t node);

/* Makes sure that errors can be kept. May run user code. [-0, +0, m] */
INTERNAL void barrier_ensure_errors(lua_State *L, int self);

/* Keeps the value on the top as the error of `node`. A second time for the same node it
** does not allocate; nor does it run user code. [-1, +0, m] */
INTERNAL void barrier_keep_error(lua_State *L, int self, uint32_t node);

/* Pushes the error that was kept for `node`, and keeps it no longer. [-0, +1, -] */
INTERNAL void barrier_take_error(lua_State *L, int self, uint32_t node);

/* }=== */

/* {=== what happens to it === */

/* Makes room for a node and for `n` deadlines. False if it may have run user code: look
** at the state again. [-0, +0, m] */
INTERNAL bool barrier_make_room(lua_State *L, struct barrier *b, uint32_t n);

/* The error for an outcome other than passed, of a wait whose own error was not kept.
** [-0, +1, m] */
INTERNAL void barrier_push_error(lua_State *L, int self, enum machine_outcome outcome);

/* Aborts the machine with the value on the top as reason, nil for none; a broken
** barrier keeps its first. [-1, +0, -] */
INTERNAL void barrier_break(lua_State *L, struct barrier *b, int self);

/* Call it when the number of parties that have arrived may have changed, or the trip was
** decided: the deadline of the phase runs while a party waits for the trip. Needs room for a
** deadline. [-0, +0, -] */
INTERNAL void barrier_keep_phase(lua_State *L, struct barrier *b, int self);

/* To be called when somebody may have become ready: has the scheduler serve the barrier, and
** keeps the phase. Needs scheduler_prepare. [-0, +0, -] */
INTERNAL void barrier_changed(lua_State *L, struct barrier *b, int self);

/* Takes a node out for good: one whose coroutine is dead, or whose Waiter was closed.
** [-0, +0, e] */
INTERNAL void barrier_leave(lua_State *L, struct barrier *b, int self, uint32_t node);

/* Takes a node out that is told `outcome` in a later turn. False if it is on its way
** already. Needs scheduler_prepare. [-0, +0, -] */
INTERNAL bool barrier_withdraw(lua_State *L, struct barrier *b, int self, uint32_t node,
                               enum machine_outcome outcome);

/* (barrier): gives memory back that a crowd needed, for lua_pcall. Nobody may be in it. */
INTERNAL int barrier_shrink(lua_State *L);

/* }=== */

/* Is the value a function, or has it a __call? [-0, +0] */
INTERNAL bool is_callable(lua_State *L, int i);

#endif
