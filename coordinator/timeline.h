/* timeline.h - what the last steps were and when each stage computed them, for people who want to
 * see where a pipeline idles.
 *
 * Memory is fixed: the last TIMELINE_STEPS steps, or fewer when they have very many stages. All
 * times are microseconds of the coordinator's monotonic clock. */
#ifndef PACELINE_COORDINATOR_TIMELINE_H
#define PACELINE_COORDINATOR_TIMELINE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define TIMELINE_STEPS  4096
#define TIMELINE_STAGES 64    /* those behind are left out */
#define TIMELINE_SPANS  65536 /* of stages, in all steps together */

struct timeline;

struct timeline_rows {
    uint32_t rows, decode_rows; /* the others are prefill */
    uint32_t sequences;
};

struct timeline_step {
    uint64_t step, epoch;
    int64_t sent_us, answered_us;
    struct timeline_rows rows;
    /* filled in by timeline_add() */
    int n_spans;
    uint64_t first_span;
};

/* What a worker says of a step. */
struct timeline_time {
    uint32_t stage, compute_us, wait_us;
    uint64_t start_us; /* on its own clock */
};

struct timeline_span {
    int64_t start_us;             /* -1: not known */
    uint32_t compute_us, wait_us; /* wait: idle before it */
};

struct timeline_stage {
    char worker[64];
    int first_layer, end_layer;
    bool is_timed;                     /* the offset is known */
    int64_t offset_us, uncertainty_us; /* of the worker's clock: its time minus ours */
};

int timeline_new(struct timeline **ret_timeline, struct err *err);
void timeline_free(struct timeline *t); /* NULL is fine */
/* The stages of a plan; again whenever an offset is known better. n ≤ TIMELINE_STAGES. */
void timeline_set_stages(struct timeline *t, uint64_t epoch, const struct timeline_stage *stages,
                         int n);
/* A step that came back. What the workers say is believed as far as it can be: stages in order,
 * computing between sent_us and answered_us, within the uncertainty of their clocks. */
void timeline_add(struct timeline *t, const struct timeline_step *step,
                  const struct timeline_time *times, int n);

/* Steps are numbered as they come back, from 0 on; those in [first, next) are still there. */
uint64_t timeline_first(const struct timeline *t);
uint64_t timeline_next(const struct timeline *t);
/* first ≤ number < next. */
const struct timeline_step *timeline_at(const struct timeline *t, uint64_t number);
struct timeline_span timeline_span_of(const struct timeline *t, const struct timeline_step *step,
                                      int stage);
/* [n], of the newest plan. */
const struct timeline_stage *timeline_stages(const struct timeline *t, int *ret_n,
                                             uint64_t *ret_epoch);

#endif
