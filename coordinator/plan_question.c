#include "coordinator/plan_question.h"

#include "model/quant_mix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS        512 /* as coordinator/deployment.c sets them */
#define MIN_OUTPUTS     32
#define TYPICAL_CONTEXT 512
#define DEFAULT_CONTEXT 4096
#define LEAST_CONTEXT   512
#define MOST_MORE       64 /* machines that are added to see whether a model fits */

int plan_question_context(const struct model_shape *shape)
{
    int trained = shape->config.context_length;
    return trained < DEFAULT_CONTEXT ? trained : DEFAULT_CONTEXT;
}

/* ---- one answer ---- */

static int question_costs(const struct plan_question *q, struct plan_model *ret_costs,
                          struct err *err)
{
    uint32_t c = (uint32_t)q->concurrency;
    uint32_t blocks = (uint32_t)(q->context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    struct batch_limits limits = {.max_rows = c > MAX_ROWS ? c : MAX_ROWS,
                                  .max_sequences = c,
                                  .max_outputs = c > MIN_OUTPUTS ? c : MIN_OUTPUTS,
                                  .max_context = (uint32_t)q->context,
                                  .kv_blocks = blocks * c,
                                  .vocabulary = (uint32_t)q->shape->config.vocabulary_size};
    return plan_model_of_shape(ret_costs, q->shape, &limits, KV_F16, err);
}

static struct planner_worker question_worker(const struct plan_model *m,
                                             const struct plan_machine_kind *k)
{
    struct planner_worker w = {
        .speed = k->is_measured ? k->speed : plan_speed_of_figures(m, k->read_bytes, k->int8_ops),
        .memory_bytes = (int64_t)k->memory_bytes,
        .threads = k->threads};
    w.speed.link_s = k->link_s + PLAN_HANDLING_S;
    w.speed.link_bytes_per_s = k->link_bytes;
    return w;
}

static void question_name(const struct plan_machines *m, int kind, int number, char to[64])
{
    if (m->kinds[kind].count > 1)
        snprintf(to, 64, "%s-%d", m->kinds[kind].name, number + 1);
    else
        snprintf(to, 64, "%s", m->kinds[kind].name);
}

/* Why its slowest stage is slow. */
static void question_find_bottleneck(const struct plan_question *q, const struct plan_model *m,
                                     const struct planner_worker *workers,
                                     const struct planner_stage *stages, struct plan_answer *a)
{
    const struct planner_forecast *f = &a->forecast;
    const struct planner_stage *s = &stages[f->slowest];
    const struct plan_speed *speed = &workers[s->worker].speed;
    double one = plan_cost_decode(m, speed, s->first_layer, s->end_layer, 1, 0);
    double many = plan_cost_decode(m, speed, s->first_layer, s->end_layer, f->rows, 0);
    if (f->hops_s > f->latency_s / 2 && q->objective != PLANNER_THROUGHPUT)
        snprintf(a->bottleneck, sizeof a->bottleneck, "network: hops are %.0f %% of a token's time",
                 100 * f->hops_s / f->latency_s);
    else if (plan_cost_transfer(m, speed, f->rows) >= f->slowest_s)
        snprintf(a->bottleneck, sizeof a->bottleneck, "%s: its link", a->stages[f->slowest].worker);
    else
        snprintf(a->bottleneck, sizeof a->bottleneck, "%s: %s", a->stages[f->slowest].worker,
                 many > 1.5 * one ? "computing" : "reading weights from memory");
}

static void question_describe(const struct plan_question *q, const struct plan_model *m,
                              const struct planner_worker *workers, const int *kinds,
                              const int *numbers, const struct planner_stage *stages,
                              const struct planner_goal *goal, struct plan_answer *a)
{
    for (int i = 0; i < q->machines.n_kinds; i++)
        a->n_standby[i] = q->machines.kinds[i].count;
    for (int i = 0; i < a->n_stages; i++) {
        const struct planner_stage *s = &stages[i];
        struct plan_answer_stage *to = &a->stages[i];
        *to = (struct plan_answer_stage){.kind = kinds[s->worker],
                                         .first_layer = s->first_layer,
                                         .end_layer = s->end_layer,
                                         .memory_bytes = s->memory_bytes};
        question_name(&q->machines, to->kind, numbers[s->worker], to->worker);
        a->n_standby[to->kind]--;
        for (int layer = s->first_layer; layer < s->end_layer; layer++) {
            to->weight_bytes += m->weight_bytes[layer];
            to->kv_bytes += m->kv_bytes[layer];
        }
        to->weight_bytes += s->end_layer == m->n_layers ? m->head_bytes : 0;
        to->step_s = plan_cost_decode(m, &workers[s->worker].speed, s->first_layer, s->end_layer, 1,
                                      goal->context);
    }
    a->forecast = planner_forecast(m, workers, a->n_workers, goal, stages, a->n_stages);
    question_find_bottleneck(q, m, workers, stages, a);
}

static int question_plan(const struct plan_question *q, const struct plan_model *m,
                         struct planner_worker *workers, struct plan_answer *a, struct err *err)
{
    int kinds[PLANNER_MAX_STAGES], numbers[PLANNER_MAX_STAGES], n = 0;
    struct planner_stage stages[PLANNER_MAX_STAGES];
    for (int i = 0; i < q->machines.n_kinds; i++) {
        for (int j = 0; j < q->machines.kinds[i].count && n < PLANNER_MAX_STAGES; j++) {
            workers[n] = question_worker(m, &q->machines.kinds[i]);
            a->offered_bytes += workers[n].memory_bytes;
            kinds[n] = i;
            numbers[n++] = j;
        }
    }
    a->n_workers = n;
    a->needed_bytes = plan_model_memory(m, workers[0].threads, 0, m->n_layers) +
                      (n - 1) * plan_model_memory(m, workers[0].threads, 0, 0);
    struct planner_goal goal = {q->objective, q->concurrency, fmin(q->context / 2, TYPICAL_CONTEXT),
                                false};
    struct err no_plan = {0};
    int rc = planner_plan(m, workers, n, &goal, stages, &a->n_stages, &no_plan);
    if (rc == ERR_MEMORY)
        return 0; /* it does not fit */
    if (rc != 0) {
        *err = no_plan;
        return rc;
    }
    a->fits = true;
    question_describe(q, m, workers, kinds, numbers, stages, &goal, a);
    return 0;
}

int plan_question_ask(const struct plan_question *q, struct plan_answer *ret_answer,
                      struct err *err)
{
    struct plan_model costs;
    *ret_answer = (struct plan_answer){.fits = false};
    struct planner_worker *workers = calloc(PLANNER_MAX_STAGES, sizeof *workers);
    int rc =
        workers ? question_costs(q, &costs, err) : err_set(err, ERR_MEMORY, "no memory to plan");
    if (rc == 0)
        rc = question_plan(q, &costs, workers, ret_answer, err);
    if (workers)
        plan_model_clear(&costs);
    free(workers);
    return rc;
}

/* ---- what would help ---- */

static int question_try(const struct plan_question *q, const struct plan_answer *now,
                        struct plan_help *help, struct err *err)
{
    struct plan_answer *a = malloc(sizeof *a);
    if (!a)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    int rc = plan_question_ask(q, a, err);
    if (rc == 0) {
        help->fits = a->fits;
        help->total_gain =
            now->fits && a->fits ? a->forecast.total_rate / now->forecast.total_rate - 1 : 0;
        help->latency_gain =
            now->fits && a->fits ? now->forecast.latency_s / a->forecast.latency_s - 1 : 0;
    }
    free(a);
    return rc;
}

static double question_gain(const struct plan_question *q, const struct plan_help *h)
{
    return q->objective == PLANNER_LATENCY ? h->latency_gain : h->total_gain;
}

static void question_sort(const struct plan_question *q, struct plan_help *helps, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && question_gain(q, &helps[j]) > question_gain(q, &helps[j - 1]);
             j--) {
            struct plan_help swapped = helps[j];
            helps[j] = helps[j - 1];
            helps[j - 1] = swapped;
        }
}

int plan_question_helps(const struct plan_question *q, const struct plan_answer *a,
                        struct plan_help ret_helps[PLAN_HELPS], int *ret_n, struct err *err)
{
    struct plan_question other = *q;
    int n = 0, rc = 0;
    for (int i = 0; rc == 0 && i < q->machines.n_kinds; i++) {
        other.machines.kinds[i].count++;
        snprintf(ret_helps[n].what, sizeof ret_helps[n].what, "one more machine like %s",
                 q->machines.kinds[i].name);
        rc = question_try(&other, a, &ret_helps[n++], err);
        other.machines.kinds[i].count--;
    }
    for (int i = 0; i < q->machines.n_kinds; i++) {
        other.machines.kinds[i].link_s /= 10;
        other.machines.kinds[i].link_bytes *= 10;
    }
    snprintf(ret_helps[n].what, sizeof ret_helps[n].what, "a network ten times as fast");
    if (rc == 0)
        rc = question_try(&other, a, &ret_helps[n++], err);
    other = *q;
    for (int i = 0; i < q->machines.n_kinds; i++)
        other.machines.kinds[i].memory_bytes *= 1.5;
    snprintf(ret_helps[n].what, sizeof ret_helps[n].what, "half as much memory again everywhere");
    if (rc == 0)
        rc = question_try(&other, a, &ret_helps[n++], err);
    question_sort(q, ret_helps, n);
    *ret_n = n;
    return rc;
}

/* ---- what would fit ---- */

static int question_fits(const struct plan_question *q, bool *ret_fits, struct err *err)
{
    struct plan_answer now = {.fits = false};
    struct plan_help help = {.fits = false};
    int rc = question_try(q, &now, &help, err);
    *ret_fits = rc == 0 && help.fits;
    return rc;
}

/* The largest mix below the present one that fits. */
static int question_smaller_mix(const struct plan_question *q, const char *model, const char *mix,
                                const char **ret_mix, struct err *err)
{
    int rc = 0, number = quant_mix_find(mix, err);
    bool fits = false;
    for (int i = number + 1; rc == 0 && number >= 0 && quant_mix_name(i) && !fits; i++) {
        struct model_shape shape;
        struct plan_question other = *q;
        rc = model_shape_of_name(&shape, model, quant_mix_name(i), err);
        other.shape = &shape;
        for (int k = 0; k < other.machines.n_kinds; k++)
            other.machines.kinds[k].is_measured = false;
        if (rc == 0)
            rc = question_fits(&other, &fits, err);
        model_shape_clear(&shape);
        if (fits)
            *ret_mix = quant_mix_name(i);
    }
    return rc;
}

int plan_question_remedies(const struct plan_question *q, const char *model, const char *mix,
                           struct plan_remedies *ret_remedies, struct err *err)
{
    *ret_remedies = (struct plan_remedies){.mix = NULL};
    struct plan_question other = *q;
    bool fits = false;
    int rc = model ? question_smaller_mix(q, model, mix, &ret_remedies->mix, err) : 0;
    for (other.context = q->context / 2; rc == 0 && !fits && other.context >= LEAST_CONTEXT;
         other.context /= 2) {
        rc = question_fits(&other, &fits, err);
        if (fits)
            ret_remedies->context = other.context;
    }
    other = *q;
    for (int i = 0; rc == 0 && i < q->machines.n_kinds; i++) {
        struct plan_machine_kind *k = &other.machines.kinds[i];
        int low = 0, high = MOST_MORE; /* the least number that fits is in (low, high] */
        k->count += high;
        rc = question_fits(&other, &fits, err);
        while (rc == 0 && fits && high - low > 1) {
            int middle = (low + high) / 2;
            bool enough;
            k->count = q->machines.kinds[i].count + middle;
            rc = question_fits(&other, &enough, err);
            high = enough ? middle : high;
            low = enough ? low : middle;
        }
        ret_remedies->machines[i] = fits ? high : 0;
        *k = q->machines.kinds[i];
    }
    return rc;
}
