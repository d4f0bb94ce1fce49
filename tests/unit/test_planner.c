/* Plans: against trying everything, within memory, in words. */
#include "coordinator/planner.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_LAYERS  7
#define MAX_WORKERS 4

struct plan_case {
    unsigned char kind[MAX_LAYERS];
    double scale[MAX_LAYERS];
    int64_t weight_bytes[MAX_LAYERS], kv_bytes[MAX_LAYERS];
    struct plan_model model;
    struct planner_worker workers[MAX_WORKERS];
    int n_workers;
    struct planner_goal goal;
};

static unsigned random_next(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void speed_make(struct plan_speed *s, double slowness, unsigned *seed)
{
    *s = (struct plan_speed){.attend_s = slowness * 1e-7, .attend_many_s = slowness * 1e-7};
    for (int kind = 0; kind <= PLAN_HEAD; kind++)
        for (int i = 0; i < PLAN_POINTS; i++)
            s->seconds[kind][i] = slowness * (i + 1) * 1e-3 * (1 + random_next(seed) % 100 / 200.0);
    if (random_next(seed) % 2) {
        s->link_s = random_next(seed) % 5 * 1e-3;
        s->link_bytes_per_s = random_next(seed) % 2 ? 1e6 : 0;
    }
}

static void plan_case_make(struct plan_case *c, unsigned *seed)
{
    int n = 1 + (int)(random_next(seed) % MAX_LAYERS);
    *c = (struct plan_case){.n_workers = 1 + (int)(random_next(seed) % MAX_WORKERS)};
    for (int i = 0; i < n; i++) {
        c->kind[i] = (unsigned char)(random_next(seed) % PLAN_KINDS);
        c->scale[i] = 1;
        c->weight_bytes[i] = 1000 + random_next(seed) % 3000;
        c->kv_bytes[i] = 1 + random_next(seed) % 400;
    }
    c->model = (struct plan_model){.n_layers = n,
                                   .n_kinds = PLAN_KINDS,
                                   .hidden_size = 100,
                                   .kind = c->kind,
                                   .scale = c->scale,
                                   .weight_bytes = c->weight_bytes,
                                   .kv_bytes = c->kv_bytes,
                                   .head_bytes = random_next(seed) % 5000,
                                   .working_bytes = 50,
                                   .thread_bytes = 10};
    for (int i = 0; i < c->n_workers; i++) {
        struct planner_worker *w = &c->workers[i];
        /* Some are alike. */
        if (i && random_next(seed) % 4 == 0) {
            *w = c->workers[i - 1];
            continue;
        }
        *w =
            (struct planner_worker){.threads = 1, .memory_bytes = 9000 + random_next(seed) % 20000};
        speed_make(&w->speed, 1 + random_next(seed) % 4, seed);
    }
    c->goal = (struct planner_goal){.objective = (enum planner_objective)(random_next(seed) % 3),
                                    .concurrency = 1 + (int)(random_next(seed) % 12),
                                    .context = 10};
}

/* The best of all plans, by trying all orders and cuts. */
struct best {
    const struct plan_case *c;
    struct planner_stage stages[MAX_WORKERS];
    double least_latency, most_latency, best_rate;
    int n;
};

static void try_all(struct best *b, int depth, int first, unsigned used)
{
    const struct plan_case *c = b->c;
    if (first == c->model.n_layers) {
        struct planner_forecast f =
            planner_forecast(&c->model, c->workers, c->n_workers, &c->goal, b->stages, depth);
        b->least_latency = fmin(b->least_latency, f.latency_s);
        if (f.latency_s <= b->most_latency)
            b->best_rate = fmax(b->best_rate, f.total_rate);
        return;
    }
    for (int w = 0; w < c->n_workers && depth < MAX_WORKERS; w++) {
        if (used & 1u << w)
            continue;
        for (int end = first + 1; end <= c->model.n_layers; end++) {
            if (plan_model_memory(&c->model, 1, first, end) > c->workers[w].memory_bytes)
                continue;
            b->stages[depth] = (struct planner_stage){w, first, end, 0};
            try_all(b, depth + 1, end, used | 1u << w);
        }
    }
}

static struct best best_of_all(const struct plan_case *c)
{
    struct best b = {.c = c, .least_latency = INFINITY, .most_latency = INFINITY};
    try_all(&b, 0, 0, 0);
    if (c->goal.objective == PLANNER_BALANCED) {
        b.most_latency = b.least_latency * 1.1;
        b.best_rate = 0;
        try_all(&b, 0, 0, 0);
    }
    return b;
}

static void check_plan(const struct plan_case *c, const struct planner_stage *stages, int n)
{
    int layer = 0;
    unsigned used = 0;
    for (int i = 0; i < n; i++) {
        assert_int_equal(stages[i].first_layer, layer);
        assert_true(stages[i].end_layer > layer);
        assert_false(used & 1u << stages[i].worker);
        used |= 1u << stages[i].worker;
        assert_int_equal(stages[i].memory_bytes,
                         plan_model_memory(&c->model, 1, layer, stages[i].end_layer));
        assert_true(stages[i].memory_bytes <= c->workers[stages[i].worker].memory_bytes);
        layer = stages[i].end_layer;
    }
    assert_int_equal(layer, c->model.n_layers);
}

/* How far from the best plan of all; 0 where there is none, and the planner says so. */
static double distance_of(struct plan_case *c)
{
    struct planner_stage stages[PLANNER_MAX_STAGES];
    int n = 0;
    struct err err = {0};
    int rc = planner_plan(&c->model, c->workers, c->n_workers, &c->goal, stages, &n, &err);
    struct best best = best_of_all(c);
    if (isinf(best.least_latency)) {
        assert_int_equal(rc, ERR_MEMORY);
        assert_non_null(strstr(err.text, "GiB"));
        return 0;
    }
    assert_int_equal(rc, 0);
    check_plan(c, stages, n);
    struct planner_forecast f =
        planner_forecast(&c->model, c->workers, c->n_workers, &c->goal, stages, n);
    if (c->goal.objective == PLANNER_LATENCY)
        return f.latency_s / best.least_latency - 1;
    assert_true(f.latency_s <= best.most_latency * (1 + 1e-9));
    return best.best_rate / f.total_rate - 1;
}

static void compare_with_all(bool in_orders, int rounds, double most, double mean)
{
    unsigned seed = 7;
    double sum = 0, worst = 0;
    for (int round = 0; round < rounds; round++) {
        struct plan_case c;
        plan_case_make(&c, &seed);
        c.goal.in_orders = in_orders;
        double distance = distance_of(&c);
        if (distance > most)
            fail_msg("round %d: %.2f %% from the best, objective %d, concurrency %d", round,
                     100 * distance, c.goal.objective, c.goal.concurrency);
        sum += distance;
        worst = fmax(worst, distance);
    }
    print_message("mean %.4f %%, worst %.3f %%\n", 100 * sum / rounds, 100 * worst);
    assert_true(sum / rounds <= mean);
}

static void plans_equal_the_best_of_all(void **state)
{
    compare_with_all(false, 2000, 0.01, 1e-5);
}

static void orders_come_close_to_the_best(void **state)
{
    compare_with_all(true, 2000, 0.05, 0.005);
}

/* A model of equal layers on workers of one speed: as even as can be, all of them, in order. */
static void equal_workers_share_evenly(void **state)
{
    unsigned seed = 1;
    struct plan_case c;
    do
        plan_case_make(&c, &seed);
    while (c.model.n_layers < 7);
    memset(c.kind, 0, sizeof c.kind);
    memset(&c.model.kinds, 0, sizeof c.model.kinds);
    struct plan_speed speed = {.attend_s = 0};
    for (int i = 0; i < PLAN_POINTS; i++)
        speed.seconds[0][i] = (i + 1) * 0.01;
    for (int i = 0; i < MAX_WORKERS; i++)
        c.workers[i] =
            (struct planner_worker){.speed = speed, .memory_bytes = 1 << 30, .threads = 1};
    struct planner_stage stages[PLANNER_MAX_STAGES];
    struct err err;
    for (int objective = 0; objective < 3; objective++) {
        int n = 0;
        c.goal = (struct planner_goal){(enum planner_objective)objective, 16, 0, false};
        for (int i = 0; i < MAX_WORKERS; i++)
            c.workers[i].speed.link_s = 1e-4;
        assert_int_equal(planner_plan(&c.model, c.workers, 4, &c.goal, stages, &n, &err), 0);
        if (objective == PLANNER_LATENCY) {
            assert_int_equal(n, 1); /* hops only cost */
            continue;
        }
        assert_int_equal(n, 4);
        for (int i = 0; i < n; i++) {
            assert_int_equal(stages[i].worker, i);
            assert_in_range(stages[i].end_layer - stages[i].first_layer, 1, 2);
        }
    }
}

static void speeds_that_are_nearly_equal_become_equal(void **state)
{
    unsigned seed = 5;
    struct plan_case c;
    plan_case_make(&c, &seed);
    struct planner_worker w[3] = {c.workers[0], c.workers[0], c.workers[0]};
    for (int kind = 0; kind <= PLAN_HEAD; kind++) {
        for (int i = 0; i < PLAN_POINTS; i++) {
            w[1].speed.seconds[kind][i] *= 1.08;
            w[2].speed.seconds[kind][i] *= 1.5;
        }
    }
    struct planner_worker slow = w[2];
    planner_level(&c.model, w, 3);
    assert_memory_equal(&w[0].speed, &w[1].speed, sizeof w[0].speed);
    assert_memory_equal(&w[2].speed, &slow.speed, sizeof slow.speed);
    /* A link is no average of two. */
    for (int i = 0; i < 3; i++) {
        w[i] = slow;
        w[i].speed.link_bytes_per_s = i ? 100e6 + i * 10e6 : 10e6;
    }
    planner_level(&c.model, w, 3);
    assert_true(w[0].speed.link_bytes_per_s == 10e6);
    assert_true(fabs(w[1].speed.link_bytes_per_s - 115e6) < 1);
    assert_memory_equal(&w[1].speed, &w[2].speed, sizeof w[1].speed);
}

static void a_worker_that_slows_things_down_stands_by(void **state)
{
    unsigned seed = 3;
    struct plan_case c;
    do
        plan_case_make(&c, &seed);
    while (c.model.n_layers < 5);
    c.n_workers = 2;
    for (int i = 0; i < 2; i++) {
        c.workers[i] = (struct planner_worker){.memory_bytes = 1 << 30, .threads = 1};
        speed_make(&c.workers[i].speed, i ? 1 : 40, &seed);
    }
    c.goal.objective = PLANNER_BALANCED;
    struct planner_stage stages[PLANNER_MAX_STAGES];
    int n = 0;
    struct err err;
    assert_int_equal(planner_plan(&c.model, c.workers, 2, &c.goal, stages, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_int_equal(stages[0].worker, 1);
    char words[256];
    planner_explain_standby(&c.model, c.workers, 2, &c.goal, stages, n, 0, words, sizeof words);
    assert_non_null(strstr(words, "slow"));
    c.workers[0].memory_bytes = 100;
    planner_explain_standby(&c.model, c.workers, 2, &c.goal, stages, n, 0, words, sizeof words);
    assert_non_null(strstr(words, "one layer needs"));
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
        cmocka_unit_test(plans_equal_the_best_of_all),
        cmocka_unit_test(orders_come_close_to_the_best),
        cmocka_unit_test(equal_workers_share_evenly),
        cmocka_unit_test(speeds_that_are_nearly_equal_become_equal),
        cmocka_unit_test(a_worker_that_slows_things_down_stands_by),
        cmocka_unit_test(cuts_are_taken_as_they_are),
        cmocka_unit_test(cut_lists_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
