/* Pipelines of 1 to 64 stages in virtual time: is every machine busy, and do those who talk keep
 * their rhythm while a long prompt is read? Durations are those of a made-up model; the scheduler
 * is the real one. */
#include "tests/support/simulator.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* A whole model on one machine: 200 ms for its weights, 24 ms for a row; cut into n equal parts,
 * the last of which has the head as well. */
static const struct simulated_stage whole = {200000, 24000, 0, 100};

static struct simulated_stage part_of(double share)
{
    return (struct simulated_stage){whole.weights_us * share, whole.row_us * share, 0,
                                    whole.overhead_us};
}

static void cut_evenly(struct simulated_stage *stages, int n)
{
    for (int i = 0; i < n; i++)
        stages[i] = part_of(1.0 / n);
}

/* Shares of the model, the slowest twice the fastest. */
static double cut_unevenly(struct simulated_stage *stages, int n)
{
    double sum = 0, slowest = 0;
    for (int i = 0; i < n; i++)
        sum += 1 + (i * 5 % n) / (n - 1.0);
    for (int i = 0; i < n; i++) {
        double share = (1 + (i * 5 % n) / (n - 1.0)) / sum;
        stages[i] = part_of(share);
        slowest = fmax(slowest, share);
    }
    return slowest;
}

/* Seconds for a prompt, after one that the scheduler could learn from. */
static double prompt_seconds(int n_stages, const struct simulated_stage *stages, double link_us,
                             int n_prompt)
{
    struct simulator *s = malloc(sizeof *s);
    assert_non_null(s);
    simulator_open(s, n_stages, stages, link_us, 4, 16384);
    simulator_add(s, n_prompt, 1, false);
    simulator_run(s);
    simulator_add(s, n_prompt, 1, false);
    double seconds = (double)simulator_run(s) * 1e-6;
    simulator_close(s);
    free(s);
    return seconds;
}

/* Tokens a second of n streams, once all of them decode. */
static double decode_rate(int n_stages, const struct simulated_stage *stages, double link_us,
                          int n_streams)
{
    struct simulator *s = malloc(sizeof *s);
    assert_non_null(s);
    simulator_open(s, n_stages, stages, link_us, n_streams, 4096);
    for (int i = 0; i < n_streams; i++)
        simulator_add(s, 8 + i % 5, 4000, true);
    simulator_run_until(s, s->now_us + 40 * 1000 * 1000);
    int64_t tokens = s->n_tokens, from_us = s->now_us;
    simulator_run_until(s, s->now_us + 60 * 1000 * 1000);
    double rate = (double)(s->n_tokens - tokens) * 1e6 / (double)(s->now_us - from_us);
    simulator_close(s);
    free(s);
    return rate;
}

static void a_prompt_runs_at_nearly_the_speed_of_all_machines(void **state)
{
    (void)state;
    struct simulated_stage stages[64];
    double alone = prompt_seconds(1, &whole, 100, 2048);
    static const struct {
        int n;
        double least;
    } cases[] = {{2, 1.9}, {4, 3.7}, {8, 7}, {16, 12}, {64, 25}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cut_evenly(stages, cases[i].n);
        double gain = alone / prompt_seconds(cases[i].n, stages, 100, 2048);
        print_message("%2d equal stages: a prompt of 2048 tokens %.2f times as fast as one\n",
                      cases[i].n, gain);
        assert_true(gain >= cases[i].least);
    }
}

static void uneven_stages_go_at_the_pace_of_the_slowest(void **state)
{
    (void)state;
    struct simulated_stage stages[8];
    double slowest = cut_unevenly(stages, 8);
    double least = 2048 * whole.row_us * slowest * 1e-6;
    double part = least / prompt_seconds(8, stages, 100, 2048);
    print_message("8 uneven stages: prompt at %.3f of what the slowest allows\n", part);
    assert_true(part >= 0.9);
    /* decode: 64 streams in groups of 8 are what the weights' time allows at once */
    double most = 64 / fmax(8 * whole.weights_us * slowest, 64 * whole.row_us * slowest) * 1e6;
    part = decode_rate(8, stages, 100, 64) / most;
    print_message("8 uneven stages: 64 streams at %.3f of what the slowest allows\n", part);
    assert_true(part >= 0.9);
}

/* Each machine serves its share of the streams as if it were alone with them. */
static void machines_add_up(void **state)
{
    (void)state;
    struct simulated_stage stages[64];
    static const int counts[] = {2, 3, 4, 8, 16, 32, 64};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        int n = counts[i];
        cut_evenly(stages, n);
        double one = decode_rate(1, &whole, 100, 4);
        double all = decode_rate(n, stages, 100, 4 * n);
        print_message("%2d stages, %3d streams: %.3f of %d machines with 4 streams each\n", n,
                      4 * n, all / (n * one), n);
        assert_true(all >= (n <= 32 ? 0.95 : 0.93) * n * one); /* 64 hops are 7 % of 200 ms */
    }
}

static void slow_links_are_filled_with_more_steps(void **state)
{
    (void)state;
    struct simulated_stage stages[8];
    /* With 50 ms, half a step's time, smaller groups cost more than the wire: 0.85 is the most. */
    static const double delays_us[] = {500, 5000, 50000}, least[] = {0.95, 0.95, 0.84};
    cut_evenly(stages, 4);
    double one = decode_rate(1, &whole, 100, 16);
    for (size_t i = 0; i < sizeof delays_us / sizeof delays_us[0]; i++) {
        double all = decode_rate(4, stages, delays_us[i], 64);
        print_message("4 stages, 64 streams, %.1f ms a hop: %.3f of 4 machines\n",
                      delays_us[i] * 1e-3, all / (4 * one));
        assert_true(all >= least[i] * 4 * one);
    }
}

static void streams_keep_their_rhythm_beside_a_long_prompt(void **state)
{
    (void)state;
    struct simulated_stage stages[8];
    for (int n = 1; n <= 8; n *= 2) {
        cut_evenly(stages, n);
        double alone = prompt_seconds(n, stages, 100, 4096);
        struct simulator *s = malloc(sizeof *s);
        assert_non_null(s);
        simulator_open(s, n, stages, 100, 4 * n + 1, 16384);
        for (int i = 0; i < 4 * n; i++)
            simulator_add(s, 8, 16000, true);
        simulator_run_until(s, s->now_us + 20 * 1000 * 1000);
        simulator_forget_gaps(s);
        simulator_run_until(s, s->now_us + 20 * 1000 * 1000);
        int64_t before_us = simulator_gap(s, 0.95);
        simulator_forget_gaps(s);
        simulator_add(s, 4096, 1, false);
        double beside = (double)simulator_run(s) * 1e-6;
        int64_t beside_us = simulator_gap(s, 0.95);
        print_message(
            "%d stages, %d streams: gap p95 %.0f -> %.0f ms (%.2f), prompt at %.2f of its "
            "speed alone\n",
            n, 4 * n, (double)before_us * 1e-3, (double)beside_us * 1e-3,
            (double)beside_us / (double)before_us, alone / beside);
        assert_true(beside_us <= 2 * before_us);
        assert_true(alone / beside >= 0.3);
        simulator_close(s);
        free(s);
    }
}

/* A short question does not wait for a long text to be read. */
static void a_short_prompt_is_not_stuck_behind_a_long_one(void **state)
{
    (void)state;
    struct simulated_stage stages[4];
    cut_evenly(stages, 4);
    struct simulator *s = malloc(sizeof *s);
    assert_non_null(s);
    simulator_open(s, 4, stages, 100, 4, 16384);
    simulator_add(s, 1000, 1, false);
    simulator_run(s);
    simulator_add(s, 8000, 1, true);
    simulator_run_until(s, s->now_us + 5 * 1000 * 1000);
    simulator_add(s, 20, 1, false);
    double waited = (double)simulator_run(s) * 1e-6;
    print_message("the first token of a short prompt behind a long one came after %.2f s\n",
                  waited);
    assert_true(waited <= 1.5); /* the long one takes 50 */
    simulator_close(s);
    free(s);
}

/* Seconds after a new plan until the first and the last of the streams go on, and those that what
 * is computed again takes on all machines together. */
struct pause {
    double first_s, last_s, rows_s;
};

static struct pause pause_of(int n_stages, int n_streams)
{
    struct simulated_stage stages[8];
    struct simulator *s = malloc(sizeof *s);
    assert_non_null(s);
    cut_evenly(stages, n_stages);
    simulator_open(s, n_stages, stages, 100, n_streams, 2048);
    for (int i = 0; i < n_streams; i++)
        simulator_add(s, 100 + 50 * i, 1500, true);
    simulator_run_until(s, s->now_us + 60 * 1000 * 1000);
    struct pause p = {.first_s = INFINITY};
    for (int i = 0; i < n_streams; i++)
        p.rows_s += s->requests[i].request->choices[0].n_tokens * whole.row_us / n_stages * 1e-6;
    simulator_renew(s, 0);
    int64_t lost_us = s->now_us;
    for (int waiting = n_streams, before; waiting; waiting = before) {
        simulator_run_until(s, s->now_us + 1);
        before = 0;
        for (int i = 0; i < n_streams; i++)
            before += s->requests[i].last_us <= lost_us;
        if (before < n_streams)
            p.first_s = fmin(p.first_s, (double)(s->now_us - lost_us) * 1e-6);
        p.last_s = (double)(s->now_us - lost_us) * 1e-6;
    }
    simulator_close(s);
    free(s);
    return p;
}

/* Streams lose their worker: nobody waits for much longer than all takes that is computed again,
 * and the first one not for long. */
static void a_pause_is_hardly_longer_than_what_is_computed_again(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n *= 2) {
        struct pause p = pause_of(n, 8);
        print_message("%d stages, 8 streams: after a new plan the first goes on after %.2f, the "
                      "last after %.2f of what is computed again\n",
                      n, p.first_s / p.rows_s, p.last_s / p.rows_s);
        assert_true(p.last_s <= 1.25 * p.rows_s);
        assert_true(p.first_s <= 0.25 * p.rows_s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_runs_at_nearly_the_speed_of_all_machines),
        cmocka_unit_test(uneven_stages_go_at_the_pace_of_the_slowest),
        cmocka_unit_test(machines_add_up),
        cmocka_unit_test(slow_links_are_filled_with_more_steps),
        cmocka_unit_test(streams_keep_their_rhythm_beside_a_long_prompt),
        cmocka_unit_test(a_short_prompt_is_not_stuck_behind_a_long_one),
        cmocka_unit_test(a_pause_is_hardly_longer_than_what_is_computed_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
