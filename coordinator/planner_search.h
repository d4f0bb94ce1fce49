/* planner_search.h - the way of least latency through workers whose stages are bounded in time.
 *
 * f(S, x): least seconds in which the workers S, each with a contiguous range, take one row through
 * layers [0, x), no stage needing more than `slowest_s` for a step of `rows` rows, each within its
 * memory. Workers that are alike are one class, and S says how many of each. Exact while there are
 * few such S; beyond, workers follow each other in given orders, each of which is searched exactly.
 * As both times are sums over layers, the best begin of a stage for each end is the least value in
 * a window that only moves on: O(workers x layers) for each S or order. */
#ifndef PACELINE_COORDINATOR_PLANNER_SEARCH_H
#define PACELINE_COORDINATOR_PLANNER_SEARCH_H

#include "coordinator/planner.h"

struct planner_search;

/* is_exact: false asks for orders even where exact would do. m and workers are borrowed. */
int planner_search_new(struct planner_search **ret_search, const struct plan_model *m,
                       const struct planner_worker *workers, int n_workers, double context,
                       bool is_exact, struct err *err);
void planner_search_free(struct planner_search *s); /* NULL is fine */
bool planner_search_is_exact(const struct planner_search *s);
/* The rows of a step that bounds count for. by_rows: seconds of so many rows are made least, not
 * those of one. */
void planner_search_set_rows(struct planner_search *s, double rows, bool by_rows);
/* Least possible seconds of the slowest stage, whatever the plan: no plan is below. */
double planner_search_bound(const struct planner_search *s);
/* Seconds through all layers and hops, on the way that needs least; INFINITY: there is none. */
double planner_search_run(struct planner_search *s, double slowest_s);
/* That way. stages: room for PLANNER_MAX_STAGES. */
int planner_search_take(const struct planner_search *s, struct planner_stage *ret_stages);

#endif
