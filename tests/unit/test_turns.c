/* Who is next, who gives way when blocks run out, who may pass, and what is found again. The clock
 * is the test's. */
#include "kernels/attention.h"
#include "tests/support/scheduler_world.h"
#include "tests/support/virtual_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_US ((int64_t)1000 * 1000)

static struct request *request_of(int tenant, int n_prompt, int max_tokens, uint32_t salt)
{
    struct request *r = world_request_cached(n_prompt, max_tokens, 1, salt);
    r->tenant = tenant;
    return r;
}

static int count_of(const struct world *w, int tenant)
{
    int n = 0;
    for (int i = 0; i < w->n_requests; i++)
        n += w->requests[i]->tenant == tenant;
    return n;
}

static bool is_there(const struct world *w, const struct request *r)
{
    for (int i = 0; i < w->n_requests; i++)
        if (w->requests[i] == r)
            return true;
    return false;
}

/* ---- between tenants ---- */

static void tenants_get_what_their_weights_say(void **state)
{
    (void)state;
    struct world w;
    struct scheduler_spec spec = world_spec(1, 256, 512, 32, 24, 0);
    spec.tenant_weights = (const double[]){3, 1};
    spec.n_tenants = 2;
    world_open(&w, 1, 1, spec);
    for (int i = 0; i < 24; i++)
        world_add(&w, request_of(i % 2, 20, 20, (uint32_t)i));
    while (w.n_finished < 12)
        world_turn(&w);
    assert_in_range(12 - count_of(&w, 0), 8, 10);
    world_finish(&w);
    world_close(&w);
}

/* One brings prompts, the other wants answers: rows are rows. */
static void prompts_and_answers_count_alike(void **state)
{
    (void)state;
    struct world w;
    struct scheduler_spec spec = world_spec(1, 256, 512, 32, 24, 0);
    spec.n_tenants = 2;
    world_open(&w, 1, 1, spec);
    for (int i = 0; i < 24; i++) {
        int n_prompt = i % 2 ? 3 : 60;
        world_add(&w, request_of(i % 2, n_prompt, 63 - n_prompt, (uint32_t)i));
    }
    while (w.n_finished < 12)
        world_turn(&w);
    assert_in_range(count_of(&w, 0), 5, 7);
    world_finish(&w);
    world_close(&w);
}

/* ---- who gives way ---- */

static struct request *first_to_finish(struct world *w, struct request *a, struct request *b)
{
    while (is_there(w, a) && is_there(w, b))
        world_turn(w);
    assert_true(w->scheduler.n_preemptions > 0);
    struct request *first = is_there(w, a) ? b : a;
    world_finish(w);
    return first;
}

static void the_less_urgent_of_a_tenant_gives_way(void **state)
{
    (void)state;
    for (int is_late_urgent = 0; is_late_urgent < 2; is_late_urgent++) {
        struct world w;
        world_open(&w, 1, 1, world_spec(4, 640, 512, 32, 8, 10));
        struct request *a = request_of(0, 20, 400, 1), *b = request_of(0, 20, 400, 2);
        b->priority = is_late_urgent ? -1 : 0;
        world_add(&w, a);
        world_turn(&w);
        world_add(&w, b);
        assert_ptr_equal(first_to_finish(&w, a, b), is_late_urgent ? b : a);
        world_close(&w);
    }
}

/* Nobody makes himself more urgent than another tenant. */
static void priorities_do_not_reach_another_tenant(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 1, world_spec(4, 640, 512, 32, 8, 10));
    struct request *a = request_of(0, 20, 400, 1), *b = request_of(1, 20, 400, 2);
    b->priority = -1000;
    world_add(&w, a);
    world_turn(&w);
    world_add(&w, b);
    assert_ptr_equal(first_to_finish(&w, a, b), a);
    world_close(&w);
}

/* Who would take blocks that others need for the prompts they have waits outside. */
static void nobody_begins_on_blocks_that_are_spoken_for(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1, 1, world_spec(4, 4096, 512, 32, 8, 64));
    world_add(&w, request_of(0, 3900, 3, 1));
    world_turn(&w);
    assert_true(w.scheduler.blocks.n_free > 5);
    world_add(&w, request_of(0, 250, 250, 2));
    world_finish(&w);
    assert_int_equal(w.scheduler.n_preemptions, 0);
    world_close(&w);
}

/* ---- who may pass ---- */

static void small_ones_pass_one_that_does_not_fit_for_a_while(void **state)
{
    (void)state;
    struct world w;
    virtual_clock_set(SECOND_US);
    world_open(&w, 1, 1, world_spec(16, 1024, 512, 32, 24, 20));
    struct request *running = request_of(0, 640, 300, 1), *large = request_of(0, 1000, 3, 2);
    world_add(&w, running);
    world_turn(&w);
    world_add(&w, large);
    for (int i = 0; i < 8; i++)
        world_add(&w, request_of(0, 1, 3, 3 + (uint32_t)i));
    struct request *too_large = request_of(0, 500, 300, 20); /* would fit, but not to its end */
    world_add(&w, too_large);
    for (int i = 0; i < 40; i++)
        world_turn(&w);
    assert_int_equal(w.n_finished, 8);
    assert_true(is_there(&w, running) && large->choices[0].slot < 0);
    assert_true(too_large->choices[0].slot < 0);
    /* After some time nobody passes any more. */
    virtual_clock_set(12 * SECOND_US);
    world_drop(&w, too_large);
    world_add(&w, request_of(0, 1, 3, 30));
    for (int i = 0; i < 20; i++)
        world_turn(&w);
    assert_int_equal(w.n_finished, 8);
    assert_true(is_there(&w, running));
    world_finish(&w);
    world_close(&w);
}

/* Two tenants whose first ones do not fit take turns at being first; their time runs all the same.
 */
static void nobody_is_passed_for_ever(void **state)
{
    (void)state;
    struct world w;
    virtual_clock_set(SECOND_US);
    world_open(&w, 1, 1, world_spec(16, 1024, 512, 32, 24, 36));
    struct request *large[2];
    for (int tenant = 0; tenant < 2; tenant++)
        world_add(&w, request_of(tenant, 640, 300, 1 + (uint32_t)tenant));
    world_turn(&w);
    for (int tenant = 0; tenant < 2; tenant++) {
        large[tenant] = request_of(tenant, 1000, 3, 3 + (uint32_t)tenant);
        world_add(&w, large[tenant]);
    }
    int n_passed = 0;
    for (int second = 2; second < 30; second++) {
        virtual_clock_set(second * SECOND_US);
        int before = w.n_finished;
        for (int tenant = 0; tenant < 2; tenant++)
            world_add(&w, request_of(tenant, 1, 2, 5 + (uint32_t)(2 * second + tenant)));
        for (int i = 0; i < 6; i++)
            world_turn(&w);
        assert_true(large[0]->choices[0].slot < 0 && large[1]->choices[0].slot < 0);
        n_passed += second < 10 ? w.n_finished - before : 0;
        if (second > 14)
            assert_int_equal(w.n_finished, before);
        while (w.n_requests > 18)
            world_drop(&w, w.requests[w.n_requests - 1]);
    }
    assert_true(n_passed > 4);
    world_finish(&w);
    world_close(&w);
}

/* Together they fit as well. */
static void those_who_pass_have_room_to_their_end(void **state)
{
    (void)state;
    struct world w;
    virtual_clock_set(SECOND_US);
    world_open(&w, 1, 1, world_spec(16, 1024, 512, 32, 24, 20));
    world_add(&w, request_of(0, 640, 60, 1));
    world_turn(&w);
    struct request *large = request_of(0, 1000, 3, 2);
    world_add(&w, large);
    for (uint32_t i = 0; i < 3; i++)
        world_add(&w, request_of(0, 10, 400, 3 + i));
    while (large->choices[0].slot < 0)
        world_turn(&w);
    assert_true(w.n_finished > 0);
    assert_int_equal(w.scheduler.n_preemptions, 0);
    world_finish(&w);
    world_close(&w);
}

/* Readers of logits who do not read hold what they have, and claim nothing. */
static void slow_readers_claim_no_blocks(void **state)
{
    (void)state;
    struct world w;
    struct request *slow[4];
    size_t untaken = (size_t)65 << 20;
    char *rows = calloc(1, untaken);
    assert_non_null(rows);
    world_open(&w, 1, 1, world_spec(8, 512, 512, 64, 8, 32));
    for (uint32_t i = 0; i < 4; i++) {
        slow[i] = world_request(REQUEST_LOGITS, 500, 0, 1, i);
        world_add(&w, slow[i]);
        buf_append(&slow[i]->rows, rows, untaken);
    }
    free(rows);
    for (int i = 0; i < 10; i++)
        world_turn(&w);
    struct request *other = request_of(0, 40, 5, 9);
    world_add(&w, other);
    for (int i = 0; i < 20; i++)
        world_turn(&w);
    assert_false(is_there(&w, other));
    for (int i = 0; i < 4; i++)
        buf_drop_front(&slow[i]->rows, untaken);
    world_finish(&w);
    world_close(&w);
}

/* ---- choices of one prompt ---- */

/* With one stage a stream of another is in every step, which must not keep them apart. */
static void choices_begin_together_beside_a_stream(void **state)
{
    (void)state;
    for (int n_stages = 1; n_stages <= 2; n_stages++) {
        struct world w;
        world_open(&w, 1, n_stages, world_spec(8, 512, 512, 32, 8, 0));
        struct request *stream = request_of(0, 5, 300, 1);
        world_add(&w, stream);
        for (int i = 0; i < 4; i++)
            world_turn(&w);
        struct request *four = world_request_cached(20, 60, 4, 2);
        world_add(&w, four);
        for (int i = 0; i < 90 * n_stages; i++)
            world_turn(&w);
        assert_false(is_there(&w, four));
        world_finish(&w);
        world_close(&w);
    }
}

/* ---- what is kept ---- */

static int n_cached_of(struct world *w, struct request *r)
{
    world_add(w, r);
    w->watched = r;
    world_finish(w);
    return w->watched_n_cached;
}

static void what_nobody_can_find_again_goes_first(void **state)
{
    (void)state;
    for (int off = 0; off < 2; off++) {
        struct world w;
        struct scheduler_spec spec = world_spec(4, 640, 512, 32, 8, 10);
        world_open(&w, 1, 1, spec);
        assert_int_equal(n_cached_of(&w, world_request_cached(257, 3, 1, 1)), 0);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(n_cached_of(&w, world_request(REQUEST_GENERATE, 257, 3, 1, 2 + i)), 0);
        w.scheduler.spec.without_cache = off;
        assert_int_equal(n_cached_of(&w, world_request_cached(257, 3, 1, 1)), off ? 0 : 256);
        world_close(&w);
    }
}

/* What could not be sent was not computed either. */
static void a_step_that_is_not_sent_leaves_no_names(void **state)
{
    (void)state;
    struct world w;
    struct err err = {0};
    world_open(&w, 1, 1, world_spec(4, 640, 512, 32, 8, 0));
    struct request *r = world_request_cached(300, 5, 1, 1);
    r->sampling.n_bias = 1200 * 1000; /* more than a message holds */
    r->sampling.bias = calloc(r->sampling.n_bias, sizeof *r->sampling.bias);
    assert_non_null(r->sampling.bias);
    world_add(&w, r);
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++) {
        rc = scheduler_step(&w.scheduler, &w.pipeline, &err);
        fake_stage_receive(&w.stage);
        fake_stage_answer(&w.stage);
        world_take(&w);
    }
    assert_int_equal(rc, ERR_INTERNAL);
    world_drop(&w, r);
    assert_int_equal(n_cached_of(&w, world_request_cached(300, 5, 1, 1)), 0);
    world_close(&w);
}

/* Each within its limits, all together more than a message holds. */
static void a_step_is_never_larger_than_a_message(void **state)
{
    (void)state;
    struct world w;
    struct request *requests[22];
    world_open(&w, 1, 1, world_spec(264, 128, 512, 264, 8, 0));
    for (uint32_t i = 0; i < 22; i++) {
        struct request *r = world_request_cached(3, 100, 12, i);
        r->sampling.n_bias = i % 11 ? BATCH_BIASES : 0;
        struct batch_bias *bias = calloc(BATCH_BIASES, sizeof *bias);
        assert_non_null(bias);
        for (uint32_t k = 0; k < BATCH_BIASES; k++)
            bias[k] = (struct batch_bias){k % VOCABULARY, 0.5f};
        r->sampling.bias = bias;
        requests[i] = r;
        world_add(&w, r);
    }
    for (int i = 0; i < 30; i++)
        world_turn(&w);
    int before[22][12], least = 64, most = 0;
    for (int i = 0; i < 22; i++)
        for (int k = 0; k < 12; k++)
            before[i][k] = requests[i]->choices[k].n_tokens;
    for (int i = 0; i < 30; i++)
        world_turn(&w);
    for (int i = 0; i < 22; i++)
        for (int k = 0; k < 12; k++) {
            int n = requests[i]->choices[k].n_tokens - before[i][k];
            least = n < least ? n : least;
            most = n > most ? n : most;
        }
    assert_true(most > 15 && 2 * least > most); /* nobody is left behind */
    world_finish(&w);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenants_get_what_their_weights_say),
        cmocka_unit_test(prompts_and_answers_count_alike),
        cmocka_unit_test(the_less_urgent_of_a_tenant_gives_way),
        cmocka_unit_test(priorities_do_not_reach_another_tenant),
        cmocka_unit_test(nobody_begins_on_blocks_that_are_spoken_for),
        cmocka_unit_test(small_ones_pass_one_that_does_not_fit_for_a_while),
        cmocka_unit_test(nobody_is_passed_for_ever),
        cmocka_unit_test(those_who_pass_have_room_to_their_end),
        cmocka_unit_test(slow_readers_claim_no_blocks),
        cmocka_unit_test(choices_begin_together_beside_a_stream),
        cmocka_unit_test(what_nobody_can_find_again_goes_first),
        cmocka_unit_test(a_step_that_is_not_sent_leaves_no_names),
        cmocka_unit_test(a_step_is_never_larger_than_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
