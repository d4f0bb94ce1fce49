/* Plans that are made by a thread: they come, they are forgotten, they are too many. */
#include "coordinator/plan_desk.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PATIENCE_MS 120000

/* n_kinds machines that all differ: the more, the longer it takes. */
static struct plan_job *job(void *owner, int n_kinds)
{
    struct err err;
    struct plan_job *j = plan_job_new();
    assert_non_null(j);
    struct plan_question *q = &j->report.question;
    j->owner = owner;
    j->report.model = "qwen2.5-7b";
    j->report.mix = "Q4_K_M";
    assert_int_equal(model_shape_of_name(&j->shape, j->report.model, j->report.mix, &err), 0);
    q->shape = &j->shape;
    q->context = 1024;
    q->concurrency = 2;
    for (int i = 0; i < n_kinds; i++) {
        const double figures[PLAN_FIGURES] = {1, 4 + i, 30 + 7 * i, 900 + 200 * i, 1000, 0.2, 8};
        plan_machine_describe(&q->machines.kinds[q->machines.n_kinds++], NULL, i + 1, figures);
    }
    return j;
}

static struct plan_job *next(struct plan_desk *d)
{
    struct pollfd wake = {.fd = plan_desk_fd(d), .events = POLLIN};
    assert_int_equal(poll(&wake, 1, PATIENCE_MS), 1);
    struct plan_job *j = plan_desk_take(d);
    assert_non_null(j);
    return j;
}

static void check_quiet(struct plan_desk *d)
{
    struct pollfd wake = {.fd = plan_desk_fd(d), .events = POLLIN};
    assert_null(plan_desk_take(d));
    assert_int_equal(poll(&wake, 1, 0), 0);
}

static void test_plans_are_made(void **state)
{
    struct plan_desk *d;
    struct err err;
    int owners[5];
    bool seen[5] = {false};
    assert_int_equal(plan_desk_open(&d, &err), 0);
    check_quiet(d);
    for (int i = 0; i < 5; i++)
        assert_int_equal(plan_desk_add(d, job(&owners[i], 2), &err), 0);
    for (int i = 0; i < 5; i++) {
        struct plan_job *j = next(d);
        ptrdiff_t number = (int *)j->owner - owners;
        assert_in_range(number, 0, 4);
        assert_false(seen[number]);
        seen[number] = true;
        assert_int_equal(j->rc, 0);
        assert_true(j->report.answer.fits);
        assert_int_equal(j->report.answer.stages[j->report.answer.n_stages - 1].end_layer, 28);
        plan_job_free(j);
    }
    check_quiet(d);
    plan_desk_close(d);
}

static void test_owners_are_forgotten(void **state)
{
    struct plan_desk *d;
    struct err err;
    int owners[3], n = 0;
    assert_int_equal(plan_desk_open(&d, &err), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(plan_desk_add(d, job(&owners[i], 5), &err), 0);
    plan_desk_forget(d, &owners[0]); /* being made, most likely */
    plan_desk_forget(d, &owners[1]); /* waiting, most likely */
    struct plan_job *j;
    do {
        j = next(d);
        assert_true(!j->owner || j->owner == &owners[2]);
        n += j->owner != NULL;
        plan_job_free(j);
    } while (n == 0);
    plan_desk_forget(d, &owners[2]); /* has got its own: nothing happens */
    plan_desk_close(d);
}

static void test_too_many_are_refused(void **state)
{
    struct plan_desk *d;
    struct err err = {0};
    int owner, rc = 0, n = 0;
    assert_int_equal(plan_desk_open(&d, &err), 0);
    for (; rc == 0 && n < 1000; n++) {
        struct plan_job *j = job(&owner, 6);
        rc = plan_desk_add(d, j, &err);
        if (rc != 0)
            plan_job_free(j);
    }
    assert_int_equal(rc, ERR_LIMIT);
    assert_true(n > 16);
    plan_desk_close(d); /* the others are dropped */
    plan_desk_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_are_made),
        cmocka_unit_test(test_owners_are_forgotten),
        cmocka_unit_test(test_too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
