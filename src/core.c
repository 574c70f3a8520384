/*
** The translation unit that the rockspec builds: all of the C core, static but
** for luaopen_barrier_core.
*/
#define INTERNAL static

#include "machine.c"
#include "deadlines.c"
#include "scheduler.c"
#include "errors.c"
#include "barrier.c"
#include "drain.c"
#include "wait.c"
#include "binding.c"
