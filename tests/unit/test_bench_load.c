/* test_bench_load.c - lengths, arrivals, prompts and percentiles of a load. */
#include "cli/bench_samples.h"
#include "cli/bench_workload.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct bench_workload workload = {.input = {20, 30},
                                               .output = {5, 7},
                                               .shared_prefix = 8,
                                               .prefixes = 3,
                                               .vocabulary = 1000,
                                               .rate = 4,
                                               .seed = 7};

static void test_percentiles_are_values_of_the_nearest_rank(void **state)
{
    struct bench_samples s = {0};
    for (int i = 1000; i >= 1; i--) /* more than one growth */
        assert_true(bench_samples_add(&s, i));
    struct bench_summary r = bench_samples_summary(&s);
    assert_int_equal(r.n, 1000);
    assert_true(r.min == 1 && r.p50 == 500 && r.p95 == 950 && r.p99 == 990 && r.max == 1000);
    assert_true(fabs(r.mean - 500.5) < 1e-9);
    bench_samples_clear(&s);

    const double few[] = {1, 2, 3, 4, 5};
    assert_true(bench_samples_percentile(few, 5, 50) == 3);
    assert_true(bench_samples_percentile(few, 5, 20) == 1);
    assert_true(bench_samples_percentile(few, 5, 21) == 2);
    assert_true(bench_samples_percentile(few, 5, 95) == 5);
    assert_true(bench_samples_percentile(few, 1, 1) == 1);
    assert_true(bench_samples_percentile(few, 5, 100) == 5);
}

static void test_no_samples(void **state)
{
    struct bench_samples s = {0};
    struct bench_summary r = bench_samples_summary(&s);
    assert_true(r.n == 0 && r.mean == 0 && r.p99 == 0);
    bench_samples_clear(&s);
}

static void test_lengths(void **state)
{
    struct bench_range r;
    struct err err;
    assert_int_equal(bench_range_read("128", &r, &err), 0);
    assert_true(r.min == 128 && r.max == 128);
    assert_int_equal(bench_range_read("1-1048576", &r, &err), 0);
    assert_true(r.min == 1 && r.max == 1048576);
    const char *const wrong[] = {
        "",        "0",   "-1", "1-",   "-",  "2-1", "1-2-", "1 2",
        "1048577", "1-x", "x",  "1--2", " 1", "+1",  "1- 2", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(bench_range_read(wrong[i], &r, &err), ERR_USAGE);
}

static void test_lengths_fill_their_range(void **state)
{
    bool seen[11] = {false};
    for (int i = 0; i < 500; i++) {
        int64_t n = bench_workload_input(&workload, i);
        assert_in_range(n, 20, 30);
        assert_in_range(bench_workload_output(&workload, i), 5, 7);
        seen[n - 20] = true;
    }
    for (int i = 0; i < 11; i++)
        assert_true(seen[i]);
}

static void test_arrivals_follow_from_the_seed(void **state)
{
    struct bench_workload other = workload;
    other.seed = 8;
    double sum = 0, squares = 0;
    int different = 0;
    const int n = 20000;
    for (int i = 0; i < n; i++) {
        double gap = bench_workload_gap(&workload, i);
        assert_true(gap >= 0 && gap < 60);
        assert_true(gap == bench_workload_gap(&workload, i));
        different += gap != bench_workload_gap(&other, i);
        sum += gap;
        squares += gap * gap;
    }
    /* Exponential: deviation as large as the mean, 1/4 s. Five standard errors either way. */
    assert_true(fabs(sum / n - 0.25) < 5 * 0.25 / sqrt(n));
    assert_true(fabs(squares / n - 2 * 0.25 * 0.25) < 0.01);
    assert_true(different > n - 10);
}

static void test_prompts_share_what_they_should(void **state)
{
    json_t *prompts[30];
    for (int i = 0; i < 30; i++) {
        prompts[i] = bench_workload_prompt(&workload, i);
        assert_int_equal(json_array_size(prompts[i]), bench_workload_input(&workload, i));
        json_t *again = bench_workload_prompt(&workload, i);
        assert_true(json_equal(prompts[i], again));
        json_decref(again);
    }
    for (int i = 0; i < 30; i++)
        for (int j = 0; j < i; j++) {
            size_t same = 0;
            while (same < 20 &&
                   json_equal(json_array_get(prompts[i], same), json_array_get(prompts[j], same)))
                same++;
            if (i % 3 == j % 3)
                assert_in_range(same, 8, 11); /* more would be a chance of one in a billion */
            else
                assert_in_range(same, 0, 3);
        }
    size_t k;
    json_t *id;
    for (int i = 0; i < 30; i++) {
        json_array_foreach(prompts[i], k, id) assert_in_range(json_integer_value(id), 0, 999);
        json_decref(prompts[i]);
    }
}

static void test_prompts_of_words(void **state)
{
    struct bench_workload w = workload;
    w.is_text = true;
    json_t *prompt = bench_workload_prompt(&w, 4);
    int64_t spaces = 0;
    for (const char *p = json_string_value(prompt); *p; p++)
        spaces += *p == ' ';
    assert_int_equal(spaces + 1, bench_workload_input(&w, 4));
    json_decref(prompt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percentiles_are_values_of_the_nearest_rank),
        cmocka_unit_test(test_no_samples),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_lengths_fill_their_range),
        cmocka_unit_test(test_arrivals_follow_from_the_seed),
        cmocka_unit_test(test_prompts_share_what_they_should),
        cmocka_unit_test(test_prompts_of_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
