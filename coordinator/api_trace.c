#include "coordinator/api_trace.h"

#include "base/clock.h"
#include "coordinator/json_text.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of one answer, so that none holds up the steps: who is behind asks again. */
enum { TRACE_STEPS = 256, TRACE_SPANS = 4096 };

static json_t *api_trace_spans(const struct timeline *t, const struct timeline_step *step)
{
    json_t *spans = json_array();
    int rc = spans ? 0 : -1;
    for (int i = 0; rc == 0 && i < step->n_spans; i++) {
        struct timeline_span s = timeline_span_of(t, step, i);
        json_t *start = s.start_us < 0 ? json_null() : json_integer(s.start_us);
        rc = json_array_append_new(
            spans, json_pack("[o, I, I]", start, (json_int_t)s.compute_us, (json_int_t)s.wait_us));
    }
    if (rc == 0)
        return spans;
    json_decref(spans);
    return NULL;
}

static json_t *api_trace_step(const struct timeline *t, const struct timeline_step *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "step", (json_int_t)s->step,
                     "epoch", (json_int_t)s->epoch, "sent_us", (json_int_t)s->sent_us,
                     "answered_us", (json_int_t)s->answered_us, "rows", (json_int_t)s->rows.rows,
                     "decode_rows", (json_int_t)s->rows.decode_rows, "prefill_rows",
                     (json_int_t)s->rows.rows - (json_int_t)s->rows.decode_rows, "sequences",
                     (json_int_t)s->rows.sequences, "stages", api_trace_spans(t, s));
}

/* *number moves on behind the last step of the answer. */
static json_t *api_trace_steps(const struct timeline *t, uint64_t *number)
{
    json_t *steps = json_array();
    int rc = steps ? 0 : -1, n_spans = 0;
    for (int n = 0; rc == 0 && n < TRACE_STEPS && *number < timeline_next(t); n++) {
        const struct timeline_step *s = timeline_at(t, *number);
        n_spans += s->n_spans;
        if (n_spans > TRACE_SPANS)
            break;
        rc = json_array_append_new(steps, api_trace_step(t, s));
        ++*number;
    }
    if (rc == 0)
        return steps;
    json_decref(steps);
    return NULL;
}

static json_t *api_trace_stages(const struct timeline *t, uint64_t *ret_epoch)
{
    int n;
    const struct timeline_stage *stages = timeline_stages(t, &n, ret_epoch);
    json_t *list = json_array();
    int rc = list ? 0 : -1;
    for (int i = 0; rc == 0 && i < n; i++) {
        const struct timeline_stage *s = &stages[i];
        json_t *offset = s->is_timed ? json_integer(s->offset_us) : json_null();
        json_t *width = s->is_timed ? json_integer(s->uncertainty_us) : json_null();
        rc = json_array_append_new(
            list, json_pack("{s:i, s:o, s:[i, i], s:o, s:o}", "stage", i, "worker",
                            json_text_string(s->worker, strnlen(s->worker, sizeof s->worker)),
                            "layers", s->first_layer, s->end_layer, "clock_offset_us", offset,
                            "clock_uncertainty_us", width));
    }
    if (rc == 0)
        return list;
    json_decref(list);
    return NULL;
}

static bool api_trace_read(const char *text, uint64_t *ret_after)
{
    char *end;
    errno = 0;
    *ret_after = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && !*end && !errno;
}

void api_trace(struct api_call *c)
{
    const struct timeline *t = coordinator_timeline(c->api->coordinator);
    uint64_t after = timeline_next(t), epoch;
    struct err err;
    if (c->after && !api_trace_read(c->after, &after)) {
        err_set_param(&err, ERR_INPUT, "after",
                      "'after' must be a number, \"next\" of the answer before.");
        api_call_fail(c, &err);
        return;
    }
    if (after > timeline_next(t)) /* of a server before this one */
        after = timeline_next(t);
    uint64_t first = timeline_first(t), lost = after < first ? first - after : 0;
    after += lost;
    json_t *steps = api_trace_steps(t, &after);
    json_t *stages = api_trace_stages(t, &epoch);
    api_call_answer(c, 200,
                    json_pack("{s:I, s:I, s:b, s:I, s:I, s:o, s:o}", "now_us",
                              (json_int_t)clock_now_us(), "next", (json_int_t)after, "more",
                              after < timeline_next(t), "lost", (json_int_t)lost, "epoch",
                              (json_int_t)epoch, "stages", stages, "steps", steps));
}
