/* What is learnt from the times of steps, and what follows from it. */
#include "coordinator/pace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A stage that takes 10 ms for up to ten rows and 1 ms a row beyond; the others half of it. */
static void learn(struct step_cost *c, int n_decode, int n_prefill, int64_t round_trip_us)
{
    uint32_t us[4];
    for (int i = 0; i < c->n_stages; i++)
        us[i] = (uint32_t)(1000 * fmax(10, n_decode + n_prefill)) / (i == 1 ? 1 : 2);
    step_cost_learn(c, n_decode, n_prefill, us, round_trip_us);
}

static void nothing_is_known_at_first(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 3, NULL), 0);
    assert_true(step_cost_slowest(&c, STEP_DECODE, 1) == 0);
    assert_int_equal(pace_groups(&c, 1, 0), 1);
    assert_int_equal(pace_groups(&c, 2, 0), 2);
    assert_int_equal(pace_groups(&c, 100, 0), 3);
    assert_int_equal(pace_rows_beside(&c, 4, 500), 16);
    assert_int_equal(pace_rows_beside(&c, 4, 5), 5);
    assert_int_equal(pace_steps_alone(&c, 64), 4);
    assert_in_range(pace_rows_alone(&c, 2000, 512), 32, 256);
    assert_int_equal(pace_rows_alone(&c, 2000, 10), 10);
    step_cost_clear(&c);
}

static void sizes_between_are_on_a_line(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 2, NULL), 0);
    learn(&c, 0, 32, -1);
    learn(&c, 0, 128, -1);
    assert_true(step_cost_slowest(&c, STEP_PREFILL, 32) == 32000);
    assert_true(step_cost_slowest(&c, STEP_PREFILL, 80) == 80000);
    assert_true(step_cost_sum(&c, STEP_PREFILL, 80) == 120000);
    assert_true(step_cost_slowest(&c, STEP_PREFILL, 256) == 256000);
    assert_true(step_cost_slowest(&c, STEP_PREFILL, 16) == 16000);
    assert_true(step_cost_slowest(&c, STEP_DECODE, 16) == 0); /* another curve */
    step_cost_clear(&c);
}

/* What a long context or a busy machine adds is noticed after some steps. */
static void means_move(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 1, NULL), 0);
    for (int i = 0; i < 100; i++)
        step_cost_learn(&c, 4, 0, (uint32_t[]){i < 50 ? 10000 : 20000}, -1);
    assert_true(fabs(step_cost_slowest(&c, STEP_DECODE, 4) - 20000) < 200);
    step_cost_clear(&c);
}

/* E(q) <= 0.8 D, F(q) <= 0.8 D */
static void prompts_leave_streams_their_rhythm(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 2, NULL), 0);
    learn(&c, 10, 0, -1); /* 10 ms at the slower stage */
    for (int q = 1; q <= 64; q *= 2) {
        learn(&c, 10, q, -1);
        learn(&c, 0, q, -1);
    }
    assert_int_equal(pace_rows_beside(&c, 10, 500), 8);
    assert_int_equal(pace_rows_beside(&c, 10, 3), 3);
    assert_int_equal(pace_rows_between(&c, 10, 500), 0); /* any prompt takes 10 ms at least */
    step_cost_clear(&c);
}

/* One slow step must not shut the door for ever: nothing would be learnt any more. */
static void a_prompt_always_gets_on(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 1, NULL), 0);
    step_cost_learn(&c, 4, 0, (uint32_t[]){10000}, -1);
    step_cost_learn(&c, 4, 1, (uint32_t[]){900000}, -1);
    assert_int_equal(pace_rows_beside(&c, 4, 500), 4);
    assert_int_equal(pace_rows_beside(&c, 4, 2), 2);
    step_cost_clear(&c);
}

/* While weights take longer than rows, prompt rows add nothing. */
static void free_rows_become_more_but_not_without_end(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 1, NULL), 0);
    step_cost_learn(&c, 4, 0, (uint32_t[]){200000}, -1);
    static const int rows[] = {16, 32, 64, 128, 256, 500};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(pace_rows_beside(&c, 4, 500), rows[i]);
        step_cost_learn(&c, 4, rows[i], (uint32_t[]){200000}, -1);
    }
    step_cost_clear(&c);
}

/* A stage that needs weights_us and row_us for each row; one step, of whatever size the pace says,
 * takes longer than it should. */
struct hiccup {
    int n_stages, weights_us, row_us, step;
    double s;
};

static const struct hiccup hiccups[] = {
    {1, 50000, 1200, 0, 0},   {1, 50000, 1200, 0, 0.2},  {1, 50000, 1200, 0, 3},
    {1, 50000, 1200, 50, 3},  {1, 50000, 1200, 50, 0.5}, {1, 50000, 1200, 300, 60},
    {4, 50000, 1200, 0, 0.2}, {4, 50000, 1200, 0, 3},    {4, 50000, 1200, 50, 3},
    {4, 50000, 1200, 50, 1},  {4, 200000, 300, 0, 3},    {4, 200000, 300, 50, 3},
};

static int rows_after(const struct hiccup *h, double s, int n_decode, int n_steps)
{
    struct step_cost c;
    uint32_t us[4];
    int rows = 0;
    assert_int_equal(step_cost_init(&c, h->n_stages, NULL), 0);
    for (int i = 0; i <= n_steps; i++) {
        for (int k = 0; k < h->n_stages; k++)
            us[k] = (uint32_t)h->weights_us;
        if (n_decode) /* streams have turns without a prompt, too */
            step_cost_learn(&c, n_decode, 0, us, -1);
        rows = n_decode ? pace_rows_beside(&c, n_decode, 512) : pace_rows_alone(&c, 4000, 512);
        for (int k = 0; k < h->n_stages; k++)
            us[k] += (uint32_t)(h->row_us * rows + (i == h->step ? s * 1e6 : 0));
        step_cost_learn(&c, n_decode, rows, us, -1);
    }
    step_cost_clear(&c);
    return rows;
}

static double time_alone(const struct hiccup *h, int rows)
{
    return (4000.0 / rows - 1 + h->n_stages) * (h->weights_us + h->row_us * rows);
}

/* A first step faults pages in; any machine stands still for a while now and then. */
static void a_slow_step_is_forgotten(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof hiccups / sizeof hiccups[0]; i++) {
        const struct hiccup *h = &hiccups[i];
        int n_steps = h->step + 500;
        int beside = rows_after(h, h->s, 4, n_steps), alone = rows_after(h, h->s, 0, n_steps);
        print_message("%d stages of %d ms, %4.1f s more at step %3d: %3d rows beside decode, "
                      "%3d alone\n",
                      h->n_stages, h->weights_us / 1000, h->s, h->step, beside, alone);
        wrong += beside != (int)fmin(0.8 * h->weights_us / h->row_us, 512);
        wrong += time_alone(h, alone) > 1.02 * time_alone(h, rows_after(h, 0, 0, n_steps));
    }
    assert_int_equal(wrong, 0);
}

/* 64 choices, 1 ms a row: with 40 ms on the wire two groups of 32 need 88 ms for a round and are
 * busy for 64 of them; four of 16 need 64 and are always busy. */
static void groups_fill_the_wire(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 2, NULL), 0);
    for (int b = 1; b <= 64; b++)
        learn(&c, b, 0, (int64_t)(1500 * fmax(10, b)) + 100);
    int few = pace_groups(&c, 64, 2);
    for (int i = 0; i < 200; i++)
        learn(&c, 8, 0, 15000 + 40000);
    int many = pace_groups(&c, 64, few);
    assert_int_equal(few, 2);
    assert_int_equal(many, 4);
    assert_int_equal(pace_groups(&c, 64, many), many); /* and stays */
    step_cost_clear(&c);
}

/* However cheap the rows of a large one seem, the stages behind wait for it. */
static void chunks_are_small_parts_of_a_prompt(void **state)
{
    (void)state;
    for (int n_stages = 1; n_stages <= 4; n_stages++) {
        struct step_cost c;
        static const uint32_t times[] = {90000, 90000, 90000, 90000};
        assert_int_equal(step_cost_init(&c, n_stages, NULL), 0);
        for (int rows = 32; rows <= 512; rows *= 2)
            step_cost_learn(&c, 0, rows, times, -1);
        assert_int_equal(pace_rows_alone(&c, 4000, 512),
                         n_stages == 1 ? 512 : 4000 / 12 / (n_stages - 1) / 32 * 32);
        assert_int_equal(pace_rows_alone(&c, 100, 512), 96);
        step_cost_clear(&c);
    }
}

static void a_round_takes_a_second_at_most(void **state)
{
    (void)state;
    struct step_cost c;
    assert_int_equal(step_cost_init(&c, 4, NULL), 0);
    uint32_t us[4];
    for (int q = 32; q <= 512; q *= 2) {
        for (int i = 0; i < 4; i++)
            us[i] = (uint32_t)(2000 * q + 1000);
        step_cost_learn(&c, 0, q, us, -1);
    }
    int rows = pace_rows_alone(&c, 100000, 512);
    assert_true(step_cost_sum(&c, STEP_PREFILL, rows) <= 1000000);
    assert_int_equal(rows, 96);
    step_cost_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_at_first),
        cmocka_unit_test(sizes_between_are_on_a_line),
        cmocka_unit_test(means_move),
        cmocka_unit_test(prompts_leave_streams_their_rhythm),
        cmocka_unit_test(a_prompt_always_gets_on),
        cmocka_unit_test(free_rows_become_more_but_not_without_end),
        cmocka_unit_test(a_slow_step_is_forgotten),
        cmocka_unit_test(groups_fill_the_wire),
        cmocka_unit_test(chunks_are_small_parts_of_a_prompt),
        cmocka_unit_test(a_round_takes_a_second_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
