/*
** What the loops of the tests have in common, small_loop.h and polling_loop.h. Before this they
** define a handle, with is_active, is_closing and is_unreferenced; check_handle; and a loop with a
** report of uncaught errors.
*/
#ifndef BARRIER_TEST_HANDLES_H
#define BARRIER_TEST_HANDLES_H

static int uv_stop(lua_State *L) {
  check_handle(L)->is_active = false;
  return 0;
}

static int uv_is_active(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->is_active);
  return 1;
}

static int uv_is_closing(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->is_closing);
  return 1;
}

static int uv_ref(lua_State *L) {
  check_handle(L)->is_unreferenced = false;
  return 0;
}

static int uv_has_ref(lua_State *L) {
  lua_pushboolean(L, !check_handle(L)->is_unreferenced);
  return 1;
}

static bool is_alive(void) {
  for (int i = 0; i < loop.count; i++)
    if (loop.handles[i]->is_active && !loop.handles[i]->is_unreferenced) return true;
  return false;
}

/* Adds the error on the top to the report. [-1, +0] */
static void report_uncaught(lua_State *L) {
  size_t used = strlen(loop.report);
  snprintf(loop.report + used, sizeof(loop.report) - used, "%s\n",
           lua_isstring(L, -1) ? lua_tostring(L, -1) : "(an error that is no string)");
  lua_pop(L, 1);
}

/* Pushes the report, unless it is empty, and begins another. Returns how many values those are. */
static int take_report(lua_State *L) {
  if (loop.report[0] == '\0') return 0;
  lua_pushstring(L, loop.report);
  loop.report[0] = '\0';
  return 1;
}

#endif
