/* pace.h - how large a step may be, and how many are under way: decisions from measured times
 * alone. Pure functions; as long as nothing is known they fall back on fixed sizes.
 *
 * Terms: n decoding choices in g groups (micro-batches), each group in one step; D(b) is what a
 * stage needs for b decode rows, E(q) what q prompt rows add to such a step, F(q) what they take
 * alone, h the time on the wire and in the coordinator for a whole round. */
#ifndef PACELINE_COORDINATOR_PACE_H
#define PACELINE_COORDINATOR_PACE_H

#include "coordinator/step_cost.h"

/* Groups that n decoding choices form: the g with the most tokens a second, g · b for each
 *   max(g · max_i D_i(b), sum_i D_i(b) + h),   b = ceil(n / g),
 * so many that no stage waits, and no more, for a larger group is cheaper per row. `now`: as many
 * as there are; it is kept unless another is better by 3 % or more. */
int pace_groups(struct step_cost *c, int n_decoding, int now);
/* Prompt rows that may join a step of n_decode rows: E(q) <= 0.8 D, so that a stream's rhythm is
 * less than halved. At least 4, for a prompt must get on whatever was learnt; at most twice the
 * largest q that is known. */
int pace_rows_beside(struct step_cost *c, int n_decode, int most);
/* Prompt rows of a step between decode steps, which then wait for it: F(q) <= 0.8 D. */
int pace_rows_between(struct step_cost *c, int n_decode, int most);
/* Rows of a chunk when nobody decodes and n_left prompt rows are to be computed: the q with the
 * least (n_left / q - 1) max_i F_i(q) + sum_i F_i(q); at most a second for the whole round, so
 * that who comes next does not wait for long. */
int pace_rows_alone(struct step_cost *c, int n_left, int most);
/* Steps under way that keep every stage busy when each takes what q prompt rows take: one for each
 * stage, one that waits at the first, and what fits into the time on the wire. */
int pace_steps_alone(struct step_cost *c, int rows);

#endif
