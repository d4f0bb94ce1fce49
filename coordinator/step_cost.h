/* step_cost.h - how long a step of so many rows takes, learnt from the steps that came back.
 *
 * Three curves for each stage, in microseconds over rows: decode steps, steps of prompt rows alone,
 * and what prompt rows add to a decode step (its weights are read anyway, and prompt rows skip the
 * head). Each curve has points at sizes that grow by about 1.4; a point is a moving mean, so that
 * longer contexts and busier machines are noticed; one that was not refreshed for long gives way
 * where newer ones contradict it, so that a size that was slow once is tried again. Between points
 * it is a line; beyond the first and the last, a fixed part and a part in proportion. Nothing
 * depends on clocks of workers: only durations are taken. */
#ifndef PACELINE_COORDINATOR_STEP_COST_H
#define PACELINE_COORDINATOR_STEP_COST_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define STEP_COST_POINTS    24
#define STEP_COST_MEMO_ROWS 1024

enum step_curve { STEP_DECODE, STEP_PREFILL, STEP_EXTRA, STEP_CURVES };

struct step_cost_point {
    double rows, us;    /* moving means; rows 0: no step of this size has come yet */
    uint32_t learnt_at; /* its curve's step */
};

/* What the stages say together, kept for a while: schedules ask far more often than they learn. */
struct step_cost_memo {
    uint32_t generation; /* 0: empty */
    float slowest_us, sum_us;
};

struct step_cost {
    int n_stages;
    struct step_cost_memo *memo;    /* [STEP_CURVES][STEP_COST_MEMO_ROWS] */
    uint32_t generation;            /* of what may be remembered */
    int n_learnt;                   /* since it began */
    uint32_t n_steps[STEP_CURVES];  /* learnt in all */
    struct step_cost_point *points; /* [n_stages][STEP_CURVES][STEP_COST_POINTS] */
    double hops_us;                 /* least time on the wire and in the coordinator, lately */
    double hops_next_us;            /* of the window that has just begun */
    int hops_seen;
};

int step_cost_init(struct step_cost *c, int n_stages, struct err *err);
void step_cost_clear(struct step_cost *c);
/* A step came back. stage_us: [n_stages], compute only; round_trip_us: from sending it, or negative
 * when it had to queue before a stage, which says nothing of the wire. */
void step_cost_learn(struct step_cost *c, int n_decode_rows, int n_prefill_rows,
                     const uint32_t *stage_us, int64_t round_trip_us);
/* Microseconds of the slowest stage, and of all of them together; 0: nothing is known yet. */
double step_cost_slowest(struct step_cost *c, enum step_curve curve, int rows);
double step_cost_sum(struct step_cost *c, enum step_curve curve, int rows);
/* What that stage's decode steps take lately, and of how many rows they are; false: none came. */
bool step_cost_lately(const struct step_cost *c, int stage, double *ret_rows, double *ret_us);
/* The most rows of a step that is known; 0: nothing is. */
int step_cost_largest(const struct step_cost *c, enum step_curve curve);
/* The size after that of `rows`, when none above has been seen for long; 0 otherwise. */
int step_cost_untried(const struct step_cost *c, enum step_curve curve, int rows);

#endif
