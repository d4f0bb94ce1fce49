#include "coordinator/planner.h"

#include "coordinator/planner_search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BALANCED_LATENCY 1.10 /* times the least */
#define PRECISION        1.002
#define MORE_GROUPS      16   /* than workers, as pace.c has it */
#define GROUPS_ALL       10   /* up to so many numbers of groups are all looked at */
#define EQUAL            1e-7 /* a share that is no difference */
#define LAST_VALUES      40
#define LEAST_SHARE      1e-9
#define ALIKE            1.10 /* speeds within this are taken for equal, */
#define LINK_ALIKE       1.25 /* and rates of links, */
#define LINK_ALIKE_S     1e-4 /* and the times of small messages */

const char *const planner_objectives[] = {"balanced", "latency", "throughput", NULL};

static int planner_refuse(const struct plan_model *m, const struct planner_worker *workers,
                          int n_workers, struct err *err)
{
    int64_t offered = 0, needed = plan_model_memory(m, workers[0].threads, 0, m->n_layers), kv = 0;
    for (int i = 0; i < m->n_layers; i++)
        kv += m->kv_bytes[i];
    for (int i = 0; i < n_workers; i++) {
        offered += workers[i].memory_bytes;
        needed += i ? plan_model_memory(m, workers[i].threads, 0, 0) : 0;
    }
    double gib = 1 << 30;
    return err_set(
        err, ERR_MEMORY,
        "the model needs about %.1f GiB (%.1f GiB of it KV cache) and %d worker%s offer%s "
        "%.1f GiB in pieces that do not fit its layers: add a worker, offer more "
        "(--memory), or lower --kv-tokens or --context",
        (double)needed / gib, (double)kv / gib, n_workers, n_workers == 1 ? "" : "s",
        n_workers == 1 ? "s" : "", (double)offered / gib);
}

/* A plan under way: the best so far. */
struct planner_choice {
    const struct plan_model *m;
    const struct planner_worker *workers;
    const struct planner_goal *goal;
    int n_workers;
    struct planner_search *search;
    double most_latency_s;
    struct planner_stage stages[PLANNER_MAX_STAGES];
    int n_stages;
    struct planner_forecast forecast;
};

static struct planner_forecast planner_judge(const struct planner_choice *c,
                                             const struct planner_stage *stages, int n)
{
    return planner_forecast(c->m, c->workers, c->n_workers, c->goal, stages, n);
}

/* Of plans that are equal else, the one whose slowest stage is fastest. */
static bool planner_is_better(const struct planner_choice *c, const struct planner_forecast *f)
{
    const struct planner_forecast *best = &c->forecast;
    bool is_more_even = f->slowest_one_s < best->slowest_one_s * (1 - EQUAL);
    if (c->goal->objective == PLANNER_LATENCY)
        return f->latency_s < best->latency_s * (1 - EQUAL) ||
               (f->latency_s <= best->latency_s * (1 + EQUAL) && is_more_even);
    if (f->latency_s > c->most_latency_s * (1 + 1e-12))
        return false;
    if (f->total_rate > best->total_rate * (1 + EQUAL))
        return true;
    return f->total_rate >= best->total_rate * (1 - EQUAL) &&
           (f->latency_s < best->latency_s * (1 - EQUAL) ||
            (f->latency_s <= best->latency_s * (1 + EQUAL) && is_more_even));
}

/* What the search has found, taken if it is better. ret_slowest_s: its slowest stage's seconds for
 * rows rows; false: its latency is not allowed. */
static bool planner_consider(struct planner_choice *c, double rows, double *ret_slowest_s)
{
    struct planner_stage stages[PLANNER_MAX_STAGES];
    int n = planner_search_take(c->search, stages);
    struct planner_forecast f = planner_judge(c, stages, n);
    if (!c->n_stages || planner_is_better(c, &f)) {
        memcpy(c->stages, stages, sizeof stages);
        c->n_stages = n;
        c->forecast = f;
    }
    *ret_slowest_s = 0;
    for (int i = 0; i < n; i++) {
        const struct plan_speed *speed = &c->workers[stages[i].worker].speed;
        double busy = plan_cost_decode(c->m, speed, stages[i].first_layer, stages[i].end_layer,
                                       rows, c->goal->context);
        *ret_slowest_s = fmax(*ret_slowest_s, busy);
        if (n > 1)
            *ret_slowest_s = fmax(*ret_slowest_s, plan_cost_transfer(c->m, speed, rows));
    }
    return f.latency_s <= c->most_latency_s * (1 + 1e-12);
}

/* groups of rows sequences: is there an allowed plan whose slowest stage needs no more than this,
 * and is it what a round waits for, and not the way through all stages? */
static bool planner_finds(struct planner_choice *c, int groups, double rows, bool by_rows,
                          double *slowest_s)
{
    double sum = planner_search_run(c->search, *slowest_s);
    if (!isfinite(sum) || !planner_consider(c, rows, slowest_s))
        return false;
    return !by_rows || groups * *slowest_s >= sum;
}

/* The plan whose slowest stage is fastest, on the way to which every plan is considered. by_rows:
 * among plans with such a slowest stage the one with the shortest way for rows rows, which counts
 * where a round waits for that; or for one row, which counts where latency is bounded. */
static void planner_bisect(struct planner_choice *c, int groups, double rows, bool by_rows)
{
    planner_search_set_rows(c->search, rows, by_rows);
    double low = planner_search_bound(c->search) * 0.999, high = INFINITY;
    if (!planner_finds(c, groups, rows, by_rows, &high))
        return; /* a round waits for the way through all stages, however slow one is */
    low = fmax(low, high * LEAST_SHARE); /* a bound of 0 would never be approached */
    while (high > low * PRECISION) {
        double middle = sqrt(low * high), found = middle;
        if (planner_finds(c, groups, rows, by_rows, &found))
            high = fmin(middle, found);
        else
            low = middle;
    }
    /* What is left are the last few values that a slowest stage can have. */
    for (int i = 0; i < LAST_VALUES; i++) {
        double found = high * (1 - 1e-12);
        if (!planner_finds(c, groups, rows, by_rows, &found))
            break;
        high = found;
    }
}

/* Plans for this many groups, unless the least that any slowest stage needs says that they cannot
 * be better. */
static void planner_try_groups(struct planner_choice *c, int groups)
{
    double rows = ceil((double)c->goal->concurrency / groups);
    planner_search_set_rows(c->search, rows, true);
    double least_s = groups * planner_search_bound(c->search);
    if (c->goal->concurrency / least_s <= c->forecast.total_rate)
        return;
    planner_bisect(c, groups, rows, true);
    if (c->goal->objective == PLANNER_BALANCED)
        planner_bisect(c, groups, rows, false);
}

/* A group for each worker first, then fewer, of many workers ever more of them fewer; then more,
 * for slow links. */
static void planner_choose(struct planner_choice *c, double least_latency_s)
{
    const struct planner_goal *goal = c->goal;
    double slowest_s;
    planner_consider(c, 1, &slowest_s);
    if (goal->objective == PLANNER_LATENCY)
        return;
    if (goal->objective == PLANNER_BALANCED)
        c->most_latency_s = least_latency_s * BALANCED_LATENCY;
    int first = c->n_workers < goal->concurrency ? c->n_workers : goal->concurrency;
    for (int groups = first; groups >= 1;
         groups = groups <= GROUPS_ALL ? groups - 1 : groups * 3 / 4)
        planner_try_groups(c, groups);
    for (int groups = first + 1; groups <= first + MORE_GROUPS && groups <= goal->concurrency;
         groups++)
        planner_try_groups(c, groups);
}

/* Where many ways are as short: the one on which no stage stands out. */
static void planner_even_out(struct planner_choice *c)
{
    c->most_latency_s = c->forecast.latency_s * (1 + EQUAL);
    planner_bisect(c, 1, c->forecast.rows, false);
}

/* The same layers in the order in which the workers are given, where that costs nothing: people
 * look for the one that joined first at the front. */
static void planner_put_in_order(struct planner_choice *c)
{
    struct planner_stage sorted[PLANNER_MAX_STAGES];
    int n = c->n_stages, layer = 0;
    memcpy(sorted, c->stages, sizeof sorted);
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && sorted[j].worker < sorted[j - 1].worker; j--) {
            struct planner_stage swapped = sorted[j];
            sorted[j] = sorted[j - 1];
            sorted[j - 1] = swapped;
        }
    for (int i = 0; i < n; i++) {
        const struct planner_worker *w = &c->workers[sorted[i].worker];
        int count = sorted[i].end_layer - sorted[i].first_layer;
        int64_t bytes = plan_model_memory(c->m, w->threads, layer, layer + count);
        if (bytes > w->memory_bytes)
            return;
        sorted[i] = (struct planner_stage){sorted[i].worker, layer, layer + count, bytes};
        layer += count;
    }
    struct planner_forecast f = planner_judge(c, sorted, n);
    if (f.total_rate < c->forecast.total_rate * (1 - 1e-9) ||
        f.latency_s > c->forecast.latency_s * (1 + 1e-9))
        return;
    memcpy(c->stages, sorted, sizeof sorted);
    c->forecast = f;
}

int planner_plan(const struct plan_model *m, const struct planner_worker *workers, int n_workers,
                 const struct planner_goal *goal, struct planner_stage *ret_stages,
                 int *ret_n_stages, struct err *err)
{
    struct planner_choice *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    n_workers = n_workers < PLANNER_MAX_STAGES ? n_workers : PLANNER_MAX_STAGES;
    *c = (struct planner_choice){.m = m,
                                 .workers = workers,
                                 .goal = goal,
                                 .n_workers = n_workers,
                                 .most_latency_s = INFINITY};
    int rc =
        planner_search_new(&c->search, m, workers, n_workers, goal->context, !goal->in_orders, err);
    if (rc == 0) {
        double least = planner_search_run(c->search, INFINITY);
        if (isinf(least))
            rc = planner_refuse(m, workers, n_workers, err);
        else
            planner_choose(c, least);
        if (rc == 0)
            planner_even_out(c);
    }
    if (rc == 0) {
        planner_put_in_order(c);
        memcpy(ret_stages, c->stages, (size_t)c->n_stages * sizeof *ret_stages);
        *ret_n_stages = c->n_stages;
    }
    planner_search_free(c->search);
    free(c);
    return rc;
}

int planner_plan_cuts(const struct plan_model *m, const struct planner_worker *workers,
                      int n_workers, const int *cuts, int n_cuts, struct planner_stage *ret_stages,
                      int *ret_n_stages, struct err *err)
{
    if (n_cuts + 1 > n_workers)
        return err_set(err, ERR_UNAVAILABLE, "the cuts make %d stages and %d worker%s joined",
                       n_cuts + 1, n_workers, n_workers == 1 ? " has" : "s have");
    for (int i = 0; i <= n_cuts; i++) {
        int first = i ? cuts[i - 1] : 0, end = i < n_cuts ? cuts[i] : m->n_layers;
        if (first >= end)
            return err_set(err, ERR_CONFIG, "cuts must ascend within 1…%d, the model has %d layers",
                           m->n_layers - 1, m->n_layers);
        int64_t needed = plan_model_memory(m, workers[i].threads, first, end);
        if (needed > workers[i].memory_bytes)
            return err_set(err, ERR_MEMORY,
                           "layers %d to %d need %.2f GiB and worker %d offers %.2f GiB: choose "
                           "other cuts or offer more (--memory)",
                           first, end - 1, (double)needed / (1 << 30), i + 1,
                           (double)workers[i].memory_bytes / (1 << 30));
        ret_stages[i] = (struct planner_stage){i, first, end, needed};
    }
    *ret_n_stages = n_cuts + 1;
    return 0;
}

int planner_parse_cuts(const char *text, int *ret_cuts, int max_cuts, int *ret_n_cuts,
                       struct err *err)
{
    int n = 0;
    const char *p = text;
    while (*p) {
        char *end;
        long value = strtol(p, &end, 10);
        if (end == p || value < 1 || value > 1 << 20 || (*end && *end != ',') ||
            (*end == ',' && !end[1]))
            return err_set(err, ERR_CONFIG,
                           "cuts \"%s\": expected first layers of stages 2, 3 …, such as 8,16",
                           text);
        if (n && value <= ret_cuts[n - 1])
            return err_set(err, ERR_CONFIG, "cuts \"%s\" must ascend", text);
        if (n == max_cuts)
            return err_set(err, ERR_CONFIG, "more than %d cuts", max_cuts);
        ret_cuts[n++] = (int)value;
        p = *end ? end + 1 : end;
    }
    *ret_n_cuts = n;
    return 0;
}

/* ---- speeds ---- */

/* Seconds of the whole model, of one row and of many. */
static void planner_pace_of(const struct plan_model *m, const struct planner_worker *w,
                            double ret_seconds[2])
{
    ret_seconds[0] = plan_cost_decode(m, &w->speed, 0, m->n_layers, 1, 0);
    ret_seconds[1] = plan_cost_prefill(m, &w->speed, 0, m->n_layers, 64, 0);
}

static bool planner_is_alike(const double a[2], const double b[2])
{
    for (int i = 0; i < 2; i++)
        if (a[i] > b[i] * ALIKE || b[i] > a[i] * ALIKE)
            return false;
    return true;
}

/* What is far away is no machine like one that is near, however fast both compute. */
static bool planner_links_are_alike(const struct plan_speed *a, const struct plan_speed *b)
{
    double x = a->link_bytes_per_s, y = b->link_bytes_per_s;
    return fabs(a->link_s - b->link_s) <=
               fmax(LINK_ALIKE_S, (ALIKE - 1) * fmin(a->link_s, b->link_s)) &&
           (x > 0) == (y > 0) && x <= y * LINK_ALIKE && y <= x * LINK_ALIKE;
}

static void planner_add_speed(struct plan_speed *sum, const struct plan_speed *s, double share)
{
    for (int kind = 0; kind <= PLAN_HEAD; kind++)
        for (int i = 0; i < PLAN_POINTS; i++)
            sum->seconds[kind][i] += share * s->seconds[kind][i];
    sum->attend_s += share * s->attend_s;
    sum->attend_many_s += share * s->attend_many_s;
    sum->link_s += share * s->link_s;
    sum->link_bytes_per_s += share * s->link_bytes_per_s;
}

void planner_level(const struct plan_model *m, struct planner_worker *workers, int n_workers)
{
    bool done[PLANNER_MAX_STAGES] = {false};
    for (int i = 0; i < n_workers && i < PLANNER_MAX_STAGES; i++) {
        int members[PLANNER_MAX_STAGES], n = 0;
        double first[2], other[2];
        planner_pace_of(m, &workers[i], first);
        for (int j = i; j < n_workers && j < PLANNER_MAX_STAGES && !done[i]; j++) {
            planner_pace_of(m, &workers[j], other);
            if (!done[j] && workers[j].threads == workers[i].threads &&
                planner_is_alike(first, other) &&
                planner_links_are_alike(&workers[i].speed, &workers[j].speed))
                members[n++] = j;
        }
        struct plan_speed mean = {.attend_s = 0};
        for (int j = 0; j < n; j++)
            planner_add_speed(&mean, &workers[members[j]].speed, 1.0 / n);
        for (int j = 0; j < n; j++) {
            workers[members[j]].speed = mean;
            done[members[j]] = true;
        }
    }
}

/* ---- words ---- */

void planner_explain_standby(const struct plan_model *m, const struct planner_worker *workers,
                             int n_workers, const struct planner_goal *goal,
                             const struct planner_stage *stages, int n_stages, int worker, char *to,
                             size_t size)
{
    const struct planner_worker *w = &workers[worker];
    int64_t least = INT64_MAX;
    for (int i = 0; i < m->n_layers; i++) {
        int64_t bytes = plan_model_memory(m, w->threads, i, i + 1);
        least = bytes < least ? bytes : least;
    }
    if (least > w->memory_bytes) {
        snprintf(to, size, "standby: it offers %.2f GiB, and one layer needs %.2f GiB",
                 (double)w->memory_bytes / (1 << 30), (double)least / (1 << 30));
        return;
    }
    struct planner_forecast f = planner_forecast(m, workers, n_workers, goal, stages, n_stages);
    double one = plan_cost_decode(m, &w->speed, 0, m->n_layers, 1, goal->context) * 1000;
    double link = plan_cost_link(m, &w->speed, 0) * 1000;
    if (n_stages >= m->n_layers)
        snprintf(to, size, "standby: every layer has a worker of its own");
    else
        snprintf(to, size,
                 "standby: it would only slow things down (objective %s): alone it needs %.1f ms "
                 "for a token and %.2f ms each way, the plan without it %.1f ms",
                 planner_objectives[goal->objective], one, link, f.latency_s * 1000);
}
