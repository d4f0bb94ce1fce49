#include "coordinator/planner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t planner_stage_memory(const struct planner_model *m, int first_layer, int end_layer)
{
    int64_t bytes = m->scratch_bytes;
    for (int i = first_layer; i < end_layer; i++)
        bytes += m->layer_bytes[i] + m->layer_bytes[i] / 25 + m->kv_token_bytes[i] * m->kv_tokens;
    if (end_layer == m->n_layers)
        bytes += m->head_bytes + m->head_bytes / 25 + m->head_scratch_bytes;
    return bytes;
}

/* What a token costs there. */
static double planner_stage_work(const struct planner_model *m, const int64_t *prefix, int first,
                                 int end)
{
    int64_t work = prefix[end] - prefix[first];
    if (end == m->n_layers)
        work += m->head_work;
    return (double)work;
}

struct planner_table {
    int n_layers;
    double *slowest; /* [n_workers + 1][n_layers + 1]: best possible slowest stage */
    int *cut;        /* the layer where that worker's stage begins; = end: it has none */
};

static void planner_fill(const struct planner_model *m, const struct planner_worker *workers,
                         int n_workers, const int64_t *prefix, struct planner_table *t)
{
    int width = m->n_layers + 1;
    for (int end = 0; end < width; end++)
        t->slowest[end] = end == 0 ? 0 : INFINITY;
    for (int w = 1; w <= n_workers; w++) {
        const struct planner_worker *worker = &workers[w - 1];
        for (int end = 0; end < width; end++) {
            /* no stage for this worker, unless one makes it strictly better */
            double best = t->slowest[(w - 1) * width + end];
            int cut = end;
            for (int first = end - 1; first >= 0; first--) {
                double before = t->slowest[(w - 1) * width + first];
                if (before >= best)
                    continue;
                if (planner_stage_memory(m, first, end) > worker->memory_bytes)
                    break; /* more layers need even more */
                double own = planner_stage_work(m, prefix, first, end) / worker->speed;
                double both = own > before ? own : before;
                if (both < best) {
                    best = both;
                    cut = first;
                }
            }
            t->slowest[w * width + end] = best;
            t->cut[w * width + end] = cut;
        }
    }
}

static int planner_refuse(const struct planner_model *m, const struct planner_worker *workers,
                          int n_workers, struct err *err)
{
    int64_t offered = 0;
    for (int i = 0; i < n_workers; i++)
        offered += workers[i].memory_bytes;
    int64_t needed = planner_stage_memory(m, 0, m->n_layers) + (n_workers - 1) * m->scratch_bytes;
    double gib = 1 << 30;
    return err_set(
        err, ERR_MEMORY,
        "the model needs about %.1f GiB (%.1f GiB of it KV cache) and %d worker%s offer%s "
        "%.1f GiB in pieces that do not fit its layers: add a worker, offer more "
        "(--memory), or lower --kv-tokens or --context",
        (double)needed / gib, (double)(m->kv_token_bytes[0] * m->n_layers * m->kv_tokens) / gib,
        n_workers, n_workers == 1 ? "" : "s", n_workers == 1 ? "s" : "", (double)offered / gib);
}

static int planner_trace_back(const struct planner_model *m, const struct planner_table *t,
                              int n_workers, struct planner_stage *ret_stages)
{
    int n = 0, end = m->n_layers, width = m->n_layers + 1;
    struct planner_stage backwards[PLANNER_MAX_STAGES];
    for (int w = n_workers; w > 0 && end > 0; w--) {
        int first = t->cut[w * width + end];
        if (first == end)
            continue;
        backwards[n++] =
            (struct planner_stage){w - 1, first, end, planner_stage_memory(m, first, end)};
        end = first;
    }
    for (int i = 0; i < n; i++)
        ret_stages[i] = backwards[n - 1 - i];
    return n;
}

int planner_plan(const struct planner_model *m, const struct planner_worker *workers, int n_workers,
                 struct planner_stage *ret_stages, int *ret_n_stages, struct err *err)
{
    if (n_workers > PLANNER_MAX_STAGES)
        n_workers = PLANNER_MAX_STAGES;
    int width = m->n_layers + 1;
    size_t cells = (size_t)(n_workers + 1) * (size_t)width;
    struct planner_table t = {m->n_layers, calloc(cells, sizeof(double)),
                              calloc(cells, sizeof(int))};
    int64_t *prefix = calloc((size_t)width, sizeof *prefix);
    int rc = 0;
    if (!t.slowest || !t.cut || !prefix) {
        rc = err_set(err, ERR_MEMORY, "no memory to plan");
    } else {
        for (int i = 0; i < m->n_layers; i++)
            prefix[i + 1] = prefix[i] + m->layer_work[i];
        planner_fill(m, workers, n_workers, prefix, &t);
        if (isinf(t.slowest[n_workers * width + m->n_layers]))
            rc = planner_refuse(m, workers, n_workers, err);
        else
            *ret_n_stages = planner_trace_back(m, &t, n_workers, ret_stages);
    }
    free(t.slowest);
    free(t.cut);
    free(prefix);
    return rc;
}

int planner_plan_cuts(const struct planner_model *m, const struct planner_worker *workers,
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
        int64_t needed = planner_stage_memory(m, first, end);
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
