#include "wake.h"

/* The elements of its table. */
enum {
  WAKE_CALLBACK = 1,
  WAKE_HANDLE,
  WAKE_NEW, /* and on in the order of wake_names */
  WAKE_START,
  WAKE_REF,
  WAKE_UNREF,
  WAKE_IS_CLOSING,
  WAKE_CLOSE,
  WAKE_READ,
  WAKE_LAST
};

#ifdef _WIN32
static const char *const wake_names[] = {"new_pipe",   "pipe_connect", "ref",       "unref",
                                         "is_closing", "close",        "read_start"};
#else
static const char *const wake_names[] = {"new_poll",   "poll_start", "ref",  "unref",
                                         "is_closing", "close",      "close"};
#endif

void wake_open(lua_State *L, struct wake *w, struct loop *l) {
  lua_createtable(L, WAKE_LAST, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, WAKE_CALLBACK);
  lua_pushboolean(L, 0);
  lua_rawseti(L, -2, WAKE_HANDLE);
  w->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  w->holds = w->started = false;
  w->loop = l;
}

void wake_bind(lua_State *L, struct wake *w, int uv) {
  uv = lua_absindex(L, uv);
  lua_rawgeti(L, LUA_REGISTRYINDEX, w->ref);
  for (int i = WAKE_NEW; i < WAKE_LAST; i++) {
    lua_getfield(L, uv, wake_names[i - WAKE_NEW]);
    lua_rawseti(L, -2, i);
  }
  lua_pop(L, 1);
}

/* {=== calling luv === */

/* [-0, +1] */
static void push_element(lua_State *L, const struct wake *w, int element) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, w->ref);
  lua_rawgeti(L, -1, element);
  lua_remove(L, -2);
}

/* [-0, +1, e] */
static void push_function(lua_State *L, const struct wake *w, int function) {
  push_element(L, w, function);
  if (!lua_isfunction(L, -1))
    luaL_error(L, "cannot wait at a shared barrier: this luv has no function %s",
               wake_names[function - WAKE_NEW]);
}

/* Calls the function below `nargs` arguments. False, with the reason on the top, if it returns nil
** and a message, or a negative number. [-(nargs + 1), +1, e] */
static bool call_luv(lua_State *L, int nargs) {
  lua_call(L, nargs, 2);
  if (lua_toboolean(L, -2) && !(lua_type(L, -2) == LUA_TNUMBER && lua_tonumber(L, -2) < 0)) {
    lua_pop(L, 1);
    return true;
  }
  lua_remove(L, -2);
  return false;
}

/* Raises the reason on the top. [-0, +0, v] */
static int raise_reason(lua_State *L) {
  return luaL_error(L, "cannot wait at a shared barrier: luv cannot wake this loop (%s)",
                    luaL_tolstring(L, -1, NULL));
}

/* function(the handle). [-0, +1, e] */
static void call_wake(lua_State *L, const struct wake *w, int function) {
  push_function(L, w, function);
  push_element(L, w, WAKE_HANDLE);
  lua_call(L, 1, 1);
}

/* The handle on the top becomes the one. [-1, +0] */
static void set_handle(lua_State *L, struct wake *w) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, w->ref);
  lua_insert(L, -2);
  lua_rawseti(L, -2, WAKE_HANDLE);
  lua_pop(L, 1);
}

/* True if the handle is there. One that is closed is forgotten, unless a finalizer or hook has made
** another meanwhile. [-0, +0, e] */
static bool has_handle(lua_State *L, struct wake *w) {
  bool alive;
  int top = lua_gettop(L);
  if (w->loop->left) return false;
  push_element(L, w, WAKE_HANDLE);
  if (lua_toboolean(L, -1)) {
    call_wake(L, w, WAKE_IS_CLOSING);
    push_element(L, w, WAKE_HANDLE);
    if (lua_toboolean(L, -2) && lua_rawequal(L, -1, top + 1)) {
      lua_pushboolean(L, 0);
      set_handle(L, w);
      w->started = false;
    }
    push_element(L, w, WAKE_HANDLE);
  }
  alive = lua_toboolean(L, -1);
  lua_settop(L, top);
  return alive;
}

/* function(the value at `handle`). [-0, +0, e] */
static void call_on(lua_State *L, const struct wake *w, int function, int handle) {
  push_function(L, w, function);
  lua_pushvalue(L, handle);
  lua_call(L, 1, 0);
}

/* }=== */

/* {=== the handle === */

#ifdef _WIN32

/* A loop of Windows cannot poll a pipe: it connects to it and reads it. */

/* on_connect(err); upvalues: is_closing, read_start, the pipe, the callback */
static int on_connect(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_call(L, 1, 1);
  if (lua_toboolean(L, -1)) return 0; /* perhaps with this Lua state */
  if (!lua_isnil(L, 1))
    return luaL_error(L, "barrier: cannot connect to the pipe that wakes this loop (%s)",
                      luaL_tolstring(L, 1, NULL));
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_pushvalue(L, lua_upvalueindex(4));
  lua_call(L, 2, 0);
  lua_pushvalue(L, lua_upvalueindex(4)); /* what was written before is lost */
  lua_call(L, 0, 0);
  return 0;
}

/* uv.new_pipe(false), to be called. [-0, +2, e] */
static int push_new(lua_State *L, const struct wake *w, const struct threads_pipe *pipe) {
  (void)pipe;
  push_function(L, w, WAKE_NEW);
  lua_pushboolean(L, 0);
  return 1;
}

/* uv.pipe_connect(the handle, name, on_connect), to be called. [-0, +4, e] */
static int push_start(lua_State *L, const struct wake *w, const struct threads_pipe *pipe) {
  push_function(L, w, WAKE_START);
  push_element(L, w, WAKE_HANDLE);
  lua_pushstring(L, pipe->name);
  push_function(L, w, WAKE_IS_CLOSING);
  push_function(L, w, WAKE_READ);
  push_element(L, w, WAKE_HANDLE);
  push_element(L, w, WAKE_CALLBACK);
  lua_pushcclosure(L, on_connect, 4);
  return 3;
}

#else

/* uv.new_poll(fd), to be called. [-0, +2, e] */
static int push_new(lua_State *L, const struct wake *w, const struct threads_pipe *pipe) {
  push_function(L, w, WAKE_NEW);
  lua_pushinteger(L, pipe->read_end);
  return 1;
}

/* uv.poll_start(the handle, "r", callback), to be called. [-0, +4, e] */
static int push_start(lua_State *L, const struct wake *w, const struct threads_pipe *pipe) {
  (void)pipe;
  push_function(L, w, WAKE_START);
  push_element(L, w, WAKE_HANDLE);
  lua_pushliteral(L, "r");
  push_element(L, w, WAKE_CALLBACK);
  return 3;
}

#endif

/* Makes the handle, which does not keep the loop alive. A finalizer or hook may do so at each call:
** then there is one handle too many, or none, as the descriptor is in use. [-0, +0, e] */
static void make_handle(lua_State *L, struct wake *w, const struct threads_pipe *pipe) {
  bool made = call_luv(L, push_new(L, w, pipe));
  if (made) call_on(L, w, WAKE_UNREF, lua_gettop(L));
  if (has_handle(L, w)) {
    if (made) call_on(L, w, WAKE_CLOSE, lua_gettop(L));
    lua_pop(L, 1);
  } else {
    if (!made) raise_reason(L);
    set_handle(L, w);
  }
}

/* Makes the handle and starts it, as far as an error, a finalizer or a hook has left that to do.
** [-0, +0, e] */
static void renew_handle(lua_State *L, struct wake *w, struct hub_state *s) {
  const struct threads_pipe *pipe = hub_pipe(s);
  w->holds = false;
  if (pipe == NULL)
    luaL_error(L,
               "cannot wait at a shared barrier: there is no pipe to wake this loop with"
               " (too many open files)");
  if (!has_handle(L, w)) make_handle(L, w, pipe);
  if (!w->started) {
    if (!call_luv(L, push_start(L, w, pipe))) raise_reason(L);
    lua_pop(L, 1);
    w->started = true;
  }
  loop_guard(L, w->loop);
}

bool wake_hold(lua_State *L, struct wake *w, struct hub_state *s) {
  bool held = w->holds;
  w->calls++;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  if (!has_handle(L, w) || !w->started) {
    if (loop_has_left(L, w->loop)) {
      w->holds = true;
      return true;
    }
    renew_handle(L, w, s);
    held = false;
  }
  if (held && w->holds) return true;
  call_wake(L, w, WAKE_REF);
  lua_pop(L, 1);
  w->holds = true;
  return false;
}

void wake_let_go(lua_State *L, struct wake *w) {
  uint32_t call = ++w->calls;
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  if (has_handle(L, w)) {
    call_wake(L, w, WAKE_UNREF);
    lua_pop(L, 1);
  }
  if (w->calls == call) {
    w->holds = false;
  } else if (w->holds && has_handle(L, w)) { /* a finalizer or hook has held it meanwhile */
    call_wake(L, w, WAKE_REF);
    lua_pop(L, 1);
  }
}

void wake_close(lua_State *L, struct wake *w) {
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  w->holds = false;
  if (!has_handle(L, w)) return;
  call_wake(L, w, WAKE_CLOSE);
  lua_pop(L, 1);
}

/* }=== */
