/*
** Makes the machine look so slow that 10 ms pass between any two looks at the clock.
** test/run slow preloads it. Nothing waits longer for it, but a spec that relies on what
** can be done in a few milliseconds fails each time.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

#define STEP 10000000 /* nanoseconds */
#define SECOND 1000000000

int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  static long long lost;
  long long ns;
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
  if (real(id, t) != 0) return -1;
  if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE) return 0;
  ns = t->tv_nsec + __atomic_add_fetch(&lost, STEP, __ATOMIC_RELAXED);
  t->tv_sec += ns / SECOND;
  t->tv_nsec = ns % SECOND;
  return 0;
}
