#include "cli/trace_file.h"

#include "base/version.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LATEST_US (INT64_C(1) << 53)
enum { STAGES_MAX = 1024, PROCESSES_MAX = 4096, SPANS_MAX = 1 << 24 };
enum { COORDINATOR_PID = 1, FIRST_PID = 2 };

struct trace_process { /* a worker in its place of the pipeline */
    int stage, first_layer, end_layer;
    char worker[128];
    uint64_t epoch; /* the newest plan that has it so */
    int64_t end_us; /* of its last slice so far */
    int64_t n, busy_us, compute_us;
    int64_t n_waits, wait_us; /* while a step was on its way already */
};

struct trace_span {
    int64_t start_us, compute_us, wait_us; /* start_us -1: not known */
    int process;
};

struct trace_step {
    int64_t step, epoch, sent_us, answered_us, rows, decode_rows, prefill_rows, sequences;
    size_t first_span;
    int n_spans;
};

struct trace_event {
    int64_t ts, dur;
    size_t order; /* among events of one time */
    const struct trace_step *step;
    const struct trace_span *span;
    char ph;
};

struct trace_file {
    struct trace_step *steps;
    struct trace_span *spans;
    struct trace_process *processes;
    struct trace_event *events;
    size_t n_steps, n_spans, n_events;
    size_t room_steps, room_spans, room_processes, room_events;
    int n_processes;
    int64_t begin_us, end_us, lost; /* begin_us -1: nothing came yet */
    int64_t under_way_us;           /* of that time, with at least one step in flight */
};

int trace_file_new(struct trace_file **ret_trace, struct err *err)
{
    struct trace_file *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_MEMORY, "no memory for a trace");
    t->begin_us = -1;
    *ret_trace = t;
    return 0;
}

void trace_file_free(struct trace_file *t)
{
    if (!t)
        return;
    free(t->steps);
    free(t->spans);
    free(t->processes);
    free(t->events);
    free(t);
}

size_t trace_file_steps(const struct trace_file *t)
{
    return t->n_steps;
}

/* Room for one more element at `n`. */
static int trace_grow(void *array, size_t *room, size_t n, size_t size, struct err *err)
{
    if (n < *room)
        return 0;
    size_t more = *room ? 2 * *room : 256;
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = reallocarray(old, more, size);
    if (!new)
        return err_set(err, ERR_MEMORY, "no memory for a trace of so many steps");
    memcpy(array, &new, sizeof new);
    *room = more;
    return 0;
}

/* ---- what the server says ---- */

static int trace_bad(struct err *err)
{
    return err_set(err, ERR_NETWORK, "the server's trace is not one: is it of another release?");
}

static bool trace_number(const json_t *value, int64_t *ret_number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > LATEST_US)
        return false;
    *ret_number = json_integer_value(value);
    return true;
}

static bool trace_field(const json_t *object, const char *name, int64_t *ret_number)
{
    return trace_number(json_object_get(object, name), ret_number);
}

static int trace_add_process(struct trace_file *t, int stage, const char *worker, int *ret_index,
                             struct err *err)
{
    if (t->n_processes == PROCESSES_MAX)
        return err_set(err, ERR_LIMIT, "the trace has more than %d workers", PROCESSES_MAX);
    int rc = trace_grow(&t->processes, &t->room_processes, (size_t)t->n_processes,
                        sizeof *t->processes, err);
    if (rc != 0)
        return rc;
    *ret_index = t->n_processes++;
    struct trace_process *p = &t->processes[*ret_index];
    *p = (struct trace_process){.stage = stage, .first_layer = -1, .end_layer = -1};
    snprintf(p->worker, sizeof p->worker, "%s", worker);
    return 0;
}

static int trace_take_stage(struct trace_file *t, const json_t *value, int stage, int64_t epoch,
                            struct err *err)
{
    const char *worker = json_string_value(json_object_get(value, "worker"));
    const json_t *layers = json_object_get(value, "layers");
    int64_t first, end;
    if (!worker || strlen(worker) >= sizeof t->processes->worker ||
        !trace_number(json_array_get(layers, 0), &first) ||
        !trace_number(json_array_get(layers, 1), &end) || end > INT32_MAX)
        return trace_bad(err);
    for (int i = 0; i < t->n_processes; i++) {
        struct trace_process *p = &t->processes[i];
        if (p->stage == stage && p->first_layer == first && p->end_layer == end &&
            !strcmp(p->worker, worker)) {
            p->epoch = (uint64_t)epoch;
            return 0;
        }
    }
    int index = 0, rc = trace_add_process(t, stage, worker, &index, err);
    if (rc != 0)
        return rc;
    t->processes[index].first_layer = (int)first;
    t->processes[index].end_layer = (int)end;
    t->processes[index].epoch = (uint64_t)epoch;
    return 0;
}

/* The newest worker of that stage in plans up to the step's; failing that any, or one unnamed. */
static int trace_find_process(struct trace_file *t, int stage, int64_t epoch, int *ret_index,
                              struct err *err)
{
    int found = -1;
    for (int i = 0; i < t->n_processes; i++) {
        const struct trace_process *p = &t->processes[i];
        if (p->stage != stage)
            continue;
        const struct trace_process *best = found < 0 ? NULL : &t->processes[found];
        bool fits = p->epoch <= (uint64_t)epoch, is_newer = best && p->epoch > best->epoch;
        if (!best || (fits && (best->epoch > (uint64_t)epoch || is_newer)))
            found = i;
    }
    *ret_index = found;
    return found >= 0 ? 0 : trace_add_process(t, stage, "unknown", ret_index, err);
}

static int trace_take_span(struct trace_file *t, const json_t *value, int stage, int64_t epoch,
                           struct err *err)
{
    struct trace_span span = {.start_us = -1};
    const json_t *start = json_array_get(value, 0);
    if ((!json_is_null(start) && !trace_number(start, &span.start_us)) ||
        !trace_number(json_array_get(value, 1), &span.compute_us) || span.compute_us > UINT32_MAX ||
        !trace_number(json_array_get(value, 2), &span.wait_us) || span.wait_us > UINT32_MAX)
        return trace_bad(err);
    if (t->n_spans == SPANS_MAX)
        return err_set(err, ERR_LIMIT, "the trace is too long: use a shorter --seconds");
    int rc = trace_grow(&t->spans, &t->room_spans, t->n_spans, sizeof span, err);
    if (rc == 0)
        rc = trace_find_process(t, stage, epoch, &span.process, err);
    if (rc == 0)
        t->spans[t->n_spans++] = span;
    return rc;
}

static int trace_take_step(struct trace_file *t, const json_t *value, struct err *err)
{
    struct trace_step s = {.first_span = t->n_spans};
    const json_t *stages = json_object_get(value, "stages");
    if (!trace_field(value, "step", &s.step) || !trace_field(value, "epoch", &s.epoch) ||
        !trace_field(value, "sent_us", &s.sent_us) ||
        !trace_field(value, "answered_us", &s.answered_us) || s.answered_us < s.sent_us ||
        !trace_field(value, "rows", &s.rows) ||
        !trace_field(value, "decode_rows", &s.decode_rows) ||
        !trace_field(value, "prefill_rows", &s.prefill_rows) ||
        !trace_field(value, "sequences", &s.sequences) || !json_is_array(stages) ||
        json_array_size(stages) > STAGES_MAX)
        return trace_bad(err);
    s.n_spans = (int)json_array_size(stages);
    int rc = trace_grow(&t->steps, &t->room_steps, t->n_steps, sizeof s, err);
    for (int i = 0; rc == 0 && i < s.n_spans; i++)
        rc = trace_take_span(t, json_array_get(stages, (size_t)i), i, s.epoch, err);
    if (rc == 0)
        t->steps[t->n_steps++] = s;
    return rc;
}

int trace_file_take(struct trace_file *t, const json_t *answer, struct err *err)
{
    const json_t *stages = json_object_get(answer, "stages"), *value;
    const json_t *steps = json_object_get(answer, "steps");
    int64_t now_us, epoch, lost;
    size_t i;
    if (!trace_field(answer, "now_us", &now_us) || !trace_field(answer, "epoch", &epoch) ||
        !trace_field(answer, "lost", &lost) || !json_is_array(stages) || !json_is_array(steps) ||
        json_array_size(stages) > STAGES_MAX)
        return trace_bad(err);
    if (t->begin_us < 0)
        t->begin_us = now_us;
    t->end_us = now_us;
    t->lost += lost;
    int rc = 0;
    json_array_foreach(stages, i, value)
    {
        if (rc == 0)
            rc = trace_take_stage(t, value, (int)i, epoch, err);
    }
    json_array_foreach(steps, i, value)
    {
        if (rc == 0)
            rc = trace_take_step(t, value, err);
    }
    return rc;
}

/* ---- events ---- */

static int trace_event_add(struct trace_file *t, const struct trace_event *e, struct err *err)
{
    int rc = trace_grow(&t->events, &t->room_events, t->n_events, sizeof *e, err);
    if (rc != 0)
        return rc;
    t->events[t->n_events] = *e;
    t->events[t->n_events].order = t->n_events;
    t->n_events++;
    return 0;
}

/* Of [from, to) the part in the time that is looked at. */
static int64_t trace_within(const struct trace_file *t, int64_t from, int64_t to)
{
    from = from > t->begin_us ? from : t->begin_us;
    to = to < t->end_us ? to : t->end_us;
    return to > from ? to - from : 0;
}

/* Estimates of a clock's offset differ by some microseconds, but a stage computes one step after
 * the other: a slice begins where the one before has ended, at the earliest. */
static int trace_add_slices(struct trace_file *t, const struct trace_step *s, struct err *err)
{
    int rc = 0, last = s->n_spans - 1;
    bool is_joined = s->n_spans > 1;
    for (int i = 0; i < s->n_spans; i++)
        is_joined = is_joined && t->spans[s->first_span + (size_t)i].start_us >= 0;
    for (int i = 0; rc == 0 && i < s->n_spans; i++) {
        const struct trace_span *span = &t->spans[s->first_span + (size_t)i];
        struct trace_process *p = &t->processes[span->process];
        p->n++;
        p->compute_us += span->compute_us;
        if (span->start_us < 0)
            continue;
        /* Nobody waits for a step that was not sent yet: there was nothing to do. */
        if (span->start_us - span->wait_us >= s->sent_us) {
            p->n_waits++;
            p->wait_us += span->wait_us;
        }
        int64_t end_us = span->start_us + span->compute_us;
        int64_t start_us = span->start_us > p->end_us ? span->start_us : p->end_us;
        end_us = end_us > start_us ? end_us : start_us + 1; /* arrows need something to hold */
        p->end_us = end_us;
        p->busy_us += trace_within(t, start_us, end_us);
        struct trace_event e = {
            .ts = start_us, .dur = end_us - start_us, .step = s, .span = span, .ph = 'X'};
        rc = trace_event_add(t, &e, err);
        e.ph = i == 0 ? 's' : i == last ? 'f' : 't';
        if (rc == 0 && is_joined)
            rc = trace_event_add(t, &e, err);
    }
    return rc;
}

static int trace_order(const void *a, const void *b)
{
    const struct trace_event *x = a, *y = b;
    if (x->ts != y->ts)
        return x->ts < y->ts ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int trace_make_events(struct trace_file *t, struct err *err)
{
    int rc = 0;
    t->n_events = 0;
    for (int i = 0; i < t->n_processes; i++) {
        struct trace_process *p = &t->processes[i];
        p->end_us = p->n = p->busy_us = p->compute_us = p->n_waits = p->wait_us = 0;
    }
    for (size_t i = 0; rc == 0 && i < t->n_steps; i++) {
        const struct trace_step *s = &t->steps[i];
        struct trace_event e = {.ts = s->sent_us, .step = s, .ph = 'b'};
        rc = trace_event_add(t, &e, err);
        if (rc == 0)
            rc = trace_add_slices(t, s, err);
        e.ts = s->answered_us;
        e.ph = 'e';
        if (rc == 0)
            rc = trace_event_add(t, &e, err);
    }
    if (rc == 0 && t->n_events)
        qsort(t->events, t->n_events, sizeof *t->events, trace_order);
    return rc;
}

/* What a step is made of; its number is an argument. */
static void trace_print_name(FILE *out, const struct trace_step *s)
{
    if (!s->prefill_rows)
        fprintf(out, "decode x%" PRId64, s->decode_rows);
    else if (!s->decode_rows)
        fprintf(out, "prefill %" PRId64, s->prefill_rows);
    else
        fprintf(out, "mixed %" PRId64 "+%" PRId64, s->decode_rows, s->prefill_rows);
}

static void trace_print_event(const struct trace_file *t, FILE *out, const struct trace_event *e,
                              int64_t base_us, int64_t *in_flight)
{
    const struct trace_step *s = e->step;
    int pid = e->span ? FIRST_PID + e->span->process : COORDINATOR_PID;
    size_t id = (size_t)(s - t->steps) + 1;
    fprintf(out, ",\n{\"ph\":\"%c\",\"pid\":%d,\"tid\":%d,\"ts\":%" PRId64, e->ph, pid, pid,
            e->ts - base_us);
    if (e->ph == 's' || e->ph == 't' || e->ph == 'f') {
        fprintf(out, ",\"cat\":\"step\",\"name\":\"step\",\"id\":%zu%s}", id,
                e->ph == 'f' ? ",\"bp\":\"e\"" : "");
        return;
    }
    if (e->ph == 'X')
        fprintf(out, ",\"dur\":%" PRId64 ",\"cat\":\"compute\"", e->dur);
    else
        fprintf(out, ",\"cat\":\"in flight\",\"id\":%zu", id);
    fputs(",\"name\":\"", out);
    trace_print_name(out, s);
    fputc('"', out);
    if (e->ph != 'e')
        fprintf(out,
                ",\"args\":{\"step\":%" PRId64 ",\"epoch\":%" PRId64 ",\"rows\":%" PRId64
                ",\"decode_rows\":%" PRId64 ",\"prefill_rows\":%" PRId64 ",\"sequences\":%" PRId64,
                s->step, s->epoch, s->rows, s->decode_rows, s->prefill_rows, s->sequences);
    if (e->ph == 'X')
        fprintf(out, ",\"wait_us\":%" PRId64, e->span->wait_us);
    fputs(e->ph != 'e' ? "}}" : "}", out);
    if (e->ph == 'X')
        return;
    *in_flight += e->ph == 'b' ? 1 : -1;
    fprintf(out,
            ",\n{\"ph\":\"C\",\"pid\":%d,\"ts\":%" PRId64
            ",\"name\":\"steps in flight\",\"args\":{\"steps\":%" PRId64 "}}",
            COORDINATOR_PID, e->ts - base_us, *in_flight);
}

/* order: from top to bottom on the screen */
static int trace_print_process(FILE *out, int pid, int order, const char *name, struct err *err)
{
    json_t *text = json_string(name);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    json_decref(text);
    if (!quoted)
        return err_set(err, ERR_MEMORY, "no memory for a name");
    fprintf(out,
            "%s\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"ts\":0,\"name\":\"process_name\","
            "\"args\":{\"name\":%s}},\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"ts\":0,"
            "\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}},\n"
            "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"ts\":0,"
            "\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%d}}",
            pid == COORDINATOR_PID ? "" : ",", pid, pid, quoted, pid, pid,
            pid == COORDINATOR_PID ? "steps" : "compute", pid, pid, order);
    free(quoted);
    return 0;
}

static int trace_print_processes(const struct trace_file *t, FILE *out, struct err *err)
{
    int rc = trace_print_process(out, COORDINATOR_PID, 0, "coordinator", err);
    for (int i = 0; rc == 0 && i < t->n_processes; i++) {
        const struct trace_process *p = &t->processes[i];
        char name[256];
        int n = snprintf(name, sizeof name, "stage %d: %s", p->stage, p->worker);
        if (p->first_layer >= 0)
            snprintf(name + n, sizeof name - (size_t)n, ", layers %d-%d", p->first_layer,
                     p->end_layer - 1);
        rc = trace_print_process(out, FIRST_PID + i, 1 + p->stage, name, err);
    }
    return rc;
}

int trace_file_write(struct trace_file *t, FILE *out, struct err *err)
{
    int rc = trace_make_events(t, err);
    if (rc != 0)
        return rc;
    int64_t base_us = t->begin_us, in_flight = 0, since_us = 0;
    if (t->n_events && t->events[0].ts < base_us)
        base_us = t->events[0].ts;
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[", out);
    rc = trace_print_processes(t, out, err);
    t->under_way_us = 0;
    for (size_t i = 0; rc == 0 && i < t->n_events; i++) {
        const struct trace_event *e = &t->events[i];
        if (e->ph == 'b' && in_flight == 0)
            since_us = e->ts;
        trace_print_event(t, out, e, base_us, &in_flight);
        if (e->ph == 'e' && in_flight == 0)
            t->under_way_us += trace_within(t, since_us, e->ts);
    }
    fprintf(out,
            "\n],\"otherData\":{\"program\":\"paceline %s\",\"duration_us\":%" PRId64
            ",\"steps\":%zu,\"lost_steps\":%" PRId64 "}}\n",
            PACELINE_VERSION, t->end_us - t->begin_us, t->n_steps, t->lost);
    return rc;
}

/* ---- the table ---- */

void trace_file_report(const struct trace_file *t, FILE *out)
{
    double seconds = (double)(t->end_us - t->begin_us) * 1e-6;
    if (t->n_steps)
        fprintf(out, "%zu steps in %.1f s, steps under way in %.1f s of them\n", t->n_steps,
                seconds, (double)t->under_way_us * 1e-6);
    else
        fprintf(out, "no step came in %.1f s: send requests while it records\n", seconds);
    if (t->lost)
        fprintf(out, "%" PRId64 " steps are missing: they came faster than they could be read\n",
                t->lost);
    if (t->n_processes)
        fprintf(out, "%-5s  %-24s  %-9s  %7s  %10s  %10s  %7s\n", "stage", "worker", "layers",
                "busy", "step ms", "wait ms", "bubbles");
    for (int i = 0; i < t->n_processes; i++) {
        const struct trace_process *p = &t->processes[i];
        char layers[32] = "-", bubbles[16] = "-", step[32] = "-", wait[32] = "-";
        if (p->first_layer >= 0)
            snprintf(layers, sizeof layers, "%d-%d", p->first_layer, p->end_layer - 1);
        double idle = t->under_way_us ? 1 - (double)p->busy_us / (double)t->under_way_us : 0;
        if (t->under_way_us)
            snprintf(bubbles, sizeof bubbles, "%.1f %%", 100 * (idle > 0 ? idle : 0));
        if (p->n)
            snprintf(step, sizeof step, "%.3f", 1e-3 * (double)p->compute_us / (double)p->n);
        if (p->n_waits)
            snprintf(wait, sizeof wait, "%.3f", 1e-3 * (double)p->wait_us / (double)p->n_waits);
        fprintf(out, "%-5d  %-24s  %-9s  %5.1f %%  %10s  %10s  %7s\n", p->stage, p->worker, layers,
                seconds > 0 ? 1e-4 * (double)p->busy_us / seconds : 0, step, wait, bubbles);
    }
}
