#include "tests/support/scheduler_world.h"

#include "kernels/attention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARRIVES_MS 1000 /* at the latest */

uint32_t world_any(struct world *w, uint32_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((w->random >> 33) % below);
}

struct scheduler_spec world_spec(int n_slots, int context, int max_rows, int max_outputs,
                                 int max_waiting, int kv_blocks)
{
    return (struct scheduler_spec){.n_slots = n_slots,
                                   .context = context,
                                   .max_rows = max_rows,
                                   .max_outputs = max_outputs,
                                   .max_waiting = max_waiting,
                                   .kv_blocks = kv_blocks};
}

void world_open(struct world *w, uint64_t seed, int n_stages, struct scheduler_spec spec)
{
    struct err err = {0};
    int blocks_each = (spec.context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    *w = (struct world){.zmq = zmq_ctx_new(), .n_stages = n_stages, .epoch = 5, .random = seed};
    spec.vocabulary = VOCABULARY;
    spec.n_tenants = spec.n_tenants ? spec.n_tenants : 2;
    if (!spec.kv_blocks)
        spec.kv_blocks = blocks_each * spec.n_slots;
    w->limits = (struct batch_limits){.max_rows = (uint32_t)spec.max_rows,
                                      .max_sequences = (uint32_t)spec.n_slots,
                                      .max_outputs = (uint32_t)spec.max_outputs,
                                      .max_context = (uint32_t)spec.context,
                                      .kv_blocks = (uint32_t)spec.kv_blocks,
                                      .vocabulary = VOCABULARY};
    assert_int_equal(scheduler_init(&w->scheduler, &spec, &err), 0);
    assert_int_equal(pipeline_open(&w->pipeline, w->zmq, "127.0.0.1", 0, NULL, &err), 0);
    assert_int_equal(zmq_bind(w->pipeline.results, "inproc://results"), 0);
    fake_stage_open(&w->stage, w->zmq, &w->limits, "inproc://stage");
    fake_stage_connect(&w->stage, w->zmq, "inproc://results");
    assert_int_equal(
        pipeline_connect(&w->pipeline, w->epoch, n_stages, "inproc://stage", NULL, &err), 0);
}

void world_close(struct world *w)
{
    assert_int_equal(w->n_requests, 0);
    assert_int_equal(w->scheduler.n_running, 0);
    assert_int_equal(w->scheduler.waiting.n_waiting, 0);
    assert_int_equal(w->scheduler.blocks.n_free, w->scheduler.blocks.n_blocks);
    fake_stage_close(&w->stage);
    pipeline_close(&w->pipeline);
    scheduler_clear(&w->scheduler);
    zmq_ctx_term(w->zmq);
}

/* ---- requests ---- */

struct request *world_request(enum request_kind kind, int n_prompt, int max_tokens, int n_choices,
                              uint32_t salt)
{
    struct request *r = calloc(1, sizeof *r);
    struct err err;
    assert_non_null(r);
    r->kind = kind;
    r->prompt = malloc((size_t)n_prompt * sizeof *r->prompt);
    assert_non_null(r->prompt);
    for (int i = 0; i < n_prompt; i++)
        r->prompt[i] = (salt * 7919u + (uint32_t)(i * i + i / 3)) % VOCABULARY;
    r->n_prompt = n_prompt;
    r->max_tokens = max_tokens;
    r->n_choices = n_choices;
    r->sampling.seed = salt;
    r->sampling.top_p = 1;
    r->sampling.repetition_penalty = 1;
    assert_int_equal(request_prepare(r, NULL, &err), 0);
    return r;
}

int world_add(struct world *w, struct request *r)
{
    struct err err;
    int rc = scheduler_check_room(&w->scheduler, r->n_choices, &err);
    if (rc != 0) {
        request_free(r);
        return rc;
    }
    scheduler_add(&w->scheduler, r);
    assert_true(w->n_requests < WORLD_REQUESTS);
    w->requests[w->n_requests++] = r;
    return 0;
}

/* The last one's state, or the sum of all, added up from the first. */
static void request_verify_state(const struct request *r)
{
    float state[FAKE_STAGE_HIDDEN], sum[FAKE_STAGE_HIDDEN];
    bool is_mean = r->pooling == POOLING_MEAN;
    int first = is_mean ? 1 : r->n_prompt;
    fake_stage_state(r->prompt, first, sum);
    for (int n = first + 1; n <= r->n_prompt; n++) {
        fake_stage_state(r->prompt, n, state);
        for (int i = 0; i < FAKE_STAGE_HIDDEN; i++)
            sum[i] += state[i];
    }
    assert_int_equal(r->n_rows, is_mean ? r->n_prompt : 1);
    assert_int_equal(r->rows.length, sizeof sum);
    assert_memory_equal(r->rows.data, sum, sizeof sum);
}

/* Every number that came back, against the tokens alone. */
static void request_verify(const struct request *r)
{
    float logits[VOCABULARY];
    for (int k = 0; k < r->n_choices; k++) {
        const struct choice *c = &r->choices[k];
        assert_int_equal(c->n_tokens, r->n_prompt + r->max_tokens);
        for (int n = r->n_prompt; n < c->n_tokens; n++)
            assert_int_equal(c->tokens[n], fake_stage_token(c->tokens, n, r->n_prompt, &r->sampling,
                                                            k, VOCABULARY));
    }
    if (r->kind == REQUEST_SCORE) {
        assert_int_equal(r->n_scored, r->n_prompt - 1);
        for (int n = 1; n < r->n_prompt; n++)
            assert_true(r->scores[n - 1] == fake_stage_score(r->prompt, n, r->prompt[n]));
    }
    if (r->kind == REQUEST_EMBED)
        request_verify_state(r);
    if (r->kind == REQUEST_LOGITS) {
        assert_int_equal(r->n_rows, r->n_prompt);
        assert_int_equal(r->rows.length, (size_t)r->n_prompt * sizeof logits);
        for (int n = 1; n <= r->n_prompt; n++) {
            fake_stage_logits(r->prompt, n, logits, VOCABULARY);
            assert_memory_equal(r->rows.data + (size_t)(n - 1) * sizeof logits, logits,
                                sizeof logits);
        }
    }
}

void world_drop(struct world *w, struct request *r)
{
    for (int i = 0; i < r->n_choices; i++)
        scheduler_remove(&w->scheduler, &w->pipeline, &r->choices[i]);
    for (int i = 0; i < w->n_requests; i++)
        if (w->requests[i] == r)
            w->requests[i] = w->requests[--w->n_requests];
    request_free(r);
}

/* What coordinator.c does with what comes back, without text. */
static void on_result(void *context, const struct pipeline_result *result)
{
    (void)context;
    struct choice *c = result->choice;
    struct request *r = c->request;
    assert_int_equal(c->finish, FINISH_NONE);
    if (result->row.kind == BATCH_SAMPLE) {
        c->tokens[c->n_tokens++] = result->row.token;
        r->first_token_us = 1;
        if (c->n_tokens == r->n_prompt + r->max_tokens)
            c->finish = FINISH_LENGTH;
    } else if (result->row.kind == BATCH_SCORE) {
        assert_true(r->n_scored < r->n_prompt - 1);
        r->scores[r->n_scored++] = result->row.logprob;
    } else {
        request_accept_row(r, result->values, result->n_values);
    }
}

static void on_done(void *context, struct choice *c)
{
    struct world *w = context;
    c->in_flight--;
    if (c->request->kind != REQUEST_GENERATE && c->n_computed == c->n_tokens && c->in_flight == 0)
        c->finish = FINISH_LENGTH;
    if (c->finish == FINISH_NONE)
        return;
    scheduler_remove(&w->scheduler, &w->pipeline, c);
    if (w->n_finished < 64)
        w->order[w->n_finished] = c;
    w->n_finished++;
}

static bool request_is_finished(const struct request *r)
{
    for (int i = 0; i < r->n_choices; i++)
        if (r->choices[i].finish == FINISH_NONE)
            return false;
    return true;
}

static void world_reap(struct world *w)
{
    for (int i = w->n_requests - 1; i >= 0; i--) {
        if (!request_is_finished(w->requests[i]))
            continue;
        request_verify(w->requests[i]);
        if (w->requests[i] == w->watched)
            w->watched_n_cached = w->watched->n_cached;
        world_drop(w, w->requests[i]);
    }
}

/* ---- time passes ---- */

/* A sampled row is what the next one needs: never two of one choice at the same time. */
static void world_check_two_steps(const struct pipeline_step *a, const struct pipeline_step *b)
{
    for (int i = 0; i < a->n_items; i++)
        for (int k = 0; k < b->n_items; k++)
            if (a->items[i].choice && a->items[i].choice == b->items[k].choice)
                assert_false(a->items[i].kind == BATCH_SAMPLE && a->items[i].n_outputs &&
                             b->items[k].n_outputs);
}

/* Blocks are free or referred to as often as they are in tables, and cover what was computed. */
void world_check(const struct world *w)
{
    const struct scheduler *s = &w->scheduler;
    uint32_t references[4096] = {0};
    int n_owned = 0, n_running = 0;
    for (int i = 0; i < s->spec.n_slots; i++) {
        const struct choice *c = s->slots[i];
        if (!c)
            continue;
        n_running++;
        assert_int_equal(c->slot, i);
        assert_true(c->n_computed <= c->n_tokens);
        assert_true(c->n_blocks * KV_BLOCK_TOKENS >= c->n_computed);
        for (int k = 0; k < c->n_blocks; k++) {
            n_owned += references[c->blocks[k]]++ == 0;
        }
    }
    assert_int_equal(n_running, s->n_running);
    assert_int_equal(n_owned + s->blocks.n_free, s->blocks.n_blocks);
    for (int i = 0; i < s->blocks.n_blocks; i++)
        assert_int_equal(s->blocks.blocks[i].references, references[i]);
    for (const struct pipeline_step *a = w->pipeline.oldest; a; a = a->next)
        for (const struct pipeline_step *b = a->next; b; b = b->next)
            world_check_two_steps(a, b);
    assert_true(w->pipeline.n_in_flight <= w->n_stages + 1);
    assert_true(w->pipeline.n_decode_steps <= w->n_stages);
}

/* On a busy machine libzmq shows what was sent a moment later. */
static void world_await(void *socket)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    zmq_poll(&item, 1, ARRIVES_MS);
}

void world_send(struct world *w)
{
    struct err err = {0};
    const uint64_t before = w->pipeline.next_step;
    if (scheduler_step(&w->scheduler, &w->pipeline, &err) != 0)
        fail_msg("%s", err.text);
    uint64_t n_sent = w->pipeline.next_step - before;
    for (uint64_t n = 0; n < n_sent;) {
        world_await(w->stage.in);
        int n_come = fake_stage_receive(&w->stage);
        if (n_come == 0)
            fail_msg("%d of %d steps came", (int)n, (int)n_sent);
        n += (uint64_t)n_come;
    }
}

void world_take(struct world *w)
{
    if (w->pipeline.n_in_flight > w->stage.n_queued && !w->stage.is_blind)
        world_await(w->pipeline.results);
    pipeline_receive(&w->pipeline, VOCABULARY, FAKE_STAGE_HIDDEN, on_result, on_done, w);
    world_reap(w);
}

void world_turn(struct world *w)
{
    world_send(w);
    world_check(w);
    fake_stage_answer(&w->stage);
    world_take(w);
}

int world_finish(struct world *w)
{
    int n = 0;
    for (;;) {
        world_send(w);
        world_check(w);
        if (!fake_stage_answer(&w->stage))
            break;
        n++;
        world_take(w);
    }
    assert_int_equal(w->n_requests, 0);
    return n;
}

void world_renew(struct world *w)
{
    struct err err = {0};
    fake_stage_receive(&w->stage);
    assert_int_equal(
        pipeline_connect(&w->pipeline, ++w->epoch, w->n_stages, "inproc://stage", NULL, &err), 0);
    while (world_any(w, 2) &&
           fake_stage_answer(&w->stage)) /* late results of the old plan: nobody's */
        world_take(w);
    while (w->stage.n_queued)
        fake_stage_lose(&w->stage);
    fake_stage_forget(&w->stage);
    scheduler_restart(&w->scheduler);
}

struct request *world_request_cached(int n_prompt, int max_tokens, int n_choices, uint32_t salt)
{
    struct request *r = world_request(REQUEST_GENERATE, n_prompt, max_tokens, n_choices, salt);
    r->cache_prompt = true;
    return r;
}
