/* The whole coordinator below the API, with a fake worker on real sockets, in one thread: plans
 * that begin, break and begin again under running requests. */
#include "base/clock.h"
#include "base/version.h"
#include "coordinator/coordinator_open.h"
#include "proto/wire.h"
#include "tests/support/exam_message.h"
#include "tests/support/fake_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL       TEST_DATA "/models/qwen2-tied/gguf/qwen2-tied-Q4_0.gguf"
#define CONTEXT     512
#define CONCURRENCY 3

struct fake_worker {
    void *control;
    struct fake_stage stage;
    char endpoint[64];
    uint64_t incarnation, epoch;
    int64_t last_beat_ms;
    int n_loads, n_unloads;
    bool is_slow;        /* steps wait until it is false */
    bool computes;       /* its beats say so: no step is taken for stuck */
    uint64_t wrong_bits; /* of its self-test */
    const char *refusal; /* what it says instead of Ready */
};

struct world {
    void *zmq;
    struct coordinator_settings settings;
    struct coordinator *coordinator;
    struct fake_worker worker;
    uint32_t vocabulary;
};

/* ---- the worker ---- */

static void worker_send(struct fake_worker *w, Paceline__Control__BodyCase kind, void *body)
{
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = kind;
    c.hello = body;
    assert_int_equal(wire_send_control(w->control, NULL, &c, NULL), 0);
}

static void worker_hello(struct fake_worker *w)
{
    Paceline__Hello h = PACELINE__HELLO__INIT;
    h.protocol_version = PACELINE_PROTOCOL_VERSION;
    h.numerics_version = PACELINE_NUMERICS_VERSION;
    h.name = (char *)"fake";
    h.threads = 1;
    h.memory_bytes = (int64_t)4 << 30;
    h.data_endpoint = w->endpoint;
    h.incarnation = ++w->incarnation;
    h.exam = exam_message(3, w->wrong_bits);
    worker_send(w, PACELINE__CONTROL__BODY_HELLO, &h);
}

static void worker_fail(struct fake_worker *w, int code, const char *reason)
{
    Paceline__Failed f = PACELINE__FAILED__INIT;
    f.epoch = w->epoch;
    f.code = code;
    f.reason = (char *)reason;
    worker_send(w, PACELINE__CONTROL__BODY_FAILED, &f);
}

static void worker_leave(struct fake_worker *w)
{
    Paceline__Leave leave = PACELINE__LEAVE__INIT;
    worker_send(w, PACELINE__CONTROL__BODY_LEAVE, &leave);
}

static void worker_load(struct world *world, const Paceline__Load *load)
{
    struct fake_worker *w = &world->worker;
    assert_true(load->epoch > w->epoch);
    assert_int_equal(load->first_layer, 0);
    assert_int_equal(load->max_sequences, CONCURRENCY);
    assert_int_equal(load->max_context, CONTEXT);
    assert_true(load->n_digests > 0);
    w->epoch = load->epoch;
    w->n_loads++;
    fake_stage_connect(&w->stage, world->zmq, load->next_endpoint);
    fake_stage_forget(&w->stage);
    if (w->refusal) {
        worker_fail(w, ERR_MODEL, w->refusal);
        return;
    }
    Paceline__Ready ready = PACELINE__READY__INIT;
    ready.epoch = w->epoch;
    worker_send(w, PACELINE__CONTROL__BODY_READY, &ready);
}

static void worker_run(struct world *world)
{
    struct fake_worker *w = &world->worker;
    Paceline__Control *c;
    struct err err;
    while (wire_receive_control(w->control, NULL, &c, &err) == 1) {
        if (c->body_case == PACELINE__CONTROL__BODY_LOAD)
            worker_load(world, c->load);
        w->n_unloads += c->body_case == PACELINE__CONTROL__BODY_UNLOAD;
        assert_int_not_equal(c->body_case, PACELINE__CONTROL__BODY_REFUSE);
        paceline__control__free_unpacked(c, NULL);
    }
    if (clock_now_ms() - w->last_beat_ms > 100) {
        Paceline__Heartbeat beat = PACELINE__HEARTBEAT__INIT;
        beat.epoch = beat.ready_epoch = w->epoch;
        beat.busy_us = w->computes ? (uint64_t)clock_now_us() : 0;
        worker_send(w, PACELINE__CONTROL__BODY_HEARTBEAT, &beat);
        w->last_beat_ms = clock_now_ms();
    }
    fake_stage_receive(&w->stage);
    while (!w->is_slow && fake_stage_answer(&w->stage))
        ;
}

static void worker_open(struct world *world)
{
    struct fake_worker *w = &world->worker;
    struct err err;
    char endpoint[64];
    size_t size = sizeof w->endpoint;
    uint32_t blocks = CONCURRENCY * ((CONTEXT + 63) / 64);
    struct batch_limits limits = {512, CONCURRENCY, 32, CONTEXT, blocks, world->vocabulary};
    fake_stage_open(&w->stage, world->zmq, &limits, "tcp://127.0.0.1:*");
    zmq_getsockopt(w->stage.in, ZMQ_LAST_ENDPOINT, w->endpoint, &size);
    assert_int_equal(wire_socket(&w->control, world->zmq, ZMQ_DEALER, NULL, &err), 0);
    zmq_setsockopt(w->control, ZMQ_ROUTING_ID, "w", 1);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d",
             coordinator_cluster_port(world->coordinator));
    assert_int_equal(zmq_connect(w->control, endpoint), 0);
}

/* ---- the world ---- */

static int world_open_with(void **state, int workers)
{
    static struct world w;
    struct err err = {0};
    w = (struct world){.zmq = zmq_ctx_new()};
    snprintf(w.settings.cluster_host, sizeof w.settings.cluster_host, "127.0.0.1");
    snprintf(w.settings.model_path, sizeof w.settings.model_path, "%s", MODEL);
    snprintf(w.settings.home, sizeof w.settings.home, "/nonexistent");
    w.settings.workers = workers;
    w.settings.context = CONTEXT;
    w.settings.concurrency = CONCURRENCY;
    w.settings.queue = 8;
    w.settings.kv_type = KV_F16;
    if (coordinator_open(&w.coordinator, &w.settings, &err) != 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    w.vocabulary = (uint32_t)coordinator_model(w.coordinator)->vocabulary_size;
    worker_open(&w);
    *state = &w;
    return 0;
}

static int world_open(void **state)
{
    return world_open_with(state, 1);
}

static int world_open_for_any(void **state)
{
    return world_open_with(state, 0);
}

static int world_close(void **state)
{
    struct world *w = *state;
    coordinator_close(w->coordinator);
    fake_stage_close(&w->worker.stage);
    zmq_close(w->worker.control);
    zmq_ctx_term(w->zmq);
    return 0;
}

static int world_turn(struct world *w, struct err *err)
{
    int rc = coordinator_run(w->coordinator, err);
    worker_run(w);
    void *control, *results, *door;
    coordinator_sockets(w->coordinator, &control, &results, &door);
    zmq_pollitem_t items[] = {{.socket = control, .events = ZMQ_POLLIN},
                              {.socket = results, .events = ZMQ_POLLIN},
                              {.socket = w->worker.control, .events = ZMQ_POLLIN},
                              {.socket = w->worker.stage.in, .events = ZMQ_POLLIN}};
    zmq_poll(items, 4, 5);
    return rc;
}

static bool is_ready(const struct world *w)
{
    struct coordinator_status s;
    coordinator_status(w->coordinator, &s);
    return s.ready;
}

/* Runs until the condition holds; a test that waits for 10 s has failed. */
#define RUN_UNTIL(w, condition)                                                                    \
    do {                                                                                           \
        int64_t until_ms = clock_now_ms() + 10000;                                                 \
        while (!(condition)) {                                                                     \
            struct err run_err = {0};                                                              \
            if (world_turn(w, &run_err) != 0)                                                      \
                fail_msg("%s", run_err.text);                                                      \
            assert_true(clock_now_ms() < until_ms);                                                \
        }                                                                                          \
    } while (0)

static void world_serve(struct world *w)
{
    worker_hello(&w->worker);
    RUN_UNTIL(w, is_ready(w));
}

static void check_nothing_is_held(struct world *w)
{
    struct coordinator_status s;
    coordinator_status(w->coordinator, &s);
    assert_int_equal(s.running, 0);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.kv_blocks_free, s.kv_blocks);
    assert_true(coordinator_is_idle(w->coordinator));
}

/* ---- requests ---- */

static struct request *request_make(const struct world *w, enum request_kind kind, int n_prompt,
                                    int max_tokens, int n_choices)
{
    struct request *r = calloc(1, sizeof *r);
    struct err err;
    assert_non_null(r);
    r->kind = kind;
    r->prompt = malloc((size_t)n_prompt * sizeof *r->prompt);
    assert_non_null(r->prompt);
    for (int i = 0; i < n_prompt; i++)
        r->prompt[i] = (uint32_t)(i * i + n_prompt) % w->vocabulary;
    r->n_prompt = n_prompt;
    r->max_tokens = max_tokens;
    r->n_choices = n_choices;
    r->ignore_eos = true;
    r->sampling.seed = (uint64_t)n_prompt;
    r->sampling.top_p = 1;
    r->sampling.repetition_penalty = 1.5f;
    assert_int_equal(request_prepare(r, coordinator_tokenizer(w->coordinator), &err), 0);
    return r;
}

static struct request *request_submit(struct world *w, enum request_kind kind, int n_prompt,
                                      int max_tokens, int n_choices)
{
    struct request *r = request_make(w, kind, n_prompt, max_tokens, n_choices);
    struct err err = {0};
    if (coordinator_submit(w->coordinator, &r, 1, &err) != 0)
        fail_msg("%s", err.text);
    return r;
}

static void request_verify(const struct world *w, const struct request *r)
{
    assert_int_equal(r->failure.code, 0);
    assert_true(r->is_done);
    for (int k = 0; k < r->n_choices; k++) {
        const struct choice *c = &r->choices[k];
        assert_int_equal(c->finish, FINISH_LENGTH);
        assert_int_equal(c->n_tokens, r->n_prompt + r->max_tokens);
        for (int n = r->n_prompt; n < c->n_tokens; n++)
            assert_int_equal(c->tokens[n], fake_stage_token(c->tokens, n, r->n_prompt, &r->sampling,
                                                            k, w->vocabulary));
    }
    if (r->kind == REQUEST_SCORE) {
        assert_int_equal(r->n_scored, r->n_prompt - 1);
        for (int n = 1; n < r->n_prompt; n++)
            assert_true(r->scores[n - 1] == fake_stage_score(r->prompt, n, r->prompt[n]));
    }
    if (r->kind == REQUEST_LOGITS) {
        size_t bytes = w->vocabulary * sizeof(float);
        float *row = malloc(bytes);
        assert_int_equal(r->rows.length, (size_t)r->n_prompt * bytes);
        for (int n = 1; n <= r->n_prompt; n++) {
            fake_stage_logits(r->prompt, n, row, w->vocabulary);
            assert_memory_equal(r->rows.data + (size_t)(n - 1) * bytes, row, bytes);
        }
        free(row);
    }
}

static void expect_failure(struct world *w, struct request *r, int code, const char *words)
{
    RUN_UNTIL(w, r->is_done);
    assert_int_equal(r->failure.code, code);
    if (!strstr(r->failure.text, words))
        fail_msg("\"%s\" says nothing of \"%s\"", r->failure.text, words);
    for (int i = 0; i < r->n_choices; i++)
        assert_int_equal(r->choices[i].finish, FINISH_ERROR);
    while (coordinator_take_changed(w->coordinator))
        ;
    request_free(r);
}

/* ---- tests ---- */

static void requests_of_every_kind_are_served(void **state)
{
    struct world *w = *state;
    world_serve(w);
    struct request *r[] = {request_submit(w, REQUEST_GENERATE, 200, 30, 1),
                           request_submit(w, REQUEST_GENERATE, 3, 40, 4),
                           request_submit(w, REQUEST_SCORE, 150, 0, 1),
                           request_submit(w, REQUEST_LOGITS, 40, 0, 1)};
    for (int i = 0; i < 4; i++)
        RUN_UNTIL(w, r[i]->is_done);
    check_nothing_is_held(w);
    assert_int_equal(coordinator_wait_ms(w->coordinator), 0); /* somebody is to be told */
    int n_changed = 0;
    while (coordinator_take_changed(w->coordinator))
        n_changed++;
    assert_int_equal(n_changed, 4);
    assert_true(coordinator_wait_ms(w->coordinator) > 0);
    for (int i = 0; i < 4; i++) {
        request_verify(w, r[i]);
        request_free(r[i]);
    }
}

static void what_cannot_be_served_is_refused(void **state)
{
    struct world *w = *state;
    struct err err = {0};
    struct request *r = request_make(w, REQUEST_GENERATE, 10, 10, 1);
    assert_int_equal(coordinator_submit(w->coordinator, &r, 1, &err), ERR_UNAVAILABLE);
    world_serve(w);
    request_free(r);
    r = request_make(w, REQUEST_GENERATE, CONTEXT, 1, 1);
    assert_int_equal(coordinator_submit(w->coordinator, &r, 1, &err), ERR_INPUT);
    request_free(r);
    r = request_make(w, REQUEST_GENERATE, 10, 10, CONCURRENCY + 9);
    assert_int_equal(coordinator_submit(w->coordinator, &r, 1, &err), ERR_INPUT);
    request_free(r);
    struct request *all = request_submit(w, REQUEST_GENERATE, 10, 10, CONCURRENCY + 8);
    r = request_make(w, REQUEST_GENERATE, 10, 10, 1);
    assert_int_equal(coordinator_submit(w->coordinator, &r, 1, &err), ERR_LIMIT);
    request_free(r);
    RUN_UNTIL(w, all->is_done);
    coordinator_cancel(w->coordinator, all); /* takes it from the list of news */
    request_free(all);
    assert_null(coordinator_take_changed(w->coordinator));
}

/* What an earlier coordinator had brought: the first choice to its end, the others in part or not
 * at all. The rest is as if it had been one. */
static void a_request_goes_on_from_the_tokens_that_it_has(void **state)
{
    struct world *w = *state;
    world_serve(w);
    for (int variant = 0; variant < 3; variant++) {
        struct request *r = request_make(w, REQUEST_GENERATE, 1 + variant * 70, 90, 3);
        struct err err = {0};
        for (int k = 0; k < 2; k++)
            for (int n = 0; n < (k == 0 ? 90 : 1 + 40 * variant); n++) {
                struct choice *c = &r->choices[k];
                struct batch_result token = {.token = fake_stage_token(c->tokens, c->n_tokens,
                                                                       r->n_prompt, &r->sampling, k,
                                                                       w->vocabulary)};
                assert_int_equal(
                    request_accept_token(r, c, &token, coordinator_tokenizer(w->coordinator), &err),
                    0);
            }
        assert_int_equal(r->choices[0].finish, FINISH_LENGTH);
        if (coordinator_submit(w->coordinator, &r, 1, &err) != 0)
            fail_msg("%s", err.text);
        assert_false(r->choices[0].is_waiting);
        assert_true(r->choices[1].is_waiting && r->choices[2].is_waiting);
        RUN_UNTIL(w, r->is_done);
        request_verify(w, r);
        coordinator_cancel(w->coordinator, r);
        request_free(r);
        check_nothing_is_held(w);
    }
}

/* The worker dies again and again, at every point; nobody sees it in the answers. */
static void a_plan_that_breaks_is_not_seen_in_the_answers(void **state)
{
    struct world *w = *state;
    world_serve(w);
    struct request *r[] = {request_submit(w, REQUEST_GENERATE, 100, 60, 2),
                           request_submit(w, REQUEST_SCORE, 400, 0, 1),
                           request_submit(w, REQUEST_LOGITS, 130, 0, 1),
                           request_submit(w, REQUEST_GENERATE, 7, 90, 2)};
    for (int i = 0; i < 12; i++) {
        w->worker.is_slow = true; /* a few steps, and some are on their way */
        for (int k = 0; k < 3 + i; k++) {
            struct err err = {0};
            assert_int_equal(world_turn(w, &err), 0);
            fake_stage_answer(&w->worker.stage);
        }
        w->worker.is_slow = false;
        if (i % 3 == 2)
            worker_leave(&w->worker);
        worker_hello(&w->worker); /* another one now */
        int n_loads = w->worker.n_loads;
        RUN_UNTIL(w, w->worker.n_loads > n_loads);
        RUN_UNTIL(w, is_ready(w));
    }
    for (int i = 0; i < 4; i++) {
        RUN_UNTIL(w, r[i]->is_done);
        request_verify(w, r[i]);
    }
    check_nothing_is_held(w);
    while (coordinator_take_changed(w->coordinator))
        ;
    for (int i = 0; i < 4; i++)
        request_free(r[i]);
}

static void a_lost_step_is_computed_again(void **state)
{
    struct world *w = *state;
    world_serve(w);
    w->worker.is_slow = true;
    struct request *r = request_submit(w, REQUEST_SCORE, 200, 0, 1);
    RUN_UNTIL(w, w->worker.stage.n_queued == 2);
    fake_stage_lose(&w->worker.stage);
    w->worker.is_slow = false;
    RUN_UNTIL(w, r->is_done);
    assert_int_equal(w->worker.n_loads, 2);
    request_verify(w, r);
    coordinator_cancel(w->coordinator, r);
    request_free(r);
}

/* A request that loses its steps every time is not tried for ever. */
static void damaged_results_are_computed_again(void **state)
{
    struct world *w = *state;
    struct coordinator_status s;
    world_serve(w);
    uint64_t epoch = w->worker.epoch;
    struct request *r = request_submit(w, REQUEST_GENERATE, 20, 100, 1);
    w->worker.computes = true;
    RUN_UNTIL(w, r->choices[0].n_tokens > 40);
    w->worker.stage.damages = true;
    RUN_UNTIL(w, r->is_done);
    request_verify(w, r);
    assert_false(w->worker.stage.damages);
    assert_true(w->worker.epoch > epoch);
    coordinator_status(w->coordinator, &s);
    assert_int_equal(s.n_damaged_results, 1);
    check_nothing_is_held(w);
    coordinator_cancel(w->coordinator, r);
    request_free(r);
}

static void who_errs_is_not_planned_with(void **state)
{
    struct world *w = *state;
    struct coordinator_status s;
    struct coordinator_worker_status worker;
    w->worker.wrong_bits = 1;
    worker_hello(&w->worker);
    RUN_UNTIL(w, coordinator_worker_status(w->coordinator, 0, &worker));
    for (int i = 0; i < 50; i++)
        assert_int_equal(world_turn(w, NULL), 0);
    assert_int_equal(w->worker.n_loads, 0);
    coordinator_worker_status(w->coordinator, 0, &worker);
    assert_string_equal(worker.state, "expelled");
    coordinator_status(w->coordinator, &s);
    assert_non_null(strstr(s.waiting_for, "its arithmetic is wrong"));
    w->worker.wrong_bits = 0; /* it was restarted, and passes */
    world_serve(w);
}

static void barren_plans_come_to_an_end(void **state)
{
    struct world *w = *state;
    world_serve(w);
    w->worker.is_slow = true;
    struct request *r = request_submit(w, REQUEST_SCORE, 200, 0, 1);
    for (int i = 0; i < 3; i++) {
        assert_false(r->is_done);
        RUN_UNTIL(w, w->worker.stage.n_queued == 2);
        fake_stage_lose(&w->worker.stage);
        fake_stage_answer(&w->worker.stage);
        RUN_UNTIL(w, !is_ready(w));
    }
    expect_failure(w, r, ERR_INTERNAL, "3 plans");
    w->worker.is_slow = false;
    RUN_UNTIL(w, is_ready(w));
    r = request_submit(w, REQUEST_SCORE, 200, 0, 1);
    RUN_UNTIL(w, r->is_done);
    request_verify(w, r);
    coordinator_cancel(w->coordinator, r);
    request_free(r);
}

/* Refused twice, a step's request fails, and nobody else's. */
static void a_step_that_fails_again_fails_its_request_in_its_words(void **state)
{
    struct world *w = *state;
    world_serve(w);
    w->worker.is_slow = true;
    struct request *running = request_submit(w, REQUEST_GENERATE, 100, 20, 3),
                   *waiting = request_submit(w, REQUEST_GENERATE, 100, 20, 1);
    for (int i = 1; i <= 2; i++) {
        assert_false(running->is_done);
        RUN_UNTIL(w, w->worker.stage.n_queued > 0);
        worker_fail(&w->worker, ERR_INTERNAL, "the stage has a hole");
        RUN_UNTIL(w, w->worker.n_loads == 1 + i);
    }
    expect_failure(w, running, ERR_CRASH, "the stage has a hole");
    w->worker.is_slow = false;
    RUN_UNTIL(w, waiting->is_done);
    request_verify(w, waiting);
    check_nothing_is_held(w);
    coordinator_cancel(w->coordinator, waiting);
    request_free(waiting);
    struct request *r = request_submit(w, REQUEST_GENERATE, 100, 20, 1);
    /* a link that failed is no fault of the request */
    w->worker.is_slow = true;
    RUN_UNTIL(w, w->worker.stage.n_queued > 0);
    worker_fail(&w->worker, ERR_LIMIT, "the next stage takes no message");
    w->worker.is_slow = false;
    RUN_UNTIL(w, r->is_done);
    request_verify(w, r);
    coordinator_cancel(w->coordinator, r);
    request_free(r);
}

static void the_first_plan_that_fails_ends_the_program(void **state)
{
    struct world *w = *state;
    struct err err = {0};
    w->worker.refusal = "another file";
    worker_hello(&w->worker);
    int rc = 0;
    for (int i = 0; i < 2000 && rc == 0; i++)
        rc = world_turn(w, &err);
    assert_int_equal(rc, ERR_MODEL);
    assert_non_null(strstr(err.text, "another file"));
}

/* Without a number of workers there may be others. */
static void a_first_plan_that_fails_may_wait(void **state)
{
    struct world *w = *state;
    struct coordinator_status s;
    w->worker.refusal = "another file";
    worker_hello(&w->worker);
    RUN_UNTIL(w, w->worker.n_loads == 1);
    for (int i = 0; i < 20; i++) {
        struct err err = {0};
        assert_int_equal(world_turn(w, &err), 0);
    }
    coordinator_status(w->coordinator, &s);
    assert_false(s.ready);
    assert_non_null(strstr(s.waiting_for, "another file"));
    w->worker.refusal = NULL;
    worker_hello(&w->worker);
    RUN_UNTIL(w, is_ready(w));
}

/* Later the cluster may be repaired, and says meanwhile what is wrong. */
static void a_later_plan_that_fails_does_not(void **state)
{
    struct world *w = *state;
    struct coordinator_status s;
    world_serve(w);
    w->worker.refusal = "another file";
    worker_hello(&w->worker);
    RUN_UNTIL(w, w->worker.n_loads == 2);
    for (int i = 0; i < 20; i++) {
        struct err err = {0};
        assert_int_equal(world_turn(w, &err), 0);
    }
    coordinator_status(w->coordinator, &s);
    assert_false(s.ready);
    assert_non_null(strstr(s.waiting_for, "another file"));
    assert_int_equal(w->worker.n_loads, 2); /* not asked again until it is another one */
    w->worker.refusal = NULL;
    worker_hello(&w->worker);
    RUN_UNTIL(w, is_ready(w));
}

/* Out of service, after having served: requests are taken, and wait. */
static void what_comes_while_nobody_serves_waits(void **state)
{
    struct world *w = *state;
    struct coordinator_status s;
    world_serve(w);
    coordinator_status(w->coordinator, &s);
    assert_false(s.is_degraded);
    assert_int_equal(s.missing_bytes, 0);
    worker_leave(&w->worker);
    RUN_UNTIL(w, !is_ready(w));
    struct request *r = request_submit(w, REQUEST_GENERATE, 20, 10, 1);
    for (int i = 0; i < 20; i++) {
        struct err err = {0};
        assert_int_equal(world_turn(w, &err), 0);
    }
    coordinator_status(w->coordinator, &s);
    assert_true(s.is_degraded);
    assert_int_equal(s.waiting, 1);
    assert_int_equal(s.missing_workers, 1);
    assert_in_range(s.missing_bytes, 1 << 20, (int64_t)4 << 30);
    assert_non_null(strstr(s.waiting_for, "start paceline-worker; one more that offers"));
    worker_hello(&w->worker);
    RUN_UNTIL(w, r->is_done);
    request_verify(w, r);
    coordinator_cancel(w->coordinator, r);
    request_free(r);
}

static void cancelled_requests_leave_nothing_behind(void **state)
{
    struct world *w = *state;
    world_serve(w);
    for (int i = 0; i < 30; i++) {
        struct request *r[3];
        for (int k = 0; k < 3; k++)
            r[k] = request_submit(w, k == 1 ? REQUEST_SCORE : REQUEST_GENERATE, 60 + k,
                                  k == 1 ? 0 : 30, k == 1 ? 1 : 2);
        struct err err = {0};
        for (int k = 0; k < i; k++)
            assert_int_equal(world_turn(w, &err), 0);
        for (int k = 0; k < 3; k++) {
            coordinator_cancel(w->coordinator, r[(k + i) % 3]);
            assert_true(r[(k + i) % 3]->is_done);
            request_free(r[(k + i) % 3]);
        }
        check_nothing_is_held(w);
        assert_null(coordinator_take_changed(w->coordinator));
    }
}

static void who_is_stranded_can_be_given_up(void **state)
{
    struct world *w = *state;
    world_serve(w);
    assert_false(coordinator_is_stranded(w->coordinator));
    struct request *r = request_submit(w, REQUEST_GENERATE, 100, 50, 1);
    w->worker.is_slow = true;
    RUN_UNTIL(w, w->worker.stage.n_queued > 0);
    worker_leave(&w->worker);
    RUN_UNTIL(w, coordinator_is_stranded(w->coordinator));
    assert_false(r->is_done);
    coordinator_give_up(w->coordinator);
    expect_failure(w, r, ERR_UNAVAILABLE, "stopped");
    assert_true(coordinator_is_idle(w->coordinator));
}

static void who_waits_at_the_end_is_told(void **state)
{
    struct world *w = *state;
    world_serve(w);
    w->worker.is_slow = true;
    struct request *r = request_submit(w, REQUEST_GENERATE, 100, 50, 5);
    RUN_UNTIL(w, w->worker.stage.n_queued > 0);
    coordinator_close(w->coordinator);
    w->coordinator = NULL;
    assert_true(r->is_done);
    for (int i = 0; i < 5; i++)
        assert_int_equal(r->choices[i].finish, FINISH_CANCELLED);
    request_free(r);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
    const struct CMUnitTest tests[] = {
        TEST(requests_of_every_kind_are_served),
        TEST(what_cannot_be_served_is_refused),
        TEST(a_request_goes_on_from_the_tokens_that_it_has),
        TEST(a_plan_that_breaks_is_not_seen_in_the_answers),
        TEST(a_lost_step_is_computed_again),
        TEST(damaged_results_are_computed_again),
        TEST(who_errs_is_not_planned_with),
        TEST(barren_plans_come_to_an_end),
        TEST(a_step_that_fails_again_fails_its_request_in_its_words),
        TEST(the_first_plan_that_fails_ends_the_program),
        cmocka_unit_test_setup_teardown(a_first_plan_that_fails_may_wait, world_open_for_any,
                                        world_close),
        TEST(a_later_plan_that_fails_does_not),
        TEST(what_comes_while_nobody_serves_waits),
        TEST(cancelled_requests_leave_nothing_behind),
        TEST(who_is_stranded_can_be_given_up),
        TEST(who_waits_at_the_end_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
