/* planner_forecast.c - what a plan will do: planner.h. */
#include "coordinator/planner.h"

#include <math.h>

#define MORE_GROUPS     16 /* than stages, as pace.c has it */
#define CHUNK_STEP      32
#define CHUNK_MOST      512
#define CHUNK_LEAST     96 /* that a pipeline may always have */
#define CHUNKS_OF_STAGE 12
#define ROUND_S         1.0

struct forecast {
    const struct plan_model *m;
    const struct planner_worker *workers;
    const struct planner_stage *stages;
    int n_stages;
    double context, least_link_s, least_transfer_s; /* of all workers, a row */
};

static const struct plan_speed *forecast_speed(const struct forecast *f, int stage)
{
    return &f->workers[f->stages[stage].worker].speed;
}

/* Of a decode step of so many rows: computing, and what else keeps the stage or its link busy. */
static double forecast_decode_s(const struct forecast *f, int stage, double rows)
{
    const struct planner_stage *s = &f->stages[stage];
    return plan_cost_decode(f->m, forecast_speed(f, stage), s->first_layer, s->end_layer, rows,
                            f->context);
}

static double forecast_period_s(const struct forecast *f, int stage, double rows)
{
    double transfer =
        f->n_stages > 1 ? plan_cost_transfer(f->m, forecast_speed(f, stage), rows) : 0;
    return fmax(forecast_decode_s(f, stage, rows), transfer);
}

/* From the coordinator through all stages and back to it, which sees no activations. */
static double forecast_hops_s(const struct forecast *f, double rows)
{
    double sum = f->least_link_s;
    for (int i = 0; i < f->n_stages; i++) {
        double transfer = plan_cost_transfer(f->m, forecast_speed(f, i), rows);
        sum += 2 * plan_cost_link(f->m, forecast_speed(f, i), 0) - f->least_link_s;
        sum += (i > 0) * transfer + (i < f->n_stages - 1) * transfer -
               (i > 0) * f->least_transfer_s * rows;
    }
    return sum;
}

static void forecast_groups(const struct forecast *f, int concurrency,
                            struct planner_forecast *ret_forecast)
{
    int most = f->n_stages + MORE_GROUPS < concurrency ? f->n_stages + MORE_GROUPS : concurrency;
    for (int groups = 1; groups <= most; groups++) {
        double rows = ceil((double)concurrency / groups), slowest = 0, sum = 0;
        int at = 0;
        for (int i = 0; i < f->n_stages; i++) {
            double period = forecast_period_s(f, i, rows);
            at = period > slowest ? i : at;
            slowest = fmax(slowest, period);
            sum += forecast_decode_s(f, i, rows);
        }
        double rate = concurrency / fmax(groups * slowest, sum + forecast_hops_s(f, rows));
        if (rate > ret_forecast->total_rate) {
            ret_forecast->total_rate = rate;
            ret_forecast->slowest = at;
            ret_forecast->slowest_s = slowest;
            ret_forecast->rows = rows;
        }
    }
}

static double forecast_chunked_s(const struct forecast *f, double rows)
{
    double slowest = 0, sum = forecast_hops_s(f, rows);
    for (int i = 0; i < f->n_stages; i++) {
        const struct planner_stage *s = &f->stages[i];
        double chunk = plan_cost_prefill(f->m, forecast_speed(f, i), s->first_layer, s->end_layer,
                                         rows, PLANNER_PROMPT / 2.0);
        double transfer =
            f->n_stages > 1 ? plan_cost_transfer(f->m, forecast_speed(f, i), rows) : 0;
        slowest = fmax(slowest, fmax(chunk, transfer));
        sum += chunk;
    }
    double chunks = fmax(1, PLANNER_PROMPT / rows);
    int n = f->m->n_layers;
    return (chunks - 1) * slowest + sum +
           plan_cost_decode(f->m, forecast_speed(f, f->n_stages - 1), n, n, 1, 0);
}

/* Chunks as pace_rows_alone() makes them. */
static double forecast_ttft_s(const struct forecast *f)
{
    double most =
        f->n_stages > 1 ? PLANNER_PROMPT / (CHUNKS_OF_STAGE * (f->n_stages - 1.0)) : PLANNER_PROMPT;
    double least = INFINITY;
    most = fmin(fmax(most, CHUNK_LEAST), CHUNK_MOST);
    for (double rows = CHUNK_STEP; rows <= most; rows += CHUNK_STEP)
        least = fmin(least, forecast_chunked_s(f, rows));
    return least;
}

struct planner_forecast planner_forecast(const struct plan_model *m,
                                         const struct planner_worker *workers, int n_workers,
                                         const struct planner_goal *goal,
                                         const struct planner_stage *stages, int n_stages)
{
    struct forecast f = {m, workers, stages, n_stages, goal->context, INFINITY, INFINITY};
    struct planner_forecast result = {.rows = 1};
    for (int i = 0; i < n_workers; i++) {
        f.least_link_s = fmin(f.least_link_s, plan_cost_link(m, &workers[i].speed, 0));
        f.least_transfer_s = fmin(f.least_transfer_s, plan_cost_transfer(m, &workers[i].speed, 1));
    }
    result.hops_s = forecast_hops_s(&f, 1);
    result.latency_s = result.hops_s;
    for (int i = 0; i < n_stages; i++) {
        double one_s = forecast_decode_s(&f, i, 1);
        result.latency_s += one_s;
        result.slowest_one_s = fmax(result.slowest_one_s, one_s);
    }
    forecast_groups(&f, goal->concurrency, &result);
    result.ttft_s = forecast_ttft_s(&f);
    return result;
}
