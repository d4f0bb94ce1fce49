/* Idle workers pack layers before a plan needs them: the whole model where it fits, else a stage. A
 * plan that loses a worker goes on with a standby in its place. */
#include "coordinator/deployment_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/links.h"

#include <inttypes.h>

#define REVIEW_EVERY_MS 250
#define MEASURE_MS      10000 /* whoever is being measured is left alone for so long */

static bool standby_is_idle(const struct worker_entry *w)
{
    return w->stage < 0 && w->next_stage < 0;
}

static bool standby_may_be_asked(const struct worker_entry *w)
{
    return standby_is_idle(w) && !w->unfit && !w->is_draining && !w->n_losses &&
           !w->standby_failed && !links_are_awaited(w) &&
           (w->measure != MEASURE_ASKED || clock_now_ms() - w->measure_asked_ms > MEASURE_MS);
}

static bool standby_covers(const struct worker_entry *w, int first, int end)
{
    return w->standby_epoch && w->standby_first <= first && end <= w->standby_end;
}

static bool standby_has_room(const struct deployment *d, const struct worker_entry *w, int first,
                             int end)
{
    return plan_model_memory(&d->costs, w->most_threads, first, end) <= w->memory_bytes;
}

/* Some stage of the plan that serves could begin with what it holds. */
static bool standby_is_of_use(const struct deployment *d, const struct worker_entry *w)
{
    for (int i = 0; i < d->plan.n_stages; i++)
        if (standby_covers(w, d->plan.stages[i].first_layer, d->plan.stages[i].end_layer))
            return true;
    return false;
}

static int standby_count_covering(const struct registry *r, const struct planner_stage *s)
{
    int n = 0;
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        n += standby_is_idle(w) && standby_covers(w, s->first_layer, s->end_layer);
    return n;
}

/* The whole model, or the largest of the stages that fewest others hold. false: none fits. */
static bool standby_choose(const struct deployment *d, const struct registry *r,
                           const struct worker_entry *w, int *ret_first, int *ret_end)
{
    const struct planner_stage *best = NULL;
    int fewest = 0;
    *ret_first = 0;
    *ret_end = d->model.n_layers;
    if (standby_has_room(d, w, 0, d->model.n_layers))
        return true;
    for (int i = 0; i < d->plan.n_stages; i++) {
        const struct planner_stage *s = &d->plan.stages[i];
        int n = standby_count_covering(r, s);
        if (!standby_has_room(d, w, s->first_layer, s->end_layer) ||
            (best && (n > fewest || (n == fewest && s->memory_bytes <= best->memory_bytes))))
            continue;
        best = s;
        fewest = n;
    }
    if (!best)
        return false;
    *ret_first = best->first_layer;
    *ret_end = best->end_layer;
    return true;
}

static int standby_ask(struct deployment *d, struct registry *r, struct worker_entry *w,
                       struct err *err)
{
    w->standby_epoch = 0; /* what it holds is of no use any more */
    w->standby_is_ready = false;
    if (!standby_choose(d, r, w, &w->standby_first, &w->standby_end))
        return 0;
    w->standby_epoch = ++d->newest_epoch;
    w->load_done = w->load_total = w->memory_claimed = 0;
    w->fetch_done = w->fetch_total = w->fetch_rate = 0;
    w->beats_astray = 0;
    log_info("epoch %" PRIu64 ": layers %d to %d packed beforehand on %s, a standby",
             w->standby_epoch, w->standby_first, w->standby_end - 1, w->name);
    return deployment_send_standby_load(d, r, w, err);
}

static void standby_dismiss(struct deployment *d, struct registry *r, struct worker_entry *w)
{
    Paceline__Unload unload = PACELINE__UNLOAD__INIT;
    unload.deployment = 1;
    unload.epoch = d->newest_epoch;
    unload.standby = true;
    registry_send(r, w, PACELINE__CONTROL__BODY_UNLOAD, &unload);
    w->standby_epoch = 0;
    w->standby_is_ready = false;
}

/* As many as there are stages: then each may be lost at once. */
int deployment_standby_review(struct deployment *d, struct registry *r, struct err *err)
{
    int64_t now_ms = clock_now_ms();
    int n_asked = 0, rc = 0;
    if (!d->spec.preloads || d->state != DEPLOYMENT_SERVING || d->next.n_stages ||
        now_ms - d->standby_reviewed_ms < REVIEW_EVERY_MS)
        return 0;
    d->standby_reviewed_ms = now_ms;
    for (struct worker_entry *w = r->workers; w; w = w->next) {
        if (standby_is_idle(w) && w->standby_epoch && (w->is_draining || w->unfit))
            standby_dismiss(d, r, w);
        n_asked += standby_is_idle(w) && standby_is_of_use(d, w);
    }
    for (struct worker_entry *w = r->workers; rc == 0 && w; w = w->next) {
        if (n_asked >= d->plan.n_stages || !standby_may_be_asked(w) || standby_is_of_use(d, w))
            continue;
        rc = standby_ask(d, r, w, err);
        n_asked += w->standby_epoch != 0;
    }
    return rc;
}

/* ---- in the place of who is lost ---- */

static bool standby_has_layers(const struct deployment_plan *before, const struct worker_entry *w,
                               const struct planner_stage *s)
{
    const struct planner_stage *own = w->last_stage >= 0 ? &before->stages[w->last_stage] : NULL;
    return (own && own->first_layer <= s->first_layer && s->end_layer <= own->end_layer) ||
           (w->standby_is_ready && standby_covers(w, s->first_layer, s->end_layer));
}

static bool standby_loads_nothing(const struct deployment_plan *before,
                                  struct worker_entry *const *entries,
                                  const struct deployment_plan *plan)
{
    for (int i = 0; i < plan->n_stages; i++)
        if (!standby_has_layers(before, entries[plan->stages[i].worker], &plan->stages[i]))
            return false;
    return true;
}

/* Who had the stage, or a standby that has its layers and no other place; -1: nobody. */
static int standby_find(const struct deployment *d, const struct deployment_plan *before,
                        struct worker_entry *const *entries, int n, int stage,
                        const struct deployment_plan *taken)
{
    const struct planner_stage *s = &before->stages[stage];
    for (int i = 0; i < n; i++)
        if (entries[i]->last_stage == stage)
            return i;
    for (int i = 0; i < n; i++) {
        bool is_free = entries[i]->last_stage < 0;
        for (int k = 0; k < taken->n_stages; k++)
            is_free = is_free && taken->stages[k].worker != i;
        if (is_free && standby_has_layers(before, entries[i], s) &&
            standby_has_room(d, entries[i], s->first_layer, s->end_layer))
            return i;
    }
    return -1;
}

bool deployment_standby_plan(const struct deployment *d, const struct deployment_plan *before,
                             struct worker_entry *const *entries, int n,
                             const struct deployment_plan *best, struct deployment_plan *ret_plan)
{
    struct deployment_plan plan = {.n_stages = 0};
    if (standby_loads_nothing(before, entries, best))
        return false;
    for (int i = 0; i < before->n_stages; i++) {
        int worker = standby_find(d, before, entries, n, i, &plan);
        if (worker < 0)
            return false;
        plan.stages[i] = before->stages[i];
        plan.stages[i].worker = worker;
        plan.n_stages++;
    }
    *ret_plan = plan;
    return true;
}
