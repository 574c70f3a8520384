/*
** What the scheduler knows of a barrier. The barrier's userdata stays anchored while
** the job is queued or has deadlines.
*/
#ifndef BARRIER_JOB_H
#define BARRIER_JOB_H

#include "../barrier/machine.h"

struct job {
  struct job *prev, *next; /* in the run queue */
  uint32_t since;          /* the turn in which it was queued */
  uint32_t timed;          /* how many deadlines it has */
  uint32_t deadline;       /* where that of its phase is; 0: none */
  int anchor;              /* its place in the scheduler's tables; 0: the barrier is gone */
  bool queued;
  struct machine machine;
};

#endif
