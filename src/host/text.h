/*
** A message that is put together without Lua, which would need ten times as long for that.
** What does not fit is cut off.
*/
#ifndef BARRIER_TEXT_H
#define BARRIER_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct text {
  size_t length;
  char at[160]; /* ends with '\0' */
};

static inline void text_add(struct text *t, const char *s) {
  while (*s && t->length < sizeof(t->at) - 1) t->at[t->length++] = *s++;
  t->at[t->length] = '\0';
}

static inline void text_add_count(struct text *t, uint64_t n) {
  char digits[21];
  size_t i = sizeof(digits) - 1;
  digits[i] = '\0';
  do digits[--i] = (char)('0' + n % 10);
  while ((n /= 10) != 0);
  text_add(t, digits + i);
}

#endif
