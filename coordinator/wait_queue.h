/* wait_queue.h - the choices that wait for a slot: whose turn is it?
 *
 * Between tenants: weighted fair. Each has a virtual time, which grows by work / weight as its
 * tokens are computed; of those that wait, the smallest is next (ties: the smaller index). While
 * two tenants both have choices waiting, what they get per weight differs by no more than the
 * largest single charge per weight. A tenant that comes back joins at the smallest virtual time of
 * those that wait, if its own is less: idling saves no credit. While nobody waits nothing is
 * scarce, and whoever comes next starts level with the furthest.
 *
 * Within a tenant: the smallest rank is next, rank = arrival + priority x 10 s (ties: who came
 * first). So a choice that arrived at t is overtaken by later ones of a more urgent priority, k
 * levels apart, only if they arrive before t + 10 s x k; priorities are clamped to +-1000, so never
 * by one that arrives 20,000 s later. That is the bound on starving, whatever else arrives.
 *
 * Choices carry the links (a pairing heap for each tenant; a binary heap of the tenants), so adding
 * cannot fail. Adding takes O(log tenants), removing O(log waiting) amortised, asking for the
 * first O(1), for the second O(waiting). */
#ifndef PACELINE_COORDINATOR_WAIT_QUEUE_H
#define PACELINE_COORDINATOR_WAIT_QUEUE_H

#include "base/err.h"
#include "coordinator/request.h"

#include <stdint.h>

#define WAIT_QUEUE_LEVEL_US      ((int64_t)10 * 1000 * 1000)
#define WAIT_QUEUE_MOST_PRIORITY 1000

struct wait_queue_tenant {
    double weight;
    double time;         /* virtual: work / weight */
    struct choice *root; /* of its heap; NULL: nothing waits */
    int n_waiting;
    int place; /* in the heap of tenants, where root is not NULL */
};

struct wait_queue {
    struct wait_queue_tenant *tenants; /* [n_tenants] */
    int *heap;                         /* [n_active] indices of those that wait, by time */
    int n_tenants, n_active;
    int n_waiting;       /* choices, of all tenants */
    double idle_time;    /* where a tenant starts when nobody waits */
    uint64_t next_order; /* counts arrivals */
};

/* weights: [n_tenants], each > 0; NULL: all 1. */
int wait_queue_init(struct wait_queue *q, const double *weights, int n_tenants, struct err *err);
void wait_queue_clear(struct wait_queue *q); /* those that wait are just forgotten */
/* c arrives now; its request's tenant and priority count. */
void wait_queue_add(struct wait_queue *q, struct choice *c, int64_t now_us);
/* c was here before, and takes the place that its arrival gave it: before all of its tenant and
 * priority that have come since. */
void wait_queue_return(struct wait_queue *q, struct choice *c);
/* Whose turn it is; stays in the queue. NULL: nobody waits. */
struct choice *wait_queue_first(const struct wait_queue *q);
/* Whose turn it would be without the first. NULL: nobody else waits. */
struct choice *wait_queue_second(const struct wait_queue *q);
/* Within a tenant: a's rank is before b's. */
bool wait_queue_is_before(const struct choice *a, const struct choice *b);
void wait_queue_remove(struct wait_queue *q, struct choice *c); /* wherever it is in the queue */
/* Work (in tokens) is done for the tenant. To be fair while slots fill faster than tokens come,
 * charge the prompt when its choice gets a slot. */
void wait_queue_charge(struct wait_queue *q, int tenant, double work);

#endif
