/*
** A machine that has been up for long: three seconds after a program starts, its monotonic
** clock passes LATE_CLOCK milliseconds. Preloaded for late_clock.lua: uv.now() wraps where
** Lua's integers have 32 bits: at 2^31 (after 24.8 days) and 2^32 (after 49.7 days).
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

#define BEFORE 3000 /* milliseconds */
#define SECOND 1000000000

int clock_gettime(clockid_t id, struct timespec *t) {
  static int (*real)(clockid_t, struct timespec *);
  static long long added;
  long long ns;
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
  if (real(id, t) != 0) return -1;
  if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE) return 0;
  ns = (long long)t->tv_sec * SECOND + t->tv_nsec;
  if (__atomic_load_n(&added, __ATOMIC_RELAXED) == 0) {
    const char *passes = getenv("LATE_CLOCK");
    long long first = ((passes ? atoll(passes) : 0) - BEFORE) * (SECOND / 1000) - ns;
    __atomic_store_n(&added, first, __ATOMIC_RELAXED);
  }
  ns += __atomic_load_n(&added, __ATOMIC_RELAXED);
  t->tv_sec = (time_t)(ns / SECOND);
  t->tv_nsec = (long)(ns % SECOND);
  return 0;
}
