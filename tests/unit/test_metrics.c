/* What the coordinator counts, and how it is written down. Times are the test's own. */
#include "base/buf.h"
#include "coordinator/metrics.h"
#include "coordinator/metrics_text.h"
#include "coordinator/trace_context.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_histogram(void **state)
{
    static const double bounds[] = {1, 2.5};
    struct histogram h;
    histogram_init(&h, bounds, 2);
    const double values[] = {0, 1, 1.0001, 2.5, 3, 1e9};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        histogram_add(&h, values[i]);
    assert_int_equal(h.counts[0], 2); /* the bound itself is inside */
    assert_int_equal(h.counts[1], 2);
    assert_int_equal(h.counts[2], 2);
    assert_true(h.sum == 0 + 1 + 1.0001 + 2.5 + 3 + 1e9);
}

static void test_text(void **state)
{
    static const double bounds[] = {0.05, 2};
    struct buf out;
    struct histogram h;
    buf_init(&out);
    struct metrics_text t = {.out = &out, .every = {{"model_name", "a\"b\\c\nd\xff"}}};
    metrics_text_one(&t, "x_total", "counter", "Many.", 12345678901234.0);
    t.every[0].name = NULL;
    histogram_init(&h, bounds, 2);
    histogram_add(&h, 0.01);
    histogram_add(&h, 7);
    metrics_text_family(&t, "y", "histogram", "Values.");
    metrics_text_histogram(&t, &(struct metrics_label){"worker", "w"}, 1, &h);
    metrics_text_one(&t, "z", "gauge", "None.", NAN);
    metrics_text_sample(&t, &(struct metrics_label){"left_out", ""}, 1, INFINITY);
    assert_string_equal(buf_text(&out),
                        "# HELP x_total Many.\n# TYPE x_total counter\n"
                        "x_total{model_name=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 12345678901234\n"
                        "# HELP y Values.\n# TYPE y histogram\n"
                        "y_bucket{worker=\"w\",le=\"0.05\"} 1\ny_bucket{worker=\"w\",le=\"2\"} 1\n"
                        "y_bucket{worker=\"w\",le=\"+Inf\"} 2\ny_sum{worker=\"w\"} 7.01\n"
                        "y_count{worker=\"w\"} 2\n"
                        "# HELP z None.\n# TYPE z gauge\nz NaN\nz +Inf\n");
    buf_clear(&out);
}

/* Steps of two stages, sent every `every_ms`, which take 100 ms each; the first computes 40 ms of
 * them, the second 10. */
static void run_steps(struct metrics *m, int64_t *now_us, int n, int64_t every_ms)
{
    for (int i = 0; i < n; i++) {
        const struct timeline_time times[] = {{.stage = 0, .compute_us = 40000},
                                              {.stage = 1, .compute_us = 10000}};
        metrics_step_done(m, &(struct metrics_step){.sent_us = *now_us,
                                                    .answered_us = *now_us + 100000,
                                                    .n_rows = 3,
                                                    .times = times,
                                                    .n_times = 2});
        *now_us += every_ms * 1000;
    }
}

static void check_bubble(const struct metrics *m, const char *name, int64_t now_us, double wanted)
{
    double ratio = -1;
    const struct metrics_worker *w = metrics_worker_named(m, name);
    assert_non_null(w);
    assert_true(metrics_bubble_ratio(m, w, now_us, &ratio));
    if (fabs(ratio - wanted) > 1e-6)
        fail_msg("%s: %g instead of %g", name, ratio, wanted);
}

static void test_bubbles(void **state)
{
    static const struct timeline_stage stages[] = {{.worker = "a"}, {.worker = "b"}};
    struct metrics *m;
    double ratio;
    int64_t now_us = 1000000000;
    assert_int_equal(metrics_new(&m, NULL), 0);
    metrics_plan(m, stages, 2, 0);
    assert_false(metrics_bubble_ratio(m, metrics_worker_named(m, "a"), now_us, &ratio));
    assert_null(metrics_worker_named(m, "c"));
    /* One at a time, and pauses between: they are nobody's bubbles. */
    run_steps(m, &now_us, 50, 1000);
    assert_true(fabs(m->active_s - 5) < 1e-9);
    assert_int_equal(metrics_take_untold(m), 1000000000 + 100000); /* the oldest of these steps */
    assert_int_equal(metrics_take_untold(m), 0);
    check_bubble(m, "a", now_us, 0.6);
    check_bubble(m, "b", now_us, 0.9);
    /* Two under way: what overlaps counts once. After 20 s of it the past is forgotten. */
    run_steps(m, &now_us, 600, 50);
    assert_true(fabs(m->active_s - 5 - 0.05 - 30) < 1e-6);
    check_bubble(m, "a", now_us, 0.2);
    check_bubble(m, "b", now_us, 0.8);
    assert_false(metrics_bubble_ratio(m, metrics_worker_named(m, "a"), now_us + 60000000, &ratio));
    assert_int_equal(m->step_rows.counts[1], 650);
    metrics_free(m);
}

/* Workers that come and go take the places of those that are not of the plan. */
static void test_many_workers(void **state)
{
    struct metrics *m;
    struct timeline_stage stages[3] = {{.worker = "stays"}};
    int64_t now_us = 1;
    assert_int_equal(metrics_new(&m, NULL), 0);
    for (int i = 0; i < 3 * METRICS_WORKERS; i++) {
        snprintf(stages[1].worker, sizeof stages[1].worker, "guest-%d", i);
        snprintf(stages[2].worker, sizeof stages[2].worker, "other-%d", i);
        metrics_plan(m, stages, 3, 2);
        run_steps(m, &now_us, 1, 100);
    }
    assert_int_equal(m->n_plans, 3 * METRICS_WORKERS);
    assert_int_equal(m->n_replays, 6 * METRICS_WORKERS);
    const struct metrics_worker *w = metrics_worker_named(m, "stays");
    assert_true(fabs(w->step_s.sum - 3 * METRICS_WORKERS * 0.04) < 1e-6);
    w = metrics_worker_named(m, stages[1].worker);
    assert_non_null(w);
    assert_true(fabs(w->step_s.sum - 0.01) < 1e-9);
    metrics_free(m);
}

static void test_requests(void **state)
{
    struct choice choices[2] = {{.n_tokens = 12}, {.n_tokens = 10}};
    struct request r = {.n_prompt = 10,
                        .n_choices = 2,
                        .choices = choices,
                        .arrived_us = 1,
                        .scheduled_us = 500001,
                        .first_token_us = 1500001};
    struct metrics *m;
    assert_int_equal(metrics_new(&m, NULL), 0);
    metrics_token(m, &r, &choices[0], true);
    metrics_token(m, &r, &choices[0], false);
    assert_int_equal(m->n_prompt_tokens, 10);
    assert_int_equal(m->n_generated_tokens, 2);
    assert_int_equal(m->token_gap_s.counts[0], 1);
    choices[0].finish = FINISH_STOP;
    choices[0].last_token_us = 3500001;
    choices[1].finish = FINISH_CANCELLED;
    metrics_request_done(m, &r);
    assert_int_equal(m->n_ended[METRICS_STOP], 1);
    assert_int_equal(m->n_ended[METRICS_ABORT], 1);
    assert_true(m->whole_s.sum == 3.5 && m->waiting_s.sum == 0.5);
    assert_true(m->prefill_s.sum == 1 && m->decode_s.sum == 2);
    assert_true(m->generated_tokens.sum == 2);
    metrics_free(m);
}

static void test_trace_context(void **state)
{
    static const struct {
        const char *header;
        bool ok;
    } cases[] = {
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true},
        {"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what.comes", true},
        {"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true},
        {NULL, false},
        {"", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011", false},
        {"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00x", false},
        {"00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
        {"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01", false},
        {"00", false},
    };
    struct trace_context t, other;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&t, 'x', sizeof t);
        if (trace_context_read(&t, cases[i].header) != cases[i].ok)
            fail_msg("%s", cases[i].header);
        assert_string_equal(t.trace_id, cases[i].ok ? "0af7651916cd43dd8448eb211c80319c" : "");
    }
    trace_context_read(&t, cases[0].header);
    trace_context_read(&other, cases[0].header);
    assert_string_equal(t.parent_id, "b7ad6b7169203331");
    assert_string_equal(t.flags, "01");
    assert_int_equal(strlen(t.span_id), 16);
    assert_string_not_equal(t.span_id, other.span_id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram), cmocka_unit_test(test_text),
        cmocka_unit_test(test_bubbles),   cmocka_unit_test(test_many_workers),
        cmocka_unit_test(test_requests),  cmocka_unit_test(test_trace_context)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
