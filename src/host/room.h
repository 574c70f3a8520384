/*
** A waiting room (kind.h): what it keeps, and what happens in it.
**
** Its user value is a table. Elements 1, 2, ... belong to the nodes: the coroutine, the
** Waiter or the on_close function behind each, false where there is none; that anchors
** them, and nothing else does. Of its fields the host uses `schedule`, `defers`, and
** `errors`, a table of the errors that nodes are about to get.
**
** The debug library can take the user value away, or change it. Nothing here trusts
** what it reads from it, and room_push_elements puts an empty one in its place.
*/
#ifndef BARRIER_ROOM_H
#define BARRIER_ROOM_H

#include "compat.h"
#include "kind.h"
#include "text.h"

/* The facts about an outcome. */
struct outcome_facts {
  bool keeps_error;    /* the room keeps the error until the party is let out */
  bool left_early;     /* the party is in the room until it is notified */
  const char *message; /* of its CancelledError; NULL: it has another error, or none */
};

INTERNAL const struct outcome_facts *outcome_facts(enum outcome outcome);

/* {=== making === */

/* A new userdata of `size` bytes, all 0, whose user value is empty: most rooms need no field. It is
** no room before room_open. [-0, +1, m] */
INTERNAL void *room_new(lua_State *L, size_t size);

/* The userdata on the top becomes a room. If `s` is closed, it has to be closed at once.
** [-0, +0, m] */
INTERNAL void room_open(lua_State *L, struct room *r, const struct room_kind *kind,
                        struct scheduler *s, struct nodes *nodes);

/* It is no room any more, and in no queue. [-0, +0, -] */
INTERNAL void room_close(lua_State *L, struct room *r);

/* Closes the rooms that Lua does not finalize, as it made them while it closed the state.
** [-0, +0, -] */
INTERNAL void room_close_all(lua_State *L, struct scheduler *s);

/* The room at an index, or NULL if it is anything else. Looks at the value itself, so
** debug.setmetatable fools it neither way. */
INTERNAL struct room *room_at(lua_State *L, int i);

/* The same for a room of one kind, which is the head of `size` bytes. */
INTERNAL void *room_of_kind(lua_State *L, int i, const struct room_kind *kind, size_t size);

/* The same for a room that was closed. When a Lua state closes, luv's callbacks come after that, so
** the methods of such a room do nothing, quietly. */
INTERNAL void *room_gone_at(lua_State *L, int i, const struct room_kind *kind, size_t size);

/* }=== */

/* {=== what it keeps === */

/* Pushes the user value. [-0, +1, -] */
INTERNAL void room_push_elements(lua_State *L, int self);

/* Pushes a field of the user value, nil if it is false. [-0, +1, -] */
INTERNAL void room_push_field(lua_State *L, int self, const char *name);

/* Makes a place for a field, so that to set it later allocates nothing. Runs no user code.
** [-0, +0, m] */
INTERNAL void room_ensure_field(lua_State *L, int self, const char *name);

/* Sets a field to the value on the top. [-1, +0, m if it has no place] */
INTERNAL void room_set_field(lua_State *L, int self, const char *name);

/* The value on the top is how the room's turns get where its parties go on, a function or false.
** `elements`: its user value. [-1, +0, m] */
INTERNAL void room_schedule_by(lua_State *L, struct room *r, int elements);

/* The element of `node` becomes the value at `index`; in a room that may fail there is a place
** for its error as well. It may raise a memory error, but runs no user code. [-0, +0, m] */
INTERNAL void room_set_element(lua_State *L, const struct room *r, int self, uint32_t node,
                               int index);

/* Empties the element of a node. [-0, +0, -] */
INTERNAL void room_clear_element(lua_State *L, int self, uint32_t node);

/* Makes sure that errors can be kept. May run user code. [-0, +0, m] */
INTERNAL void room_ensure_errors(lua_State *L, int self);

/* Keeps the value on the top as the error of `node`. A second time for the same node it
** does not allocate; nor does it run user code. [-1, +0, m] */
INTERNAL void room_keep_error(lua_State *L, int self, uint32_t node);

/* Pushes the error that was kept for `node`, and keeps it no longer. [-0, +1, -] */
INTERNAL void room_take_error(lua_State *L, int self, uint32_t node);

/* (room): gives memory back that a crowd needed, for lua_pcall. No party may be in it. */
INTERNAL int room_shrink(lua_State *L);

/* }=== */

/* {=== what happens in it === */

/* Makes room for a node and for `n` deadlines. False if it may have run user code: look
** at the state again. [-0, +0, m] */
INTERNAL bool room_reserve(lua_State *L, struct room *r, uint32_t n);

/* Pushes the error for an outcome other than passed, of a wait whose own error was not kept.
** [-0, +1, m] */
INTERNAL void room_push_error(lua_State *L, int self, enum outcome outcome, uint32_t node);

/* Call it when a party may have become ready: the scheduler will serve the room. Needs
** scheduler_prepare. [-0, +0, -] */
INTERNAL void room_changed(lua_State *L, struct room *r, int self);

/* Takes a node out for good: one whose coroutine is dead, or whose Waiter was closed.
** [-0, +0, e] */
INTERNAL void room_leave(lua_State *L, struct room *r, int self, uint32_t node);

/* A node leaves early, and its party gets `outcome` in a later turn. False if it is on its way
** out already. Needs scheduler_prepare. [-0, +0, -] */
INTERNAL bool room_withdraw(lua_State *L, struct room *r, int self, uint32_t node,
                            enum outcome outcome);

/* cancel(co) of the room at index 1, NULL if that is gone: whether the coroutine was there.
** [-0, +1, e] */
INTERNAL int room_cancel(lua_State *L, struct room *r);

/* A deadline of the room on the top has passed, of a wait or of node 0. The scheduler's
** `expire`. [-0, +0, e] */
INTERNAL bool room_expire(lua_State *L, const struct deadline *x);

/* Makes the message of a timeout: `what`, "timed out after 5 ms", and what the room adds. */
INTERNAL void room_tell_timeout(const struct room *r, const char *what, const struct deadline *x,
                                struct text *t);

/* True if `x` is still the earliest deadline. Otherwise a finalizer has changed that. */
INTERNAL bool room_is_earliest(const struct room *r, const struct deadline *x);

/* }=== */

/* {=== for kinds that need no more === */

/* `next` of a room whose parties leave through the queue `place`, each with the outcome of its
** node, in a turn later than the one in which it became ready (as.turn); first the parties that
** left early. */
INTERNAL bool room_next(struct room *r, uint8_t place, uint32_t turn, struct leaver *leaver);

INTERNAL void room_put_back(struct room *r, const struct leaver *leaver);
INTERNAL void room_take_out(struct room *r, uint32_t node, uint32_t turn); /* `leave` */
INTERNAL bool room_is_party(const struct node *node);                      /* each is one */
INTERNAL bool room_is_inhabited(const struct room *r);

/* The node leaves its queue, to leave the room with this outcome: `withdraw` of a party that
** waits. */
INTERNAL void room_send_off(struct room *r, uint32_t node, enum outcome outcome, uint32_t turn);

/* }=== */

#endif
