/* Plans: exact against trying all cuts, within memory, and refusals in words. */
#include "coordinator/planner.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_LAYERS  9
#define MAX_WORKERS 4

struct plan_case {
    int64_t layer_bytes[MAX_LAYERS], layer_work[MAX_LAYERS], kv_bytes[MAX_LAYERS];
    struct planner_model model;
    struct planner_worker workers[MAX_WORKERS];
    int n_workers;
};

static unsigned random_next(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void plan_case_make(struct plan_case *c, unsigned *seed)
{
    int n = 1 + (int)(random_next(seed) % MAX_LAYERS);
    c->n_workers = 1 + (int)(random_next(seed) % MAX_WORKERS);
    for (int i = 0; i < n; i++) {
        c->layer_bytes[i] = 1000 + random_next(seed) % 3000;
        c->layer_work[i] = 1000 + random_next(seed) % 3000;
        c->kv_bytes[i] = 1 + random_next(seed) % 4;
    }
    c->model = (struct planner_model){.n_layers = n,
                                      .layer_bytes = c->layer_bytes,
                                      .layer_work = c->layer_work,
                                      .kv_token_bytes = c->kv_bytes,
                                      .head_bytes = random_next(seed) % 5000,
                                      .head_work = random_next(seed) % 5000,
                                      .kv_tokens = 100,
                                      .scratch_bytes = 50,
                                      .head_scratch_bytes = 20};
    for (int i = 0; i < c->n_workers; i++)
        c->workers[i] =
            (struct planner_worker){1 + random_next(seed) % 8, 2000 + random_next(seed) % 20000};
}

static double work_of(const struct plan_case *c, int first, int end, int worker)
{
    double work = 0;
    for (int i = first; i < end; i++)
        work += (double)c->layer_work[i];
    if (end == c->model.n_layers)
        work += (double)c->model.head_work;
    return work / c->workers[worker].speed;
}

/* The slowest stage of the best plan, by trying everything. */
static double best_of_all(const struct plan_case *c, int worker, int first)
{
    if (first == c->model.n_layers)
        return 0;
    if (worker >= c->n_workers || worker >= MAX_WORKERS)
        return INFINITY;
    double best = best_of_all(c, worker + 1, first);
    for (int end = first + 1; end <= c->model.n_layers; end++) {
        if (planner_stage_memory(&c->model, first, end) > c->workers[worker].memory_bytes)
            break;
        double rest = best_of_all(c, worker + 1, end), own = work_of(c, first, end, worker);
        double both = own > rest ? own : rest;
        best = both < best ? both : best;
    }
    return best;
}

static void plans_equal_the_best_of_all_cuts(void **state)
{
    unsigned seed = 7;
    int planned = 0, refused = 0;
    for (int round = 0; round < 3000; round++) {
        struct plan_case c;
        plan_case_make(&c, &seed);
        struct planner_stage stages[MAX_WORKERS];
        int n = 0;
        struct err err = {0};
        int rc = planner_plan(&c.model, c.workers, c.n_workers, stages, &n, &err);
        double best = best_of_all(&c, 0, 0);
        if (isinf(best)) {
            assert_int_equal(rc, ERR_MEMORY);
            assert_non_null(strstr(err.text, "GiB"));
            refused++;
            continue;
        }
        assert_int_equal(rc, 0);
        double slowest = 0;
        int layer = 0;
        for (int i = 0; i < n; i++) {
            assert_int_equal(stages[i].first_layer, layer);
            assert_true(stages[i].end_layer > layer);
            assert_true(!i || stages[i].worker > stages[i - 1].worker);
            assert_true(stages[i].memory_bytes <= c.workers[stages[i].worker].memory_bytes);
            layer = stages[i].end_layer;
            double own = work_of(&c, stages[i].first_layer, layer, stages[i].worker);
            slowest = own > slowest ? own : slowest;
        }
        assert_int_equal(layer, c.model.n_layers);
        assert_true(slowest == best);
        planned++;
    }
    assert_true(planned > 500 && refused > 100);
}

static void cuts_are_taken_as_they_are(void **state)
{
    unsigned seed = 3;
    struct plan_case c;
    do
        plan_case_make(&c, &seed);
    while (c.model.n_layers < 6 || c.n_workers < 3);
    for (int i = 0; i < c.n_workers; i++)
        c.workers[i].memory_bytes = 1 << 30;
    const int cuts[] = {1, 4};
    struct planner_stage stages[MAX_WORKERS];
    int n = 0;
    struct err err = {0};
    assert_int_equal(planner_plan_cuts(&c.model, c.workers, c.n_workers, cuts, 2, stages, &n, &err),
                     0);
    assert_int_equal(n, 3);
    assert_int_equal(stages[1].first_layer, 1);
    assert_int_equal(stages[1].end_layer, 4);
    assert_int_equal(stages[2].end_layer, c.model.n_layers);
    c.workers[1].memory_bytes = 10;
    assert_int_equal(planner_plan_cuts(&c.model, c.workers, c.n_workers, cuts, 2, stages, &n, &err),
                     ERR_MEMORY);
    assert_int_equal(planner_plan_cuts(&c.model, c.workers, 2, cuts, 2, stages, &n, &err),
                     ERR_UNAVAILABLE);
}

static void cut_lists_are_checked(void **state)
{
    int cuts[4], n = 0;
    struct err err = {0};
    assert_int_equal(planner_parse_cuts("3,5", cuts, 4, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(cuts[1], 5);
    const char *const wrong[] = {"3,", ",3", "a", "5,3", "3,3", "0", "-1", "1,2,3,4,5", "3;5"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(planner_parse_cuts(wrong[i], cuts, 4, &n, &err), ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_equal_the_best_of_all_cuts),
        cmocka_unit_test(cuts_are_taken_as_they_are),
        cmocka_unit_test(cut_lists_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
