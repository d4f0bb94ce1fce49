/* planner.h - layers → workers. Pure functions of costs and capacities.
 *
 * A plan says which workers take part, in which order, with which layers. It is judged by
 *   latency: seconds of one row through all stages and hops;
 *   tokens a second of all sequences together: C / max(g · slowest stage, sum + hops), with the
 *   best number g of groups of C / g sequences (pace.h makes them so).
 * Hops: the coordinator is the middle of a star. A message from a to b takes l(a) + l(b) - l', l
 * being the way between a worker and the coordinator and l' the shortest of these. */
#ifndef PACELINE_COORDINATOR_PLANNER_H
#define PACELINE_COORDINATOR_PLANNER_H

#include "base/err.h"
#include "coordinator/plan_cost.h"

#include <stdbool.h>
#include <stdint.h>

#define PLANNER_MAX_STAGES 256

enum planner_objective { PLANNER_BALANCED, PLANNER_LATENCY, PLANNER_THROUGHPUT };
/* In that order, NULL-terminated. */
extern const char *const planner_objectives[];

struct planner_worker {
    struct plan_speed speed;
    int64_t memory_bytes; /* offered */
    int threads;          /* the most that will compute there */
};

struct planner_goal {
    enum planner_objective objective;
    int concurrency; /* sequences at once, at least 1 */
    double context;  /* positions that a row looks back upon */
    bool in_orders;  /* search some orders only, as for many different workers */
};

struct planner_stage {
    int worker; /* index */
    int first_layer, end_layer;
    int64_t memory_bytes; /* needed */
};

/* Objectives: PLANNER_LATENCY the least latency; PLANNER_THROUGHPUT the most tokens a second;
 * PLANNER_BALANCED the most of them with at most a tenth more latency than the least. Exact up to
 * 10 workers, and for more where many are alike. Workers that only slow things down have no stage.
 * Of equals the one that comes first stands first. ERR_MEMORY says how much is missing.
 * ret_stages: room for PLANNER_MAX_STAGES. */
int planner_plan(const struct plan_model *m, const struct planner_worker *workers, int n_workers,
                 const struct planner_goal *goal, struct planner_stage *ret_stages,
                 int *ret_n_stages, struct err *err);
/* The same for given cuts: first layers of stages 2, 3 …; worker i takes stage i. */
int planner_plan_cuts(const struct plan_model *m, const struct planner_worker *workers,
                      int n_workers, const int *cuts, int n_cuts, struct planner_stage *ret_stages,
                      int *ret_n_stages, struct err *err);
/* "3,5" → {3, 5}: ascending, within the model (checked when planning). */
int planner_parse_cuts(const char *text, int *ret_cuts, int max_cuts, int *ret_n_cuts,
                       struct err *err);

/* What a plan will do. */
struct planner_forecast {
    double latency_s;     /* of one row through everything */
    double total_rate;    /* tokens a second of all sequences together */
    double ttft_s;        /* of a prompt of PLANNER_PROMPT tokens, alone */
    int slowest;          /* stage */
    double slowest_s;     /* its decode step of rows rows */
    double rows;          /* of a group */
    double hops_s;        /* of one row */
    double slowest_one_s; /* the slowest stage's step of one row */
};
#define PLANNER_PROMPT 1000
struct planner_forecast planner_forecast(const struct plan_model *m,
                                         const struct planner_worker *workers, int n_workers,
                                         const struct planner_goal *goal,
                                         const struct planner_stage *stages, int n_stages);
/* Makes workers whose speeds differ by a tenth or less, what a busy machine's measuring is good
 * for, and whose links are alike, equal: each of such a group gets the group's mean. */
void planner_level(const struct plan_model *m, struct planner_worker *workers, int n_workers);
/* Why a worker has no stage, in words. */
void planner_explain_standby(const struct plan_model *m, const struct planner_worker *workers,
                             int n_workers, const struct planner_goal *goal,
                             const struct planner_stage *stages, int n_stages, int worker, char *to,
                             size_t size);

#endif
