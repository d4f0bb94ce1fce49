#include "coordinator/timeline.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct timeline {
    struct timeline_step steps[TIMELINE_STEPS]; /* number modulo size */
    struct timeline_span spans[TIMELINE_SPANS]; /* the same */
    uint64_t first, next, next_span;
    struct timeline_stage stages[TIMELINE_STAGES];
    uint64_t epoch;
    int n_stages;
};

int timeline_new(struct timeline **ret_timeline, struct err *err)
{
    struct timeline *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_MEMORY, "no memory for the timeline");
    *ret_timeline = t;
    return 0;
}

void timeline_free(struct timeline *t)
{
    free(t);
}

void timeline_set_stages(struct timeline *t, uint64_t epoch, const struct timeline_stage *stages,
                         int n)
{
    assert(n >= 0 && n <= TIMELINE_STAGES);
    memcpy(t->stages, stages, (size_t)n * sizeof *stages);
    t->n_stages = n;
    t->epoch = epoch;
}

/* -1 when it is not known, or cannot be. */
static int64_t timeline_start(const struct timeline *t, const struct timeline_step *step, int stage,
                              const struct timeline_time *time)
{
    const struct timeline_stage *s = &t->stages[stage];
    if (step->epoch != t->epoch || stage >= t->n_stages || !s->is_timed ||
        time->start_us > INT64_MAX / 4)
        return -1;
    int64_t start_us = (int64_t)time->start_us - s->offset_us;
    int64_t latest_us = step->answered_us - time->compute_us;
    if (start_us < step->sent_us - s->uncertainty_us || start_us > latest_us + s->uncertainty_us ||
        latest_us < step->sent_us)
        return -1;
    return start_us < step->sent_us ? step->sent_us : start_us > latest_us ? latest_us : start_us;
}

/* Drops the steps whose place, or whose spans' places, are about to be taken. */
static void timeline_make_room(struct timeline *t, int n_spans)
{
    while (
        t->first < t->next &&
        (t->next - t->first >= TIMELINE_STEPS ||
         t->next_span + (uint64_t)n_spans - timeline_at(t, t->first)->first_span > TIMELINE_SPANS))
        t->first++;
}

void timeline_add(struct timeline *t, const struct timeline_step *step,
                  const struct timeline_time *times, int n)
{
    int n_spans = 0;
    while (n_spans < n && n_spans < TIMELINE_STAGES && times[n_spans].stage == (uint32_t)n_spans)
        n_spans++;
    timeline_make_room(t, n_spans);
    struct timeline_step *to = &t->steps[t->next++ % TIMELINE_STEPS];
    *to = *step;
    to->n_spans = n_spans;
    to->first_span = t->next_span;
    for (int i = 0; i < n_spans; i++)
        t->spans[t->next_span++ % TIMELINE_SPANS] = (struct timeline_span){
            timeline_start(t, step, i, &times[i]), times[i].compute_us, times[i].wait_us};
}

uint64_t timeline_first(const struct timeline *t)
{
    return t->first;
}

uint64_t timeline_next(const struct timeline *t)
{
    return t->next;
}

const struct timeline_step *timeline_at(const struct timeline *t, uint64_t number)
{
    assert(number >= t->first && number < t->next);
    return &t->steps[number % TIMELINE_STEPS];
}

struct timeline_span timeline_span_of(const struct timeline *t, const struct timeline_step *step,
                                      int stage)
{
    assert(stage >= 0 && stage < step->n_spans);
    return t->spans[(step->first_span + (uint64_t)stage) % TIMELINE_SPANS];
}

const struct timeline_stage *timeline_stages(const struct timeline *t, int *ret_n,
                                             uint64_t *ret_epoch)
{
    *ret_n = t->n_stages;
    *ret_epoch = t->epoch;
    return t->stages;
}
