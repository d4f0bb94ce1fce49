/* metrics.h - what has happened since the start, counted as Prometheus wants it: the coordinator
 * and its pipeline tell, api_metrics.c gives it out. Memory is fixed. */
#ifndef PACELINE_COORDINATOR_METRICS_H
#define PACELINE_COORDINATOR_METRICS_H

#include "base/err.h"
#include "coordinator/histogram.h"
#include "coordinator/request.h"
#include "coordinator/timeline.h"

#include <stdbool.h>
#include <stdint.h>

enum metrics_end { METRICS_STOP, METRICS_LENGTH, METRICS_ABORT, METRICS_ERROR, METRICS_ENDS };

enum { METRICS_WORKERS = 256 };

/* A worker that has, or had, a stage. */
struct metrics_worker {
    char name[64];
    struct histogram step_s; /* computing of its stage, for each step; the sum is its busy time */
    double busy_before_s[2]; /* at the begin of this window and of the one before */
};

struct metrics {
    /* choices */
    uint64_t n_prompt_tokens, n_generated_tokens;
    uint64_t n_ended[METRICS_ENDS];
    struct histogram first_token_s; /* since the arrival, for each request */
    struct histogram token_gap_s;   /* between two tokens of a choice */
    struct histogram whole_s;       /* these five for choices that came to their end */
    struct histogram waiting_s, prefill_s, decode_s;
    struct histogram prompt_tokens, generated_tokens;

    /* steps */
    struct histogram step_rows, step_s;
    double active_s; /* in which at least one step was under way */
    int64_t last_answer_us;
    int64_t untold_us; /* when the oldest results came that nobody was told of; 0: none */
    uint64_t n_plans, n_plans_lost; /* that began, and that ended because something broke */
    uint64_t n_replays;             /* choices that a new plan had to compute again */

    struct metrics_worker workers[METRICS_WORKERS];
    int n_workers;
    int stages[TIMELINE_STAGES]; /* [n_stages] of the plan: indices of workers; -1: no room */
    int n_stages;
    int64_t window_us; /* when this window began, and what was active before it and the last one */
    double active_before_s[2];
};

int metrics_new(struct metrics **ret_metrics, struct err *err);
void metrics_free(struct metrics *m); /* NULL is fine */

/* Choice's newest token has come; is_first: it is the first one of its request. */
void metrics_token(struct metrics *m, const struct request *r, struct choice *choice,
                   bool is_first);
/* All choices of the request have ended. */
void metrics_request_done(struct metrics *m, const struct request *r);
/* A plan is in service; [n] workers in the order of its stages. n_replays: choices that it computes
 * again. */
void metrics_plan(struct metrics *m, const struct timeline_stage *stages, int n, int n_replays);

struct metrics_step {
    int64_t sent_us, answered_us;
    int n_rows;
    const struct timeline_time *times; /* [n_times] one for each stage, in their order */
    int n_times;
};
void metrics_step_done(struct metrics *m, const struct metrics_step *step);
/* When the oldest results came since this was asked last; 0: none came. */
int64_t metrics_take_untold(struct metrics *m);

/* NULL: it has had no stage. */
const struct metrics_worker *metrics_worker_named(const struct metrics *m, const char *name);
/* The share of the last 10 to 20 seconds with steps under way in which the worker did not compute.
 * false: there were none. */
bool metrics_bubble_ratio(const struct metrics *m, const struct metrics_worker *w, int64_t now_us,
                          double *ret_ratio);

#endif
