/* Whose turn it is: weights, priorities, no starving, and a naive model that must agree. */
#include "coordinator/wait_queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND ((int64_t)1000000)

static uint64_t random_state = 1;

static uint32_t any(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % below);
}

struct waiter {
    struct request request;
    struct choice choice;
};

static struct choice *waiter_init(struct waiter *w, int tenant, int priority)
{
    *w = (struct waiter){.request = {.tenant = tenant, .priority = priority}};
    w->choice.request = &w->request;
    return &w->choice;
}

static void queue_open(struct wait_queue *q, const double *weights, int n_tenants)
{
    struct err err;
    assert_int_equal(wait_queue_init(q, weights, n_tenants, &err), 0);
}

static struct choice *queue_take(struct wait_queue *q)
{
    struct choice *c = wait_queue_first(q);
    assert_non_null(c);
    wait_queue_remove(q, c);
    return c;
}

static void one_tenant_is_served_in_order(void **state)
{
    struct wait_queue q;
    struct waiter w[50];
    queue_open(&q, NULL, 1);
    assert_null(wait_queue_first(&q));
    for (int i = 0; i < 50; i++)
        wait_queue_add(&q, waiter_init(&w[i], 0, 0), 7); /* all at the same moment */
    assert_int_equal(q.n_waiting, 50);
    for (int i = 0; i < 50; i++)
        assert_ptr_equal(queue_take(&q), &w[i].choice);
    assert_int_equal(q.n_waiting, 0);
    wait_queue_clear(&q);
}

static void weights_are_shares(void **state)
{
    const double weights[] = {1, 3, 0.5};
    struct wait_queue q;
    struct waiter w[3][4];
    double got[3] = {0}, sum = 0;
    queue_open(&q, weights, 3);
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 4; i++)
            wait_queue_add(&q, waiter_init(&w[t][i], t, 0), i);
    for (int turn = 0; turn < 200000; turn++) {
        struct choice *c = queue_take(&q);
        int tenant = c->request->tenant;
        wait_queue_add(&q, c, turn);
        double work = 1 + any(tenant == 1 ? 2000 : 100); /* whose requests are long gains nothing */
        wait_queue_charge(&q, tenant, work);
        got[tenant] += work;
        sum += work;
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) /* the bound that the header promises */
            assert_true(got[a] / weights[a] - got[b] / weights[b] <= 2000 / weights[a]);
    assert_true(got[1] / sum > 3 / 4.5 - 0.001 && got[1] / sum < 3 / 4.5 + 0.001);
    wait_queue_clear(&q);
}

static void priorities_order_a_tenant(void **state)
{
    struct wait_queue q;
    struct waiter w[5];
    const int priorities[] = {0, 5, -1, 0, INT32_MIN};
    const int order[] = {4, 2, 0, 3, 1};
    queue_open(&q, NULL, 1);
    for (int i = 0; i < 5; i++)
        wait_queue_add(&q, waiter_init(&w[i], 0, priorities[i]), i);
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(queue_take(&q), &w[order[i]].choice);
    wait_queue_clear(&q);
}

static void priorities_do_not_cross_tenants(void **state)
{
    struct wait_queue q;
    struct waiter calm, urgent;
    queue_open(&q, NULL, 2);
    wait_queue_add(&q, waiter_init(&calm, 0, 1000), 0);
    wait_queue_add(&q, waiter_init(&urgent, 1, -1000), 0);
    wait_queue_charge(&q, 1, 1);
    assert_ptr_equal(queue_take(&q), &calm.choice);
    assert_ptr_equal(queue_take(&q), &urgent.choice);
    wait_queue_clear(&q);
}

/* Ever more urgent ones come, faster than they are served: the calm one waits as long as the bound
 * says, and no longer. */
static void urgent_ones_starve_nobody(void **state)
{
    static struct waiter w[100000];
    struct waiter calm;
    const int levels[] = {1, 7, INT32_MAX};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        struct wait_queue q;
        int64_t most = levels[i] < 2000 ? levels[i] : 2000, ahead = 0;
        int n = 0;
        queue_open(&q, NULL, 1);
        wait_queue_add(&q, waiter_init(&calm, 0, levels[i] > 2000 ? INT32_MAX : 0), 0);
        for (;; ahead++) {
            for (int k = 0; k < 2; k++) { /* two arrive each second, one is served */
                int priority = levels[i] > 2000 ? INT32_MIN : -levels[i];
                assert_true(n < 100000);
                wait_queue_add(&q, waiter_init(&w[n++], 0, priority), ahead * SECOND);
            }
            if (queue_take(&q) == &calm.choice)
                break;
        }
        assert_int_equal(ahead,
                         2 * (10 * most)); /* who came within 10 s a level, at two a second */
        wait_queue_clear(&q);
    }
}

static void idling_saves_no_credit(void **state)
{
    struct wait_queue q;
    struct waiter w[3][8];
    queue_open(&q, NULL, 3);
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 8; i++)
            waiter_init(&w[t][i], t, 0);
    wait_queue_add(&q, &w[0][0].choice, 0);
    wait_queue_add(&q, &w[1][0].choice, 0);
    wait_queue_charge(&q, 0, 1000);
    wait_queue_charge(&q, 1, 1001);
    wait_queue_add(&q, &w[2][0].choice, 1); /* never seen: starts at 1000, not at 0 */
    assert_true(q.tenants[2].time == 1000);
    wait_queue_charge(&q, 2, 2);
    assert_ptr_equal(queue_take(&q), &w[0][0].choice);
    assert_ptr_equal(queue_take(&q), &w[1][0].choice);
    assert_ptr_equal(queue_take(&q), &w[2][0].choice);
    /* Nobody waits, tenant 0 computes alone: that costs it nothing once others come. */
    wait_queue_charge(&q, 0, 50000);
    wait_queue_add(&q, &w[1][1].choice, 2);
    wait_queue_add(&q, &w[0][1].choice, 2);
    assert_true(q.tenants[0].time == q.tenants[1].time);
    /* A debt that was made while others waited stays. */
    wait_queue_charge(&q, 0, 10);
    wait_queue_remove(&q, &w[0][1].choice);
    wait_queue_add(&q, &w[0][2].choice, 3);
    assert_true(q.tenants[0].time == q.tenants[1].time + 10);
    assert_ptr_equal(queue_take(&q), &w[1][1].choice);
    assert_ptr_equal(queue_take(&q), &w[0][2].choice);
    wait_queue_clear(&q);
}

static void who_was_preempted_comes_first(void **state)
{
    struct wait_queue q;
    struct waiter w[6];
    queue_open(&q, NULL, 1);
    for (int i = 0; i < 4; i++)
        wait_queue_add(&q, waiter_init(&w[i], 0, 0), i);
    assert_ptr_equal(queue_take(&q), &w[0].choice);
    assert_ptr_equal(queue_take(&q), &w[1].choice);
    wait_queue_return(&q, &w[1].choice); /* the youngest goes first, and comes back last */
    wait_queue_return(&q, &w[0].choice);
    wait_queue_add(&q, waiter_init(&w[4], 0, -1), 100);
    wait_queue_add(&q, waiter_init(&w[5], 0, 0), 1);
    const int order[] = {4, 0, 1, 5, 2, 3};
    /* w[5] came at the moment of w[1], in which w[1] was first */
    for (int i = 0; i < 6; i++)
        assert_ptr_equal(queue_take(&q), &w[order[i]].choice);
    wait_queue_clear(&q);
}

/* ---- a model: lists, searched from end to end ---- */

#define TENANTS 9
#define MOST    600

struct model {
    double time[TENANTS], weight[TENANTS], idle;
    struct choice *waiting[MOST];
    int n;
};

static int model_least(const struct model *m)
{
    int least = -1;
    for (int i = 0; i < m->n; i++) {
        int t = m->waiting[i]->request->tenant;
        if (least < 0 || m->time[t] < m->time[least] || (m->time[t] == m->time[least] && t < least))
            least = t;
    }
    return least;
}

static bool model_waits(const struct model *m, int tenant)
{
    for (int i = 0; i < m->n; i++)
        if (m->waiting[i]->request->tenant == tenant)
            return true;
    return false;
}

static void model_add(struct model *m, struct choice *c)
{
    int t = c->request->tenant;
    double start = m->n ? m->time[model_least(m)] : m->idle;
    if (!model_waits(m, t) && m->time[t] < start)
        m->time[t] = start;
    m->waiting[m->n++] = c;
}

static struct choice *model_first(const struct model *m)
{
    struct choice *first = NULL;
    int t = model_least(m);
    for (int i = 0; i < m->n; i++) {
        struct choice *c = m->waiting[i];
        if (c->request->tenant == t &&
            (!first || c->wait_rank < first->wait_rank ||
             (c->wait_rank == first->wait_rank && c->wait_order < first->wait_order)))
            first = c;
    }
    return first;
}

static void model_remove(struct model *m, struct choice *c)
{
    for (int i = 0; i < m->n; i++)
        if (m->waiting[i] == c)
            m->waiting[i] = m->waiting[--m->n];
    if (m->n == 0 && m->idle < m->time[c->request->tenant])
        m->idle = m->time[c->request->tenant];
}

static void model_charge(struct model *m, int tenant, double work)
{
    m->time[tenant] += work / m->weight[tenant];
    if (m->n == 0 && m->idle < m->time[tenant])
        m->idle = m->time[tenant];
}

/* Phases in which it grows, shrinks to nothing, and stays. */
static void whatever_happens_the_model_agrees(void **state)
{
    static struct waiter w[MOST];
    static bool has_been[MOST];
    struct model m = {.n = 0};
    struct wait_queue q;
    for (int t = 0; t < TENANTS; t++)
        m.weight[t] = 1 << t % 3;
    queue_open(&q, m.weight, TENANTS);
    for (int i = 0; i < MOST; i++)
        waiter_init(&w[i], (int)any(TENANTS), (int)any(5) - 2);
    for (int turn = 0; turn < 60000; turn++) {
        uint32_t grow = turn / 3000 % 3 == 0 ? 60 : turn / 3000 % 3 == 1 ? 10 : 40;
        int i = (int)any(MOST);
        struct choice *c = &w[i].choice;
        if (any(100) < grow) {
            if (c->is_waiting)
                continue;
            if (has_been[i] && any(2))
                wait_queue_return(&q, c);
            else
                wait_queue_add(&q, c, turn * SECOND / 100);
            has_been[i] = true;
            model_add(&m, c);
        } else if (any(3) == 0) {
            int tenant = (int)any(TENANTS);
            double work = any(4) * 16;
            wait_queue_charge(&q, tenant, work);
            model_charge(&m, tenant, work);
        } else if (m.n && any(2)) {
            c = m.waiting[any((uint32_t)m.n)];
            wait_queue_remove(&q, c);
            model_remove(&m, c);
        } else if (m.n) {
            model_remove(&m, queue_take(&q));
        }
        assert_int_equal(q.n_waiting, m.n);
        assert_ptr_equal(wait_queue_first(&q), model_first(&m));
    }
    int sum = 0;
    for (int t = 0; t < TENANTS; t++)
        sum += q.tenants[t].n_waiting;
    assert_int_equal(sum, m.n);
    while (m.n)
        model_remove(&m, queue_take(&q));
    assert_null(wait_queue_first(&q));
    wait_queue_clear(&q);
}

static void the_largest_queue_drains(void **state)
{
    enum { MANY = 100000, MANY_TENANTS = 4096 };
    struct waiter *w = calloc(MANY, sizeof *w);
    struct wait_queue q;
    assert_non_null(w);
    queue_open(&q, NULL, MANY_TENANTS);
    for (int i = 0; i < MANY; i++)
        wait_queue_add(&q, waiter_init(&w[i], (int)any(MANY_TENANTS), (int)any(3)), i);
    for (int i = 0; i < MANY; i += 3)
        wait_queue_remove(&q, &w[i].choice);
    while (q.n_waiting) {
        struct choice *c = queue_take(&q);
        wait_queue_charge(&q, c->request->tenant, 1 + any(100));
    }
    assert_null(wait_queue_first(&q));
    wait_queue_clear(&q);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_tenant_is_served_in_order),
        cmocka_unit_test(weights_are_shares),
        cmocka_unit_test(priorities_order_a_tenant),
        cmocka_unit_test(priorities_do_not_cross_tenants),
        cmocka_unit_test(urgent_ones_starve_nobody),
        cmocka_unit_test(idling_saves_no_credit),
        cmocka_unit_test(who_was_preempted_comes_first),
        cmocka_unit_test(whatever_happens_the_model_agrees),
        cmocka_unit_test(the_largest_queue_drains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
