/*
** The Barrier userdata, as the files of this folder see it: a room whose parties a machine
** counts.
**
** Besides what the host keeps there (room.h), its user value has the fields `reason` and
** `action`.
*/
#ifndef BARRIER_BARRIER_H
#define BARRIER_BARRIER_H

#include "../host/room.h"
#include "../host/scheduler.h"
#include "machine.h"

struct barrier {
  struct room room;
  struct machine machine;
  uint64_t timeout; /* of a phase, in milliseconds */
  bool has_timeout;
  bool has_action;
  bool has_reason;
  bool has_metatable; /* of its own */
  bool is_plain;      /* it has, and no timeout: most waits have nothing to prepare */
};

/* A barrier as a kind of room: kind.c. */
INTERNAL const struct room_kind barrier_kind;

/* A new, empty barrier without metatable, for `parties` >= 1. [-0, +1, m] */
INTERNAL struct barrier *barrier_new(lua_State *L, struct scheduler *s, uint32_t parties);

/* Gives everything back, at the latest when the userdata is collected. */
INTERNAL void barrier_destroy(lua_State *L, struct barrier *b);

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

/* {=== what happens to it === */

/* Aborts the machine with the value on the top as reason, nil for none; a broken
** barrier keeps its first. [-1, +0, -] */
INTERNAL void barrier_break(lua_State *L, struct barrier *b, int self);

/* Call it when the number of parties that have arrived may have changed, or the trip was
** decided: the deadline of the phase runs while a party waits for the trip. Needs room for a
** deadline. [-0, +0, -] */
INTERNAL void barrier_keep_phase(lua_State *L, struct barrier *b, int self);

/* }=== */

#endif
