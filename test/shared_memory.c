/*
** Running out of memory at shared barriers: each allocation of a scenario, Lua's or the
** C core's own, fails once; or all from it on, until the error has come out; or each of the
** core's alone. That raises Lua's memory error and nothing else. Afterwards no party is lost, the
** loop comes to rest, and the same scenario runs through in the same Lua state.
**
** Usage: shared_memory [STRIDE]: one allocation in STRIDE (1) fails. test/run oom builds it.
** The scenario is shared_memory.lua; the loop is that of polling_loop.h. What becomes of a process
** that was forked is checked here as well, since Lua has no fork.
*/
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/host/compat.h"

#include <lualib.h>

#define CHECK(condition) \
  ((condition) ? (void)0 : (fprintf(stderr, "line %d: %s\n", __LINE__, #condition), abort()))

/* {=== memory === */

enum mode { MODE_ONCE, MODE_FROM, MODE_CORE, MODES };

static const char *const mode_names[MODES] = {"once", "from", "core"};

static struct {
  enum mode mode;
  long countdown; /* to the first that fails; 0: none does */
  bool fired, over;
  size_t blocks;
} memory;

static bool refuses(void) {
  if (memory.countdown == 0 || memory.over) return false;
  if (memory.fired) return memory.mode == MODE_FROM;
  memory.fired = --memory.countdown == 0;
  if (memory.fired) memory.countdown = 1;
  return memory.fired;
}

static void *allocate(void *ud, void *block, size_t osize, size_t nsize) {
  (void)ud;
  if (nsize == 0) {
    if (block) memory.blocks--;
    free(block);
    return NULL;
  }
  if ((block == NULL || nsize > osize) && memory.mode != MODE_CORE && refuses()) return NULL;
  if (block == NULL) memory.blocks++;
  block = realloc(block, nsize);
  CHECK(block);
  return block;
}

/* The C core is compiled with this in the place of malloc. */
void *failing_malloc(size_t size);
void *failing_malloc(size_t size) { return refuses() ? NULL : malloc(size); }

int luaopen_barrier_core(lua_State *L);

/* }=== */

#include "polling_loop.h"

/* Lua 5.1 and 5.2 may lose elements of a table that they cannot enlarge. */
static void enlarge_registry(lua_State *L) {
  static char keys[512];
  for (size_t i = 0; i < sizeof(keys); i++) {
    lua_pushboolean(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &keys[i]);
  }
  for (size_t i = 0; i < sizeof(keys); i++) {
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &keys[i]);
  }
}

/* A state whose value 1 is the scenario. */
static lua_State *new_state(void) {
  lua_State *L = lua_newstate(allocate, NULL);
  CHECK(L);
  luaL_openlibs(L);
  enlarge_registry(L);
  lua_getglobal(L, "package");
  lua_pushliteral(L, "lua/?/init.lua;lua/?.lua");
  lua_setfield(L, -2, "path");
  lua_pushliteral(L, "src/core.c"); /* some file that is there */
  lua_setfield(L, -2, "cpath");
  lua_getfield(L, -1, "loaded");
  lua_newtable(L);
  for (const luaL_Reg *f = uv; f->name; f++) {
    lua_pushcfunction(L, f->func);
    lua_setfield(L, -2, f->name);
  }
  lua_setfield(L, -2, "luv");
  lua_getfield(L, -2, "preload");
  lua_pushcfunction(L, luaopen_barrier_core);
  lua_setfield(L, -2, "barrier.core");
  lua_settop(L, 0);
  if (luaL_loadfile(L, "test/shared_memory.lua")) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
  return L;
}

static lua_State *open_state(void) {
  memset(&loop, 0, sizeof(loop));
  memset(&memory, 0, sizeof(memory));
  return new_state();
}

/* Calls the scenario with what is to be done: "run", or "rest". Its error, or NULL. */
static const char *call_scenario(lua_State *L, const char *what) {
  static char message[4096];
  const char *result = NULL;
  lua_pushvalue(L, 1);
  lua_pushstring(L, what);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    snprintf(message, sizeof(message), "%s",
             lua_isstring(L, -1) ? lua_tostring(L, -1) : "(an error that is no string)");
    lua_pop(L, 1);
    result = message;
  }
  return result;
}

static long complaints;
static char section[64]; /* of the scenario, where memory ran out */

static void complain(enum mode mode, long n, const char *when, const char *what) {
  fprintf(stderr, "%s, allocation %ld, which %s needs, %s: %s\n", mode_names[mode], n, section,
          when, what);
  complaints++;
}

static void close_state(lua_State *L) {
  lua_close(L);
  CHECK(memory.blocks == 0);
}

/* Returns whether there was an n-th allocation. */
static bool fail_at(enum mode mode, long n, long *errors) {
  lua_State *L = open_state();
  const char *error;
  bool fired;
  memory.mode = mode;
  memory.countdown = n;
  error = call_scenario(L, "run");
  fired = memory.fired;
  memory.countdown = 0;
  if (error && !strstr(error, "not enough memory") && !strstr(error, "stack overflow"))
    complain(mode, n, "the error", error);
  if (error) ++*errors;
  lua_getglobal(L, "section");
  snprintf(section, sizeof(section), "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "nobody");
  lua_pop(L, 1);
  loop.report[0] = '\0';
  error = call_scenario(L, "rest");
  if (error) complain(mode, n, "at rest", error);
  error = call_scenario(L, "run");
  if (error) complain(mode, n, "again", error);
  close_state(L);
  return fired;
}

static void run(lua_State *L, const char *code) {
  if (luaL_dostring(L, code) == LUA_OK) return;
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  abort();
}

/* A process that was forked has none of its parent's barriers: their methods raise an error, its
** loop is woken once, and the parent's party goes on. */
static void fork_a_child(void) {
  lua_State *L = open_state(), *other = new_state();
  int status;
  pid_t child;
  run(L, "b = require 'barrier'.shared('forked', 2) b:wait(function(_, i) position = i end)");
  run(other, "require 'barrier'.shared('forked', 2):arrive()");
  child = fork();
  if (child == 0) {
    run(L, "local ok, e = pcall(b.arrive, b) assert(not ok and e:find 'forked', e)");
    run(L, "local ok, e = pcall(b.wait, b, print) assert(not ok and e:find 'forked', e)");
    CHECK(is_alive());
    run(L, "require 'luv'.run() assert(position == nil)");
    CHECK(!is_alive());
    exit(0);
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  run(L, "require 'luv'.run() assert(position == 0)");
  lua_close(other);
  close_state(L);
}

int main(int argc, char **argv) {
  long stride = argc > 1 ? atol(argv[1]) : 1;
  CHECK(stride > 0);
  fork_a_child();
  for (int mode = 0; mode < MODES; mode++) {
    long step = mode == MODE_CORE ? 1 : stride;
    long n = 1, errors = 0;
    while (fail_at((enum mode)mode, n, &errors)) n += step;
    printf("shared_memory: " LUA_VERSION ", %s, one in %ld of %ld allocations: %ld errors\n",
           mode_names[mode], step, n, errors);
  }
  return complaints != 0;
}
