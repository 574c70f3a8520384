/*
 * A clock of the day that jumps, to be preloaded: the file that $JUMP names has the seconds that it
 * is ahead of the real one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t ahead(void) {
  const char *path = getenv("JUMP");
  FILE *file = path ? fopen(path, "r") : NULL;
  long seconds = 0;

  if (file) {
    if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
    fclose(file);
  }
  return (time_t)seconds;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
  static int (*real)(struct timeval *, void *);
  int result;

  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "gettimeofday");
  result = real(tv, zone);
  tv->tv_sec += ahead();
  return result;
}
