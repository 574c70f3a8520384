#include "expire.h"

#include "../host/errors.h"

/* "wait timed out after 500 ms, 2 of 4 had arrived", or "... while the barrier was draining".
** [-0, +1, m] */
static void push_message(lua_State *L, const char *who, const struct machine *m,
                         const struct deadline *x) {
  int top = lua_gettop(L);
  compat_pushcount(L, x->timeout);
  if (m->state == MACHINE_FILLING)
    lua_pushfstring(L, "%stimed out after %s ms, %d of %d had arrived", who, lua_tostring(L, -1),
                    (int)machine_counted(m), (int)m->parties);
  else
    lua_pushfstring(L, "%stimed out after %s ms while the barrier was %s", who, lua_tostring(L, -1),
                    m->state == MACHINE_DRAINING ? "draining" : "resetting");
  lua_replace(L, top + 1);
}

/* Is it still the earliest deadline? Making a string may have run a finalizer. */
static bool is_current(const struct barrier *b, const struct deadline *x) {
  const struct deadlines *d = &b->scheduler->deadlines;
  return d->count && d->heap[1].order == x->order;
}

static bool expire_phase(lua_State *L, struct barrier *b, int self, const struct deadline *x) {
  push_message(L, "", &b->job.machine, x);
  if (!is_current(b, x)) return false;
  barrier_break(L, b, self);
  barrier_changed(L, b, self);
  return true;
}

static bool expire_wait(lua_State *L, struct barrier *b, int self, const struct deadline *x) {
  if (!machine_waits(&b->job.machine, x->node)) return true;
  barrier_ensure_errors(L, self);
  push_message(L, "wait ", &b->job.machine, x);
  errors_push(L, ERROR_TIMEOUT, lua_tostring(L, -1), self, 0);
  compat_pushcount(L, x->timeout);
  lua_setfield(L, -2, "timeout");
  if (!is_current(b, x)) return false;
  barrier_keep_error(L, self, x->node);
  barrier_withdraw(L, b, self, x->node, MACHINE_TIMED_OUT);
  return true;
}

bool expire_deadline(lua_State *L, const struct deadline *x) {
  int self = lua_gettop(L);
  struct barrier *b = barrier_at(L, self);
  bool done = true;
  if (b && &b->job == x->job) /* unless the debug library changed the anchor */
    done = x->node ? expire_wait(L, b, self, x) : expire_phase(L, b, self, x);
  lua_settop(L, self);
  return done;
}
