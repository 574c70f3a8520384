/*
** The translation unit that the rockspec builds: all of the C core, static but
** for luaopen_barrier_core. To build the module by hand, compile this file alone.
*/
#define INTERNAL static
#define INTERNAL_DATA static
#define INTERNAL_INLINE static inline

#include "host/pin.c"
#include "host/threads.c"
#include "host/living.c"
#include "host/nodes.c"
#include "host/deadlines.c"
#include "host/luv.c"
#include "host/loop.c"
#include "host/errors.c"
#include "host/report.c"
#include "host/request.c"
#include "host/room.c"
#include "host/scheduler.c"
#include "host/cancels.c"
#include "host/coroutine.c"
#include "host/waiter.c"
#include "host/drain.c"
#include "host/wait.c"
#include "host/inspect.c"
#include "barrier/machine.c"
#include "barrier/machine_turns.c"
#include "barrier/barrier.c"
#include "barrier/action.c"
#include "barrier/kind.c"
#include "barrier/arrive.c"
#include "barrier/inspect.c"
#include "shared/names.c"
#include "shared/hub.c"
#include "shared/reason.c"
#include "shared/wake.c"
#include "shared/kind.c"
#include "shared/shared.c"
#include "shared/binding.c"
#include "barrier/options.c"
#include "barrier/binding.c"
