#include "living.h"

#include <stdlib.h>

#include "../shared/threads.h"

#define MARKS 63

struct living_block {
  struct living_block *next;
  struct living_mark marks[MARKS];
};

static struct living_block *spare; /* of states that are closed; the mutex is held */
static struct living_mark nothing; /* names nothing */

bool living_reserve(struct living *l) {
  struct living_block *block;
  if (l->free || l->closed) return true;
  threads_lock();
  block = spare;
  if (block) spare = block->next;
  threads_unlock();
  if (block == NULL) block = (struct living_block *)malloc(sizeof(*block));
  if (block == NULL) return false;
  block->next = l->blocks;
  l->blocks = block;
  for (int i = 0; i < MARKS; i++) living_release(l, &block->marks[i]);
  return true;
}

struct living_mark *living_take(struct living *l, const void *owner) {
  struct living_mark *mark = l->free;
  if (l->closed) return &nothing;
  l->free = mark->next;
  mark->owner = owner;
  return mark;
}

void living_release(struct living *l, struct living_mark *mark) {
  if (l->closed) return;
  mark->owner = NULL;
  mark->next = l->free;
  l->free = mark;
}

void living_close(struct living *l) {
  l->closed = true;
  l->free = NULL;
  while (l->blocks) {
    struct living_block *block = l->blocks;
    l->blocks = block->next;
    for (int i = 0; i < MARKS; i++) block->marks[i].owner = NULL;
    threads_lock();
    block->next = spare;
    spare = block;
    threads_unlock();
  }
}
