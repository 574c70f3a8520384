/*
** What the hub needs of the system: one mutex for the process, and a pipe that wakes the loop of
** another thread.
*/
#ifndef BARRIER_THREADS_H
#define BARRIER_THREADS_H

#include <stdbool.h>

#include "internal.h"

INTERNAL void threads_lock(void);
INTERNAL void threads_unlock(void);

/* The number of this process, which a fork does not share. */
INTERNAL unsigned long threads_process(void);

/* A pipe. Its ends exist while it is open; while it is closed, writing and reading do nothing. */
#ifdef _WIN32

struct threads_pipe {
  void *write_end; /* NULL while it is closed */
  char name[64];   /* what a loop has to connect to */
};

/* A loop of Windows cannot wait until a pipe is readable; it reads by itself what is written. */
enum { THREADS_LOOP_READS = 1 };

#else

/* At most one byte at a time is in it. */
struct threads_pipe {
  int read_end, write_end; /* -1 while it is closed */
};

enum { THREADS_LOOP_READS = 0 };

#endif

/* Closed. */
INTERNAL void threads_init_pipe(struct threads_pipe *p);

/* Opens the pipe for a loop that will wait for it. The pipe stays closed if the system provides
** none. The mutex is held. */
INTERNAL void threads_open_pipe(struct threads_pipe *p);
INTERNAL void threads_close_pipe(struct threads_pipe *p);
INTERNAL bool threads_is_open(const struct threads_pipe *p);

/* Makes the read end readable, and not readable. Neither blocks nor fails. */
INTERNAL void threads_write(const struct threads_pipe *p);
INTERNAL void threads_read(const struct threads_pipe *p);

#endif
