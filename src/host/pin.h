/*
** Keeps modules loaded until the process ends. Lua 5.1 and LuaJIT unload a C module when the Lua
** state closes, before luv closes its loop and runs the callbacks that are still due: these call
** functions of this module. If such a callback allocates enough, Lua 5.1's collector even unloads
** luv, whose function it is in.
*/
#ifndef BARRIER_PIN_H
#define BARRIER_PIN_H

#include "compat.h"

/* Loads the module that this function is in once more. Where that fails, nothing happens. */
INTERNAL void pin_module(void);

/* The same for the module that a function is in; nothing happens for NULL. */
INTERNAL void pin_module_of(lua_CFunction function);

#endif
