#include "tests/support/simulator.h"

#include "kernels/attention.h"
#include "tests/support/virtual_clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { VOCABULARY = 61, MAX_ROWS = 512 };

void simulator_open(struct simulator *s, int n_stages, const struct simulated_stage *stages,
                    double link_us, int n_slots, int context)
{
    struct err err;
    int blocks = n_slots * ((context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS);
    *s = (struct simulator){.zmq = zmq_ctx_new(), .n_stages = n_stages, .now_us = 1000000};
    virtual_clock_set(s->now_us);
    memcpy(s->stages, stages, (size_t)n_stages * sizeof *stages);
    for (int i = 0; i <= n_stages; i++)
        s->link_us[i] = link_us;
    struct scheduler_spec spec = {.n_slots = n_slots,
                                  .context = context,
                                  .max_rows = MAX_ROWS,
                                  .max_outputs = n_slots > 32 ? n_slots : 32,
                                  .max_waiting = SIMULATOR_REQUESTS,
                                  .vocabulary = VOCABULARY,
                                  .kv_blocks = blocks};
    struct batch_limits limits = {.max_rows = MAX_ROWS,
                                  .max_sequences = (uint32_t)n_slots,
                                  .max_outputs = (uint32_t)spec.max_outputs,
                                  .max_context = (uint32_t)context,
                                  .kv_blocks = (uint32_t)blocks,
                                  .vocabulary = VOCABULARY};
    assert_int_equal(scheduler_init(&s->scheduler, &spec, &err), 0);
    assert_int_equal(pipeline_open(&s->pipeline, s->zmq, "127.0.0.1", 0, NULL, &err), 0);
    assert_int_equal(zmq_bind(s->pipeline.results, "inproc://results"), 0);
    fake_stage_open(&s->fake, s->zmq, &limits, "inproc://stage");
    fake_stage_connect(&s->fake, s->zmq, "inproc://results");
    assert_int_equal(pipeline_connect(&s->pipeline, 1, n_stages, "inproc://stage", NULL, &err), 0);
}

void simulator_close(struct simulator *s)
{
    for (int i = 0; i < s->n_requests; i++) {
        struct request *r = s->requests[i].request;
        for (int k = 0; k < r->n_choices; k++)
            scheduler_remove(&s->scheduler, &s->pipeline, &r->choices[k]);
        request_free(r);
    }
    assert_int_equal(s->scheduler.n_running, 0);
    assert_int_equal(s->scheduler.blocks.n_free, s->scheduler.blocks.n_blocks);
    fake_stage_close(&s->fake);
    pipeline_close(&s->pipeline);
    scheduler_clear(&s->scheduler);
    zmq_ctx_term(s->zmq);
}

struct request *simulator_add(struct simulator *s, int n_prompt, int max_tokens, bool endless)
{
    struct err err;
    struct request *r = calloc(1, sizeof *r);
    assert_non_null(r);
    assert_true(s->n_requests < SIMULATOR_REQUESTS);
    r->prompt = calloc((size_t)n_prompt, sizeof *r->prompt);
    assert_non_null(r->prompt);
    for (int i = 0; i < n_prompt; i++)
        r->prompt[i] = (uint32_t)(s->n_requests * 7919 + i * i) % VOCABULARY;
    r->n_prompt = n_prompt;
    r->max_tokens = max_tokens;
    r->n_choices = 1;
    r->sampling = (struct batch_sampling){.top_p = 1, .repetition_penalty = 1};
    assert_int_equal(request_prepare(r, NULL, &err), 0);
    scheduler_add(&s->scheduler, r);
    s->requests[s->n_requests++] = (struct simulated_request){.request = r, .endless = endless};
    r->owner = &s->requests[s->n_requests - 1];
    return r;
}

static void on_result(void *context, const struct pipeline_result *result)
{
    struct simulator *s = context;
    struct choice *c = result->choice;
    const struct request *r = c->request;
    struct simulated_request *q = r->owner;
    if (!s->is_trusting && (c->n_tokens < 300 || c->n_tokens % 16 == 0)) /* the longer the slower */
        assert_int_equal(result->row.token, fake_stage_token(c->tokens, c->n_tokens, r->n_prompt,
                                                             &r->sampling, 0, VOCABULARY));
    c->tokens[c->n_tokens++] = result->row.token;
    s->n_tokens++;
    if (q->last_us && s->n_gaps < SIMULATOR_GAPS)
        s->gaps_us[s->n_gaps++] = s->now_us - q->last_us;
    q->last_us = s->now_us;
    if (c->n_tokens == r->n_prompt + r->max_tokens) {
        c->finish = FINISH_LENGTH;
        q->ended_us = s->now_us;
    }
}

static void on_done(void *context, struct choice *c)
{
    struct simulator *s = context;
    c->in_flight--;
    if (c->finish != FINISH_NONE)
        scheduler_remove(&s->scheduler, &s->pipeline, c);
}

/* The step's way through the stages is known when it is sent: nothing overtakes it. */
static void simulator_begin_step(struct simulator *s, const struct batch *b)
{
    double at = (double)s->now_us;
    for (int i = 0; i < s->n_stages; i++) {
        const struct simulated_stage *stage = &s->stages[i];
        double us = fmax(stage->weights_us, b->n_rows * stage->row_us) +
                    b->n_outputs * stage->output_us + stage->overhead_us;
        at += s->link_us[i];
        s->under_way[s->n_under_way].wait_us[i] = (uint32_t)fmax(at - s->free_us[i], 0);
        at = fmax(at, s->free_us[i]) + us;
        s->under_way[s->n_under_way].compute_us[i] = (uint32_t)us;
        s->free_us[i] = at;
    }
    s->under_way[s->n_under_way++].done_us = at + s->link_us[s->n_stages];
}

static int64_t real_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void simulator_send(struct simulator *s)
{
    struct err err;
    int before = s->fake.n_queued;
    int64_t start_ns = real_ns();
    if (scheduler_step(&s->scheduler, &s->pipeline, &err) != 0)
        fail_msg("%s", err.text);
    s->real.send_ns += real_ns() - start_ns;
    fake_stage_receive(&s->fake);
    for (int i = before; i < s->fake.n_queued; i++) {
        simulator_begin_step(s, &s->fake.queue[i].batch);
        s->real.n_rows += s->fake.queue[i].batch.n_rows;
        s->real.n_steps++;
        start_ns = real_ns();
        zmq_msg_t again;
        assert_int_equal(step_message_pack(&s->fake.queue[i].batch, &again, &err), 0);
        s->real.pack_ns += real_ns() - start_ns;
        zmq_msg_close(&again);
    }
}

/* false: nothing is under way */
static bool simulator_advance(struct simulator *s)
{
    simulator_send(s);
    if (!s->n_under_way)
        return false;
    s->now_us = (int64_t)ceil(s->under_way[0].done_us);
    virtual_clock_set(s->now_us);
    fake_stage_answer_timed(&s->fake, s->under_way[0].compute_us, s->under_way[0].wait_us,
                            s->n_stages);
    s->n_under_way--;
    memmove(s->under_way, s->under_way + 1, (size_t)s->n_under_way * sizeof s->under_way[0]);
    int64_t start_ns = real_ns();
    pipeline_receive(&s->pipeline, VOCABULARY, FAKE_STAGE_HIDDEN, on_result, on_done, s);
    s->real.take_ns += real_ns() - start_ns;
    return true;
}

void simulator_renew(struct simulator *s, int64_t after_us)
{
    struct err err;
    pipeline_disconnect(&s->pipeline);
    fake_stage_receive(&s->fake);
    while (s->fake.n_queued)
        fake_stage_lose(&s->fake);
    fake_stage_forget(&s->fake);
    s->n_under_way = 0;
    s->now_us += after_us;
    virtual_clock_set(s->now_us);
    for (int i = 0; i < s->n_stages; i++)
        s->free_us[i] = (double)s->now_us;
    assert_int_equal(pipeline_connect(&s->pipeline, s->pipeline.epoch + 1, s->n_stages,
                                      "inproc://stage", NULL, &err),
                     0);
    scheduler_restart(&s->scheduler);
}

static bool simulator_is_busy(const struct simulator *s)
{
    for (int i = 0; i < s->n_requests; i++)
        if (!s->requests[i].endless && !s->requests[i].ended_us)
            return true;
    return false;
}

int64_t simulator_run(struct simulator *s)
{
    int64_t start_us = s->now_us;
    while (simulator_is_busy(s))
        assert_true(simulator_advance(s));
    return s->now_us - start_us;
}

void simulator_run_until(struct simulator *s, int64_t us)
{
    while (s->now_us < us && simulator_advance(s))
        ;
}

void simulator_forget_gaps(struct simulator *s)
{
    s->n_gaps = 0;
}

static int compare_gaps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t simulator_gap(struct simulator *s, double p)
{
    assert_true(s->n_gaps > 0);
    qsort(s->gaps_us, (size_t)s->n_gaps, sizeof s->gaps_us[0], compare_gaps);
    int rank = (int)ceil(p * s->n_gaps);
    return s->gaps_us[rank > 0 ? rank - 1 : 0];
}
