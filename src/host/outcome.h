/*
** The outcomes of waits. Each kind of room (kind.h) adds outcomes of its own from OUTCOME_OWN on.
** The facts about them are in room.c.
*/
#ifndef BARRIER_OUTCOME_H
#define BARRIER_OUTCOME_H

enum outcome {
  OUTCOME_PASSED,    /* with a number: a position, a generation */
  OUTCOME_CANCELLED, /* left early, at the caller's request */
  OUTCOME_DISTURBED, /* left early: other code resumed the coroutine */
  OUTCOME_TIMED_OUT, /* left early */
  OUTCOME_FAILED,    /* never entered, or what it waited for failed */
  OUTCOME_CLOSED,    /* a notice: calls the on_close of a Waiter that is out already */
  OUTCOME_UNCAUGHT,  /* a notice: reports an error that no party gets */
  OUTCOME_OWN,       /* the first of a kind's own */
  OUTCOMES = OUTCOME_OWN + 4
};

#endif
