/*
** A waiting room: a userdata at which coroutines and callbacks wait, such as a barrier. This
** is its head, and what its kind has to provide. Include it where Lua is not known.
*/
#ifndef BARRIER_KIND_H
#define BARRIER_KIND_H

#include "nodes.h"

struct lua_State;
struct deadline;
struct living_mark;
struct room;
struct scheduler;
struct text;

/* The bottom of the stack of a call that lets parties out. These values are pushed first, so that
** nothing has to be made on the way. */
enum {
  PASS_REPORT = 1, /* of uncaught errors: nil or a string */
  PASS_HANDLER,    /* report_handler, for lua_pcall */
  PASS_MAKER,      /* makes an error */
  PASS_FRAME = PASS_MAKER
};

/* One pass over a room. */
struct pass {
  struct room *room;
  struct nodes *nodes; /* its parties */
  int self;            /* the room */
  int elements;        /* its user value */
  uint32_t spent;      /* how many were let out */
};

/* A kind of room. Functions that take a lua_State may raise errors only where the stack
** effect says so. The optional ones may be NULL. */
struct room_kind {
  /* {=== leaving, without Lua === */

  /* Takes out the next party that leaves in this turn, and parks its node. False if none
  ** does. */
  bool (*next)(struct room *r, uint32_t turn, struct leaver *leaver);

  /* Undoes the `next` just before it. */
  void (*put_back)(struct room *r, const struct leaver *leaver);

  /* True if there is anything to do in a turn to come. */
  bool (*busy)(const struct room *r);

  /* True while the node still waits; only then does its timeout apply. */
  bool (*waits)(const struct room *r, uint32_t node);

  /* Takes a node out of its queue for good, and frees it. */
  void (*leave)(struct room *r, uint32_t node, uint32_t turn);

  /* Makes a node leave early, with this outcome. False, and nothing changed, if it is too
  ** late: the party is on its way out. */
  bool (*withdraw)(struct room *r, uint32_t node, enum outcome outcome, uint32_t turn);

  /* }=== */

  /* {=== its parties === */

  /* True if a node that is not leaving stands for a party, which `waiters` lists. */
  bool (*is_party)(const struct node *node);

  /* True if a party waits or watches that is not leaving. */
  bool (*inhabited)(const struct room *r);

  /* }=== */

  /* {=== errors === */

  /* Adds what a message says behind "timed out after 5 ms". */
  void (*add_progress)(const struct room *r, struct text *t);

  /* }=== */

  /* Closes a room, which Lua does not finalize: it was made while Lua closed the state.
  ** [-0, +0, -] */
  void (*destroy)(struct lua_State *L, struct room *r);

  /* {=== optional === */

  /* Pushes the error of an outcome of its own, for this node. [-0, +1, m] */
  void (*push_error)(struct lua_State *L, int self, enum outcome outcome, uint32_t node);

  /* The number of parties to be let out, let in or notified; otherwise one while it is busy. */
  uint64_t (*pending)(const struct room *r);

  /* Parties came, left, or became ready. [-0, +0, -] */
  void (*changed)(struct lua_State *L, struct room *r, int self);

  /* The deadline of node 0 has passed. As scheduler_expire. [-0, +0, e] */
  bool (*expire)(struct lua_State *L, struct room *r, int self, const struct deadline *x);

  /* What a turn does before it lets parties out, and afterwards. [-0, +0, -] */
  void (*begin)(struct lua_State *L, const struct pass *p, uint32_t turn);
  void (*end)(struct lua_State *L, const struct pass *p, uint32_t turn);

  /* }=== */
};

struct room {
  const void *tag;          /* tells a room from any other userdata */
  const struct room *self;  /* and from a copy of its bytes, */
  struct living_mark *mark; /* also from one that lies where it was */
  const struct room_kind *kind;
  struct scheduler *scheduler;
  struct nodes *nodes;      /* its parties */
  struct room *prev, *next; /* in the run queue */
  uint32_t since;           /* the turn in which it was queued */
  uint32_t pins;            /* how many reasons keep it alive: its deadlines, and being held */
  uint32_t deadline;        /* the place of node 0's deadline; 0: none */
  int anchor;               /* its place in the scheduler's tables; 0: the room is gone */
  bool queued;
  bool held;         /* by scheduler_hold */
  bool may_fail;     /* errors may have to be kept where there is no memory */
  bool is_direct;    /* the scheduler calls its turns where parties go on */
  bool has_schedule; /* otherwise: the field `schedule` says how a turn gets where parties go on */
  bool defers;       /* the field `defers` says whether a last arrival goes on in a turn */
};

#endif
