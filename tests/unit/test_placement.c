/* test_placement.c - which cores threads get, on machines made of text. */
#include "worker/placement.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static hwloc_topology_t machine(const char *text)
{
    hwloc_topology_t t;
    assert_int_equal(hwloc_topology_init(&t), 0);
    assert_int_equal(hwloc_topology_set_synthetic(t, text), 0);
    assert_int_equal(hwloc_topology_load(t), 0);
    return t;
}

static struct placement *open_on(hwloc_topology_t t)
{
    static char claims[40];
    snprintf(claims, sizeof claims, "paceline-test-%ld", (long)getpid());
    struct placement *p = NULL;
    assert_int_equal(placement_open(&p, &(struct placement_spec){t, claims}, NULL), 0);
    return p;
}

static void expect(struct placement *p, const int *processors, int n)
{
    assert_int_equal(placement_cores(p), n);
    for (int i = 0; i < n; i++)
        assert_int_equal(placement_processor(p, i), processors[i]);
    placement_close(p);
}

static void test_one_thread_for_each_core(void **state)
{
    hwloc_topology_t t = machine("package:1 core:4 pu:2");
    struct placement *p = open_on(t);
    assert_int_equal(placement_default_threads(p), 4);
    expect(p, (int[]){0, 2, 4, 6}, 4);
    hwloc_topology_destroy(t);
}

static void test_processors_without_cores(void **state)
{
    hwloc_topology_t t = machine("pu:3");
    expect(open_on(t), (int[]){0, 1, 2}, 3);
    hwloc_topology_destroy(t);
}

/* Four small cores, then two fast ones, as hwloc would rank them. */
static void test_fast_cores_first(void **state)
{
    hwloc_topology_t t = machine("core:6 pu:1");
    hwloc_bitmap_t small = hwloc_bitmap_alloc(), fast = hwloc_bitmap_alloc();
    hwloc_bitmap_set_range(small, 0, 3);
    hwloc_bitmap_set_range(fast, 4, 5);
    assert_int_equal(hwloc_cpukinds_register(t, small, 0, 0, NULL, 0), 0);
    assert_int_equal(hwloc_cpukinds_register(t, fast, 1, 0, NULL, 0), 0);
    expect(open_on(t), (int[]){4, 5, 0, 1, 2, 3}, 6);
    hwloc_bitmap_free(small);
    hwloc_bitmap_free(fast);
    hwloc_topology_destroy(t);
}

/* A cpuset that leaves one thread of core 1, and all of core 2. */
static void test_only_what_may_be_used(void **state)
{
    hwloc_topology_t t = machine("core:4 pu:2");
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    hwloc_bitmap_set_range(set, 3, 5);
    assert_int_equal(hwloc_topology_restrict(t, set, 0), 0);
    expect(open_on(t), (int[]){3, 4}, 2);
    hwloc_bitmap_free(set);
    hwloc_topology_destroy(t);
}

static void test_nodes_are_apart(void **state)
{
    hwloc_topology_t t = machine("package:2 [numa] core:2 pu:1");
    assert_int_equal(hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE), 2);
    hwloc_obj_t node = hwloc_get_obj_by_type(t, HWLOC_OBJ_NUMANODE, 1);
    hwloc_bitmap_t set = hwloc_bitmap_dup(node->cpuset);
    assert_int_equal(hwloc_topology_restrict(t, set, 0), 0);
    expect(open_on(t), (int[]){2, 3}, 2);
    hwloc_bitmap_free(set);
    hwloc_topology_destroy(t);
}

static void test_claims_exclude_each_other(void **state)
{
    hwloc_topology_t t = machine("core:3 pu:1");
    struct placement *a = open_on(t), *b = open_on(t), *c = open_on(t);
    assert_int_equal(placement_claim(a, 2), 2);
    assert_int_equal(placement_claim(b, 2), 1); /* the surplus thread runs unpinned */
    assert_int_equal(placement_claim(c, 1), 0);
    assert_true(placement_pin(c, 0));
    placement_close(a);
    assert_int_equal(placement_claim(c, 5), 2);
    placement_close(b);
    placement_close(c);
    hwloc_topology_destroy(t);
}

static void test_claims_end_with_the_process(void **state)
{
    hwloc_topology_t t = machine("core:1 pu:1");
    struct placement *p = open_on(t); /* names by this process, before the other begins */
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        const char claimed = (char)placement_claim(p, 1);
        (void)!write(ready[1], &claimed, 1);
        pause();
    }
    char claimed = 0;
    assert_int_equal(read(ready[0], &claimed, 1), 1);
    assert_int_equal(claimed, 1);
    assert_int_equal(placement_claim(p, 1), 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(placement_claim(p, 1), 1);
    placement_close(p);
    hwloc_topology_destroy(t);
}

static void test_a_thread_is_bound(void **state)
{
    struct placement *p = open_on(NULL); /* this machine */
    const int n = placement_cores(p);
    assert_true(n >= 1 && placement_default_threads(p) >= 1 && placement_default_threads(p) <= n);
    cpu_set_t before, now;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_int_equal(placement_claim(p, 1), 1);
    assert_true(placement_pin(p, 1)); /* there is no second claim */
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    assert_true(CPU_EQUAL(&before, &now));
    assert_true(placement_pin(p, 0));
    assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
    assert_int_equal(CPU_COUNT(&now), 1);
    assert_true(CPU_ISSET((size_t)placement_processor(p, 0), &now));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    placement_close(p);
}

static void test_quotas(void **state)
{
    assert_int_equal(placement_read_quota("max 100000\n"), 0);
    assert_int_equal(placement_read_quota("200000 100000\n"), 2);
    assert_int_equal(placement_read_quota("390000 100000"), 3);
    assert_int_equal(placement_read_quota("50000 100000"), 1);
    assert_int_equal(placement_read_quota("-1 100000"), 0); /* version 1 says so */
    assert_int_equal(placement_read_quota("100000 0"), 0);
    assert_int_equal(placement_read_quota(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread_for_each_core),
        cmocka_unit_test(test_processors_without_cores),
        cmocka_unit_test(test_fast_cores_first),
        cmocka_unit_test(test_only_what_may_be_used),
        cmocka_unit_test(test_nodes_are_apart),
        cmocka_unit_test(test_claims_exclude_each_other),
        cmocka_unit_test(test_claims_end_with_the_process),
        cmocka_unit_test(test_a_thread_is_bound),
        cmocka_unit_test(test_quotas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
