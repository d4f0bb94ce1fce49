#include "coordinator/pipeline.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/metrics.h"
#include "coordinator/planner.h"
#include "coordinator/step_log.h"
#include "coordinator/suspects.h"
#include "proto/data_link.h"
#include "proto/step_message.h"
#include "proto/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A stage that had been idle for so long took the step as soon as it came. */
#define IDLE_US 100

int pipeline_open(struct pipeline *p, void *zmq, const char *host, int port,
                  const struct key_pair *own, struct err *err)
{
    const struct wire_security security = {.own = own, .domain = WIRE_RESULTS};
    *p = (struct pipeline){.zmq = zmq, .own = own};
    int rc = wire_socket(&p->results, zmq, ZMQ_PULL, own ? &security : NULL, err);
    return rc == 0 ? wire_bind(p->results, host, port, &p->results_port, err) : rc;
}

static void pipeline_drop_oldest(struct pipeline *p)
{
    struct pipeline_step *s = p->oldest;
    p->oldest = s->next;
    if (!p->oldest)
        p->newest = NULL;
    p->n_in_flight--;
    p->n_decode_steps -= s->n_decode_rows > 0;
    free(s->items);
    free(s);
}

void pipeline_disconnect(struct pipeline *p)
{
    while (p->oldest)
        pipeline_drop_oldest(p);
    if (p->first)
        zmq_close(p->first);
    p->first = NULL;
    p->is_broken = false;
    step_cost_clear(&p->cost);
}

void pipeline_close(struct pipeline *p)
{
    pipeline_disconnect(p);
    if (p->results)
        zmq_close(p->results);
    *p = (struct pipeline){0};
}

int pipeline_connect(struct pipeline *p, uint64_t epoch, int n_stages, const char *first_endpoint,
                     const struct pipeline_keys *keys, struct err *err)
{
    assert(!p->own == !keys);
    struct wire_security security = {.own = p->own};
    pipeline_disconnect(p);
    if (keys) {
        security.server_key = keys->first;
        memcpy(p->last_key, keys->last, KEYS_BYTES);
    }
    p->epoch = epoch;
    p->n_stages = n_stages;
    p->next_step = 1;
    p->n_steps_back = 0;
    p->longest_us = 0;
    int rc = step_cost_init(&p->cost, n_stages, err);
    if (rc == 0)
        rc = wire_socket(&p->first, p->zmq, ZMQ_PUSH, keys ? &security : NULL, err);
    if (rc == 0 && zmq_connect(p->first, first_endpoint) != 0)
        rc = err_set(err, ERR_NETWORK, "first stage's address %s: %s", first_endpoint,
                     zmq_strerror(errno));
    return rc;
}

static int pipeline_send_batch(struct pipeline *p, const struct batch *b, struct err *err)
{
    zmq_msg_t envelope, frame;
    int rc = step_message_pack(b, &envelope, err);
    if (rc != 0)
        return rc;
    zmq_msg_init(&frame); /* empty: the first stage reads the tokens */
    return data_link_send(p->first, &envelope, &frame, !p->own, err);
}

int pipeline_send(struct pipeline *p, struct batch *b, struct pipeline_item *items, int n_items,
                  int n_decode_rows, struct err *err)
{
    struct pipeline_step *s = calloc(1, sizeof *s);
    int64_t sent_us = clock_now_us(); /* before: the first stage may begin at once */
    b->epoch = p->epoch;
    b->step = p->next_step;
    int rc = s ? pipeline_send_batch(p, b, err) : err_set(err, ERR_MEMORY, "no memory for a step");
    if (rc != 0) {
        p->is_broken = p->is_broken || rc == ERR_LIMIT;
        free(s);
        free(items);
        return rc;
    }
    *s = (struct pipeline_step){.step = p->next_step++,
                                .sent_us = sent_us,
                                .n_decode_rows = n_decode_rows,
                                .n_prefill_rows = (int)b->n_rows - n_decode_rows,
                                .n_items = n_items,
                                .items = items};
    if (p->newest)
        p->newest->next = s;
    else
        p->oldest = s;
    p->newest = s;
    p->n_in_flight++;
    p->n_decode_steps += n_decode_rows > 0;
    step_log_sent(p->epoch, s);
    return 0;
}

/* ---- results ---- */

static bool pipeline_row_is_sound(const Paceline__OutputResult *row, uint32_t vocabulary)
{
    for (size_t i = 0; i < row->n_top; i++)
        if (row->top[i]->token >= vocabulary)
            return false;
    return row->token < vocabulary;
}

/* Exactly the outputs that the step asked for, in their order, with a row for each that wants one.
 */
static bool pipeline_is_answer(const struct pipeline_step *s, const Paceline__StepResult *result,
                               size_t frame_bytes, uint32_t vocabulary, uint32_t hidden)
{
    size_t at = 0, n_values = 0;
    for (int i = 0; i < s->n_items; i++) {
        const struct pipeline_item *item = &s->items[i];
        for (int k = 0; k < item->n_outputs; k++, at++) {
            if (at == result->n_results)
                return false;
            const Paceline__OutputResult *row = result->results[at];
            if (row->sequence != item->slot || (int)row->kind != (int)item->kind ||
                !pipeline_row_is_sound(row, vocabulary))
                return false;
        }
        n_values += (size_t)item->n_outputs * batch_row_values(item->kind, vocabulary, hidden);
    }
    return at == result->n_results && frame_bytes == n_values * sizeof(float);
}

static void pipeline_deliver(const struct pipeline_step *s, const Paceline__StepResult *result,
                             const char *frame, uint32_t vocabulary, uint32_t hidden,
                             void (*take)(void *, const struct pipeline_result *), void *context)
{
    size_t at = 0;
    for (int i = 0; i < s->n_items; i++) {
        for (int k = 0; k < s->items[i].n_outputs; k++) {
            struct pipeline_result out = {0};
            step_result_row(result->results[at++], &out.row);
            out.values = frame;
            out.n_values = batch_row_values(out.row.kind, vocabulary, hidden);
            frame += out.n_values * sizeof(float);
            out.choice = s->items[i].choice; /* read anew: take() may have cancelled it */
            if (!out.choice)
                continue;
            out.choice->last_news_us = clock_now_us();
            take(context, &out);
        }
    }
}

static void pipeline_log_times(const struct pipeline_step *s, const Paceline__StepResult *result)
{
    if (log_level() < LOG_LEVEL_DEBUG)
        return;
    char times[512] = "";
    size_t n = 0;
    for (size_t i = 0; i < result->n_times && n < sizeof times - 40; i++)
        n += (size_t)snprintf(times + n, sizeof times - n, " %u:%u+%u", result->times[i]->stage,
                              result->times[i]->wait_us, result->times[i]->compute_us);
    log_debug("step %" PRIu64 ": %" PRId64 " us; stage:wait+compute us%s", s->step,
              clock_now_us() - s->sent_us, times);
}

/* Times that are not one for each stage teach nothing. */
static void pipeline_learn_cost(struct pipeline *p, const struct pipeline_step *s,
                                const Paceline__StepResult *result)
{
    uint32_t stage_us[PLANNER_MAX_STAGES];
    bool queued = false;
    if (result->n_times != (size_t)p->n_stages || p->n_stages > PLANNER_MAX_STAGES)
        return;
    for (int i = 0; i < p->n_stages; i++) {
        if (result->times[i]->stage != (uint32_t)i)
            return;
        stage_us[i] = result->times[i]->compute_us;
        queued = queued || result->times[i]->wait_us < IDLE_US;
    }
    step_cost_learn(&p->cost, s->n_decode_rows, s->n_prefill_rows, stage_us,
                    queued ? -1 : clock_now_us() - s->sent_us);
}

static void pipeline_record(struct pipeline *p, const struct pipeline_step *s,
                            const Paceline__StepResult *result, int64_t answered_us)
{
    struct timeline_time times[TIMELINE_STAGES];
    size_t n = 0;
    for (; n < result->n_times && n < TIMELINE_STAGES; n++) {
        const Paceline__StageTime *t = result->times[n];
        times[n] = (struct timeline_time){t->stage, t->compute_us, t->wait_us, t->start_us};
    }
    struct timeline_step step = {.step = s->step,
                                 .epoch = p->epoch,
                                 .sent_us = s->sent_us,
                                 .answered_us = answered_us,
                                 .rows = {(uint32_t)(s->n_decode_rows + s->n_prefill_rows),
                                          (uint32_t)s->n_decode_rows, (uint32_t)s->n_items}};
    if (p->timeline)
        timeline_add(p->timeline, &step, times, (int)n);
    if (p->metrics)
        metrics_step_done(p->metrics, &(struct metrics_step){.sent_us = s->sent_us,
                                                             .answered_us = answered_us,
                                                             .n_rows = (int)step.rows.rows,
                                                             .times = times,
                                                             .n_times = (int)n});
}

static void pipeline_on_result(struct pipeline *p, const Paceline__StepResult *result,
                               zmq_msg_t *frame, uint32_t vocabulary, uint32_t hidden,
                               void (*take)(void *, const struct pipeline_result *),
                               void (*done)(void *, struct choice *), void *context)
{
    int64_t answered_us = clock_now_us();
    struct pipeline_step *s = p->oldest;
    if (result->epoch != p->epoch || !s || p->is_broken)
        return;
    /* Every link keeps the order of its messages: a step that was overtaken is lost. */
    if (result->step != s->step) {
        log_warning("results of step %" PRIu64 " came when step %" PRIu64 " was due", result->step,
                    s->step);
        p->is_broken = true;
        return;
    }
    if (!pipeline_is_answer(s, result, zmq_msg_size(frame), vocabulary, hidden)) {
        log_warning("results of step %" PRIu64 " are not what was asked for", result->step);
        p->is_broken = true;
        return;
    }
    p->n_steps_back++;
    if (answered_us - s->sent_us > p->longest_us)
        p->longest_us = answered_us - s->sent_us;
    pipeline_learn_cost(p, s, result);
    pipeline_deliver(s, result, zmq_msg_data(frame), vocabulary, hidden, take, context);
    pipeline_log_times(s, result);
    pipeline_record(p, s, result, answered_us);
    for (int i = 0; i < s->n_items; i++) {
        if (!s->items[i].choice)
            continue;
        suspects_prove(s->items[i].choice, s->items[i].end);
        done(context, s->items[i].choice);
    }
    pipeline_drop_oldest(p);
}

/* Results of anybody but the last stage are nobody's. */
static bool pipeline_is_from_last(const struct pipeline *p, zmq_msg_t *envelope)
{
    unsigned char key[KEYS_BYTES];
    return !p->own || (wire_key_of(envelope, key) && keys_are_equal(key, p->last_key));
}

/* A new plan replays what they would have brought. */
static void pipeline_lose_results(struct pipeline *p, const struct err *why)
{
    int n = 0;
    uint64_t epoch = 0;
    const struct timeline_stage *stages =
        p->timeline ? timeline_stages(p->timeline, &n, &epoch) : NULL;
    const char *last = n > 0 && epoch == p->epoch ? stages[n - 1].worker : "the last stage";
    p->n_damaged++;
    p->is_broken = p->oldest != NULL;
    log_warning("the link from worker %s to the coordinator damages what it carries: %s", last,
                why->text);
}

void pipeline_receive(struct pipeline *p, uint32_t vocabulary, uint32_t hidden,
                      void (*take)(void *context, const struct pipeline_result *result),
                      void (*done)(void *context, struct choice *choice), void *context)
{
    for (int i = 0; i < 64; i++) {
        zmq_msg_t envelope, frame;
        struct err err = {0};
        int rc = data_link_receive(p->results, &envelope, &frame, !p->own, &err);
        if (rc == 0)
            return;
        if (rc == ERR_DAMAGED)
            pipeline_lose_results(p, &err);
        if (rc < 0 && rc != ERR_DAMAGED)
            log_warning("results: %s", err.text);
        if (rc < 0)
            continue;
        if (!pipeline_is_from_last(p, &envelope)) {
            zmq_msg_close(&envelope);
            zmq_msg_close(&frame);
            continue;
        }
        Paceline__StepResult *result = NULL;
        rc = step_result_unpack(&result, zmq_msg_data(&envelope), zmq_msg_size(&envelope), &err);
        if (rc == 0) {
            pipeline_on_result(p, result, &frame, vocabulary, hidden, take, done, context);
            paceline__step_result__free_unpacked(result, NULL);
        } else {
            log_warning("results: %s", err.text);
        }
        zmq_msg_close(&envelope);
        zmq_msg_close(&frame);
    }
}

void pipeline_blame(struct pipeline *p, uint64_t step)
{
    for (struct pipeline_step *s = p->oldest; s; s = s->next)
        for (int i = 0; i < s->n_items && (!step || s->step == step); i++) {
            struct choice *c = s->items[i].choice;
            if (c && c->lost_end < s->items[i].end)
                c->lost_end = s->items[i].end;
        }
}

void pipeline_forget(struct pipeline *p, const struct choice *choice)
{
    for (struct pipeline_step *s = p->oldest; s; s = s->next)
        for (int i = 0; i < s->n_items; i++)
            if (s->items[i].choice == choice)
                s->items[i].choice = NULL;
}
