#include "coordinator/api_generation.h"

#include "base/clock.h"
#include "coordinator/api_usage.h"
#include "coordinator/json_text.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- the life of its requests ---- */

static int api_generation_name(struct api_generation *g, const char *prefix, struct err *err)
{
    unsigned char bits[12];
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return err_set(err, ERR_INTERNAL, "No random id could be drawn: %s.", strerror(errno));
    size_t at = (size_t)snprintf(g->id, sizeof g->id, "%s", prefix);
    for (size_t i = 0; i < sizeof bits; i++)
        at += (size_t)snprintf(g->id + at, sizeof g->id - at, "%02x", bits[i]);
    return 0;
}

static void api_generation_write_head(const struct api_call *c, struct api_generation *g)
{
    const char *alias = coordinator_model_alias(c->api->coordinator);
    const char *fingerprint = coordinator_fingerprint(c->api->coordinator);
    buf_printf(&g->head,
               "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", g->id,
               g->format->chunk_object, g->created_unix_s);
    json_text_quote(&g->head, alias, strlen(alias));
    buf_puts(&g->head, ",\"system_fingerprint\":");
    json_text_quote(&g->head, fingerprint, strlen(fingerprint));
    buf_puts(&g->head, ",\"choices\":[");
}

int api_generation_new(struct api_call *c, const struct api_generation_format *format,
                       struct api_params *params, struct err *err)
{
    struct api_generation *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    g->format = format;
    g->created_unix_s = clock_unix_s();
    buf_init(&g->head);
    int rc = api_generation_name(g, format ? format->id_prefix : "probe-", err);
    if (rc == 0 && format)
        api_generation_write_head(c, g);
    if (rc == 0 && buf_failed(&g->head))
        rc = err_set(err, ERR_MEMORY, "There is no memory for the request.");
    if (rc != 0) {
        api_generation_free(g);
        return rc;
    }
    g->params = *params;
    *params = (struct api_params){0};
    c->generation = g;
    return 0;
}

int api_generation_add(struct api_call *c, struct request *r, struct err *err)
{
    struct api_generation *g = c->generation;
    struct request **more = realloc(g->requests, (g->n_requests + 1) * sizeof *more);
    if (!more) {
        request_free(r);
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    }
    g->requests = more;
    g->requests[g->n_requests] = r;
    snprintf(r->id, sizeof r->id, "%s", g->id);
    if (g->n_requests)
        snprintf(r->id, sizeof r->id, "%.36s-%zu", g->id, g->n_requests % 100);
    r->created_unix_s = g->created_unix_s;
    r->tenant = c->tenant;
    r->arrived_us = clock_now_us();
    g->n_requests++;
    return request_prepare(r, coordinator_tokenizer(c->api->coordinator), err);
}

int api_generation_submit(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    int rc = coordinator_submit(c->api->coordinator, g->requests, g->n_requests, err);
    /* From now on they are the coordinator's, and the way back to this call. */
    for (size_t i = 0; rc == 0 && i < g->n_requests; i++)
        g->requests[i]->owner = c;
    return rc;
}

/* owner is NULL until the coordinator has taken a request. */
static void api_generation_drop(struct request *r)
{
    const struct api_call *c = r->owner;
    if (c && (!r->is_done || r->changed))
        coordinator_cancel(c->api->coordinator, r);
    request_free(r);
}

void api_generation_free(struct api_generation *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->n_requests; i++)
        api_generation_drop(g->requests[i]);
    free(g->requests);
    api_params_clear(&g->params);
    buf_clear(&g->head);
    free(g);
}

bool api_generation_is_done(const struct api_generation *g)
{
    for (size_t i = 0; i < g->n_requests; i++)
        if (!g->requests[i]->is_done)
            return false;
    return true;
}

static bool api_generation_was_cancelled(const struct request *r)
{
    for (int i = 0; r->is_done && r->choices && i < r->n_choices; i++)
        if (r->choices[i].finish == FINISH_CANCELLED)
            return true;
    return false;
}

const struct err *api_generation_failure(const struct api_generation *g)
{
    static const struct err stopped = {.code = ERR_UNAVAILABLE,
                                       .text = "The server stopped before the answer was done."};
    static const struct err unknown = {.code = ERR_INTERNAL,
                                       .text = "The request failed for an unknown reason."};
    for (size_t i = 0; i < g->n_requests; i++) {
        const struct request *r = g->requests[i];
        if (r->failure.code != 0)
            return &r->failure;
        if (api_generation_was_cancelled(r))
            return &stopped;
        for (int k = 0; r->choices && k < r->n_choices; k++)
            if (r->choices[k].finish == FINISH_ERROR)
                return &unknown;
    }
    return NULL;
}

/* ---- the answer ---- */

static const char *api_generation_finish(const struct choice *choice)
{
    switch (choice->finish) {
    case FINISH_NONE:
        return NULL;
    case FINISH_LENGTH:
        return "length";
    default:
        return "stop";
    }
}

static struct api_generation_piece api_generation_piece(struct api_call *c, size_t prompt,
                                                        struct choice *choice)
{
    struct api_generation *g = c->generation;
    int index = (int)prompt * (int)g->params.n_choices + choice->index;
    return (struct api_generation_piece){.call = c,
                                         .request = g->requests[prompt],
                                         .choice = choice,
                                         .index = index,
                                         .is_first = !g->has_begun[index],
                                         .text_offset = g->text_offsets[index]};
}

static void api_generation_answer_whole(struct api_call *c)
{
    struct api_generation *g = c->generation;
    json_t *choices = json_array();
    for (size_t i = 0; i < g->n_requests; i++) {
        struct request *r = g->requests[i];
        for (int k = 0; k < r->n_choices; k++) {
            struct choice *choice = &r->choices[k];
            struct api_generation_piece piece = api_generation_piece(c, i, choice);
            piece.text = buf_text(&choice->text);
            piece.text_length = choice->text.length;
            piece.records = choice->records;
            piece.n_records = choice->n_records;
            piece.finish = api_generation_finish(choice);
            if (buf_failed(&choice->text) ||
                json_array_append_new(choices, g->format->choice(&piece)) != 0) {
                json_decref(choices);
                api_call_answer(c, 500, NULL);
                return;
            }
        }
    }
    json_t *answer = json_pack("{s:s, s:s, s:I, s:o, s:s, s:o, s:o, s:o, s:I}", "id", g->id,
                               "object", g->format->object, "created",
                               (json_int_t)g->created_unix_s, "model", api_call_model_json(c),
                               "system_fingerprint", coordinator_fingerprint(c->api->coordinator),
                               "choices", choices, "usage", api_usage_json(g), "timings",
                               api_usage_timings_json(g), "seed", (json_int_t)g->params.seed);
    api_call_answer(c, 200, answer);
}

/* Ends a chunk: the array of choices, then what stands beside it. */
static void api_generation_end_chunk(struct api_call *c, bool with_seed, bool with_timings)
{
    struct api_generation *g = c->generation;
    buf_putc(&c->out, ']');
    if (g->params.include_usage)
        buf_puts(&c->out, ",\"usage\":null");
    if (with_seed)
        buf_printf(&c->out, ",\"seed\":%" PRId64, g->params.seed);
    if (with_timings) {
        json_t *timings = api_usage_timings_json(g);
        buf_puts(&c->out, ",\"timings\":");
        json_text_write(&c->out, timings);
        json_decref(timings);
    }
    buf_puts(&c->out, "}\n\n");
}

static void api_generation_write_piece(struct api_call *c, struct api_generation_piece *piece,
                                       bool is_last)
{
    struct api_generation *g = c->generation;
    buf_append(&c->out, g->head.data, g->head.length);
    bool is_plain = !piece->finish && !piece->is_first && !piece->n_records;
    if (is_plain && g->format->text_chunk) {
        g->format->text_chunk(piece, &c->out);
    } else {
        json_t *choice = g->format->choice(piece);
        json_text_write(&c->out, choice);
        json_decref(choice);
    }
    api_generation_end_chunk(c, piece->is_first || is_last, is_last);
    g->has_begun[piece->index] = true;
    piece->is_first = false;
}

/* What is new of one choice; is_last: it is the last one that was open, and it is finished. */
static void api_generation_write_choice(struct api_call *c, size_t prompt, struct choice *choice,
                                        bool is_last)
{
    struct api_generation *g = c->generation;
    struct api_generation_piece piece = api_generation_piece(c, prompt, choice);
    bool has_records = choice->n_records > choice->n_records_taken;
    if (piece.is_first && g->format->chunk_before_text) {
        api_generation_write_piece(c, &piece, false);
    }
    if (choice->text.length || has_records || (piece.is_first && g->is_echo)) {
        piece.text = buf_text(&choice->text);
        piece.text_length = choice->text.length;
        piece.records = choice->records + choice->n_records_taken;
        piece.n_records = choice->n_records - choice->n_records_taken;
        api_generation_write_piece(c, &piece, false);
        for (size_t i = 0; i < piece.n_records; i++)
            g->text_offsets[piece.index] += api_usage_characters(c, piece.records[i].token);
        choice->n_records_taken = choice->n_records;
        buf_reset(&choice->text);
    }
    if (choice->finish == FINISH_NONE || choice->finish_taken)
        return;
    piece.text = NULL;
    piece.text_length = piece.n_records = 0;
    piece.finish = api_generation_finish(choice);
    api_generation_write_piece(c, &piece, is_last);
    choice->finish_taken = true;
}

static void api_generation_end_stream(struct api_call *c)
{
    struct api_generation *g = c->generation;
    if (g->params.include_usage) {
        json_t *usage = api_usage_json(g), *timings = api_usage_timings_json(g);
        buf_append(&c->out, g->head.data, g->head.length);
        buf_puts(&c->out, "],\"usage\":");
        json_text_write(&c->out, usage);
        buf_printf(&c->out, ",\"seed\":%" PRId64 ",\"timings\":", g->params.seed);
        json_text_write(&c->out, timings);
        buf_puts(&c->out, "}\n\n");
        json_decref(usage);
        json_decref(timings);
    }
    buf_puts(&c->out, "data: [DONE]\n\n");
    c->is_complete = true;
}

static void api_generation_fail_stream(struct api_call *c, const struct err *failure)
{
    json_t *error =
        api_call_error_json(err_http_status(failure->code), api_call_error_code(failure), failure);
    buf_puts(&c->out, "data: ");
    json_text_write(&c->out, error);
    buf_puts(&c->out, "\n\n");
    json_decref(error);
    c->is_complete = true;
}

static void api_generation_stream(struct api_call *c)
{
    struct api_generation *g = c->generation;
    const struct err *failure = api_generation_failure(g);
    int open = 0;
    for (size_t i = 0; i < g->n_requests; i++)
        for (int k = 0; k < g->requests[i]->n_choices; k++)
            open += !g->requests[i]->choices[k].finish_taken;
    for (size_t i = 0; !failure && i < g->n_requests; i++) {
        struct request *r = g->requests[i];
        for (int k = 0; k < r->n_choices; k++) {
            struct choice *choice = &r->choices[k];
            if (choice->finish_taken)
                continue;
            bool ends = choice->finish != FINISH_NONE;
            open -= ends;
            api_generation_write_choice(c, i, choice,
                                        ends && open == 0 && api_generation_is_done(g));
        }
    }
    if (failure)
        api_generation_fail_stream(c, failure);
    else if (open == 0 && api_generation_is_done(g))
        api_generation_end_stream(c);
    if (buf_failed(&c->out)) {
        c->is_broken = true;
        c->is_complete = true;
    }
}

void api_generation_began(struct api_call *c, const struct err *err)
{
    if (err) {
        api_generation_free(c->generation);
        c->generation = NULL;
        api_call_fail(c, err);
        return;
    }
    c->generation->wants_logprobs = c->generation->params.sampling.logprobs;
    if (c->generation->params.is_stream) {
        c->status = 200;
        c->content_type = "text/event-stream; charset=utf-8";
        c->is_stream = true;
        api_call_header(c, "Cache-Control", "no-cache");
        api_call_header(c, "X-Accel-Buffering", "no"); /* nginx would hold the stream back */
    }
    api_generation_news(c);
}

void api_generation_news(struct api_call *c)
{
    struct api_generation *g = c->generation;
    if (g->news) {
        g->news(c);
        return;
    }
    if (g->params.is_stream) {
        /* A slow reader: the text waits in the choices, bounded by max_tokens. */
        if (api_call_pending(c) < API_GENERATION_PENDING)
            api_generation_stream(c);
        return;
    }
    if (!api_generation_is_done(g))
        return;
    const struct err *failure = api_generation_failure(g);
    if (failure)
        api_call_fail(c, failure);
    else
        api_generation_answer_whole(c);
}
