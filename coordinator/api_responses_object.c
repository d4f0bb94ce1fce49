#include "coordinator/api_responses_object.h"

#include "coordinator/api_store.h"
#include "coordinator/api_usage.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct choice *api_responses_choice(const struct api_call *c)
{
    return &c->generation->requests[0]->choices[0];
}

const char *api_responses_status(const struct api_call *c)
{
    const struct api_stored *d = c->stored;
    switch (d->outcome) {
    case API_RUNS:
        return d->runner && d->runner->generation &&
                       d->runner->generation->requests[0]->scheduled_us
                   ? "in_progress"
                   : "queued";
    case API_FAILED:
        return "failed";
    case API_CANCELLED:
        return "cancelled";
    default:
        return api_responses_choice(c)->finish == FINISH_LENGTH ? "incomplete" : "completed";
    }
}

/* ---- log-probabilities ---- */

static json_t *api_responses_bytes(const char *text, size_t length)
{
    json_t *bytes = json_array();
    for (size_t i = 0; i < length; i++)
        json_array_append_new(bytes, json_integer((unsigned char)text[i]));
    return bytes;
}

static json_t *api_responses_token(const struct api_call *c, uint32_t token, float logprob,
                                   bool with_bytes)
{
    size_t length;
    const char *text = tokenizer_piece(coordinator_tokenizer(c->api->coordinator), token, &length);
    json_t *entry = json_pack("{s:o, s:o}", "token", json_text_string(text, length), "logprob",
                              api_usage_logprob(logprob));
    if (with_bytes)
        json_object_set_new(entry, "bytes", api_responses_bytes(text, length));
    return entry;
}

json_t *api_responses_logprobs(const struct api_call *c, size_t first, size_t end, bool with_bytes)
{
    const struct choice *choice = api_responses_choice(c);
    json_t *list = json_array();
    for (size_t i = first; c->generation->wants_logprobs && i < end; i++) {
        const struct token_record *r = &choice->records[i];
        json_t *top = json_array(),
               *entry = api_responses_token(c, r->token, r->logprob, with_bytes);
        for (uint32_t k = 0; k < r->n_top; k++)
            json_array_append_new(
                top, api_responses_token(c, r->top[k].token, r->top[k].logprob, with_bytes));
        json_object_set_new(entry, "top_logprobs", top);
        json_array_append_new(list, entry);
    }
    return list;
}

/* ---- the output ---- */

/* The newest item, if it is of that kind; else a new one, behind those before it. NULL: no
 * memory. */
static struct api_responses_item *api_responses_newest(struct api_call *c,
                                                       enum api_responses_kind kind, bool is_new)
{
    struct api_response *r = &c->generation->response;
    struct api_responses_item item = {.kind = kind};
    if (r->n_items && r->items[r->n_items - 1].kind == kind && !is_new)
        return &r->items[r->n_items - 1];
    struct api_responses_item *more = realloc(r->items, (r->n_items + 1) * sizeof *more);
    if (!more) {
        c->generation->replies[0].has_failed = true;
        return NULL;
    }
    for (size_t i = 0; i < r->n_items; i++) {
        item.number += more[i].kind == kind;
        item.from = more[i].kind == kind ? more[i].to : item.from;
    }
    item.to = item.told = item.from;
    item.first_record = item.end_record = item.records_told = r->n_records_read;
    r->items = more;
    more[r->n_items] = item;
    return &more[r->n_items++];
}

/* What the reply has of that kind: an item, or more of one. */
static void api_responses_grow(struct api_call *c, enum api_responses_kind kind, size_t length)
{
    const struct api_response *r = &c->generation->response;
    size_t known = 0;
    for (size_t i = 0; i < r->n_items; i++)
        known = r->items[i].kind == kind ? r->items[i].to : known;
    if (length == known)
        return;
    struct api_responses_item *item = api_responses_newest(c, kind, false);
    if (!item)
        return;
    item->to = length;
    item->end_record = api_responses_choice(c)->n_records;
}

static void api_responses_add_calls(struct api_call *c)
{
    const struct api_response *r = &c->generation->response;
    size_t known = 0;
    for (size_t i = 0; i < r->n_items; i++)
        known += r->items[i].kind == API_RESPONSES_CALL;
    for (; known < c->generation->replies[0].n_calls; known++)
        api_responses_newest(c, API_RESPONSES_CALL, true);
}

void api_responses_read(struct api_call *c)
{
    struct api_generation *g = c->generation;
    struct choice *choice = &g->requests[0]->choices[0];
    struct reply *reply = &g->replies[0];
    reply_push(reply, buf_text(&choice->text), choice->text.length);
    buf_reset(&choice->text);
    if (choice->finish != FINISH_NONE)
        reply_finish(reply);
    api_responses_grow(c, API_RESPONSES_REASONING, reply->reasoning.length);
    api_responses_grow(c, API_RESPONSES_MESSAGE, reply->content.length);
    api_responses_add_calls(c);
    /* Who has said nothing has said it in a message. */
    if (choice->finish != FINISH_NONE && !g->response.n_items)
        api_responses_newest(c, API_RESPONSES_MESSAGE, true);
    g->response.n_records_read = choice->n_records;
}

const char *api_responses_text(const struct api_call *c, const struct api_responses_item *item,
                               size_t *ret_length)
{
    const struct reply *reply = &c->generation->replies[0];
    const struct buf *text =
        item->kind == API_RESPONSES_REASONING ? &reply->reasoning : &reply->content;
    if (item->kind == API_RESPONSES_CALL) {
        const struct buf *arguments = &reply->calls[item->number].arguments;
        *ret_length = arguments->length;
        return buf_text(arguments);
    }
    *ret_length = item->to - item->from;
    return buf_text(text) + item->from;
}

void api_responses_item_id(const struct api_call *c, const struct api_responses_item *item,
                           char to[48])
{
    static const char *const prefixes[] = {"rs", "msg", "fc"};
    const char *name = strchr(c->generation->id, '_');
    bool is_only = item->kind != API_RESPONSES_CALL && item->number == 0;
    int length = snprintf(to, 48, "%s%.36s", prefixes[item->kind], name ? name : "");
    if (!is_only)
        snprintf(to + length, 48 - (size_t)length, "_%zu", item->number % 100000);
}

json_t *api_responses_part(const struct api_call *c, const struct api_responses_item *item,
                           bool is_begin)
{
    size_t length;
    const char *text = api_responses_text(c, item, &length);
    json_t *value = is_begin ? json_string("") : json_text_string(text, length);
    if (item->kind == API_RESPONSES_REASONING)
        return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", value);
    return json_pack(
        "{s:s, s:o, s:[], s:o}", "type", "output_text", "text", value, "annotations", "logprobs",
        api_responses_logprobs(c, item->first_record,
                               is_begin ? item->first_record : item->end_record, true));
}

/* An item is complete when another has followed. */
static const char *api_responses_item_status(const struct api_call *c,
                                             const struct api_responses_item *item)
{
    const struct api_response *r = &c->generation->response;
    if (item->kind == API_RESPONSES_CALL || item < &r->items[r->n_items - 1])
        return "completed";
    if (c->stored->outcome == API_RUNS)
        return "in_progress";
    return strcmp(api_responses_status(c), "completed") == 0 ? "completed" : "incomplete";
}

static json_t *api_responses_call(const struct api_call *c, const struct api_responses_item *item,
                                  const char *id, const char *status, bool is_begin)
{
    const struct tool_call *call = &c->generation->replies[0].calls[item->number];
    const char *name = strchr(c->generation->id, '_');
    size_t length;
    const char *arguments = api_responses_text(c, item, &length);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "id", id, "type", "function_call", "status",
                     status, "call_id", json_sprintf("call%s_%zu", name ? name : "", item->number),
                     "name", json_text_string(call->name, strlen(call->name)), "arguments",
                     json_text_string(arguments, is_begin ? 0 : length));
}

json_t *api_responses_item(const struct api_call *c, const struct api_responses_item *item,
                           bool is_begin)
{
    char id[48];
    const char *status = is_begin ? "in_progress" : api_responses_item_status(c, item);
    api_responses_item_id(c, item, id);
    if (item->kind == API_RESPONSES_CALL)
        return api_responses_call(c, item, id, status, is_begin);
    json_t *content =
        is_begin ? json_array() : json_pack("[o]", api_responses_part(c, item, false));
    if (item->kind == API_RESPONSES_MESSAGE)
        return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", id, "type", "message", "status", status,
                         "role", "assistant", "content", content);
    return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", id, "type", "reasoning", "status", status,
                     "summary", "content", content);
}

static json_t *api_responses_output(const struct api_call *c)
{
    const struct api_response *r = &c->generation->response;
    json_t *list = json_array();
    int rc = 0;
    for (size_t i = 0; i < r->n_items; i++)
        rc |= json_array_append_new(list, api_responses_item(c, &r->items[i], false));
    if (rc == 0)
        return list;
    json_decref(list);
    return NULL;
}

/* ---- the response ---- */

/* OpenAI's codes for what can go wrong here. */
static const char *api_responses_error_code(const struct err *failure)
{
    switch (failure->code) {
    case ERR_INPUT:
        return "invalid_prompt";
    case ERR_LIMIT:
    case ERR_QUOTA:
        return "rate_limit_exceeded";
    default:
        return "server_error";
    }
}

static json_t *api_responses_error(const struct err *failure)
{
    return json_pack("{s:s, s:o}", "code", api_responses_error_code(failure), "message",
                     json_text_string(failure->text, strlen(failure->text)));
}

static json_t *api_responses_usage(const struct api_call *c)
{
    const struct request *r = c->generation->requests[0];
    json_int_t input = r->n_prompt, output = r->choices[0].n_tokens - r->n_prompt;
    return json_pack("{s:I, s:{s:I, s:i}, s:I, s:{s:I}, s:I}", "input_tokens", input,
                     "input_tokens_details", "cached_tokens", (json_int_t)r->n_cached,
                     "cache_write_tokens", 0, "output_tokens", output, "output_tokens_details",
                     "reasoning_tokens", (json_int_t)api_usage_reasoning_tokens(c->generation),
                     "total_tokens", input + output);
}

/* A field of the question as it was given, or what stands for its absence. */
static void api_responses_echo(json_t *to, const json_t *question, const char *name,
                               const char *otherwise)
{
    json_t *given = json_body_field(question, name);
    json_t *absent = otherwise ? json_loads(otherwise, JSON_DECODE_ANY, NULL) : NULL;
    json_object_set(to, name, given ? given : absent ? absent : json_null());
    json_decref(absent);
}

static void api_responses_echo_question(json_t *to, const struct api_call *c)
{
    static const struct {
        const char *name, *otherwise;
    } fields[] = {{"instructions", NULL},
                  {"max_output_tokens", NULL},
                  {"metadata", "{}"},
                  {"parallel_tool_calls", "true"},
                  {"previous_response_id", NULL},
                  {"reasoning", "{\"effort\":null,\"summary\":null}"},
                  {"temperature", "1.0"},
                  {"text", "{\"format\":{\"type\":\"text\"}}"},
                  {"tool_choice", "\"auto\""},
                  {"tools", "[]"},
                  {"top_logprobs", "0"},
                  {"top_p", "1.0"},
                  {"truncation", "\"disabled\""}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        api_responses_echo(to, c->generation->response.question, fields[i].name,
                           fields[i].otherwise);
    json_t *user = json_body_field(c->generation->response.question, "user");
    if (user) /* the types of Node's package know none that is null */
        json_object_set(to, "user", user);
}

json_t *api_responses_object(const struct api_call *c, const char *given_status)
{
    const struct api_generation *g = c->generation;
    const struct api_stored *d = c->stored;
    const char *status = given_status ? given_status : api_responses_status(c);
    bool is_over = !given_status && d->outcome != API_RUNS;
    bool has_error = is_over && d->outcome == API_FAILED;
    bool is_completed = is_over && strcmp(status, "completed") == 0;
    json_t *incomplete = is_over && strcmp(status, "incomplete") == 0
                             ? json_pack("{s:s}", "reason", "max_output_tokens")
                             : json_null();
    /* Left out while there is none: the types of Node's package know no usage that is null. */
    json_t *to = json_pack(
        "{s:s, s:s, s:I, s:s, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o*, s:I}", "id", g->id, "object",
        "response", "created_at", (json_int_t)g->created_unix_s, "status", status, "completed_at",
        is_completed ? json_integer(d->finished_unix_s) : json_null(), "background",
        d->is_background, "store", d->is_kept, "error",
        has_error ? api_responses_error(&d->failure) : json_null(), "incomplete_details",
        incomplete, "model", api_call_model_json(c), "output",
        given_status ? json_array() : api_responses_output(c), "usage",
        is_over ? api_responses_usage(c) : NULL, "seed", (json_int_t)g->params.seed);
    api_responses_echo_question(to, c);
    return to;
}
