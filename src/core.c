/*
** The translation unit that the rockspec builds: all of the C core, static but
** for luaopen_barrier_core. To build the module by hand, compile this file alone.
*/
#define INTERNAL static

#include "nodes.c"
#include "machine.c"
#include "deadlines.c"
#include "loop.c"
#include "scheduler.c"
#include "errors.c"
#include "report.c"
#include "barrier.c"
#include "coroutine.c"
#include "waiter.c"
#include "action.c"
#include "timeouts.c"
#include "arrive.c"
#include "drain.c"
#include "inspect.c"
#include "binding.c"
