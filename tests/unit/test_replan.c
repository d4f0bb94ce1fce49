/* A better plan is taken when it was better for long enough, and moves no more than it must. */
#include "coordinator/replan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define LAYERS 24

struct office {
    unsigned char kind[LAYERS];
    double scale[LAYERS];
    int64_t weight_bytes[LAYERS], kv_bytes[LAYERS];
    struct plan_model model;
    struct planner_worker workers[2];
    struct planner_goal goal;
    struct planner_stage present[2];
    struct replan_rules rules;
    struct replan_state state;
};

static void office_make(struct office *o)
{
    *o = (struct office){.goal = {PLANNER_THROUGHPUT, 16, 0, false}, .rules = {0.15, 60000}};
    for (int i = 0; i < LAYERS; i++)
        o->scale[i] = 1;
    o->model = (struct plan_model){.n_layers = LAYERS,
                                   .n_kinds = 1,
                                   .hidden_size = 64,
                                   .kind = o->kind,
                                   .scale = o->scale,
                                   .weight_bytes = o->weight_bytes,
                                   .kv_bytes = o->kv_bytes,
                                   .working_bytes = 1};
    for (int i = 0; i < 2; i++) {
        o->workers[i] = (struct planner_worker){.memory_bytes = 1 << 30, .threads = 1};
        for (int k = 0; k < PLAN_POINTS; k++)
            o->workers[i].speed.seconds[0][k] = 0.001 * plan_cost_rows[k];
        o->present[i] = (struct planner_stage){i, i * 12, i * 12 + 12, 0};
    }
}

static struct replan_verdict judge(struct office *o, int64_t now_ms)
{
    struct replan_verdict v;
    struct err err;
    assert_int_equal(replan_judge(&o->model, o->workers, 2, &o->goal, o->present, 2, &o->rules,
                                  now_ms, &o->state, &v, &err),
                     0);
    return v;
}

static void a_good_plan_stays(void **state)
{
    struct office o;
    office_make(&o);
    for (int64_t now = 1000; now < 200000; now += 1000)
        assert_false(judge(&o, now).is_due);
    assert_int_equal(o.state.since_ms, 0);
}

static void a_slow_stage_is_relieved_after_a_minute(void **state)
{
    struct office o;
    office_make(&o);
    double usual = plan_cost_decode(&o.model, &o.workers[1].speed, 12, 24, 8, 0);
    replan_observe(&o.model, &o.workers[1], &o.present[1], 8, 0, 3 * usual);
    assert_float_equal(plan_cost_decode(&o.model, &o.workers[1].speed, 12, 24, 8, 0), 3 * usual,
                       1e-9);
    assert_false(judge(&o, 1000).is_due);
    assert_false(judge(&o, 61000).is_due);
    struct replan_verdict v = judge(&o, 61001);
    assert_true(v.is_due);
    assert_true(v.gain > 0.6); /* 36 units became 18 at best */
    assert_int_equal(v.n_stages, 2);
    /* Of the six layers that the best plan moves, five or six do. */
    assert_in_range(v.moved_layers, 4, 6);
    assert_int_equal(v.stages[0].worker, 0);
    assert_in_range(v.stages[0].end_layer, 16, 18);
}

static void a_disturbance_that_ends_starts_the_minute_anew(void **state)
{
    struct office o;
    office_make(&o);
    struct planner_worker usual = o.workers[1];
    replan_observe(&o.model, &o.workers[1], &o.present[1], 1, 0, 0.048);
    assert_false(judge(&o, 1000).is_due);
    struct planner_worker slow = o.workers[1];
    o.workers[1] = usual;
    assert_false(judge(&o, 50000).is_due);
    o.workers[1] = slow;
    assert_false(judge(&o, 62000).is_due);
    assert_false(judge(&o, 122000).is_due);
    assert_true(judge(&o, 122001).is_due);
}

static void a_small_gain_is_not_worth_it(void **state)
{
    struct office o;
    office_make(&o);
    o.rules.after_ms = 0;
    replan_observe(&o.model, &o.workers[1], &o.present[1], 1, 0, 0.012 * 1.2);
    for (int64_t now = 1000; now < 10000; now += 1000)
        assert_false(judge(&o, now).is_due);
    o.rules.gain = 0.05;
    judge(&o, 10000);
    assert_true(judge(&o, 10001).is_due);
}

static void what_was_not_seen_keeps_its_speed(void **state)
{
    struct office o;
    office_make(&o);
    struct planner_worker before = o.workers[0];
    replan_observe(&o.model, &o.workers[0], &o.present[0], 8, 0, 0);
    assert_memory_equal(&before.speed, &o.workers[0].speed, sizeof before.speed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_plan_stays),
        cmocka_unit_test(a_slow_stage_is_relieved_after_a_minute),
        cmocka_unit_test(a_disturbance_that_ends_starts_the_minute_anew),
        cmocka_unit_test(a_small_gain_is_not_worth_it),
        cmocka_unit_test(what_was_not_seen_keeps_its_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
