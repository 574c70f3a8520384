/* CHECK(x): the test program aborts if x is false. */
#ifndef BARRIER_TEST_CHECK_H
#define BARRIER_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(x) ((x) ? (void)0 : failed(#x, __FILE__, __LINE__))

static void failed(const char *what, const char *file, int line) {
  fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
  abort();
}

#endif
