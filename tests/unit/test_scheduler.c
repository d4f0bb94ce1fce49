/* Scheduler and pipeline over a fake stage, in one thread: whatever is asked, cancelled and lost,
 * in whatever order, each answer is the one that its tokens alone give. */
#include "kernels/attention.h"
#include "proto/data_link.h"
#include "proto/wire.h"
#include "tests/support/scheduler_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct request *request_random(struct world *w)
{
    static const enum request_kind kinds[] = {REQUEST_GENERATE, REQUEST_GENERATE, REQUEST_GENERATE,
                                              REQUEST_SCORE,    REQUEST_LOGITS,   REQUEST_EMBED};
    enum request_kind kind = kinds[world_any(w, 6)];
    int context = w->scheduler.spec.context;
    int n_prompt = 1 + (int)world_any(w, world_any(w, 3) ? 40 : (uint32_t)context - 1);
    if (kind != REQUEST_GENERATE) {
        struct request *r =
            world_request(kind, n_prompt + 1, 0, 1, world_any(w, world_any(w, 2) ? 3 : 1000));
        r->pooling = world_any(w, 2) ? POOLING_LAST : POOLING_MEAN;
        r->cache_prompt = kind != REQUEST_LOGITS && world_any(w, 2);
        return r;
    }
    int most = context - n_prompt < 20 ? context - n_prompt : 20;
    struct request *r =
        world_request(kind, n_prompt, 1 + (int)world_any(w, (uint32_t)most),
                      1 + (int)world_any(w, 3), world_any(w, world_any(w, 2) ? 3 : 1000));
    r->tenant = (int)world_any(w, 2);
    r->priority = (int)world_any(w, 3);
    r->cache_prompt = world_any(w, 4) > 0;
    if (world_any(w, 2))
        r->sampling.repetition_penalty = 1.25f;
    if (world_any(w, 3) == 0)
        r->sampling.frequency_penalty = 0.5f;
    return r;
}

static void run_random(uint64_t seed, int n_stages, struct scheduler_spec spec, int n_events)
{
    struct world w;
    world_open(&w, seed, n_stages, spec);
    for (int i = 0; i < n_events; i++) {
        uint32_t event = world_any(&w, 100);
        if (event < 20 && w.n_requests < WORLD_REQUESTS) {
            world_add(&w, request_random(&w));
        } else if (event < 22 && w.n_requests) {
            world_drop(&w, w.requests[world_any(&w, (uint32_t)w.n_requests)]);
            w.n_cancelled++;
        } else if (event == 22 && world_any(&w, 4) == 0) {
            world_renew(&w);
        } else if (event < 60) {
            world_send(&w);
        } else {
            fake_stage_answer(&w.stage);
            if (world_any(&w, 2))
                world_take(&w);
        }
        world_check(&w);
    }
    assert_true(w.n_finished > 0);
    assert_true(w.n_cancelled > 0);
    world_take(&w);
    world_finish(&w);
    world_close(&w);
}

static void answers_depend_on_the_tokens_alone(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        run_random(seed, 1 + (int)(seed % 3), world_spec(6, 700, 512, 32, 8, 0), 1500);
        run_random(seed, 3, world_spec(4, 200, 16, 4, 3, 0), 1500);
        run_random(seed, 2, world_spec(1, 130, 1, 1, 4, 0), 800);
        run_random(seed, 1, world_spec(40, 300, 512, 64, 20, 0), 800);
        run_random(seed, 2, world_spec(8, 700, 512, 32, 8, 12), 1500);
        run_random(seed, 3, world_spec(8, 256, 64, 16, 8, 5), 1500);
    }
}

/* ---- what a step may hold ---- */

static void chunks_follow_each_other_without_waiting(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 3, world_spec(4, 1024, 512, 32, 8, 0));
    world_add(&w, world_request(REQUEST_GENERATE, 700, 2, 1, 1));
    world_send(&w);
    assert_int_equal(w.stage.n_queued, 4); /* a step for each stage, and one that waits */
    uint32_t position = 0;
    for (int i = 0; i < 4; i++) {
        const struct batch *b = &w.stage.queue[i].batch;
        assert_int_equal(b->n_sequences, 1);
        assert_int_equal(b->sequences[0].position, position);
        assert_int_equal(b->n_outputs, 0);
        position += b->n_rows;
    }
    world_finish(&w);
    world_close(&w);
}

static void a_long_prompt_does_not_starve_decoders(void **state)
{
    (void)state;
    for (int n_stages = 1; n_stages <= 3; n_stages++) {
        struct world w;
        world_open(&w, 1, n_stages, world_spec(4, 8192, 512, 32, 8, 0));
        struct request *r = world_request(REQUEST_GENERATE, 3, 100, 2, 1);
        world_add(&w, r);
        for (int i = 0; i < 2 * n_stages; i++) { /* both decode */
            world_turn(&w);
        }
        world_add(&w, world_request(REQUEST_GENERATE, 6000, 1, 1, 2));
        int before[2] = {r->choices[0].n_tokens, r->choices[1].n_tokens};
        int n_steps = 40;
        for (int i = 0; i < n_steps; i++) {
            world_send(&w);
            for (int k = 0; k < w.stage.n_queued; k++)
                assert_true(w.stage.queue[k].batch.n_rows <= 2 + 64);
            fake_stage_answer(&w.stage);
            world_take(&w);
        }
        for (int k = 0; k < 2; k++) /* each a token in every round of the pipeline */
            assert_true(r->choices[k].n_tokens - before[k] >= n_steps / (n_stages + 1) - 2);
        world_finish(&w);
        world_close(&w);
    }
}

static void prompts_take_turns(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 2, world_spec(64, 2048, 512, 64, 64, 0));
    struct request *r[3];
    for (int i = 0; i < 3; i++) {
        r[i] = world_request(REQUEST_GENERATE, 2000, 1, 1, (uint32_t)i);
        world_add(&w, r[i]);
    }
    for (int i = 0; i < 15; i++) {
        world_turn(&w);
    }
    for (int i = 0; i < 3; i++) /* 17 chunks of 128 were sent */
        assert_true(r[i]->choices[0].n_computed >= 5 * 128);
    world_finish(&w);
    world_close(&w);
}

static void waiting_requests_get_slots_in_order(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 1, world_spec(1, 256, 512, 32, 16, 0));
    struct choice *expected[12];
    for (int i = 0; i < 12; i++) {
        struct request *r = world_request(REQUEST_GENERATE, 12 - i, 3, 1, (uint32_t)i);
        expected[i] = &r->choices[0];
        assert_int_equal(world_add(&w, r), 0);
    }
    world_finish(&w);
    assert_int_equal(w.n_finished, 12);
    assert_memory_equal(w.order, expected, sizeof expected);
    world_close(&w);
}

/* One who begins to decode while others do joins them, instead of a step of its own beside. */
static void decoders_travel_together(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 1, world_spec(4, 256, 512, 32, 16, 0));
    for (int i = 0; i < 4; i++) {
        world_add(&w, world_request(REQUEST_GENERATE, 5, 50, 1, (uint32_t)i));
        world_turn(&w);
    }
    for (int i = 0; i < 6; i++) {
        world_turn(&w);
    }
    for (int i = 0; i < 10; i++) {
        world_send(&w);
        assert_int_equal(w.stage.n_queued, 1);
        assert_int_equal(w.stage.queue[0].batch.n_rows, 4);
        fake_stage_answer(&w.stage);
        world_take(&w);
    }
    world_finish(&w);
    world_close(&w);
}

static void the_queue_has_an_end(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 1, world_spec(2, 256, 512, 32, 3, 0));
    for (int i = 0; i < 5; i++) /* two run, three wait */
        assert_int_equal(world_add(&w, world_request(REQUEST_GENERATE, 4, 2, 1, 0)), 0);
    assert_int_equal(world_add(&w, world_request(REQUEST_GENERATE, 4, 2, 1, 0)), ERR_LIMIT);
    world_send(&w);
    assert_int_equal(world_add(&w, world_request(REQUEST_GENERATE, 4, 2, 1, 0)), ERR_LIMIT);
    assert_int_equal(world_add(&w, world_request(REQUEST_GENERATE, 4, 2, 6, 0)), ERR_INPUT);
    world_finish(&w);
    assert_int_equal(world_add(&w, world_request(REQUEST_GENERATE, 4, 2, 5, 0)), 0);
    world_finish(&w);
    world_close(&w);
}

static void rows_of_logits_wait_for_a_slow_reader(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 1, world_spec(2, 512, 512, 64, 3, 0));
    struct request *slow = world_request(REQUEST_LOGITS, 300, 0, 1, 1);
    world_add(&w, slow);
    world_send(&w);
    int n_sent = slow->choices[0].n_computed;
    assert_true(n_sent > 0 && n_sent < 300);
    size_t untaken = (size_t)65 << 20;
    char *rows = calloc(1, untaken);
    assert_non_null(rows);
    buf_append(&slow->rows, rows, untaken);
    free(rows);
    world_add(&w, world_request(REQUEST_GENERATE, 4, 20, 1, 0));
    for (int i = 0; i < 25; i++) {
        world_turn(&w);
    }
    assert_int_equal(slow->choices[0].n_computed, n_sent);
    assert_int_equal(w.n_requests, 1); /* the other one was not hindered */
    buf_drop_front(&slow->rows, untaken);
    world_finish(&w);
    world_close(&w);
}

/* ---- what is shared ---- */

/* Rows that the stage computes for it. */
static int rows_of(struct world *w, struct request *r, int *ret_n_cached)
{
    uint64_t before = w->stage.n_rows;
    assert_int_equal(world_add(w, r), 0);
    w->watched = r;
    world_finish(w);
    *ret_n_cached = w->watched_n_cached;
    return (int)(w->stage.n_rows - before);
}

static void equal_beginnings_are_computed_once(void **state)
{
    (void)state;
    for (int n_prompt = 640; n_prompt <= 642; n_prompt++) {
        struct world w;
        int n_cached;
        world_open(&w, 1, 2, world_spec(4, 1024, 512, 32, 8, 0));
        int most = (n_prompt - 1) / 64 * 64; /* the last token always gives the next */
        assert_int_equal(rows_of(&w, world_request_cached(n_prompt, 5, 1, 1), &n_cached),
                         n_prompt + 4);
        assert_int_equal(n_cached, 0);
        assert_int_equal(rows_of(&w, world_request_cached(n_prompt, 5, 1, 1), &n_cached),
                         n_prompt - most + 4);
        assert_int_equal(n_cached, most);
        struct request *other = world_request_cached(n_prompt, 5, 1, 1);
        other->prompt[300] = other->choices[0].tokens[300] = 60 - other->prompt[300];
        assert_int_equal(rows_of(&w, other, &n_cached), n_prompt - 256 + 4);
        assert_int_equal(n_cached, 256);
        other = world_request_cached(n_prompt, 5, 1, 1);
        other->tenant = 1;
        rows_of(&w, other, &n_cached);
        assert_int_equal(n_cached, 0);
        rows_of(&w, world_request(REQUEST_GENERATE, n_prompt, 5, 1, 1), &n_cached);
        assert_int_equal(n_cached, 0);
        world_close(&w);
    }
}

/* The answer is found again too, as the beginning of the next turn. */
static void the_next_turn_pays_for_its_new_tokens(void **state)
{
    (void)state;
    struct world w;
    int n_cached;
    world_open(&w, 1, 1, world_spec(4, 1024, 512, 32, 8, 0));
    struct request *first = world_request_cached(100, 200, 1, 1),
                   *second = world_request_cached(400, 4, 1, 1);
    uint32_t said[300];
    for (int n = 0; n < 300; n++)
        said[n] = n < 100 ? first->prompt[n]
                          : fake_stage_token(said, n, 100, &first->sampling, 0, VOCABULARY);
    memcpy(second->prompt, said, sizeof said);
    memcpy(second->choices[0].tokens, said, sizeof said);
    rows_of(&w, first, &n_cached);
    rows_of(&w, second, &n_cached);
    assert_int_equal(n_cached, 256); /* 299 tokens were computed */
    world_close(&w);
}

static void those_who_come_together_share_the_work(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 3, world_spec(8, 1024, 512, 32, 8, 0));
    for (int i = 0; i < 5; i++)
        world_add(&w, world_request_cached(900, 3, 1, 1));
    world_finish(&w);
    assert_int_equal(w.stage.n_rows, 900 + 4 * (900 - 896) + 5 * 2);
    world_close(&w);
}

/* A prompt that is scored and continued is computed once, but for its last block. */
static void what_is_scored_is_there_to_be_continued(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 2, world_spec(4, 1024, 512, 32, 8, 0));
    for (int i = 0; i < 2; i++) { /* the second time every row is scored again */
        struct request *score = world_request(REQUEST_SCORE, 600, 0, 1, 1);
        score->cache_prompt = true;
        w.stage.n_rows = 0;
        world_add(&w, score);
        world_add(&w, world_request_cached(600, 3, 1, 1));
        world_finish(&w);
        assert_int_equal(w.stage.n_rows, 600 + (600 - 576) + 2);
    }
    world_close(&w);
}

static void choices_share_their_prompt(void **state)
{
    (void)state;
    for (int n_prompt = 127; n_prompt <= 130; n_prompt++) {
        for (int cached = 0; cached < 2; cached++) {
            struct world w;
            world_open(&w, 1, 2, world_spec(8, 512, 512, 32, 8, 0));
            struct request *r = world_request(REQUEST_GENERATE, n_prompt, 100, 4, 1);
            r->cache_prompt = cached;
            world_add(&w, r);
            world_finish(&w);
            assert_int_equal(w.stage.n_rows, n_prompt + 3 + 4 * 99);
            world_close(&w);
        }
    }
}

static void the_youngest_gives_way_when_blocks_run_out(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 2, world_spec(4, 640, 512, 32, 8, 10));
    for (int i = 0; i < 4; i++)
        world_add(&w, world_request_cached(20, 400, 1, (uint32_t)i));
    struct choice *oldest = &w.requests[0]->choices[0];
    int seen = 0;
    while (w.n_requests) {
        world_send(&w);
        world_check(&w);
        if (w.n_finished == 0) {
            assert_true(oldest->slot >= 0 && oldest->n_computed >= seen);
            seen = oldest->n_computed;
        }
        fake_stage_answer(&w.stage);
        world_take(&w);
    }
    assert_true(w.scheduler.n_preemptions > 0);
    assert_ptr_equal(w.order[0], oldest);
    world_close(&w);
}

/* Who has come out of the cache into the middle of a prompt is replayed from the beginning. */
static void a_new_plan_finds_nothing_in_the_cache(void **state)
{
    (void)state;
    struct world w;
    int n_cached;
    world_open(&w, 1, 1, world_spec(4, 1024, 512, 32, 8, 0));
    rows_of(&w, world_request_cached(600, 5, 1, 1), &n_cached);
    world_add(&w, world_request_cached(600, 5, 1, 1));
    world_send(&w);
    world_renew(&w);
    world_finish(&w);
    world_renew(&w);
    rows_of(&w, world_request_cached(600, 5, 1, 1), &n_cached);
    assert_int_equal(n_cached, 0);
    world_close(&w);
}

/* After a new plan: one after the other, in large chunks, also when the first ones talk again. Who
 * has come since waits for them. */
static void those_who_have_waited_longest_are_replayed_first(void **state)
{
    (void)state;
    struct world w;
    static const int order[] = {2, 0, 1};
    struct request *r[4];
    world_open(&w, 1, 1, world_spec(4, 1024, 512, 32, 8, 0));
    for (uint32_t i = 0; i < 3; i++) {
        r[i] = world_request(REQUEST_GENERATE, 200, 300, 1, i);
        world_add(&w, r[i]);
    }
    while (r[2]->choices[0].n_tokens < 210)
        world_turn(&w);
    r[3] = world_request(REQUEST_GENERATE, 100, 2, 1, 3);
    world_add(&w, r[3]);
    for (int i = 0; i < 3; i++)
        r[order[i]]->choices[0].last_news_us = 1000 + i;
    world_renew(&w);
    int at = 0, n_steps = 0;
    for (; at < 3; n_steps++) {
        world_send(&w);
        assert_true(w.stage.n_queued > 0);
        const struct batch *b = &w.stage.queue[0].batch;
        for (uint32_t i = 0; i < b->n_sequences && at < 3; i++) {
            const struct choice *c = &r[order[at]]->choices[0];
            const struct batch_sequence *q = &b->sequences[i];
            if (q->count > 1)
                assert_int_equal(q->sequence, c->slot);
            at += (int)(q->position + q->count) == c->n_tokens;
        }
        fake_stage_answer(&w.stage);
        world_take(&w);
    }
    assert_in_range(n_steps, 3, 12); /* of 16 rows it would take 40 */
    world_finish(&w);
    world_close(&w);
}

/* ---- what goes wrong on the way ---- */

static void begin_three_steps(struct world *w)
{
    world_open(w, 1, 2, world_spec(4, 1024, 512, 32, 8, 0));
    world_add(w, world_request(REQUEST_SCORE, 200, 0, 1, 1));
    world_send(w);
    assert_int_equal(w->stage.n_queued, 3);
}

static void a_lost_step_breaks_the_pipeline(void **state)
{
    (void)state;
    struct world w;
    begin_three_steps(&w);
    fake_stage_answer(&w.stage);
    world_take(&w);
    assert_false(w.pipeline.is_broken);
    int n_scored = w.requests[0]->n_scored;
    assert_true(n_scored > 0);
    fake_stage_lose(&w.stage);
    fake_stage_answer(&w.stage);
    world_take(&w);
    assert_true(w.pipeline.is_broken);
    assert_int_equal(w.requests[0]->n_scored, n_scored);
    world_renew(&w);
    assert_false(w.pipeline.is_broken);
    world_finish(&w);
    world_close(&w);
}

/* Results that a good worker would not send. */
static void send_results(struct world *w, const struct batch_result *results, size_t n,
                         size_t frame_bytes)
{
    struct err err;
    zmq_msg_t envelope, frame;
    Paceline__StageTime time = PACELINE__STAGE_TIME__INIT;
    char bytes[VOCABULARY * sizeof(float)] = {0};
    assert_int_equal(step_result_pack(&w->stage.queue[0], &time, results, n, &envelope, &err), 0);
    assert_int_equal(wire_frame(&frame, bytes, frame_bytes, &err), 0);
    assert_int_equal(data_link_send(w->stage.out, &envelope, &frame, true, &err), 0);
}

static void wrong_results_break_the_pipeline(void **state)
{
    (void)state;
    struct batch_result good[40];
    struct batch_result bad[][2] = {{{.kind = BATCH_SAMPLE}},
                                    {{.sequence = 1, .kind = BATCH_SCORE}},
                                    {{.kind = BATCH_LOGITS}},
                                    {{.kind = BATCH_SCORE, .token = VOCABULARY}},
                                    {{.kind = BATCH_SCORE, .n_top = 1, .top = {{VOCABULARY, 0}}}}};
    for (size_t i = 0; i < 8; i++) {
        struct world w;
        begin_three_steps(&w);
        size_t n = w.stage.queue[0].batch.n_outputs, frame_bytes = 0;
        assert_in_range(n, 1, 39);
        for (size_t k = 0; k < 40; k++)
            good[k] = (struct batch_result){.kind = BATCH_SCORE};
        if (i < 5)
            good[n / 2] = bad[i][0];
        else if (i == 5)
            n--;
        else if (i == 6)
            n++;
        else
            frame_bytes = VOCABULARY * sizeof(float);
        send_results(&w, good, n, frame_bytes);
        world_take(&w);
        assert_true(w.pipeline.is_broken);
        assert_int_equal(w.requests[0]->n_scored, 0);
        world_renew(&w);
        world_finish(&w);
        world_close(&w);
    }
}

static void garbage_is_dropped(void **state)
{
    (void)state;
    struct world w;
    begin_three_steps(&w);
    zmq_send(w.stage.out, "x", 1, 0);
    zmq_send(w.stage.out, "\xff\xff\xff", 3, ZMQ_SNDMORE);
    zmq_send(w.stage.out, "", 0, 0);
    zmq_send(w.stage.out, "a", 1, ZMQ_SNDMORE);
    zmq_send(w.stage.out, "b", 1, ZMQ_SNDMORE);
    zmq_send(w.stage.out, "c", 1, 0);
    world_take(&w);
    assert_false(w.pipeline.is_broken);
    world_finish(&w);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_depend_on_the_tokens_alone),
        cmocka_unit_test(chunks_follow_each_other_without_waiting),
        cmocka_unit_test(a_long_prompt_does_not_starve_decoders),
        cmocka_unit_test(prompts_take_turns),
        cmocka_unit_test(waiting_requests_get_slots_in_order),
        cmocka_unit_test(decoders_travel_together),
        cmocka_unit_test(the_queue_has_an_end),
        cmocka_unit_test(rows_of_logits_wait_for_a_slow_reader),
        cmocka_unit_test(equal_beginnings_are_computed_once),
        cmocka_unit_test(the_next_turn_pays_for_its_new_tokens),
        cmocka_unit_test(those_who_come_together_share_the_work),
        cmocka_unit_test(what_is_scored_is_there_to_be_continued),
        cmocka_unit_test(choices_share_their_prompt),
        cmocka_unit_test(the_youngest_gives_way_when_blocks_run_out),
        cmocka_unit_test(those_who_have_waited_longest_are_replayed_first),
        cmocka_unit_test(a_new_plan_finds_nothing_in_the_cache),
        cmocka_unit_test(a_lost_step_breaks_the_pipeline),
        cmocka_unit_test(wrong_results_break_the_pipeline),
        cmocka_unit_test(garbage_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
