/* After a restart of the coordinator: for whom the first plan waits, and who gets which stage. */
#include "coordinator/reunion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MANY 6

struct world {
    struct registry registry;
    struct worker_entry workers[MANY];
    int n;
};

static void come(struct world *w, uint32_t stage, uint32_t stages, int64_t now_ms)
{
    struct worker_entry *one = &w->workers[w->n++];
    *one = (struct worker_entry){.had_stage = stage, .had_stages = stages, .joined_ms = now_ms};
    one->next = w->registry.workers;
    w->registry.workers = one;
}

static void nobody_is_awaited_by_new_workers(void **state)
{
    struct world w = {0};
    (void)state;
    assert_false(reunion_is_awaited(&w.registry, 100));
    come(&w, 0, 0, 100);
    come(&w, 0, 0, 100);
    assert_false(reunion_is_awaited(&w.registry, 100));
}

static void who_is_missing_is_awaited_for_a_while(void **state)
{
    struct world w = {0};
    (void)state;
    come(&w, 0, 0, 90);
    come(&w, 2, 3, 100);
    assert_true(reunion_is_awaited(&w.registry, 100));
    come(&w, 1, 3, 1400);
    assert_true(reunion_is_awaited(&w.registry, 1400));
    assert_true(reunion_is_awaited(&w.registry, 1600));
    assert_false(reunion_is_awaited(&w.registry, 1601));
}

static void when_all_are_here_nobody_is(void **state)
{
    struct world w = {0};
    (void)state;
    come(&w, 2, 2, 100);
    come(&w, 1, 3, 110); /* of another plan: it came too late for the last one */
    assert_true(reunion_is_awaited(&w.registry, 110));
    come(&w, 1, 2, 120);
    assert_false(reunion_is_awaited(&w.registry, 120));
}

static void stages_go_to_who_has_them(void **state)
{
    static const uint32_t had[MANY] = {0, 3, 1, 0, 2, 1};
    static const int expected[MANY] = {2, 5, 4, 1, 0, 3};
    struct world w = {0};
    struct worker_entry *entries[MANY];
    (void)state;
    for (int i = 0; i < MANY; i++) {
        come(&w, had[i], had[i] ? 3 : 0, 100);
        entries[i] = &w.workers[i];
    }
    reunion_order(entries, MANY);
    for (int i = 0; i < MANY; i++)
        assert_ptr_equal(entries[i], &w.workers[expected[i]]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_awaited_by_new_workers),
        cmocka_unit_test(who_is_missing_is_awaited_for_a_while),
        cmocka_unit_test(when_all_are_here_nobody_is),
        cmocka_unit_test(stages_go_to_who_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
