/*
** What machine.c and machine_turns.c share, and no other file needs: names for the parts of a
** machine, and the checks that both make.
*/
#ifndef BARRIER_MACHINE_PARTS_H
#define BARRIER_MACHINE_PARTS_H

#include "machine.h"

#define QUEUE(m, place) (&(m)->nodes.queues[place])
#define INSIDE(m) QUEUE(m, (m)->inside)
#define BLOCKED(m) QUEUE(m, (m)->inside ^ 1)
#define NODE(m, n) (&(m)->nodes.at[n])

/* With no parties left, an arrival passes alone, as with one. */
static inline uint32_t need(const struct machine *m) { return m->parties ? m->parties : 1; }

/* Draining and resetting end when the last one inside is gone. */
static inline void check_emptied(struct machine *m, uint32_t turn) {
  if (INSIDE(m)->count == 0 && (m->state == MACHINE_DRAINING || m->state == MACHINE_RESETTING)) {
    m->state = MACHINE_FILLING;
    m->blocked_turn = turn;
  }
}

#endif
