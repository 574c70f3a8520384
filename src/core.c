/*
** The translation unit that the rockspec builds: all of the C core, static but
** for luaopen_barrier_core. To build the module by hand, compile this file alone.
*/
#define INTERNAL static

#include "host/pin.c"
#include "shared/threads.c"
#include "barrier/nodes.c"
#include "barrier/machine.c"
#include "barrier/machine_turns.c"
#include "host/living.c"
#include "host/deadlines.c"
#include "host/loop.c"
#include "host/scheduler.c"
#include "host/cancels.c"
#include "host/errors.c"
#include "host/report.c"
#include "barrier/barrier.c"
#include "host/coroutine.c"
#include "host/waiter.c"
#include "barrier/action.c"
#include "barrier/expire.c"
#include "host/request.c"
#include "barrier/arrive.c"
#include "barrier/drain.c"
#include "barrier/inspect.c"
#include "shared/hub.c"
#include "shared/reason.c"
#include "shared/binding.c"
#include "barrier/binding.c"
