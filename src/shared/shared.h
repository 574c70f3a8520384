/*
** The shared barriers of one Lua state: each is a room whose parties are also parties of the
** hub. The hub decides outcomes; this lets out the state's own parties.
*/
#ifndef SHARED_SHARED_H
#define SHARED_SHARED_H

#include "../host/request.h"
#include "../host/room.h"
#include "../host/scheduler.h"
#include "hub.h"
#include "wake.h"

#define SHARED_FORKED "this process was forked, and its parent's shared barriers are not its own"

/* One of each Lua state. It is made before any handle of luv, so that it is finalized after them.
 */
struct shared_state {
  struct hub_state hub;
  struct scheduler *scheduler;
  struct wake wake;
  uint32_t looked;  /* the turn in which the handle was looked at */
  uint32_t waiting; /* how many parties of this state wait, as far as it knows */
  int known;        /* in the registry: its shared barriers by name, weak */
  bool is_bound;    /* wake is open */
  bool in_work;     /* this is a state of uv.new_work; checked is true if that is known */
  bool checked;
};

/* Its queues. */
enum shared_place {
  PLACE_WAITING, /* has a seat at the hub */
  PLACE_GOING    /* its outcome is decided */
};

struct shared {
  struct room room;
  struct nodes nodes;
  struct shared_state *state;
  struct hub_member *member; /* NULL: it was collected by hand, or the Lua state is closing */
};

static inline struct shared *shared_of(struct room *r) { return (struct shared *)(void *)r; }

/* It as a kind of room: kind.c. */
INTERNAL const struct room_kind shared_kind;

/* Makes a Lua state's own, and leaves its userdata on the stack; its finalizer is the caller's.
** [-0, +1, m] */
INTERNAL struct shared_state *shared_open(lua_State *L, struct scheduler *s);

/* Gives luv's table, at index `uv`, to it. [-0, +0, m] */
INTERNAL void shared_bind(lua_State *L, struct shared_state *s, int uv);

/* The hub may forget the state. */
INTERNAL void shared_close(struct shared_state *s);

/* Pushes the barrier of the name at index 1, which is made with so many parties if it does not
** exist. [-0, +1, m] */
INTERNAL struct shared *shared_push(lua_State *L, struct shared_state *s, uint32_t parties);

/* True if the hub must not be asked about it any more. */
INTERNAL bool shared_is_cut_off(const struct shared *b);

/* The shared barrier at an index, or NULL if it is anything else. */
INTERNAL struct shared *shared_at(lua_State *L, int i);

/* The shared barrier at index 1, NULL if the Lua state is closing, or an error for the method
** `name` that speaks of the function at `level`; also in a process that was forked.
** [-0, +0, v] */
INTERNAL struct shared *shared_check(lua_State *L, int level, const char *name);

/* Pushes its name. [-0, +1, m] */
INTERNAL void shared_push_name(lua_State *L, const struct shared *b);

/* Gives everything back. [-0, +0, -] */
INTERNAL void shared_destroy(lua_State *L, struct shared *b);

/* Pushes what shared_push_reason needs, so that a reference can be taken after that. [-0, +1, m] */
INTERNAL void shared_push_copier(lua_State *L);

/* Replaces that by the value of a reason, nil for NULL, and drops the reference. [-1, +1, m] */
INTERNAL void shared_push_reason(lua_State *L, struct hub_reason *reason);

/* wait([timeout,] [callback]) */
INTERNAL int shared_wait(lua_State *L);

/* If the parties of this state may be ready after what follows, a turn comes: an arrival that may
** be the last, or what `fails` them. True if so: the hub need not wake the state, but call
** shared_collect. [-0, +0, e] */
INTERNAL bool shared_prepare(lua_State *L, struct shared *b, struct request *q, bool fails);

/* Takes the parties of this state that are ready from the hub: they leave in a turn to come,
** for which shared_prepare was called. [-0, +0, -] */
INTERNAL void shared_collect(lua_State *L, struct shared_state *s);

#endif
