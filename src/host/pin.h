/*
** Keeps this module loaded until the process ends. Lua 5.1 and LuaJIT unload a C module when the
** Lua state closes, before luv closes its loop and runs the callbacks that are still due: these
** call functions of this module.
*/
#ifndef BARRIER_PIN_H
#define BARRIER_PIN_H

#include "internal.h"

/* Loads the module that this function is in once more. Where that fails, nothing happens. */
INTERNAL void pin_module(void);

#endif
