/* What workers do, as the planner wants it: measured, or by their threads; and what the planner
 * says of a plan for them. */
#include "coordinator/deployment_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/links.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define READ_OF_THREAD   10e9  /* bytes a second, where nothing was measured ... */
#define OPS_OF_THREAD    250e9 /* ... and int8 operations */
#define TYPICAL_CONTEXT  512
#define OFFICE_LINK      110e6 /* bytes a second */
#define MEASURE_MS       5000  /* a plan waits for measurements */
#define MEASURE_AGAIN_MS (5 * 60 * 1000)
#define MOST_IN_COMMON   1.25

static void deployment_ask_measure(const struct deployment *d, struct registry *r,
                                   struct worker_entry *w)
{
    const struct model_config *c = &d->model;
    unsigned char types[PLAN_KINDS * PLAN_MATRICES];
    for (int i = 0; i < d->costs.n_kinds; i++)
        memcpy(types + i * PLAN_MATRICES, d->costs.kinds[i].types, PLAN_MATRICES);
    Paceline__Measure m = PACELINE__MEASURE__INIT;
    m.hidden_size = (uint32_t)c->hidden_size;
    m.intermediate_size = (uint32_t)c->intermediate_size;
    m.heads = (uint32_t)c->n_heads;
    m.kv_heads = (uint32_t)c->n_kv_heads;
    m.head_dim = (uint32_t)c->head_dim;
    m.rope_dim = (uint32_t)c->rope_dim;
    m.vocabulary = (uint32_t)c->vocabulary_size;
    m.qkv_bias = c->qkv_bias;
    m.qk_norm = c->qk_norm;
    m.kv_type = (uint32_t)d->spec.kv_type;
    m.types.data = types;
    m.types.len = (size_t)d->costs.n_kinds * PLAN_MATRICES;
    m.head_type = d->costs.kinds[PLAN_HEAD].types[0];
    registry_send(r, w, PACELINE__CONTROL__BODY_MEASURE, &m);
    w->measure = MEASURE_ASKED;
    w->measure_asked_ms = clock_now_ms();
}

/* Asks those who have no stage and were not asked yet, once their links are known: what computes
 * on all cores answers probes late. true: the plan had better wait. */
bool deployment_await_measures(const struct deployment *d, struct registry *r)
{
    bool waits = false;
    for (struct worker_entry *w = r->workers; d->wants_measures && w; w = w->next) {
        if (w->measure == MEASURE_UNASKED && w->stage < 0 && !links_are_awaited(w))
            deployment_ask_measure(d, r, w);
        waits = waits || links_are_awaited(w) ||
                (w->measure == MEASURE_ASKED && clock_now_ms() - w->measure_asked_ms < MEASURE_MS);
    }
    return waits;
}

/* Where it could not be measured: the rate of most offices. */
static void deployment_describe_link(const struct worker_entry *w, struct plan_speed *s)
{
    bool is_near = links_are_near(w);
    double rate = links_rate(w);
    s->link_s = PLAN_HANDLING_S + (is_near ? 0 : (double)links_round_trip_us(w) / 2e6);
    s->link_bytes_per_s = is_near ? 0 : rate > 0 ? rate : OFFICE_LINK;
}

/* One that was not measured is as fast as `measured`, thread for thread. Where nobody was (NULL),
 * all are what their threads are worth, and hops cost nothing. */
static struct planner_worker deployment_describe_worker(const struct deployment *d,
                                                        const struct worker_entry *w,
                                                        const struct worker_entry *measured)
{
    struct planner_worker worker = {
        .speed = w->speed, .memory_bytes = w->memory_bytes, .threads = w->most_threads};
    if (!measured) {
        worker.speed = plan_speed_of_figures(&d->costs, w->threads * READ_OF_THREAD,
                                             w->threads * OPS_OF_THREAD);
        return worker;
    }
    if (w->measure != MEASURE_KNOWN) {
        worker.speed = measured->speed;
        plan_speed_scale(&worker.speed, (double)measured->threads / w->threads);
    }
    deployment_describe_link(w, &worker.speed);
    return worker;
}

static struct planner_goal deployment_goal(const struct deployment *d)
{
    uint32_t half = d->limits.max_context / 2;
    return (struct planner_goal){.objective = d->spec.objective,
                                 .concurrency = (int)d->limits.max_sequences,
                                 .context = half < TYPICAL_CONTEXT ? half : TYPICAL_CONTEXT};
}

/* Equal machines offer nearly the same; what is alike for the planner is planned alike each time.
 */
static void deployment_level_memory(struct planner_worker *workers, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (workers[i].memory_bytes > workers[k].memory_bytes &&
                workers[i].memory_bytes - workers[k].memory_bytes < workers[k].memory_bytes / 100)
                workers[i].memory_bytes = workers[k].memory_bytes;
            else if (workers[k].memory_bytes > workers[i].memory_bytes &&
                     workers[k].memory_bytes - workers[i].memory_bytes <
                         workers[i].memory_bytes / 100)
                workers[k].memory_bytes = workers[i].memory_bytes;
}

static const struct worker_entry *deployment_find_measured(struct worker_entry *const *entries,
                                                           int n)
{
    for (int i = 0; i < n; i++)
        if (entries[i]->measure == MEASURE_KNOWN)
            return entries[i];
    return NULL;
}

/* Than measured. What all have in common - longer contexts, a forecast that is too bright - is no
 * reason to move layers, nor is a little; who has not been seen at work is as the others are. */
static double deployment_slower(struct worker_entry *const *entries, int n, int worker)
{
    double least = INFINITY, own = entries[worker]->slower;
    for (int i = 0; i < n; i++)
        if (entries[i]->slower > 0)
            least = fmin(least, entries[i]->slower);
    if (isinf(least))
        return 1;
    double common = fmax(1 / MOST_IN_COMMON, fmin(least, MOST_IN_COMMON));
    return own > common * MOST_IN_COMMON ? own : common;
}

/* Who was slow and stands by may be its old self again; who was given layers while it was measured
 * has none now. */
void deployment_measure_again(const struct deployment *d, struct registry *r)
{
    for (struct worker_entry *w = r->workers; d->wants_measures && w; w = w->next)
        if (w->stage < 0 && w->next_stage < 0 &&
            (w->measure == MEASURE_UNASKED ||
             (w->measure == MEASURE_KNOWN && w->slower > MOST_IN_COMMON &&
              clock_now_ms() - w->slower_ms > MEASURE_AGAIN_MS)))
            deployment_ask_measure(d, r, w);
}

/* [n], of entries; the caller frees. */
static struct planner_worker *
deployment_describe_workers(const struct deployment *d, struct worker_entry *const *entries, int n)
{
    struct planner_worker *workers = calloc((size_t)n, sizeof *workers);
    if (!workers)
        return NULL;
    const struct worker_entry *measured = deployment_find_measured(entries, n);
    for (int i = 0; i < n; i++) {
        workers[i] = deployment_describe_worker(d, entries[i], measured);
        if (measured) /* by threads is too rough a guess to be corrected */
            plan_speed_scale(&workers[i].speed, deployment_slower(entries, n, i));
    }
    planner_level(&d->costs, workers, n);
    deployment_level_memory(workers, n);
    return workers;
}

void deployment_tell_plan(const struct deployment *d, struct worker_entry *const *entries, int n,
                          const struct deployment_plan *plan)
{
    bool has_stage[PLANNER_MAX_STAGES] = {false};
    struct planner_goal goal = deployment_goal(d);
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    if (!workers)
        return;
    for (int i = 0; i < plan->n_stages; i++)
        has_stage[plan->stages[i].worker] = true;
    for (int i = 0; i < n && i < PLANNER_MAX_STAGES; i++) {
        entries[i]->standby_reason[0] = '\0';
        if (has_stage[i])
            continue;
        if (d->spec.n_cuts)
            snprintf(entries[i]->standby_reason, sizeof entries[i]->standby_reason,
                     "standby: the cuts make %d stages, and others joined first", plan->n_stages);
        else
            planner_explain_standby(&d->costs, workers, n, &goal, plan->stages, plan->n_stages, i,
                                    entries[i]->standby_reason, sizeof entries[i]->standby_reason);
        log_info("worker %s: %s", entries[i]->name, entries[i]->standby_reason);
    }
    if (entries[0]->measure == MEASURE_KNOWN) {
        struct planner_forecast f =
            planner_forecast(&d->costs, workers, n, &goal, plan->stages, plan->n_stages);
        log_info("plan for %s: about %.1f tokens/s for one stream, %.0f for %d, first token of %d "
                 "after %.1f s",
                 planner_objectives[goal.objective], 1 / f.latency_s, f.total_rate,
                 goal.concurrency, PLANNER_PROMPT, f.ttft_s);
    }
    free(workers);
}

/* The plan in service, its workers as indices of entries. false: one of them is not there. */
static bool deployment_present(const struct deployment *d, const struct registry *r,
                               struct worker_entry *const *entries, int n,
                               struct planner_stage ret_stages[PLANNER_MAX_STAGES])
{
    for (int i = 0; i < d->plan.n_stages; i++) {
        const struct worker_entry *w = registry_stage(r, i);
        int index = 0;
        while (index < n && entries[index] != w)
            index++;
        if (index == n)
            return false;
        ret_stages[i] = d->plan.stages[i];
        ret_stages[i].worker = index;
    }
    return true;
}

double deployment_gain(const struct deployment *d, const struct registry *r,
                       struct worker_entry *const *entries, int n,
                       const struct deployment_plan *plan)
{
    struct planner_stage now[PLANNER_MAX_STAGES];
    struct planner_goal goal = deployment_goal(d);
    if (!deployment_present(d, r, entries, n, now))
        return 0;
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    if (!workers)
        return 0;
    struct planner_forecast f =
        planner_forecast(&d->costs, workers, n, &goal, now, d->plan.n_stages);
    struct planner_forecast g =
        planner_forecast(&d->costs, workers, n, &goal, plan->stages, plan->n_stages);
    free(workers);
    double rate = g.total_rate / f.total_rate - 1, latency = f.latency_s / g.latency_s - 1;
    if (goal.objective == PLANNER_LATENCY)
        return latency;
    /* A tenth more tokens are worth a tenth of latency, and the other way round where none are
     * lost. */
    return goal.objective == PLANNER_BALANCED && rate > -0.02 && latency > rate ? latency : rate;
}

/* Remembers of each stage's worker by how much its steps differ from what was measured; false: not
 * all have been seen lately. */
static bool deployment_observe(const struct deployment *d, const struct pipeline *p,
                               struct worker_entry *const *entries, int n,
                               const struct planner_stage *present, double context)
{
    const struct worker_entry *measured = deployment_find_measured(entries, n);
    for (int i = 0; i < d->plan.n_stages; i++) {
        struct worker_entry *w = entries[present[i].worker];
        struct planner_worker as_told = deployment_describe_worker(d, w, measured);
        double rows, us;
        if (!step_cost_lately(&p->cost, i, &rows, &us))
            return false;
        w->slower = replan_observe(&d->costs, &as_told, &present[i], rows, context, us / 1e6);
        w->slower_ms = clock_now_ms();
    }
    return true;
}

bool deployment_judge(struct deployment *d, const struct registry *r, const struct pipeline *p,
                      struct worker_entry *const *entries, int n, struct deployment_plan *ret_plan,
                      double *ret_gain)
{
    struct planner_stage now[PLANNER_MAX_STAGES];
    struct planner_goal goal = deployment_goal(d);
    struct replan_rules rules = {d->spec.change_gain, d->spec.change_after_ms};
    bool is_seen = deployment_present(d, r, entries, n, now);
    for (int i = 0; i < n; i++) /* nobody's speed is guessed beside others that were seen */
        is_seen = is_seen && (entries[i]->measure == MEASURE_KNOWN || entries[i]->stage >= 0);
    if (!is_seen || !deployment_observe(d, p, entries, n, now, goal.context)) {
        d->replan.since_ms = 0;
        return false;
    }
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    struct replan_verdict *v = calloc(1, sizeof *v);
    bool is_due = workers && v &&
                  replan_judge(&d->costs, workers, n, &goal, now, d->plan.n_stages, &rules,
                               clock_now_ms(), &d->replan, v, NULL) == 0 &&
                  v->is_due;
    if (is_due) {
        *ret_gain = v->gain;
        ret_plan->n_stages = v->n_stages;
        memcpy(ret_plan->stages, v->stages, (size_t)v->n_stages * sizeof *v->stages);
    }
    free(workers);
    free(v);
    return is_due;
}

/* How many of the layers from `first` on so much memory holds. */
static int deployment_layers_within(const struct deployment *d, int threads, int64_t memory_bytes,
                                    int first)
{
    int n = 0;
    while (first + n < d->model.n_layers &&
           plan_model_memory(&d->costs, threads, first, first + n + 1) <= memory_bytes)
        n++;
    return n;
}

/* Those who are here take what they can hold, in their order; what is left is missing. */
void deployment_find_missing(const struct deployment *d, const struct registry *r,
                             struct deployment_missing *ret_missing)
{
    int layer = 0, n = 0, threads = 1;
    *ret_missing = (struct deployment_missing){.workers = 0};
    for (const struct worker_entry *w = r->workers; w; w = w->next) {
        if (w->unfit)
            continue;
        layer += deployment_layers_within(d, w->most_threads, w->memory_bytes, layer);
        threads = w->most_threads;
    }
    if (layer == d->model.n_layers)
        return;
    ret_missing->memory_bytes = plan_model_memory(&d->costs, threads, layer, d->model.n_layers);
    for (int more = 1; more > 0 && layer < d->model.n_layers; n++) {
        more = deployment_layers_within(d, threads, r->lost_bytes, layer);
        layer += more;
    }
    ret_missing->workers = layer == d->model.n_layers ? n : 1;
}

int deployment_make_plan(const struct deployment *d, struct worker_entry *const *entries, int n,
                         struct deployment_plan *ret_plan, struct err *err)
{
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    if (!workers)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    struct planner_goal goal = deployment_goal(d);
    int rc;
    if (d->spec.n_cuts && n > d->spec.n_cuts)
        rc = planner_plan_cuts(&d->costs, workers, n, d->spec.cuts, d->spec.n_cuts,
                               ret_plan->stages, &ret_plan->n_stages, err);
    else
        rc = planner_plan(&d->costs, workers, n, &goal, ret_plan->stages, &ret_plan->n_stages, err);
    free(workers);
    return rc;
}
