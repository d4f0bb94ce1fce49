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

static void api_responses_place(struct api_call *c, const struct api_responses_item *item,
                                bool with_id)
{
    char id[48];
    api_responses_item_id(c, item, id);
    buf_printf(&c->out, ",\"output_index\":%zu", (size_t)(item - c->generation->response.items));
    if (with_id)
        buf_printf(&c->out, ",\"item_id\":\"%s\"", id);
    if (with_id && item->kind != API_RESPONSES_CALL)
        buf_puts(&c->out, ",\"content_index\":0");
}

/* status NULL: as it is. */
static void api_responses_tell_whole(struct api_call *c, const char *type, const char *status)
{
    if (!api_responses_open_event(c, type))
        return;
    api_responses_member(c, "response", api_responses_object(c, status));
    api_responses_close_event(c);
}

static void api_responses_tell_item(struct api_call *c, const struct api_responses_item *item,
                                    bool is_begin)
{
    if (!api_responses_open_event(c, is_begin ? "response.output_item.added"
                                              : "response.output_item.done"))
        return;
    api_responses_place(c, item, false);
    api_responses_member(c, "item", api_responses_item(c, item, is_begin));
    api_responses_close_event(c);
}

static void api_responses_tell_part(struct api_call *c, const struct api_responses_item *item,
                                    bool is_begin)
{
    if (item->kind == API_RESPONSES_CALL ||
        !api_responses_open_event(c, is_begin ? "response.content_part.added"
                                              : "response.content_part.done"))
        return;
    api_responses_place(c, item, true);
    api_responses_member(c, "part", api_responses_part(c, item, is_begin));
    api_responses_close_event(c);
}

/* What a kind's text is called, and its events. */
static const struct {
    const char *done, *delta, *name;
} api_responses_words[] = {
    [API_RESPONSES_REASONING] = {"response.reasoning_text.done", "response.reasoning_text.delta",
                                 "text"},
    [API_RESPONSES_MESSAGE] = {"response.output_text.done", "response.output_text.delta", "text"},
    [API_RESPONSES_CALL] = {"response.function_call_arguments.done",
                            "response.function_call_arguments.delta", "arguments"},
};

static void api_responses_tell_text(struct api_call *c, const struct api_responses_item *item)
{
    size_t length;
    const char *text = api_responses_text(c, item, &length);
    if (!api_responses_open_event(c, api_responses_words[item->kind].done))
        return;
    api_responses_place(c, item, true);
    buf_printf(&c->out, ",\"%s\":", api_responses_words[item->kind].name);
    json_text_quote(&c->out, text, length);
    if (item->kind == API_RESPONSES_CALL) {
        const char *name = c->generation->replies[0].calls[item->number].name;
        buf_puts(&c->out, ",\"name\":");
        json_text_quote(&c->out, name, strlen(name));
    }
    if (item->kind == API_RESPONSES_MESSAGE)
        api_responses_member(
            c, "logprobs", api_responses_logprobs(c, item->first_record, item->end_record, false));
    api_responses_close_event(c);
}

static void api_responses_tell_delta(struct api_call *c, struct api_responses_item *item)
{
    size_t length, had = item->told - item->from, first = item->records_told;
    const char *text = api_responses_text(c, item, &length);
    if (length == had)
        return;
    item->told = item->from + length;
    item->records_told = item->end_record;
    if (!api_responses_open_event(c, api_responses_words[item->kind].delta))
        return;
    api_responses_place(c, item, true);
    buf_puts(&c->out, ",\"delta\":");
    json_text_quote(&c->out, text + had, length - had);
    if (item->kind == API_RESPONSES_MESSAGE)
        api_responses_member(c, "logprobs",
                             api_responses_logprobs(c, first, item->end_record, false));
    api_responses_close_event(c);
}

/* ---- items ---- */

static void api_responses_open_item(struct api_call *c, const struct api_responses_item *item)
{
    api_responses_tell_item(c, item, true);
    api_responses_tell_part(c, item, true);
}

static void api_responses_close_item(struct api_call *c, const struct api_responses_item *item)
{
    api_responses_tell_text(c, item);
    api_responses_tell_part(c, item, false);
    api_responses_tell_item(c, item, false);
}

/* What is new of the items; is_over: nothing follows the last one. */
static void api_responses_tell_items(struct api_call *c, bool is_over)
{
    struct api_response *r = &c->generation->response;
    while (r->n_closed < r->n_items) {
        struct api_responses_item *item = &r->items[r->n_closed];
        if (!r->is_open)
            api_responses_open_item(c, item);
        r->is_open = true;
        api_responses_tell_delta(c, item);
        if (r->n_closed + 1 == r->n_items && !is_over)
            return;
        api_responses_close_item(c, item);
        r->n_closed++;
        r->is_open = false;
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
    if (c->stored->outcome == API_DONE)
        api_responses_tell_items(c, true);
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
        api_responses_tell_items(c, false);
    }
    if (has_all && c->stored->outcome != API_RUNS) {
        api_replay_end(c);
        api_responses_end_stream(c);
    }
    if (buf_failed(&c->out) || reply_failed(&c->generation->replies[0]))
        c->is_broken = c->is_complete = true;
}
