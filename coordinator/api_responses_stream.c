#include "coordinator/api_responses_stream.h"

#include "coordinator/api_generation.h"
#include "coordinator/api_replay.h"
#include "coordinator/api_responses_object.h"
#include "coordinator/api_store.h"
#include "coordinator/json_text.h"

#include <inttypes.h>
#include <string.h>

/* The beginning of an event. false: the client has had it. */
static bool api_responses_open_event(struct api_call *c, const char *type)
{
    struct api_generation *g = c->generation;
    int64_t number = g->response.sequence++;
    if (number <= g->response.had_sequence)
        return false;
    if (c->wants_event_ids)
        buf_printf(&c->out, "id: %s:%" PRId64 "\n", g->id, number);
    buf_printf(&c->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%" PRId64, type,
               type, number);
    return true;
}

static void api_responses_close_event(struct api_call *c)
{
    buf_puts(&c->out, "}\n\n");
}

/* Takes the value. */
static void api_responses_member(struct api_call *c, const char *name, json_t *value)
{
    buf_printf(&c->out, ",\"%s\":", name);
    if (!value)
        c->out.failed = true;
    json_text_write(&c->out, value);
    json_decref(value);
}

static void api_responses_place(struct api_call *c, enum api_responses_kind kind, bool with_part)
{
    char id[48];
    api_responses_item_id(c, kind, id);
    buf_printf(&c->out, ",\"output_index\":%d", api_responses_index(c, kind));
    if (with_part)
        buf_printf(&c->out, ",\"item_id\":\"%s\",\"content_index\":0", id);
}

/* status NULL: as it is. */
static void api_responses_tell_whole(struct api_call *c, const char *type, const char *status)
{
    if (!api_responses_open_event(c, type))
        return;
    api_responses_member(c, "response", api_responses_object(c, status));
    api_responses_close_event(c);
}

static void api_responses_tell_item(struct api_call *c, enum api_responses_kind kind, bool is_begin)
{
    if (!api_responses_open_event(c, is_begin ? "response.output_item.added"
                                              : "response.output_item.done"))
        return;
    api_responses_place(c, kind, false);
    api_responses_member(c, "item", api_responses_item(c, kind, is_begin));
    api_responses_close_event(c);
}

static void api_responses_tell_part(struct api_call *c, enum api_responses_kind kind, bool is_begin)
{
    if (!api_responses_open_event(c, is_begin ? "response.content_part.added"
                                              : "response.content_part.done"))
        return;
    api_responses_place(c, kind, true);
    api_responses_member(c, "part", api_responses_part(c, kind, is_begin));
    api_responses_close_event(c);
}

static void api_responses_tell_text(struct api_call *c, enum api_responses_kind kind)
{
    const struct buf *text = api_responses_text(c, kind);
    bool is_message = kind == API_RESPONSES_MESSAGE;
    if (!api_responses_open_event(c, is_message ? "response.output_text.done"
                                                : "response.reasoning_text.done"))
        return;
    api_responses_place(c, kind, true);
    buf_puts(&c->out, ",\"text\":");
    json_text_quote(&c->out, buf_text(text), text->length);
    if (is_message)
        api_responses_member(
            c, "logprobs", api_responses_logprobs(c, c->generation->response.first_record, false));
    api_responses_close_event(c);
}

static void api_responses_tell_delta(struct api_call *c, enum api_responses_kind kind, size_t from)
{
    const struct api_generation *g = c->generation;
    const struct buf *text = api_responses_text(c, kind);
    bool is_message = kind == API_RESPONSES_MESSAGE;
    if (!api_responses_open_event(c, is_message ? "response.output_text.delta"
                                                : "response.reasoning_text.delta"))
        return;
    api_responses_place(c, kind, true);
    buf_puts(&c->out, ",\"delta\":");
    json_text_quote(&c->out, text->data + from, text->length - from);
    if (is_message && g->wants_logprobs)
        api_responses_member(c, "logprobs",
                             api_responses_logprobs(c, g->response.records_told, false));
    else if (is_message)
        buf_puts(&c->out, ",\"logprobs\":[]");
    api_responses_close_event(c);
}

/* ---- items ---- */

static void api_responses_open_item(struct api_call *c, enum api_responses_kind kind)
{
    api_responses_tell_item(c, kind, true);
    api_responses_tell_part(c, kind, true);
}

static void api_responses_close_item(struct api_call *c, enum api_responses_kind kind)
{
    api_responses_tell_text(c, kind);
    api_responses_tell_part(c, kind, false);
    api_responses_tell_item(c, kind, false);
}

static void api_responses_close_reasoning(struct api_call *c)
{
    struct api_response *r = &c->generation->response;
    if (!r->has_reasoning || r->reasoning_is_closed)
        return;
    r->reasoning_is_closed = true;
    api_responses_close_item(c, API_RESPONSES_REASONING);
}

static void api_responses_open_message(struct api_call *c)
{
    struct api_response *r = &c->generation->response;
    if (r->has_message)
        return;
    r->has_message = true;
    r->records_told = r->first_record;
    api_responses_close_reasoning(c);
    api_responses_open_item(c, API_RESPONSES_MESSAGE);
}

/* What the newest token has shown, if it has shown anything. */
static void api_responses_tell_token(struct api_call *c)
{
    struct api_response *r = &c->generation->response;
    size_t reasoning = api_responses_text(c, API_RESPONSES_REASONING)->length;
    size_t content = api_responses_text(c, API_RESPONSES_MESSAGE)->length;
    if (reasoning > r->reasoning_told) {
        if (!r->has_reasoning)
            api_responses_open_item(c, API_RESPONSES_REASONING);
        r->has_reasoning = true;
        api_responses_tell_delta(c, API_RESPONSES_REASONING, r->reasoning_told);
        r->reasoning_told = reasoning;
    }
    if (content > r->content_told) {
        api_responses_open_message(c);
        api_responses_tell_delta(c, API_RESPONSES_MESSAGE, r->content_told);
        r->content_told = content;
        r->records_told = r->n_records_read;
    }
}

/* ---- the whole ---- */

static void api_responses_begin_stream(struct api_call *c)
{
    if (c->stored->is_background) {
        api_responses_tell_whole(c, "response.created", "queued");
        api_responses_tell_whole(c, "response.queued", "queued");
    } else {
        api_responses_tell_whole(c, "response.created", "in_progress");
    }
    api_responses_tell_whole(c, "response.in_progress", "in_progress");
}

static void api_responses_end_stream(struct api_call *c)
{
    const char *status = api_responses_status(c);
    const struct api_response *r = &c->generation->response;
    if (c->stored->outcome == API_DONE) {
        api_responses_close_reasoning(c);
        if (!r->has_reasoning)
            api_responses_open_message(c);
        if (r->has_message)
            api_responses_close_item(c, API_RESPONSES_MESSAGE);
    }
    api_responses_tell_whole(c,
                             strcmp(status, "completed") == 0 ? "response.completed"
                             : strcmp(status, "failed") == 0  ? "response.failed"
                                                              : "response.incomplete",
                             NULL);
    c->is_complete = true;
}

void api_responses_stream(struct api_call *c)
{
    bool has_all = false;
    if (c->generation->response.sequence == 0)
        api_responses_begin_stream(c);
    /* A slow reader's tokens wait in the log. */
    while (!has_all && api_call_pending(c) < API_GENERATION_PENDING) {
        has_all = !api_replay_token(c, 0, 0);
        if (has_all)
            break;
        api_responses_read(c);
        api_responses_tell_token(c);
    }
    if (has_all && c->stored->outcome != API_RUNS) {
        api_replay_end(c);
        api_responses_end_stream(c);
    }
    if (buf_failed(&c->out) || reply_failed(&c->generation->replies[0]))
        c->is_broken = c->is_complete = true;
}
