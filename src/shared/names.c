#include "names.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 16u

/* FNV-1a */
static uint64_t hash_of(const char *text, size_t length) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < length; i++)
    hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
  return hash ^ (hash >> 32);
}

static struct name **bucket_of(const struct names *t, uint64_t hash) {
  return &t->buckets[hash & (t->size - 1)];
}

static void put_into(const struct names *t, struct name *name) {
  struct name **bucket = bucket_of(t, name->hash);
  name->chain = *bucket;
  *bucket = name;
}

struct name *names_find(const struct names *t, const char *text, size_t length) {
  uint64_t hash = hash_of(text, length);
  struct name *name = t->size ? *bucket_of(t, hash) : NULL;
  for (; name; name = name->chain)
    if (name->hash == hash && name->length == length && memcmp(name->text, text, length) == 0)
      return name;
  return NULL;
}

bool names_reserve(struct names *t) {
  struct names grown = {NULL, t->size ? t->size * 2 : FIRST_SIZE, t->count};
  if (t->count < t->size) return true;
  grown.buckets = malloc(grown.size * sizeof(struct name *));
  if (grown.buckets == NULL) return false;
  for (size_t i = 0; i < grown.size; i++) grown.buckets[i] = NULL;
  for (size_t i = 0; i < t->size; i++) {
    struct name *name = t->buckets[i], *chain;
    for (; name; name = chain) {
      chain = name->chain;
      put_into(&grown, name);
    }
  }
  free(t->buckets);
  *t = grown;
  return true;
}

void names_add(struct names *t, struct name *name) {
  name->hash = hash_of(name->text, name->length);
  put_into(t, name);
  t->count++;
}

void names_remove(struct names *t, struct name *name) {
  struct name **at = bucket_of(t, name->hash);
  while (*at != name) at = &(*at)->chain;
  *at = name->chain;
  if (--t->count > 0) return;
  free(t->buckets);
  memset(t, 0, sizeof(*t));
}
