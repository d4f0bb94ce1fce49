/* replay.h - after a new plan: who is computed again, and in which order. Whoever has heard nothing
 * for longest comes first. */
#ifndef PACELINE_COORDINATOR_REPLAY_H
#define PACELINE_COORDINATOR_REPLAY_H

#include "base/err.h"
#include "coordinator/request.h"

struct replay {
    int *slots; /* [n_slots], in the order; those whose choices do not replay any more are passed */
    int n;      /* 0: nobody replays */
};

int replay_init(struct replay *r, int n_slots, struct err *err);
void replay_clear(struct replay *r);
/* Marks the choices that have been computed in part, and orders them; before that is forgotten. */
void replay_begin(struct replay *r, struct choice *const *slots, int n_slots);
/* The choice at this place of the order, or NULL. */
struct choice *replay_choice(const struct replay *r, struct choice *const *slots, int at);

#endif
