/*
** The translation unit that the rockspec builds: all of the C core, static but
** for luaopen_barrier_core. To build the module by hand, compile this file alone.
*/
#define INTERNAL static

#include "threads.c"
#include "nodes.c"
#include "machine.c"
#include "machine_turns.c"
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
#include "request.c"
#include "arrive.c"
#include "drain.c"
#include "inspect.c"
#include "shared.c"
#include "shared_reason.c"
#include "shared_binding.c"
#include "binding.c"
