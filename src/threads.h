/*
** What shared.c needs of the system: one mutex for the process, and a pipe to wake the loop
** of another thread with.
*/
#ifndef BARRIER_THREADS_H
#define BARRIER_THREADS_H

#include "internal.h"

INTERNAL void threads_lock(void);
INTERNAL void threads_unlock(void);

/* At most one byte at a time is in it. Both ends are -1 as long as it is closed; then
** reading and writing do nothing. */
struct threads_pipe {
  int read_end, write_end;
};

/* Stays closed if there is none to be had: on Windows, for one, where a loop can wait for
** nothing that can be made without a library. */
INTERNAL void threads_open_pipe(struct threads_pipe *p);
INTERNAL void threads_close_pipe(struct threads_pipe *p);

/* Makes the read end readable, and not readable. */
INTERNAL void threads_write(const struct threads_pipe *p);
INTERNAL void threads_read(const struct threads_pipe *p);

#endif
