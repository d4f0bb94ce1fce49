/* Offsets of clocks from messages there and back, and the ring of the last steps. */
#include "coordinator/clock_offset.h"
#include "coordinator/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- clocks ---- */

/* The peer's clock, `ppm` faster than ours. */
static int64_t peer_time(int64_t at_us, int64_t offset_us, int64_t ppm)
{
    return at_us + offset_us + at_us * ppm / 1000000;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* An exchange that begins at `at_us`, with delays of the way there, of the peer and back. */
static bool exchange(struct clock_offset *c, int64_t at_us, int64_t there, int64_t stay,
                     int64_t back, int64_t offset_us, int64_t ppm)
{
    return clock_offset_add(c, (uint64_t)at_us, (uint64_t)peer_time(at_us + there, offset_us, ppm),
                            (uint64_t)peer_time(at_us + there + stay, offset_us, ppm),
                            at_us + there + stay + back);
}

static void the_offset_is_within_its_uncertainty(void **state)
{
    (void)state;
    static const int64_t offsets[] = {0, 7000000000, -3000000}, rates[] = {0, 60, -60};
    for (int i = 0; i < 9; i++) {
        struct clock_offset c = {.n = 0};
        uint64_t random = (uint64_t)i + 1;
        int64_t offset = offsets[i / 3], ppm = rates[i % 3], found, width;
        assert_false(clock_offset_estimate(&c, 0, &found, &width));
        for (int64_t at = 10000000; at < 130000000; at += 250000) {
            int64_t there = 80 + (int64_t)(next_random(&random) % 4000);
            int64_t back = 80 + (int64_t)(next_random(&random) % 4000);
            assert_true(exchange(&c, at, there, 30, back, offset, ppm));
            int64_t now = at + 200000, truth = peer_time(now, offset, ppm) - now;
            assert_true(clock_offset_estimate(&c, now, &found, &width));
            assert_in_range(llabs(found - truth), 0, width + 1);
        }
        assert_in_range(width, 0, 1500); /* the best of many exchanges, not the mean of them */
    }
}

static void a_quick_exchange_counts_more_than_slow_ones(void **state)
{
    (void)state;
    struct clock_offset c = {.n = 0};
    int64_t found, width;
    assert_true(exchange(&c, 1000000, 9000, 0, 100, 500, 0));
    assert_true(exchange(&c, 1250000, 100, 0, 100, 500, 0));
    assert_true(exchange(&c, 1500000, 100, 0, 9000, 500, 0));
    assert_true(clock_offset_estimate(&c, 1510000, &found, &width));
    assert_int_equal(found, 500);
    assert_in_range(width, 100, 150);
}

static void a_clock_that_jumps_is_followed_at_once(void **state)
{
    (void)state;
    struct clock_offset c = {.n = 0};
    int64_t found, width;
    for (int64_t at = 1000000; at < 9000000; at += 250000)
        assert_true(exchange(&c, at, 100, 0, 100, 500, 0));
    assert_true(exchange(&c, 9000000, 3000, 0, 3000, 500 - 400000, 0));
    assert_true(clock_offset_estimate(&c, 9010000, &found, &width));
    assert_int_equal(found, 500 - 400000);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct clock_offset c = {.n = 0};
    int64_t now = 100000000;
    assert_false(clock_offset_add(&c, 0, 1, 2, now));                  /* echoes nothing */
    assert_false(clock_offset_add(&c, 100000001, 1, 2, now));          /* of the future */
    assert_false(clock_offset_add(&c, 1, 1, 2, now));                  /* of long ago */
    assert_false(clock_offset_add(&c, 99999000, 10, 9, now));          /* sent before it came */
    assert_false(clock_offset_add(&c, 99999000, 10, 1011, now));       /* kept for too long */
    assert_false(clock_offset_add(&c, 99999000, 10, UINT64_MAX, now)); /* no time at all */
    assert_false(clock_offset_add(&c, UINT64_MAX, 10, 10, now));
    assert_false(clock_offset_add(&c, 99999000, UINT64_MAX, UINT64_MAX, now));
    assert_int_equal(c.n, 0);
    assert_true(clock_offset_add(&c, 99999000, 10, 1010, now));
}

/* ---- the ring ---- */

static struct timeline *timeline_of(int n_stages, int64_t offset_us, int64_t uncertainty_us)
{
    struct timeline *t;
    struct err err;
    struct timeline_stage stages[TIMELINE_STAGES];
    memset(stages, 0, sizeof stages);
    for (int i = 0; i < n_stages; i++) {
        stages[i].is_timed = true;
        stages[i].offset_us = offset_us;
        stages[i].uncertainty_us = uncertainty_us;
    }
    assert_int_equal(timeline_new(&t, &err), 0);
    timeline_set_stages(t, 7, stages, n_stages);
    return t;
}

/* Steps of 1000 us, one each 100 us; every stage computes 10 us. */
static void add_step(struct timeline *t, uint64_t number, int n_stages, int64_t offset_us)
{
    struct timeline_time times[TIMELINE_STAGES];
    struct timeline_step step = {.step = number,
                                 .epoch = 7,
                                 .sent_us = 100 * (int64_t)number,
                                 .answered_us = 100 * (int64_t)number + 1000};
    for (int i = 0; i < n_stages; i++)
        times[i] = (struct timeline_time){(uint32_t)i, 10, (uint32_t)number,
                                          (uint64_t)(step.sent_us + 15 * i + offset_us)};
    timeline_add(t, &step, times, n_stages);
}

static void check_ring(const struct timeline *t, uint64_t first, uint64_t next, int n_stages)
{
    assert_int_equal(timeline_first(t), first);
    assert_int_equal(timeline_next(t), next);
    for (uint64_t n = first; n < next; n++) {
        const struct timeline_step *s = timeline_at(t, n);
        assert_int_equal(s->step, n);
        assert_int_equal(s->n_spans, n_stages);
        for (int i = 0; i < n_stages; i++) {
            struct timeline_span span = timeline_span_of(t, s, i);
            assert_int_equal(span.start_us, s->sent_us + 15 * i);
            assert_int_equal(span.wait_us, n);
        }
    }
}

static void the_oldest_steps_fall_out(void **state)
{
    (void)state;
    static const int stages[] = {1, 3, 16, 17, 64};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        struct timeline *t = timeline_of(stages[i], 5000, 3);
        uint64_t room = TIMELINE_SPANS / (uint64_t)stages[i];
        room = room < TIMELINE_STEPS ? room : TIMELINE_STEPS;
        uint64_t n = 0;
        for (; n < room; n++)
            add_step(t, n, stages[i], 5000);
        check_ring(t, 0, room, stages[i]);
        for (; n < 3 * room + 11; n++)
            add_step(t, n, stages[i], 5000);
        check_ring(t, n - room, n, stages[i]);
        timeline_free(t);
    }
}

static struct timeline_span told(struct timeline *t, uint64_t epoch, uint64_t start_us,
                                 uint32_t compute_us)
{
    struct timeline_step step = {.epoch = epoch, .sent_us = 1000, .answered_us = 2000};
    struct timeline_time time = {0, compute_us, 0, start_us};
    timeline_add(t, &step, &time, 1);
    return timeline_span_of(t, timeline_at(t, timeline_next(t) - 1), 0);
}

static void workers_are_believed_as_far_as_it_can_be(void **state)
{
    (void)state;
    struct timeline *t = timeline_of(1, 500, 20);
    assert_int_equal(told(t, 7, 1700, 100).start_us, 1200);
    assert_int_equal(told(t, 7, 1485, 100).start_us, 1000); /* a little too early */
    assert_int_equal(told(t, 7, 2415, 100).start_us, 1900); /* ends a little too late */
    assert_int_equal(told(t, 7, 1479, 100).start_us, -1);
    assert_int_equal(told(t, 7, 2421, 100).start_us, -1);
    assert_int_equal(told(t, 7, 1500, 1001).start_us, -1); /* longer than it was under way */
    assert_int_equal(told(t, 7, 1500, UINT32_MAX).start_us, -1);
    assert_int_equal(told(t, 7, UINT64_MAX, 1).start_us, -1);
    assert_int_equal(told(t, 7, 0, 1).start_us, -1);
    assert_int_equal(told(t, 6, 1700, 100).start_us, -1); /* another plan's clocks */
    struct timeline_stage untimed;
    memset(&untimed, 0, sizeof untimed);
    timeline_set_stages(t, 7, &untimed, 1);
    assert_int_equal(told(t, 7, 1700, 100).start_us, -1);
    timeline_free(t);
}

static void stages_that_are_not_in_order_are_left_out(void **state)
{
    (void)state;
    struct timeline *t = timeline_of(2, 0, 10);
    struct timeline_step step = {.epoch = 7, .sent_us = 1000, .answered_us = 2000};
    struct timeline_time times[] = {{0, 1, 0, 1500}, {4000000000u, 1, 0, 1500}, {2, 1, 0, 1500}};
    timeline_add(t, &step, times, 3);
    assert_int_equal(timeline_at(t, 0)->n_spans, 1);
    timeline_add(t, &step, times + 1, 2);
    assert_int_equal(timeline_at(t, 1)->n_spans, 0);
    times[1].stage = 1;
    timeline_add(t, &step, times, 3); /* one more than the plan has: nobody's clock */
    assert_int_equal(timeline_at(t, 2)->n_spans, 3);
    assert_int_equal(timeline_span_of(t, timeline_at(t, 2), 1).start_us, 1500);
    assert_int_equal(timeline_span_of(t, timeline_at(t, 2), 2).start_us, -1);
    timeline_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_offset_is_within_its_uncertainty),
        cmocka_unit_test(a_quick_exchange_counts_more_than_slow_ones),
        cmocka_unit_test(a_clock_that_jumps_is_followed_at_once),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(the_oldest_steps_fall_out),
        cmocka_unit_test(workers_are_believed_as_far_as_it_can_be),
        cmocka_unit_test(stages_that_are_not_in_order_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
