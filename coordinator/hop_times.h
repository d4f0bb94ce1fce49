/* hop_times.h - how long activations are under way from one stage to the next, as steps show it:
 * from the end of computing here to its begin there, where the next stage was waiting. */
#ifndef PACELINE_COORDINATOR_HOP_TIMES_H
#define PACELINE_COORDINATOR_HOP_TIMES_H

#include "coordinator/timeline.h"

struct hop_times {
    uint64_t epoch;
    uint64_t seen;           /* number of the timeline's next step */
    int64_t least_us;        /* of small messages; -1: none were seen */
    double bytes_per_second; /* of large ones, the best; 0: none were seen */
};

/* Takes what the timeline has that is new, for the hop from `stage` to the next one of the newest
 * plan; begins anew with each plan. row_bytes: of activations. */
void hop_times_learn(struct hop_times *h, const struct timeline *t, int stage, size_t row_bytes);

#endif
