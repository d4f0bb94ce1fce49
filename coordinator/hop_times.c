#include "coordinator/hop_times.h"

#define IDLE_US     200         /* before a step: it was waited for */
#define LARGE_BYTES (256 << 10) /* under way for its length */
#define SMALL_BYTES (32 << 10)  /* and not */
#define DOUBT       8           /* a time under way is so many times what clocks may be wrong */

/* Microseconds under way; false: not known. */
static bool hop_times_of(const struct timeline *t, const struct timeline_step *step, int stage,
                         int64_t *ret_us)
{
    if (step->n_spans <= stage + 1)
        return false;
    struct timeline_span from = timeline_span_of(t, step, stage);
    struct timeline_span to = timeline_span_of(t, step, stage + 1);
    if (from.start_us < 0 || to.start_us < 0 || to.wait_us < IDLE_US)
        return false;
    *ret_us = to.start_us - from.start_us - from.compute_us;
    return *ret_us >= 0;
}

static void hop_times_take(struct hop_times *h, size_t bytes, int64_t us, int64_t doubt_us)
{
    if (bytes <= SMALL_BYTES && (h->least_us < 0 || us < h->least_us))
        h->least_us = us;
    int64_t way_us = us - (h->least_us > 0 ? h->least_us : 0);
    if (bytes < LARGE_BYTES || way_us < DOUBT * doubt_us || way_us <= 0)
        return;
    double rate = (double)bytes * 1e6 / (double)way_us;
    if (rate > h->bytes_per_second)
        h->bytes_per_second = rate;
}

void hop_times_learn(struct hop_times *h, const struct timeline *t, int stage, size_t row_bytes)
{
    int n;
    uint64_t epoch, first = timeline_first(t);
    const struct timeline_stage *stages = timeline_stages(t, &n, &epoch);
    if (h->epoch != epoch)
        *h = (struct hop_times){.epoch = epoch, .seen = h->seen, .least_us = -1};
    h->seen = h->seen < first ? first : h->seen;
    if (stage + 1 >= n || !stages[stage].is_timed || !stages[stage + 1].is_timed)
        return;
    int64_t doubt_us = stages[stage].uncertainty_us + stages[stage + 1].uncertainty_us;
    for (; h->seen < timeline_next(t); h->seen++) {
        const struct timeline_step *step = timeline_at(t, h->seen);
        int64_t us;
        if (step->epoch == epoch && hop_times_of(t, step, stage, &us))
            hop_times_take(h, step->rows.rows * row_bytes, us, doubt_us);
    }
}
