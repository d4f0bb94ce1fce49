/* Machines as people describe them: units, names, and what is no figure. */
#include "coordinator/plan_machine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_units(void **state)
{
    struct plan_machine_kind k;
    const double figures[PLAN_FIGURES] = {3, 12, 35, 1000, 800, 0.5, 6};
    plan_machine_describe(&k, "desk", 7, figures);
    assert_string_equal(k.name, "desk");
    assert_int_equal(k.count, 3);
    assert_int_equal(k.threads, 6);
    assert_true(k.memory_bytes == 12.0 * 1073741824);
    assert_true(k.read_bytes == 35e9);
    assert_true(k.int8_ops == 1e12);
    assert_true(k.link_bytes == 1e8); /* 800 Mbit */
    assert_true(k.link_s == 0.5 / 1000);
    assert_false(k.is_measured);
    plan_machine_describe(&k, "", 7, figures);
    assert_string_equal(k.name, "machine7");
    plan_machine_describe(&k, NULL, 8, figures);
    assert_string_equal(k.name, "machine8");
}

static void test_figures(void **state)
{
    for (int i = 0; i < PLAN_FIGURES; i++) {
        const struct plan_figure_rule *r = &plan_figure_rules[i];
        enum plan_figure f = (enum plan_figure)i;
        assert_true(isnan(r->initial) || plan_figure_fits(f, r->initial));
        assert_true(plan_figure_fits(f, r->least) && plan_figure_fits(f, r->most));
        assert_false(plan_figure_fits(f, r->least - 1e-6));
        assert_false(plan_figure_fits(f, r->most * 1.001));
        assert_false(plan_figure_fits(f, NAN));
    }
    assert_true(plan_figure_fits(PLAN_COUNT, 2) && plan_figure_fits(PLAN_MEMORY_GIB, 2.5));
    assert_false(plan_figure_fits(PLAN_COUNT, 2.5) || plan_figure_fits(PLAN_THREADS, 2.5));
    assert_true(plan_figure_fits(PLAN_LINK_MS, 0));
    assert_false(plan_figure_fits(PLAN_MEMORY_GIB, 0));
}

static void test_count(void **state)
{
    struct plan_machines *m = calloc(1, sizeof *m);
    assert_non_null(m);
    assert_int_equal(plan_machines_count(m), 0);
    m->n_kinds = 2;
    m->kinds[0].count = 8;
    m->kinds[1].count = 3;
    assert_int_equal(plan_machines_count(m), 11);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
