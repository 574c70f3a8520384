/*
** The report of a turn's uncaught errors, as text with tracebacks. It grows in a slot of the
** stack that is nil at first; the loop gets it when the turn has ended.
*/
#ifndef BARRIER_REPORT_H
#define BARRIER_REPORT_H

#include "compat.h"

/* A message handler: (error [, thread]) -> the error as a string, with the traceback of
** the thread or of the running one. */
INTERNAL int report_handler(lua_State *L);

/* Adds what report_handler made, on the top, to the report. [-1, +0, m] */
INTERNAL void report_add(lua_State *L, int slot);

/* Reports the error on the top, of the coroutine at index `co`, or of none that could be
** traced (0). [-1, +0, m] */
INTERNAL void report_error(lua_State *L, int slot, int co);

/* The coroutine `co`, which is on the top, died: its error is on its own top. Reports
** the error, unless that error cancelled the coroutine, and closes the coroutine's pending
** variables, as lcorolib.c does. [-0, +0, m] */
INTERNAL void report_death(lua_State *L, int slot, lua_State *co);

#endif
