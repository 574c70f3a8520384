/*
** How another thread wakes the loop of this Lua state: a handle of luv that waits for the pipe
** of the hub, made by luv's Lua functions. (uv_async_send would need to know how that luv lays
** out its handles.) While a party of this state waits, the handle keeps
** the loop alive.
**
** luv's functions may run finalizers or a hook, which may use this module: call these before
** anything changes, and look again afterwards.
*/
#ifndef SHARED_WAKE_H
#define SHARED_WAKE_H

#include "../host/loop.h"
#include "hub.h"

struct wake {
  struct loop *loop;
  int ref;        /* its table in the registry */
  uint32_t calls; /* of the functions below */
  bool holds;     /* the handle keeps the loop alive */
  bool started;   /* and is one that waits for the pipe */
};

/* Makes its table, from the callback on the top. [-1, +0, m] */
INTERNAL void wake_open(lua_State *L, struct wake *w, struct loop *l);

/* Takes the functions it needs from luv's table at index `uv`. [-0, +0, e] */
INTERNAL void wake_bind(lua_State *L, struct wake *w, int uv);

/* Makes sure that there is a handle, and that it keeps the loop alive; an error if that is
** impossible. True if it was so already, or the end has come: then nothing is made.
** [-0, +0, e] */
INTERNAL bool wake_hold(lua_State *L, struct wake *w, struct hub_state *s);

/* The loop may end. [-0, +0, e] */
INTERNAL void wake_let_go(lua_State *L, struct wake *w);

/* Closes the handle. [-0, +0, e] */
INTERNAL void wake_close(lua_State *L, struct wake *w);

#endif
