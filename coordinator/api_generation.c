#include "coordinator/api_generation.h"

#include "base/clock.h"
#include "coordinator/api.h"
#include "coordinator/api_replay.h"
#include "coordinator/api_store.h"
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

int api_generation_new(struct api_call *c, const struct api_generation_format *format,
                       struct api_params *params, struct err *err)
{
    struct api_generation *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    g->format = format;
    g->created_unix_s = clock_unix_s();
    g->response.had_sequence = -1;
    buf_init(&g->head);
    int rc = 0;
    if (c->stored)
        api_replay_name(c, g);
    else
        rc = api_generation_name(g, format ? format->id_prefix : "probe-", err);
    if (rc != 0) {
        api_generation_free(g);
        return rc;
    }
    g->params = *params;
    *params = (struct api_params){0};
    c->generation = g;
    return 0;
}

int api_generation_take(struct api_call *c, struct request *r, struct err *err)
{
    struct api_generation *g = c->generation;
    struct request **more = realloc(g->requests, (g->n_requests + 1) * sizeof *more);
    if (!more) {
        request_free(r);
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    }
    g->requests = more;
    g->requests[g->n_requests++] = r;
    return 0;
}

int api_generation_add(struct api_call *c, struct request *r, struct err *err)
{
    struct api_generation *g = c->generation;
    size_t number = g->n_requests;
    int rc = api_generation_take(c, r, err);
    if (rc != 0)
        return rc;
    snprintf(r->id, sizeof r->id, "%s", g->id);
    if (number)
        snprintf(r->id, sizeof r->id, "%.36s-%zu", g->id, number % 100);
    snprintf(r->request_id, sizeof r->request_id, "%s", c->request_id);
    r->created_unix_s = g->created_unix_s;
    r->tenant = c->tenant;
    r->arrived_us = clock_now_us();
    if (c->stored)
        rc = api_replay_prompt(c, number, err);
    return rc != 0 ? rc : request_prepare(r, coordinator_tokenizer(c->api->coordinator), err);
}

/* One that scores the prompt of r. */
static int api_generation_add_score(struct api_call *c, const struct request *r, struct err *err)
{
    struct request *score = calloc(1, sizeof *score);
    uint32_t *prompt = malloc((size_t)r->n_prompt * sizeof *prompt);
    if (!score || !prompt) {
        free(score);
        free(prompt);
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    }
    memcpy(prompt, r->prompt, (size_t)r->n_prompt * sizeof *prompt);
    score->kind = REQUEST_SCORE;
    score->prompt = prompt;
    score->n_prompt = r->n_prompt;
    score->n_choices = 1;
    score->priority = r->priority;
    score->cache_prompt = r->cache_prompt;
    score->sampling.top_logprobs = r->sampling.top_logprobs;
    score->keep_records = r->sampling.top_logprobs > 0;
    return api_generation_add(c, score, err);
}

int api_generation_score_prompts(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    size_t n = g->n_requests;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = api_generation_add_score(c, g->requests[i], err);
    if (rc != 0)
        return rc;
    /* They come first: what they compute, the others need not. */
    for (size_t i = 0; i < n; i++) {
        struct request *r = g->requests[i];
        g->requests[i] = g->requests[n + i];
        g->requests[n + i] = r;
    }
    g->n_scores = n;
    return 0;
}

int api_generation_read_replies(struct api_generation *g, const struct reply_rules *rules,
                                const struct buf *begin, struct err *err)
{
    assert(g->n_requests == 1 && !g->replies);
    int n = g->requests[0]->n_choices;
    g->replies = calloc((size_t)n, sizeof *g->replies);
    if (!g->replies)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    for (; g->n_replies < n; g->n_replies++) {
        reply_init(&g->replies[g->n_replies], rules);
        reply_push(&g->replies[g->n_replies], buf_text(begin), begin->length);
    }
    return 0;
}

int api_generation_submit_all(struct api_call *c, struct err *err)
{
    struct api_generation *g = c->generation;
    int rc = coordinator_submit(c->api->coordinator, g->requests, g->n_requests, err);
    /* From now on they are the coordinator's, and the way back to this call. */
    for (size_t i = 0; rc == 0 && i < g->n_requests; i++)
        g->requests[i]->owner = c;
    return rc;
}

int api_generation_submit(struct api_call *c, struct err *err)
{
    const struct api_generation *g = c->generation;
    if (c->stored)
        return api_replay_submit(c, err);
    if (!c->route->is_resumable || !g->params.is_stream || g->n_scores || g->news)
        return api_generation_submit_all(c, err);
    int rc = api_store_begin(c, false, false, err);
    if (rc == 0)
        c->generation->news = api_replay_tell;
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
    for (int i = 0; i < g->n_replies; i++)
        reply_clear(&g->replies[i]);
    free(g->replies);
    free(g->requests);
    api_params_clear(&g->params);
    json_decref(g->response.question);
    free(g->response.items);
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

/* ---- pieces ---- */

static const char *api_generation_finish(const struct choice *choice, const struct reply *reply)
{
    switch (choice->finish) {
    case FINISH_NONE:
        return NULL;
    case FINISH_LENGTH:
        return "length";
    default:
        return reply && reply->n_calls ? "tool_calls" : "stop";
    }
}

static struct api_generation_piece api_generation_piece(struct api_call *c, size_t prompt,
                                                        struct choice *choice)
{
    struct api_generation *g = c->generation;
    int index = (int)(prompt - g->n_scores) * (int)g->params.n_choices + choice->index;
    return (struct api_generation_piece){
        .call = c,
        .request = g->requests[prompt],
        .choice = choice,
        .index = index,
        .is_first = !g->has_begun[index],
        .scored = g->n_scores && !g->has_begun[index] ? g->requests[prompt - g->n_scores] : NULL,
        .text_offset = g->text_offsets[index]};
}

/* The choice's text, as far as it has come, to its reply. */
static struct reply *api_generation_read(struct api_generation *g, struct choice *choice)
{
    struct reply *reply = g->replies ? &g->replies[choice->index] : NULL;
    if (!reply)
        return NULL;
    reply_push(reply, buf_text(&choice->text), choice->text.length);
    buf_reset(&choice->text);
    if (choice->finish != FINISH_NONE)
        reply_finish(reply);
    return reply;
}

bool api_generation_whole(struct api_call *c, size_t prompt, struct choice *choice,
                          struct api_generation_piece *ret_piece)
{
    bool failed = buf_failed(&choice->text);
    struct reply *reply = api_generation_read(c->generation, choice);
    const struct buf *text = reply ? &reply->content : &choice->text;
    struct api_generation_piece piece = api_generation_piece(c, prompt, choice);
    piece.text = buf_text(text);
    piece.text_length = text->length;
    piece.records = choice->records;
    piece.n_records = choice->n_records;
    piece.finish = api_generation_finish(choice, reply);
    if (reply && reply->reasoning.length) {
        piece.reasoning = buf_text(&reply->reasoning);
        piece.reasoning_length = reply->reasoning.length;
    }
    if (reply) {
        piece.calls = reply->calls;
        piece.n_calls = reply->n_calls;
    }
    *ret_piece = piece;
    return !failed && !(reply && reply_failed(reply));
}

/* ---- streams ---- */

/* How many pieces of each choice the client has with this one: from there it can go on
 * (api_replay.h). Of some it may have had more than were told again by now. */
static void api_generation_write_id(const struct api_call *c, struct buf *out)
{
    const struct api_generation *g = c->generation;
    size_t n = g->n_requests * (size_t)g->params.n_choices;
    buf_printf(out, "id: %s:", g->id);
    for (size_t i = 0; i < n; i++) {
        uint32_t count = g->n_told[i] > g->n_had[i] ? g->n_told[i] : g->n_had[i];
        buf_printf(out, i ? ",%u" : "%u", (unsigned)count);
    }
    buf_putc(out, '\n');
}

/* Puts the id before the last event of those behind `from`: who has it has the whole piece. */
static void api_generation_add_id(struct api_call *c, size_t from)
{
    struct buf *out = &c->out, last;
    size_t at = out->length;
    if (buf_failed(out) || at < from + 2)
        return;
    at -= 2;
    while (at > from && !(at >= from + 2 && memcmp(out->data + at - 2, "\n\n", 2) == 0))
        at--;
    buf_init(&last);
    api_generation_write_id(c, &last);
    buf_append(&last, out->data + at, out->length - at);
    buf_cut(out, at);
    buf_append(out, buf_text(&last), last.length);
    out->failed |= buf_failed(&last);
    buf_clear(&last);
}

static void api_generation_write(struct api_generation_piece *p)
{
    struct api_generation *g = p->call->generation;
    size_t before = p->call->out.length;
    bool was_had = g->n_told[p->index]++ < g->n_had[p->index];
    g->format->write(p); /* what was had, too: it may count its parts */
    if (was_had)
        buf_cut(&p->call->out, before);
    else if (p->call->stored && p->call->wants_event_ids)
        api_generation_add_id(p->call, before);
    g->has_begun[p->index] = true;
    p->is_first = false;
    for (int i = 0; p->scored && i < p->scored->n_prompt; i++)
        g->text_offsets[p->index] += api_usage_characters(p->call, p->scored->prompt[i]);
    for (size_t i = 0; i < p->n_records; i++)
        g->text_offsets[p->index] += api_usage_characters(p->call, p->records[i].token);
    p->scored = NULL;
    p->n_records = 0;
    p->text_offset = g->text_offsets[p->index];
}

static void api_generation_write_reasoning(struct api_generation_piece *p, struct reply *reply)
{
    if (!reply || !reply->reasoning.length)
        return;
    p->reasoning = buf_text(&reply->reasoning);
    p->reasoning_length = reply->reasoning.length;
    api_generation_write(p);
    p->reasoning = NULL;
    buf_reset(&reply->reasoning);
}

static void api_generation_write_text(struct api_generation_piece *p, struct buf *text)
{
    if (!text->length && !p->n_records && !(p->is_first && p->call->generation->is_echo))
        return;
    p->text = buf_text(text);
    p->text_length = text->length;
    api_generation_write(p);
    p->text = NULL;
    p->text_length = 0;
    buf_reset(text);
}

static void api_generation_write_calls(struct api_generation_piece *p, const struct reply *reply)
{
    size_t *taken = &p->call->generation->n_calls_taken[p->index];
    for (; reply && *taken < reply->n_calls; (*taken)++) {
        p->calls = &reply->calls[*taken];
        p->n_calls = 1;
        p->first_call = *taken;
        api_generation_write(p);
    }
    p->calls = NULL;
    p->n_calls = 0;
}

/* What is new of one choice; is_last: it is the last one that was open, and it is finished. */
static void api_generation_write_choice(struct api_call *c, size_t prompt, struct choice *choice,
                                        bool is_last)
{
    struct api_generation *g = c->generation;
    struct api_generation_piece piece = api_generation_piece(c, prompt, choice);
    if (piece.is_first && g->format->chunk_before_text)
        api_generation_write(&piece);
    struct reply *reply = api_generation_read(g, choice);
    struct buf *text = reply ? &reply->content : &choice->text;
    piece.records = choice->records + choice->n_records_taken;
    piece.n_records = choice->n_records - choice->n_records_taken;
    choice->n_records_taken = choice->n_records;
    c->is_broken |= buf_failed(text) || (reply && reply_failed(reply));
    api_generation_write_reasoning(&piece, reply);
    api_generation_write_text(&piece, text);
    api_generation_write_calls(&piece, reply);
    if (choice->finish == FINISH_NONE || choice->finish_taken)
        return;
    piece.finish = api_generation_finish(choice, reply);
    piece.is_last = is_last;
    api_generation_write(&piece);
    choice->finish_taken = true;
}

void api_generation_stream(struct api_call *c)
{
    struct api_generation *g = c->generation;
    const struct err *failure = api_generation_failure(g);
    int open = 0;
    for (size_t i = g->n_scores; i < g->n_requests; i++)
        for (int k = 0; k < g->requests[i]->n_choices; k++)
            open += !g->requests[i]->choices[k].finish_taken;
    for (size_t i = g->n_scores; !failure && i < g->n_requests; i++) {
        struct request *r = g->requests[i];
        if (g->n_scores && !g->requests[i - g->n_scores]->is_done)
            continue;
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
        g->format->fail(c, failure);
    else if (open == 0 && api_generation_is_done(g))
        g->format->end(c);
    c->is_complete |= failure || (open == 0 && api_generation_is_done(g));
    c->is_broken |= buf_failed(&c->out);
    c->is_complete |= c->is_broken;
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
        g->format->answer(c);
}
