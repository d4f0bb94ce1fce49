#include "coordinator/wait_queue.h"

#include <assert.h>
#include <stdlib.h>

int wait_queue_init(struct wait_queue *q, const double *weights, int n_tenants, struct err *err)
{
    assert(n_tenants > 0);
    *q = (struct wait_queue){.n_tenants = n_tenants};
    q->tenants = calloc((size_t)n_tenants, sizeof *q->tenants);
    q->heap = calloc((size_t)n_tenants, sizeof *q->heap);
    if (!q->tenants || !q->heap) {
        wait_queue_clear(q);
        return err_set(err, ERR_MEMORY, "no memory for a queue of %d tenants", n_tenants);
    }
    for (int i = 0; i < n_tenants; i++) {
        q->tenants[i].weight = weights ? weights[i] : 1;
        assert(q->tenants[i].weight > 0);
    }
    return 0;
}

void wait_queue_clear(struct wait_queue *q)
{
    free(q->tenants);
    free(q->heap);
    *q = (struct wait_queue){0};
}

/* ---- the heap of tenants ---- */

static bool tenant_is_before(const struct wait_queue *q, int a, int b)
{
    double x = q->tenants[a].time, y = q->tenants[b].time;
    return x < y || (x == y && a < b);
}

static void tenant_put(struct wait_queue *q, int tenant, int place)
{
    q->heap[place] = tenant;
    q->tenants[tenant].place = place;
}

static void tenant_rise(struct wait_queue *q, int tenant, int place)
{
    for (int above; place > 0 && tenant_is_before(q, tenant, q->heap[above = (place - 1) / 2]);
         place = above)
        tenant_put(q, q->heap[above], place);
    tenant_put(q, tenant, place);
}

static void tenant_sink(struct wait_queue *q, int tenant, int place)
{
    for (int below; (below = 2 * place + 1) < q->n_active; place = below) {
        if (below + 1 < q->n_active && tenant_is_before(q, q->heap[below + 1], q->heap[below]))
            below++;
        if (!tenant_is_before(q, q->heap[below], tenant))
            break;
        tenant_put(q, q->heap[below], place);
    }
    tenant_put(q, tenant, place);
}

static void tenant_begin(struct wait_queue *q, int tenant)
{
    double start = q->n_active ? q->tenants[q->heap[0]].time : q->idle_time;
    if (q->tenants[tenant].time < start)
        q->tenants[tenant].time = start;
    tenant_rise(q, tenant, q->n_active++);
}

static void tenant_end(struct wait_queue *q, int tenant)
{
    int place = q->tenants[tenant].place, last = q->heap[--q->n_active];
    if (last != tenant) {
        tenant_rise(q, last, place);
        tenant_sink(q, last, q->tenants[last].place);
    }
    if (q->n_active == 0 && q->idle_time < q->tenants[tenant].time)
        q->idle_time = q->tenants[tenant].time;
}

/* ---- the heap of one tenant's choices ---- */

bool wait_queue_is_before(const struct choice *a, const struct choice *b)
{
    return a->wait_rank < b->wait_rank ||
           (a->wait_rank == b->wait_rank && a->wait_order < b->wait_order);
}

/* Both are roots or NULL: the later one becomes a child of the other, which is returned. */
static struct choice *choice_meld(struct choice *a, struct choice *b)
{
    if (!a || !b)
        return a ? a : b;
    struct choice *above = wait_queue_is_before(b, a) ? b : a, *below = above == a ? b : a;
    below->wait_previous = above; /* a first child's "previous" is its parent */
    below->wait_next = above->wait_child;
    if (below->wait_next)
        below->wait_next->wait_previous = below;
    above->wait_child = below;
    return above;
}

/* The children of a choice that goes: melded in pairs, then the pairs from the last to the first.
 */
static struct choice *choice_meld_children(struct choice *child)
{
    struct choice *pairs = NULL, *root = NULL;
    while (child) {
        struct choice *a = child, *b = a->wait_next;
        child = b ? b->wait_next : NULL;
        a->wait_next = a->wait_previous = NULL;
        if (b)
            b->wait_next = b->wait_previous = NULL;
        a = choice_meld(a, b);
        a->wait_next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct choice *rest = pairs->wait_next;
        pairs->wait_next = NULL;
        root = choice_meld(root, pairs);
        pairs = rest;
    }
    return root;
}

/* ---- the queue ---- */

void wait_queue_return(struct wait_queue *q, struct choice *c)
{
    int tenant = c->request->tenant;
    struct wait_queue_tenant *t = &q->tenants[tenant];
    assert(tenant >= 0 && tenant < q->n_tenants && !c->is_waiting);
    bool was_idle = !t->root;
    c->wait_child = c->wait_next = c->wait_previous = NULL;
    c->is_waiting = true;
    t->root = choice_meld(t->root, c);
    t->n_waiting++;
    q->n_waiting++;
    if (was_idle)
        tenant_begin(q, tenant);
}

void wait_queue_add(struct wait_queue *q, struct choice *c, int64_t now_us)
{
    int64_t priority = c->request->priority;
    if (priority > WAIT_QUEUE_MOST_PRIORITY)
        priority = WAIT_QUEUE_MOST_PRIORITY;
    if (priority < -WAIT_QUEUE_MOST_PRIORITY)
        priority = -WAIT_QUEUE_MOST_PRIORITY;
    c->wait_rank = now_us + priority * WAIT_QUEUE_LEVEL_US;
    c->wait_order = q->next_order++;
    wait_queue_return(q, c);
}

struct choice *wait_queue_first(const struct wait_queue *q)
{
    return q->n_active ? q->tenants[q->heap[0]].root : NULL;
}

struct choice *wait_queue_second(const struct wait_queue *q)
{
    if (!q->n_active)
        return NULL;
    /* The next tenant is one of the two below the first; the next of the same tenant is a child of
     * its root. After the first had gone, its tenant would be asked again. */
    struct choice *second = NULL;
    for (struct choice *c = wait_queue_first(q)->wait_child; c; c = c->wait_next)
        if (!second || wait_queue_is_before(c, second))
            second = c;
    if (second || q->n_active == 1)
        return second;
    int next = q->n_active > 2 && tenant_is_before(q, q->heap[2], q->heap[1]) ? 2 : 1;
    return q->tenants[q->heap[next]].root;
}

void wait_queue_remove(struct wait_queue *q, struct choice *c)
{
    int tenant = c->request->tenant;
    struct wait_queue_tenant *t = &q->tenants[tenant];
    assert(c->is_waiting);
    struct choice *rest = choice_meld_children(c->wait_child);
    if (t->root == c) {
        t->root = rest;
    } else {
        if (c->wait_previous->wait_child == c)
            c->wait_previous->wait_child = c->wait_next;
        else
            c->wait_previous->wait_next = c->wait_next;
        if (c->wait_next)
            c->wait_next->wait_previous = c->wait_previous;
        t->root = choice_meld(t->root, rest);
    }
    c->wait_child = c->wait_next = c->wait_previous = NULL;
    c->is_waiting = false;
    t->n_waiting--;
    q->n_waiting--;
    if (!t->root)
        tenant_end(q, tenant);
}

void wait_queue_charge(struct wait_queue *q, int tenant, double work)
{
    struct wait_queue_tenant *t = &q->tenants[tenant];
    assert(work >= 0);
    t->time += work / t->weight;
    if (t->root)
        tenant_sink(q, tenant, t->place);
    else if (q->n_active == 0 && q->idle_time < t->time)
        q->idle_time = t->time;
}
