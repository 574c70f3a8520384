/*
** The memory of out_of_memory.c, Lua's and the C core's own: it fails where that program asks.
*/
#ifndef BARRIER_TEST_FAILING_MEMORY_H
#define BARRIER_TEST_FAILING_MEMORY_H
#include "check.h"

enum mode {
  MODE_OFF,
  MODE_REQUEST, /* the n-th request: 5.2 and newer collect garbage and try again */
  MODE_ONCE,    /* the n-th allocation, and its retry */
  MODE_FROM,    /* all from the n-th on, until the error has come out */
  MODE_OWN,     /* the n-th request of the core itself, which asks malloc */
  MODES
};

static const char *const mode_names[MODES] = {"meddling", "request", "once", "from", "own"};

static struct {
  enum mode mode;
  long countdown;
  bool fired;      /* has an allocation failed? */
  bool forgiven;   /* MODE_FROM: the error has come out */
  const void *ptr; /* MODE_ONCE: the request that may be retried */
  size_t osize, nsize;
  long requests, own; /* those of the core itself are counted in both */
  size_t bytes, blocks;
} memory;

static bool refuses(const void *ptr, size_t osize, size_t nsize) {
  memory.requests++;
  if (memory.mode == MODE_OFF || memory.forgiven) return false;
  if (!memory.fired) {
    if (--memory.countdown > 0) return false;
    memory.fired = true;
    memory.ptr = ptr;
    memory.osize = osize;
    memory.nsize = nsize;
    return true;
  }
  if (memory.mode == MODE_FROM) return true;
  if (memory.mode != MODE_ONCE || memory.nsize != nsize) return false;
  memory.nsize = 0; /* only once */
  return memory.ptr == ptr && memory.osize == osize;
}

/* The core's malloc. */
void *failing_malloc(size_t size) {
  memory.own++;
  return refuses(NULL, 0, size) ? NULL : realloc(NULL, size);
}

/* Frees what the core keeps of states that are closed, so that it asks for memory again. */
static void free_spare_blocks(void) {
  while (spare) {
    struct living_block *next = spare->next;
    free(spare);
    spare = next;
  }
}

/* Every block knows its size, so that a wrong size is noticed when it is freed. */
static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize) {
  union header {
    size_t size;
    long double align;
  } *block = ptr;
  (void)ud;
  if (ptr) {
    block--;
#ifndef LUA_JITLIBNAME /* LuaJIT is not exact about its own */
    CHECK(block->size == osize);
#endif
    osize = block->size;
  } else {
    osize = 0;
  }
  if (nsize == 0) {
    if (ptr) memory.blocks--;
    memory.bytes -= osize;
    free(block);
    return NULL;
  }
  if (nsize > osize && memory.mode != MODE_OWN && refuses(ptr, osize, nsize)) return NULL;
  block = realloc(block, sizeof(*block) + nsize);
  CHECK(block != NULL);
  if (!ptr) memory.blocks++;
  memory.bytes += nsize - osize;
  block->size = nsize;
  return block + 1;
}

#endif
