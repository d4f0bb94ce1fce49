#include "coordinator/metrics.h"

#include "base/clock.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_US 10000000

/* Those of vLLM, so that its dashboards fit. */
static const double first_token_bounds[] = {.001, .005, .01, .02, .04, .06, .08, .1,
                                            .25,  .5,   .75, 1,   2.5, 5,   7.5, 10,
                                            20,   40,   80,  160, 640, 2560};
static const double gap_bounds[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                    .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
static const double request_bounds[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                        30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
static const double token_bounds[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                      1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
static const double row_bounds[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048};
static const double step_bounds[] = {.0005, .001, .0025, .005, .01, .025, .05, .1,
                                     .25,   .5,   1,     2.5,  5,   10,   30};

#define BOUNDS(h, list) histogram_init(h, list, sizeof list / sizeof list[0])

int metrics_new(struct metrics **ret_metrics, struct err *err)
{
    struct metrics *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_MEMORY, "no memory for metrics");
    BOUNDS(&m->first_token_s, first_token_bounds);
    BOUNDS(&m->token_gap_s, gap_bounds);
    BOUNDS(&m->whole_s, request_bounds);
    BOUNDS(&m->waiting_s, request_bounds);
    BOUNDS(&m->prefill_s, request_bounds);
    BOUNDS(&m->decode_s, request_bounds);
    BOUNDS(&m->prompt_tokens, token_bounds);
    BOUNDS(&m->generated_tokens, token_bounds);
    BOUNDS(&m->step_rows, row_bounds);
    BOUNDS(&m->step_s, step_bounds);
    *ret_metrics = m;
    return 0;
}

void metrics_free(struct metrics *m)
{
    free(m);
}

/* ---- requests ---- */

static double metrics_seconds(int64_t from_us, int64_t to_us)
{
    return to_us > from_us ? (double)(to_us - from_us) / 1e6 : 0;
}

void metrics_token(struct metrics *m, const struct request *r, struct choice *choice, bool is_first)
{
    int64_t now_us = clock_now_us();
    m->n_generated_tokens++;
    if (is_first) {
        m->n_prompt_tokens += (uint64_t)r->n_prompt;
        histogram_add(&m->first_token_s, metrics_seconds(r->arrived_us, now_us));
    }
    if (choice->last_token_us)
        histogram_add(&m->token_gap_s, metrics_seconds(choice->last_token_us, now_us));
    choice->last_token_us = now_us;
}

static void metrics_choice_whole(struct metrics *m, const struct request *r,
                                 const struct choice *choice)
{
    int64_t end_us = choice->last_token_us ? choice->last_token_us : r->finished_us;
    histogram_add(&m->whole_s, metrics_seconds(r->arrived_us, end_us));
    histogram_add(&m->waiting_s, metrics_seconds(r->arrived_us, r->scheduled_us));
    if (r->first_token_us) {
        histogram_add(&m->prefill_s, metrics_seconds(r->scheduled_us, r->first_token_us));
        histogram_add(&m->decode_s, metrics_seconds(r->first_token_us, end_us));
    }
    histogram_add(&m->prompt_tokens, r->n_prompt);
    histogram_add(&m->generated_tokens, choice->n_tokens - r->n_prompt);
}

static enum metrics_end metrics_end_of(const struct choice *choice)
{
    switch (choice->finish) {
    case FINISH_LENGTH:
        return METRICS_LENGTH;
    case FINISH_CANCELLED:
        return METRICS_ABORT;
    case FINISH_ERROR:
        return METRICS_ERROR;
    default:
        return METRICS_STOP;
    }
}

void metrics_request_done(struct metrics *m, const struct request *r)
{
    for (int i = 0; i < r->n_choices; i++) {
        enum metrics_end end = metrics_end_of(&r->choices[i]);
        m->n_ended[end]++;
        if (end == METRICS_STOP || end == METRICS_LENGTH)
            metrics_choice_whole(m, r, &r->choices[i]);
    }
}

/* ---- plans and steps ---- */

static int metrics_find(const struct metrics *m, const char *name)
{
    for (int i = 0; i < m->n_workers; i++)
        if (strcmp(m->workers[i].name, name) == 0)
            return i;
    return -1;
}

/* Where all places are taken, one that is not of the plan so far gives way. */
static int metrics_place(struct metrics *m)
{
    if (m->n_workers < METRICS_WORKERS)
        return m->n_workers++;
    for (int i = 0; i < METRICS_WORKERS; i++) {
        bool is_used = false;
        for (int k = 0; k < m->n_stages; k++)
            is_used = is_used || m->stages[k] == i;
        if (!is_used)
            return i;
    }
    return -1;
}

static int metrics_worker_of(struct metrics *m, const char *name)
{
    int at = metrics_find(m, name);
    if (at >= 0)
        return at;
    at = metrics_place(m);
    if (at >= 0) {
        m->workers[at] = (struct metrics_worker){0};
        snprintf(m->workers[at].name, sizeof m->workers[at].name, "%s", name);
        BOUNDS(&m->workers[at].step_s, step_bounds);
    }
    return at;
}

void metrics_plan(struct metrics *m, const struct timeline_stage *stages, int n, int n_replays)
{
    assert(n <= TIMELINE_STAGES);
    m->n_plans++;
    m->n_replays += (uint64_t)n_replays;
    for (m->n_stages = 0; m->n_stages < n; m->n_stages++)
        m->stages[m->n_stages] = metrics_worker_of(m, stages[m->n_stages].worker);
}

static void metrics_move_window(struct metrics *m, int64_t now_us)
{
    if (now_us - m->window_us < WINDOW_US)
        return;
    m->window_us = now_us;
    m->active_before_s[1] = m->active_before_s[0];
    m->active_before_s[0] = m->active_s;
    for (int i = 0; i < m->n_workers; i++) {
        struct metrics_worker *w = &m->workers[i];
        w->busy_before_s[1] = w->busy_before_s[0];
        w->busy_before_s[0] = w->step_s.sum;
    }
}

void metrics_step_done(struct metrics *m, const struct metrics_step *step)
{
    metrics_move_window(m, step->answered_us);
    /* Steps are sent and answered in order: what this one adds begins with the last answer. */
    int64_t from_us = step->sent_us > m->last_answer_us ? step->sent_us : m->last_answer_us;
    m->active_s += metrics_seconds(from_us, step->answered_us);
    m->last_answer_us = step->answered_us;
    if (!m->untold_us)
        m->untold_us = step->answered_us;
    histogram_add(&m->step_rows, step->n_rows);
    histogram_add(&m->step_s, metrics_seconds(step->sent_us, step->answered_us));
    for (int i = 0; i < step->n_times && i < m->n_stages; i++)
        if (step->times[i].stage == (uint32_t)i && m->stages[i] >= 0)
            histogram_add(&m->workers[m->stages[i]].step_s, step->times[i].compute_us / 1e6);
}

int64_t metrics_take_untold(struct metrics *m)
{
    int64_t at_us = m->untold_us;
    m->untold_us = 0;
    return at_us;
}

const struct metrics_worker *metrics_worker_named(const struct metrics *m, const char *name)
{
    int at = metrics_find(m, name);
    return at >= 0 ? &m->workers[at] : NULL;
}

bool metrics_bubble_ratio(const struct metrics *m, const struct metrics_worker *w, int64_t now_us,
                          double *ret_ratio)
{
    double active_s = m->active_s - m->active_before_s[1];
    double busy_s = w->step_s.sum - w->busy_before_s[1];
    if (active_s <= 0 || now_us - m->last_answer_us > WINDOW_US)
        return false;
    *ret_ratio = busy_s < active_s ? 1 - busy_s / active_s : 0;
    return true;
}
