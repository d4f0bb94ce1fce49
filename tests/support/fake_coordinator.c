#include "tests/support/fake_coordinator.h"

#include "base/clock.h"
#include "coordinator/metrics.h"
#include "coordinator/tokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_MOST = 64, FAKE_TOKENS = 4096 };

struct coordinator {
    struct fake_coordinator_spec spec;
    struct weight_file *weights;
    struct tokenizer *tokenizer;
    struct constraint_store *constraints;
    struct timeline *timeline; /* 300 steps of one stage */
    struct metrics *metrics;
    struct model_config model;
    bool is_ready, is_degraded, is_held;
    int fail_after, n_cancelled;
    uint32_t answer[FAKE_TOKENS];
    int n_answer;
    struct request *open[FAKE_MOST];
    int n_open;
    struct request *changed; /* through next_changed */
    struct request last;     /* a copy of its plain fields */
    bool has_last;
    int last_tokens;
};

static void fake_coordinator_steps(struct coordinator *c)
{
    struct timeline_stage stage = {
        .worker = "desk0\xff", .end_layer = 2, .is_timed = true, .uncertainty_us = 9};
    timeline_set_stages(c->timeline, 7, &stage, 1);
    for (int i = 0; i < 300; i++) {
        struct timeline_step step = {.step = (uint64_t)i, .epoch = i ? 7 : 6, .answered_us = 100};
        struct timeline_time time = {.compute_us = 50, .wait_us = 3, .start_us = 20};
        timeline_add(c->timeline, &step, &time, 1);
    }
}

struct coordinator *fake_coordinator_new(const struct fake_coordinator_spec *spec)
{
    struct coordinator *c = calloc(1, sizeof *c);
    struct err err = {0};
    assert(c);
    c->spec = *spec;
    c->is_ready = true;
    c->fail_after = -1;
    if (weight_file_open(&c->weights, spec->model_path, &err) != 0 ||
        tokenizer_from_file(&c->tokenizer, c->weights, &err) != 0 ||
        model_config_read(&c->model, c->weights, &err) != 0 ||
        constraint_store_new(&c->constraints, c->tokenizer, (uint32_t)c->model.vocabulary_size,
                             &err) != 0 ||
        timeline_new(&c->timeline, &err) != 0 || metrics_new(&c->metrics, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    fake_coordinator_steps(c);
    return c;
}

void fake_coordinator_free(struct coordinator *c)
{
    assert(c->n_open == 0 && !c->changed);
    constraint_store_free(c->constraints);
    tokenizer_free(c->tokenizer);
    timeline_free(c->timeline);
    metrics_free(c->metrics);
    weight_file_close(c->weights);
    free(c);
}

void fake_coordinator_answer(struct coordinator *c, const uint32_t *tokens, int n_tokens)
{
    assert(n_tokens <= FAKE_TOKENS);
    memcpy(c->answer, tokens, (size_t)n_tokens * sizeof *tokens);
    c->n_answer = n_tokens;
}

void fake_coordinator_degrade(struct coordinator *c)
{
    c->is_ready = false;
    c->is_degraded = true;
}

void fake_coordinator_set_ready(struct coordinator *c, bool is_ready)
{
    c->is_ready = is_ready;
}

void fake_coordinator_hold(struct coordinator *c, bool is_held)
{
    c->is_held = is_held;
}

void fake_coordinator_fail_after(struct coordinator *c, int n_tokens)
{
    c->fail_after = n_tokens;
}

int fake_coordinator_open(const struct coordinator *c)
{
    return c->n_open;
}

int fake_coordinator_cancelled(const struct coordinator *c)
{
    return c->n_cancelled;
}

const struct request *fake_coordinator_last(const struct coordinator *c)
{
    return c->has_last ? &c->last : NULL;
}

int fake_coordinator_last_tokens(const struct coordinator *c)
{
    return c->last_tokens;
}

/* ---- news ---- */

static bool fake_is_listed(const struct coordinator *c, const struct request *r)
{
    for (const struct request *i = c->changed; i; i = i->next_changed)
        if (i == r)
            return true;
    return false;
}

static void fake_mark(struct coordinator *c, struct request *r)
{
    if (fake_is_listed(c, r))
        return;
    struct request **end = &c->changed;
    while (*end)
        end = &(*end)->next_changed;
    r->next_changed = NULL;
    r->changed = true;
    *end = r;
}

static void fake_unmark(struct coordinator *c, struct request *r)
{
    for (struct request **i = &c->changed; *i; i = &(*i)->next_changed)
        if (*i == r) {
            *i = r->next_changed;
            break;
        }
    r->next_changed = NULL;
    r->changed = false;
}

struct request *coordinator_take_changed(struct coordinator *c)
{
    struct request *r = c->changed;
    if (r)
        fake_unmark(c, r);
    return r;
}

int64_t coordinator_take_answered_us(struct coordinator *c)
{
    return metrics_take_untold(c->metrics);
}

/* ---- requests ---- */

static void fake_remove(struct coordinator *c, const struct request *r)
{
    for (int i = 0; i < c->n_open; i++)
        if (c->open[i] == r) {
            memmove(&c->open[i], &c->open[i + 1], (size_t)(c->n_open - i - 1) * sizeof *c->open);
            c->n_open--;
            return;
        }
}

static void fake_settle(struct coordinator *c, struct request *r)
{
    r->is_done = true;
    r->finished_us = clock_now_us();
    fake_remove(c, r);
}

int coordinator_submit(struct coordinator *c, struct request *const *requests, size_t n,
                       struct err *err)
{
    if (!c->is_ready && !c->is_degraded)
        return err_set(err, ERR_UNAVAILABLE, "the fake is not ready");
    size_t most = c->spec.most_requests < FAKE_MOST ? (size_t)c->spec.most_requests : FAKE_MOST;
    if ((size_t)c->n_open + n > most)
        return err_set(err, ERR_LIMIT, "The queue is full: %d requests are waiting.", c->n_open);
    for (size_t i = 0; i < n; i++)
        c->open[c->n_open++] = requests[i];
    c->last = *requests[n - 1];
    c->has_last = true;
    c->last_tokens = requests[n - 1]->choices[0].n_tokens - c->last.n_prompt;
    return 0;
}

void coordinator_cancel(struct coordinator *c, struct request *r)
{
    if (!r->is_done) {
        c->n_cancelled++;
        for (int i = 0; i < r->n_choices; i++)
            if (r->choices[i].finish == FINISH_NONE)
                r->choices[i].finish = FINISH_CANCELLED;
        fake_settle(c, r);
    }
    fake_unmark(c, r);
}

static uint32_t fake_end_id(const struct coordinator *c)
{
    const uint32_t *ends;
    size_t n = tokenizer_end_ids(c->tokenizer, &ends);
    assert(n > 0);
    return ends[0];
}

/* Log-probabilities that a test can predict: -(position + 1) / 8, alternatives 1/8 less each. */
static void fake_step_choice(struct coordinator *c, struct request *r, struct choice *choice)
{
    int at = choice->n_tokens - r->n_prompt;
    struct batch_result result = {.kind = BATCH_SAMPLE};
    result.token = at < c->n_answer ? c->answer[at] : fake_end_id(c);
    result.logprob = -(float)(at + 1) / 8;
    result.n_top = r->sampling.top_logprobs;
    for (uint32_t i = 0; i < result.n_top; i++)
        result.top[i] = (struct batch_token_logprob){.token = result.token + i,
                                                     .logprob = result.logprob - (float)i / 8};
    struct err why;
    if (request_accept_token(r, choice, &result, c->tokenizer, &why) != 0)
        request_fail(r, &why);
}

static void fake_step_generation(struct coordinator *c, struct request *r)
{
    struct err why;
    bool is_open = false;
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *choice = &r->choices[i];
        if (choice->finish == FINISH_NONE)
            fake_step_choice(c, r, choice);
        is_open |= choice->finish == FINISH_NONE;
    }
    if (c->fail_after >= 0 && r->choices[0].n_tokens - r->n_prompt >= c->fail_after) {
        err_set(&why, ERR_INTERNAL, "The fake fails as it was told to.");
        request_fail(r, &why);
        is_open = false;
    }
    if (!is_open)
        fake_settle(c, r);
}

/* A row's logits: row + column / 1024. */
static void fake_step_logits(struct coordinator *c, struct request *r)
{
    for (int i = 0; i < c->model.vocabulary_size; i++) {
        float value = (float)r->n_rows + (float)i / 1024;
        buf_append(&r->rows, &value, sizeof value);
    }
    r->n_rows++;
    if (r->n_rows == r->n_prompt)
        fake_settle(c, r);
}

static void fake_step_scores(struct coordinator *c, struct request *r)
{
    struct choice *choice = &r->choices[0];
    if (r->n_scored < r->n_prompt - 1) {
        struct batch_result result = {.kind = BATCH_SCORE,
                                      .token = r->prompt[r->n_scored + 1],
                                      .logprob = -(float)(r->n_scored + 1) / 10,
                                      .n_top = r->sampling.top_logprobs};
        for (uint32_t i = 0; i < result.n_top; i++)
            result.top[i] = (struct batch_token_logprob){.token = 70 + i, .logprob = -1};
        request_accept_score(r, choice, &result);
    }
    if (r->n_scored == r->n_prompt - 1) {
        choice->finish = FINISH_LENGTH;
        fake_settle(c, r);
    }
}

/* A text's state: zero but for two elements, 3 and 4 times its last token. */
static void fake_step_state(struct coordinator *c, struct request *r)
{
    float state[512] = {0};
    size_t hidden = (size_t)c->model.hidden_size;
    uint32_t last = r->prompt[r->n_prompt - 1];
    assert(hidden <= 512);
    state[last % hidden] += 3 * (float)last;
    state[(last + 1) % hidden] += 4 * (float)last;
    request_accept_row(r, state, hidden);
    r->choices[0].finish = FINISH_LENGTH;
    fake_settle(c, r);
}

void fake_coordinator_step(struct coordinator *c)
{
    struct request *now[FAKE_MOST];
    int n_now = c->n_open;
    if (c->is_held)
        return;
    memcpy(now, c->open, (size_t)n_now * sizeof now[0]);
    if (n_now && !c->metrics->untold_us)
        c->metrics->untold_us = clock_now_us();
    for (int i = 0; i < n_now; i++) {
        struct request *r = now[i];
        if (!r->scheduled_us)
            r->scheduled_us = clock_now_us();
        if (r->kind == REQUEST_GENERATE)
            fake_step_generation(c, r);
        else if (r->kind == REQUEST_LOGITS)
            fake_step_logits(c, r);
        else if (r->kind == REQUEST_EMBED)
            fake_step_state(c, r);
        else
            fake_step_scores(c, r);
        fake_mark(c, r);
    }
}

/* ---- what it says of itself ---- */

void coordinator_status(const struct coordinator *c, struct coordinator_status *ret_status)
{
    *ret_status = (struct coordinator_status){.ready = c->is_ready,
                                              .is_degraded = c->is_degraded,
                                              .missing_bytes = c->is_degraded ? 1000 : 0,
                                              .missing_workers = c->is_degraded,
                                              .epoch = 7,
                                              .n_stages = 2,
                                              .n_workers = 2,
                                              .n_tenants = 1,
                                              .running = c->n_open};
    if (!c->is_ready)
        snprintf(ret_status->waiting_for, sizeof ret_status->waiting_for, "1 of 2 workers joined.");
}

int coordinator_retry_after_s(const struct coordinator *c)
{
    return c->n_open > 60 ? 60 : c->n_open + 1;
}

void coordinator_tenants(const struct coordinator *c, struct coordinator_tenant_status *to)
{
    to[0] = (struct coordinator_tenant_status){.name = "default", .running = c->n_open};
}

bool coordinator_worker_status(const struct coordinator *c, int index,
                               struct coordinator_worker_status *ret_status)
{
    if (index < 0 || index >= 2)
        return false;
    *ret_status = (struct coordinator_worker_status){.stage = index == 0 ? 0 : -1,
                                                     .first_layer = index == 0 ? 0 : -1,
                                                     .end_layer = index == 0 ? 2 : -1,
                                                     .threads = 4};
    /* A name that is not UTF-8: a worker may be called anything. */
    snprintf(ret_status->name, sizeof ret_status->name, "desk%d\xff", index);
    snprintf(ret_status->state, sizeof ret_status->state, index == 0 ? "serving" : "standby");
    return true;
}

int coordinator_drain_worker(struct coordinator *c, const char *worker, struct err *err)
{
    (void)c;
    return strcmp(worker, "w1") == 0
               ? 0
               : err_set(err, ERR_NOT_FOUND, "There is no worker '%.64s' here.", worker);
}

int coordinator_resume_worker(struct coordinator *c, const char *worker, struct err *err)
{
    return coordinator_drain_worker(c, worker, err);
}

const struct metrics *coordinator_metrics(const struct coordinator *c)
{
    return c->metrics;
}

const struct timeline *coordinator_timeline(const struct coordinator *c)
{
    return c->timeline;
}

const struct model_config *coordinator_model(const struct coordinator *c)
{
    return &c->model;
}

const char *coordinator_model_alias(const struct coordinator *c)
{
    return c->spec.alias ? c->spec.alias : "tiny";
}

struct constraint_store *coordinator_constraints(const struct coordinator *c)
{
    return c->constraints;
}

const struct tokenizer *coordinator_tokenizer(const struct coordinator *c)
{
    return c->tokenizer;
}

const struct weight_file *coordinator_weights(const struct coordinator *c)
{
    return c->weights;
}

int coordinator_context(const struct coordinator *c)
{
    return c->spec.context;
}

const char *coordinator_fingerprint(const struct coordinator *c)
{
    return "fp_0123456789abcdef";
}
