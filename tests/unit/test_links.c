/* What a link carries, as its probe sees it, on links that are simulated; and what hops show, from
 * timelines that are made up. */
#include "coordinator/hop_times.h"
#include "coordinator/link_probe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- probes ---- */

struct link {
    double down, up; /* bytes a second */
    double way_s;    /* latency */
    unsigned seed;   /* 0: nothing disturbs */
};

static double disturbance_s(struct link *l)
{
    if (!l->seed)
        return 0;
    l->seed = l->seed * 1103515245u + 12345u;
    return (l->seed >> 16) % 3 == 0 ? 0 : (double)((l->seed >> 16) % 30000) / 1e6;
}

/* When each message of a round is back. */
static double answer_s(struct link *l, const struct link_probe_round *round, double begin_s)
{
    double sent_s = begin_s, back_s = begin_s;
    for (int i = 0; i < round->n_messages; i++) {
        sent_s += (double)round->bytes / l->down;
        back_s = fmax(sent_s + l->way_s, back_s) + (double)round->bytes / l->up;
    }
    return back_s + l->way_s + disturbance_s(l);
}

/* Seconds until it is known. */
static double probe(struct link *l, struct link_probe *p)
{
    double now_s = 1;
    struct link_probe_round round = link_probe_begin(p, (int64_t)(now_s * 1e6));
    while (round.n_messages > 0) {
        struct link_probe_round next = {0};
        assert_true(round.bytes <= LINK_PROBE_MOST);
        now_s = answer_s(l, &round, now_s);
        for (int i = 0; i < round.n_messages; i++)
            assert_int_equal(
                link_probe_take(p, round.round, round.bytes, (int64_t)(now_s * 1e6), &next),
                i == round.n_messages - 1);
        round = next;
    }
    assert_int_equal(p->state, LINK_KNOWN);
    return now_s - 1;
}

static void rates_are_found(void **state)
{
    (void)state;
    static const double rates[] = {125e3, 1.25e6, 12.5e6, 125e6, 1.25e9};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        for (int far = 0; far < 2; far++) {
            struct link l = {rates[i], rates[i], far ? 0.02 : 1e-4, 0};
            struct link_probe p = {0};
            assert_true(probe(&l, &p) < 3);
            assert_true(fabs(p.bytes_per_second / rates[i] - 1) < 0.05);
            assert_true(fabs((double)p.round_trip_us / (2e6 * l.way_s) - 1) < 0.02);
        }
}

/* Both ways go on at once, so the slower one counts. */
static void the_slower_way_counts(void **state)
{
    (void)state;
    struct link l = {50e6, 5e6, 1e-3, 0};
    struct link_probe p = {0};
    probe(&l, &p);
    assert_true(p.bytes_per_second > 4.9e6 && p.bytes_per_second < 5.8e6);
}

static void what_disturbs_is_passed_over(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 50; seed++) {
        struct link l = {12.5e6, 12.5e6, 1e-4, seed};
        struct link_probe p = {0};
        probe(&l, &p);
        assert_true(p.bytes_per_second < 12.5e6 * 1.15 && p.bytes_per_second > 12.5e6 * 0.8);
    }
}

static void only_what_was_sent_counts(void **state)
{
    (void)state;
    struct link_probe p = {0};
    struct link_probe_round next;
    assert_false(link_probe_take(&p, 0, 0, 1000, &next)); /* nothing was sent */
    struct link_probe_round round = link_probe_begin(&p, 1000);
    assert_false(link_probe_take(&p, round.round + 1, round.bytes, 2000, &next));
    assert_false(link_probe_take(&p, round.round, round.bytes + 1, 2000, &next));
    assert_true(link_probe_take(&p, round.round, round.bytes, 2000, &next));
    assert_false(link_probe_take(&p, round.round, round.bytes, 3000, &next)); /* once more */
    assert_false(link_probe_expire(&p, 2000000));
    assert_true(link_probe_expire(&p, 6000000));
    assert_false(link_probe_expire(&p, 7000000));
    assert_int_equal(p.state, LINK_KNOWN);
    assert_true(p.bytes_per_second == 0);
}

/* ---- hops ---- */

#define ROW_BYTES 4096
#define EPOCH     7

static struct timeline *timeline_of_two(int64_t doubt_us)
{
    struct timeline *t;
    struct err err;
    struct timeline_stage stages[2] = {
        {.worker = "a", .is_timed = true, .offset_us = 500000, .uncertainty_us = doubt_us},
        {.worker = "b", .is_timed = true, .offset_us = -300000, .uncertainty_us = doubt_us}};
    assert_int_equal(timeline_new(&t, &err), 0);
    timeline_set_stages(t, EPOCH, stages, 2);
    return t;
}

/* Both compute for a millisecond; `way_us` lie between. */
static void add_step(struct timeline *t, uint32_t rows, uint32_t way_us, uint32_t wait_us)
{
    static int64_t now_us = 10000000;
    now_us += 1000000;
    const struct timeline_step step = {.epoch = EPOCH,
                                       .sent_us = now_us,
                                       .answered_us = now_us + 4000 + way_us,
                                       .rows = {rows, rows, 1}};
    const struct timeline_time times[2] = {
        {0, 1000, 100, (uint64_t)(now_us + 500 + 500000)},
        {1, 1000, wait_us, (uint64_t)(now_us + 1500 + way_us - 300000)}};
    timeline_add(t, &step, times, 2);
}

static void hops_show_what_they_carry(void **state)
{
    (void)state;
    struct hop_times h = {0};
    struct timeline *t = timeline_of_two(50);
    add_step(t, 1, 300, 5000);
    add_step(t, 512, 20000, 5000); /* 2 MiB; it had to queue */
    hop_times_learn(&h, t, 0, ROW_BYTES);
    hop_times_learn(&h, t, 0, ROW_BYTES); /* nothing new */
    assert_int_equal(h.least_us, 300);
    assert_true(fabs(h.bytes_per_second - 2097152 / 0.0197) < 1000);
    add_step(t, 1, 200, 5000);
    add_step(t, 512, 17000, 5000);
    add_step(t, 512, 5000, 0);   /* it was not waited for: what lies between says nothing */
    add_step(t, 512, 500, 5000); /* no more than the clocks may be wrong */
    hop_times_learn(&h, t, 0, ROW_BYTES);
    assert_int_equal(h.least_us, 200);
    assert_true(fabs(h.bytes_per_second - 2097152 / 0.0168) < 1000);
    hop_times_learn(&h, t, 1, ROW_BYTES); /* the last stage has no next one */
    assert_int_equal(h.least_us, 200);
    timeline_free(t);
}

static void a_new_plan_begins_anew(void **state)
{
    (void)state;
    struct hop_times h = {0};
    struct timeline *t = timeline_of_two(50);
    const struct timeline_stage stages[2] = {{.is_timed = true}, {.is_timed = true}};
    add_step(t, 512, 17000, 5000);
    hop_times_learn(&h, t, 0, ROW_BYTES);
    assert_true(h.bytes_per_second > 0);
    timeline_set_stages(t, EPOCH + 1, stages, 2);
    hop_times_learn(&h, t, 0, ROW_BYTES);
    assert_true(h.bytes_per_second == 0 && h.least_us == -1);
    timeline_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_found),
        cmocka_unit_test(the_slower_way_counts),
        cmocka_unit_test(what_disturbs_is_passed_over),
        cmocka_unit_test(only_what_was_sent_counts),
        cmocka_unit_test(hops_show_what_they_carry),
        cmocka_unit_test(a_new_plan_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
