#include "coordinator/deployment_parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* After one that failed: whatever was in its way needs time to go. */
#define RETRY_MS 10000
/* Whoever joined is measured first. */
#define MEASURE_POLL_MS 100
#define JUDGE_EVERY_MS  1000
/* A correction waits so long for a moment without steps. */
#define QUIET_MS 10000

static bool change_is_under_way(const struct deployment *d)
{
    return d->next.n_stages > 0;
}

void deployment_change_forget(struct deployment *d, struct registry *r)
{
    d->next.n_stages = 0;
    d->change[0] = '\0';
    d->change_waits = false;
    d->change_ready_ms = 0;
    for (struct worker_entry *w = r->workers; w; w = w->next) {
        w->next_stage = w->next_first_layer = w->next_end_layer = -1;
        w->next_is_ready = false;
        w->beats_astray = 0;
    }
    r->next_lost = r->next_failed = false;
}

/* Whoever has made something ready for it lets it go. */
static void change_abandon(struct deployment *d, struct registry *r, const char *why)
{
    Paceline__Unload unload = PACELINE__UNLOAD__INIT;
    unload.deployment = 1;
    unload.epoch = d->next.epoch;
    unload.only = true;
    log_warning("epoch %" PRIu64 ": the change is given up: %s", d->next.epoch, why);
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->next_stage >= 0)
            registry_send(r, w, PACELINE__CONTROL__BODY_UNLOAD, &unload);
    deployment_change_forget(d, r);
    d->change_after_ms = clock_now_ms() + RETRY_MS;
}

/* ---- whether ---- */

static const struct worker_entry *change_find_draining(const struct registry *r)
{
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->is_draining && w->stage >= 0)
            return w;
    return NULL;
}

/* Another set of workers, or another order, or other layers. */
static bool change_is_one(const struct deployment *d, const struct registry *r,
                          const struct deployment_plan *plan, struct worker_entry *const *entries)
{
    if (plan->n_stages != d->plan.n_stages)
        return true;
    for (int i = 0; i < plan->n_stages; i++)
        if (entries[plan->stages[i].worker] != registry_stage(r, i) ||
            plan->stages[i].first_layer != d->plan.stages[i].first_layer)
            return true;
    return false;
}

/* ---- begin ---- */

static int change_begin(struct deployment *d, struct registry *r, const struct pipeline *p,
                        const struct deployment_plan *plan, struct worker_entry *const *entries,
                        struct err *err)
{
    d->next = *plan;
    d->next.epoch = ++d->newest_epoch;
    log_info("epoch %" PRIu64 ": %s; made ready beside the plan in service", d->next.epoch,
             d->change);
    for (int i = 0; i < plan->n_stages; i++) {
        struct worker_entry *w = entries[plan->stages[i].worker];
        w->next_stage = i;
        w->next_first_layer = plan->stages[i].first_layer;
        w->next_end_layer = plan->stages[i].end_layer;
        w->next_epoch = d->next.epoch;
        w->next_is_ready = false;
        w->load_done = w->load_total = 0;
        w->standby_epoch = 0; /* the stage takes what it needs of it */
        w->standby_is_ready = false;
        w->beats_astray = 0;
    }
    return deployment_send_loads(d, r, p, &d->next, entries, true, err);
}

/* A worker that is to be drained has the first word; then whoever makes it faster. */
static int change_consider(struct deployment *d, struct registry *r, const struct pipeline *p,
                           struct err *err)
{
    const struct worker_entry *leaver = change_find_draining(r);
    struct worker_entry **entries = calloc((size_t)r->n_workers + 1, sizeof *entries);
    struct deployment_plan *plan = calloc(1, sizeof *plan);
    struct err obstacle = {0};
    int rc = 0;
    if (!entries || !plan) {
        rc = err_set(err, ERR_MEMORY, "no memory to plan");
    } else {
        int n = deployment_candidates(r, false, entries);
        bool fits = n > 0 && deployment_make_plan(d, entries, n, plan, &obstacle) == 0;
        double gain = fits && !leaver ? deployment_gain(d, r, entries, n, plan) : 0;
        if (leaver && fits)
            snprintf(d->change, sizeof d->change, "worker %.64s is drained", leaver->name);
        else if (fits && gain > d->spec.change_gain)
            snprintf(d->change, sizeof d->change, "another plan is %.0f %% better", 100 * gain);
        else if (leaver && !leaver->is_leaving)
            log_warning("worker %s cannot be drained: %s", leaver->name,
                        n ? obstacle.text : "no other worker is here");
        if (d->change[0] && change_is_one(d, r, plan, entries)) {
            deployment_tell_plan(d, entries, n, plan);
            rc = change_begin(d, r, p, plan, entries, err);
        } else {
            d->change[0] = '\0';
        }
    }
    free(entries);
    free(plan);
    return rc;
}

/* Now and then: whether what was observed speaks for another plan. */
static int change_correct(struct deployment *d, struct registry *r, const struct pipeline *p,
                          struct err *err)
{
    int64_t now_ms = clock_now_ms();
    if (d->spec.n_cuts || now_ms - d->replan_judged_ms < JUDGE_EVERY_MS)
        return 0;
    d->replan_judged_ms = now_ms;
    deployment_measure_again(d, r);
    struct worker_entry **entries = calloc((size_t)r->n_workers + 1, sizeof *entries);
    struct deployment_plan *plan = calloc(1, sizeof *plan);
    double gain;
    int rc = 0;
    if (entries && plan) {
        int n = deployment_candidates(r, false, entries);
        if (deployment_judge(d, r, p, entries, n, plan, &gain) &&
            change_is_one(d, r, plan, entries)) {
            snprintf(d->change, sizeof d->change,
                     "by observed times another plan is %.0f %% better", 100 * gain);
            d->change_waits = true;
            deployment_tell_plan(d, entries, n, plan);
            rc = change_begin(d, r, p, plan, entries, err);
        }
    }
    free(entries);
    free(plan);
    return rc;
}

/* ---- complete ---- */

static bool change_is_ready(const struct deployment *d, const struct registry *r)
{
    int n = 0;
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        n += w->next_stage >= 0 && w->next_is_ready;
    return n == d->next.n_stages;
}

static bool change_may_switch(struct deployment *d, const struct pipeline *p)
{
    int64_t now_ms = clock_now_ms();
    if (!d->change_ready_ms)
        d->change_ready_ms = now_ms;
    return !d->change_waits || p->n_in_flight == 0 || now_ms - d->change_ready_ms > QUIET_MS;
}

/* Between two steps: what is in flight is computed again. */
static void change_switch(struct deployment *d, struct registry *r, struct pipeline *p,
                          enum deployment_event *ret_event)
{
    Paceline__Unload unload = PACELINE__UNLOAD__INIT;
    unload.deployment = 1;
    unload.epoch = d->next.epoch - 1;
    if (p->n_steps_back > 0) /* the plan that ends was of use */
        d->n_barren = 0;
    d->plan = d->next;
    for (struct worker_entry *w = r->workers; w; w = w->next) {
        w->stage = w->next_stage;
        w->first_layer = w->next_first_layer;
        w->end_layer = w->next_end_layer;
        w->state = WORKER_JOINED;
        if (w->stage >= 0) {
            w->epoch = w->next_epoch;
            w->memory_claimed = w->next_claimed;
            w->state = WORKER_SERVING;
            w->last_busy_ms = clock_now_ms();
        }
        registry_send(r, w, PACELINE__CONTROL__BODY_UNLOAD, &unload);
    }
    deployment_change_forget(d, r);
    deployment_begin(d, r, p, ret_event);
}

/* Two stages of one worker do not fit: to let somebody go, service is interrupted for a moment. */
static bool change_must_interrupt(const struct registry *r)
{
    return r->next_failed && r->next_failure.code == ERR_MEMORY && change_find_draining(r);
}

static bool change_uses_draining(const struct registry *r)
{
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->is_draining && w->next_stage >= 0)
            return true;
    return false;
}

static void change_continue(struct deployment *d, struct registry *r, struct pipeline *p,
                            enum deployment_event *ret_event)
{
    if (change_must_interrupt(r)) {
        change_abandon(d, r, r->next_failure.text);
        deployment_interrupt(d, r, p, &(struct deployment_loss){.is_suspicious = false}, ret_event);
        r->joined = true; /* plan anew */
    } else if (r->next_failed || r->next_lost) {
        change_abandon(d, r, r->next_failed ? r->next_failure.text : "a worker is gone");
    } else if (change_uses_draining(r)) {
        change_abandon(d, r, "one of its workers is to be drained");
        d->change_after_ms = 0;
        r->joined = true;
    } else if (change_is_ready(d, r) && change_may_switch(d, p)) {
        change_switch(d, r, p, ret_event);
    }
}

/* Who asked to go may, once it has no stage, or no plan can do without it. */
static void change_release(const struct deployment *d, struct registry *r)
{
    Paceline__Released released = PACELINE__RELEASED__INIT;
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->is_leaving &&
            (w->stage < 0 || d->state != DEPLOYMENT_SERVING || !change_is_under_way(d)))
            registry_send(r, w, PACELINE__CONTROL__BODY_RELEASED, &released);
}

int deployment_change_review(struct deployment *d, struct registry *r, struct pipeline *p,
                             bool look, enum deployment_event *ret_event, struct err *err)
{
    int rc = 0;
    if (d->state == DEPLOYMENT_SERVING && change_is_under_way(d))
        change_continue(d, r, p, ret_event);
    if (look && change_find_draining(r)) /* who goes does not wait for what was to wait */
        d->change_after_ms = 0;
    bool is_due = d->change_after_ms && clock_now_ms() >= d->change_after_ms;
    if (d->state == DEPLOYMENT_SERVING && !change_is_under_way(d) && (look || is_due) &&
        clock_now_ms() >= d->change_after_ms) {
        bool waits = deployment_await_measures(d, r) && !change_find_draining(r);
        d->change_after_ms = waits ? clock_now_ms() + MEASURE_POLL_MS : 0;
        if (!waits)
            rc = change_consider(d, r, p, err);
    }
    if (rc == 0 && d->state == DEPLOYMENT_SERVING && !change_is_under_way(d))
        rc = change_correct(d, r, p, err);
    if (look || is_due || *ret_event == DEPLOYMENT_BEGAN)
        change_release(d, r);
    return rc;
}

/* ---- on demand ---- */

int deployment_drain(struct deployment *d, struct registry *r, const char *worker, struct err *err)
{
    struct worker_entry *w = registry_named(r, worker);
    if (!w)
        return err_set(err, ERR_NOT_FOUND, "There is no worker '%.64s' here.", worker);
    if (w->is_draining)
        return 0;
    struct worker_entry **entries = calloc((size_t)r->n_workers + 1, sizeof *entries);
    struct deployment_plan *plan = calloc(1, sizeof *plan);
    int rc = 0;
    w->is_draining = true;
    if (!entries || !plan) {
        rc = err_set(err, ERR_MEMORY, "no memory to plan");
    } else if (w->stage >= 0) {
        struct err why = {0};
        int n = deployment_candidates(r, false, entries);
        if (n == 0)
            rc = err_set(err, ERR_UNAVAILABLE,
                         "No other worker is here to take its layers, or all others are drained.");
        else if (deployment_make_plan(d, entries, n, plan, &why) != 0)
            rc =
                err_set(err, ERR_UNAVAILABLE, "Nothing serves without %.64s: %s", worker, why.text);
    }
    free(entries);
    free(plan);
    if (rc != 0) {
        w->is_draining = false;
        return rc;
    }
    log_info("worker %s is to be drained", w->name);
    d->change_after_ms = 0;
    r->joined = true;
    return 0;
}

int deployment_resume(struct deployment *d, struct registry *r, const char *worker, struct err *err)
{
    struct worker_entry *w = registry_named(r, worker);
    if (!w)
        return err_set(err, ERR_NOT_FOUND, "There is no worker '%.64s' here.", worker);
    if (w->is_draining && !w->is_leaving) {
        log_info("worker %s may be used again", w->name);
        w->is_draining = false;
        d->change_after_ms = 0;
        r->joined = true;
    }
    return 0;
}
