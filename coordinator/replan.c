#include "coordinator/replan.h"

#include <math.h>
#include <string.h>

#define NEARLY 0.8 /* of the best gain is taken where it moves fewer layers */

double replan_observe(const struct plan_model *m, struct planner_worker *worker,
                      const struct planner_stage *stage, double rows, double context,
                      double observed_s)
{
    double predicted =
        plan_cost_decode(m, &worker->speed, stage->first_layer, stage->end_layer, rows, context);
    if (!(observed_s > 0) || !(predicted > 0))
        return 1;
    plan_speed_scale(&worker->speed, observed_s / predicted);
    return observed_s / predicted;
}

static double replan_worth(const struct planner_goal *goal, const struct planner_forecast *f)
{
    return goal->objective == PLANNER_LATENCY ? 1 / f->latency_s : f->total_rate;
}

static const struct planner_stage *replan_stage_of(const struct planner_stage *stages, int n,
                                                   int worker)
{
    for (int i = 0; i < n; i++)
        if (stages[i].worker == worker)
            return &stages[i];
    return NULL;
}

/* Layers that are somewhere else than before. */
static int replan_moved(const struct planner_stage *before, int n_before,
                        const struct planner_stage *after, int n_after)
{
    int moved = 0;
    for (int i = 0; i < n_after; i++) {
        const struct planner_stage *old = replan_stage_of(before, n_before, after[i].worker);
        for (int layer = after[i].first_layer; layer < after[i].end_layer; layer++)
            moved += !old || layer < old->first_layer || layer >= old->end_layer;
    }
    return moved;
}

/* The judged plan, if it fits and is as good as wanted. */
static bool replan_try(const struct plan_model *m, const struct planner_worker *workers,
                       int n_workers, const struct planner_goal *goal,
                       const struct planner_stage *stages, int n, double wanted_worth,
                       double most_latency_s)
{
    for (int i = 0; i < n; i++)
        if (stages[i].first_layer >= stages[i].end_layer ||
            plan_model_memory(m, workers[stages[i].worker].threads, stages[i].first_layer,
                              stages[i].end_layer) > workers[stages[i].worker].memory_bytes)
            return false;
    struct planner_forecast f = planner_forecast(m, workers, n_workers, goal, stages, n);
    return replan_worth(goal, &f) >= wanted_worth && f.latency_s <= most_latency_s;
}

/* The present stages with their cuts a part of the way to other layers: fewer move. Only between
 * plans of the same workers in the same order. */
static void replan_stay_close(const struct plan_model *m, const struct planner_worker *workers,
                              int n_workers, const struct planner_goal *goal,
                              const struct planner_stage *present, double wanted_worth,
                              double most_latency_s, struct replan_verdict *v)
{
    struct planner_stage stages[PLANNER_MAX_STAGES];
    for (int i = 0; i < v->n_stages; i++)
        if (present[i].worker != v->stages[i].worker)
            return;
    for (int part = 1; part < 8; part++) {
        for (int i = 0; i < v->n_stages; i++) {
            int from = present[i].end_layer, to = v->stages[i].end_layer;
            int end = from + (int)lround((to - from) * part / 8.0);
            int first = i ? stages[i - 1].end_layer : 0;
            stages[i] = (struct planner_stage){present[i].worker, first, end, 0};
            if (end > first)
                stages[i].memory_bytes =
                    plan_model_memory(m, workers[present[i].worker].threads, first, end);
        }
        if (!replan_try(m, workers, n_workers, goal, stages, v->n_stages, wanted_worth,
                        most_latency_s))
            continue;
        memcpy(v->stages, stages, sizeof stages);
        return;
    }
}

int replan_judge(const struct plan_model *m, const struct planner_worker *workers, int n_workers,
                 const struct planner_goal *goal, const struct planner_stage *present,
                 int n_present, const struct replan_rules *rules, int64_t now_ms,
                 struct replan_state *state, struct replan_verdict *ret_verdict, struct err *err)
{
    struct replan_verdict *v = ret_verdict;
    *v = (struct replan_verdict){.gain = 0};
    int rc = planner_plan(m, workers, n_workers, goal, v->stages, &v->n_stages, err);
    if (rc != 0) {
        state->since_ms = 0;
        return rc;
    }
    struct planner_forecast now = planner_forecast(m, workers, n_workers, goal, present, n_present);
    struct planner_forecast best =
        planner_forecast(m, workers, n_workers, goal, v->stages, v->n_stages);
    double worth = replan_worth(goal, &now);
    double gain = replan_worth(goal, &best) / worth - 1;
    double wanted = worth * (1 + fmax(gain * NEARLY, rules->gain));
    if (gain > rules->gain && n_present == v->n_stages)
        replan_stay_close(m, workers, n_workers, goal, present, wanted,
                          goal->objective == PLANNER_BALANCED ? best.latency_s * 1.02 : INFINITY,
                          v);
    struct planner_forecast chosen =
        planner_forecast(m, workers, n_workers, goal, v->stages, v->n_stages);
    v->gain = fmax(replan_worth(goal, &chosen) / worth - 1, 0);
    v->moved_layers = replan_moved(present, n_present, v->stages, v->n_stages);
    if (!(gain > rules->gain) || !v->moved_layers) {
        state->since_ms = 0;
        return 0;
    }
    if (!state->since_ms)
        state->since_ms = now_ms;
    v->is_due = now_ms - state->since_ms > rules->after_ms;
    return 0;
}
