/* For dladdr of glibc and musl; because of this, core.c includes this file before all others. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier) */
#endif

#include "pin.h"

static const char here = 0; /* an address in this module */

#ifdef _WIN32

/* Of windows.h, as in threads.c. */
__declspec(dllimport) int __stdcall GetModuleHandleExA(unsigned long flags, const char *address,
                                                       void **module);

enum {
  PIN_FOREVER = 0x1,     /* GET_MODULE_HANDLE_EX_FLAG_PIN */
  PIN_FROM_ADDRESS = 0x4 /* GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS */
};

static void pin_address(const char *address) {
  void *module;
  GetModuleHandleExA(PIN_FOREVER | PIN_FROM_ADDRESS, address, &module);
}

#else

#include <dlfcn.h>

static void pin_address(const char *address) {
  Dl_info info;
  if (dladdr(address, &info) && info.dli_fname) dlopen(info.dli_fname, RTLD_LAZY);
}

#endif

void pin_module(void) { pin_address(&here); }

void pin_module_of(lua_CFunction function) {
  union {
    lua_CFunction function;
    const char *address;
  } u;
  u.address = NULL;
  u.function = function;
  if (function) pin_address(u.address);
}
