/* replan.h - when is another plan worth moving layers? A pure function of observed times and the
 * clock that it is given; whoever switches plans asks it now and then. */
#ifndef PACELINE_COORDINATOR_REPLAN_H
#define PACELINE_COORDINATOR_REPLAN_H

#include "coordinator/planner.h"

struct replan_rules {
    double gain;      /* least, as a share: 0.15 */
    int64_t after_ms; /* for so long without a break: 60000 */
};

/* Between calls; zeroed at first and when a plan begins. */
struct replan_state {
    int64_t since_ms; /* since when a gain is seen without a break; 0: none is */
};

struct replan_verdict {
    double gain;      /* of the best plan over the present one, as a share; 0: none */
    int moved_layers; /* that a worker would have to load */
    bool is_due;      /* it is large enough, and was for long enough */
    int n_stages;
    struct planner_stage stages[PLANNER_MAX_STAGES];
};

/* Scales a worker's speed so that its stage takes what was seen: decode steps of so many rows; says
 * by which factor. A stage that nobody has seen (0) keeps its speed. */
double replan_observe(const struct plan_model *m, struct planner_worker *worker,
                      const struct planner_stage *stage, double rows, double context,
                      double observed_s);
/* workers: with what was observed. Among plans that gain nearly as much as the best one counts
 * which moves the fewest layers. now_ms: monotonic. ERR_MEMORY: these workers cannot hold the
 * model. */
int replan_judge(const struct plan_model *m, const struct planner_worker *workers, int n_workers,
                 const struct planner_goal *goal, const struct planner_stage *present,
                 int n_present, const struct replan_rules *rules, int64_t now_ms,
                 struct replan_state *state, struct replan_verdict *ret_verdict, struct err *err);

#endif
