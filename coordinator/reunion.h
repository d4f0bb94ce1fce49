/* reunion.h - workers that outlived a coordinator, and the plan that they have from it.
 *
 * Each says in its hello which stage of how many it has. They do not all knock in the same moment,
 * so the first plan of a new coordinator waits a little for those who are missing, and gives the
 * stages to whoever has them: then nothing is loaded again. */
#ifndef PACELINE_COORDINATOR_REUNION_H
#define PACELINE_COORDINATOR_REUNION_H

#include "coordinator/registry.h"

/* Whether somebody here has a stage of a plan of which another one may still come: until 1.5 s
 * after the first of them came. now_ms: monotonic. */
bool reunion_is_awaited(const struct registry *r, int64_t now_ms);
/* Those with stages come first, in the order of these; the others stay in theirs. */
void reunion_order(struct worker_entry **entries, int n);

#endif
