#include "coordinator/api_responses_object.h"

#include "coordinator/api_store.h"
#include "coordinator/api_usage.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdio.h>
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

json_t *api_responses_logprobs(const struct api_call *c, size_t first, bool with_bytes)
{
    const struct choice *choice = api_responses_choice(c);
    json_t *list = json_array();
    for (size_t i = first; c->generation->wants_logprobs && i < choice->n_records; i++) {
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

void api_responses_read(struct api_call *c)
{
    struct api_generation *g = c->generation;
    struct choice *choice = &g->requests[0]->choices[0];
    struct reply *reply = &g->replies[0];
    bool had_content = reply->content.length > 0;
    reply_push(reply, buf_text(&choice->text), choice->text.length);
    buf_reset(&choice->text);
    if (choice->finish != FINISH_NONE)
        reply_finish(reply);
    if (!had_content)
        g->response.first_record = g->response.n_records_read;
    g->response.n_records_read = choice->n_records;
}

const struct buf *api_responses_text(const struct api_call *c, enum api_responses_kind kind)
{
    const struct reply *reply = &c->generation->replies[0];
    return kind == API_RESPONSES_MESSAGE ? &reply->content : &reply->reasoning;
}

int api_responses_index(const struct api_call *c, enum api_responses_kind kind)
{
    return kind == API_RESPONSES_MESSAGE &&
           api_responses_text(c, API_RESPONSES_REASONING)->length > 0;
}

/* A response that is done has a message, though it may be empty, unless it went no further than
 * reasoning. */
static bool api_responses_has(const struct api_call *c, enum api_responses_kind kind)
{
    bool is_empty = !api_responses_text(c, kind)->length;
    return !is_empty || (kind == API_RESPONSES_MESSAGE && c->stored->outcome == API_DONE &&
                         !api_responses_text(c, API_RESPONSES_REASONING)->length);
}

void api_responses_item_id(const struct api_call *c, enum api_responses_kind kind, char to[48])
{
    const char *name = strchr(c->generation->id, '_');
    snprintf(to, 48, "%s%s", kind == API_RESPONSES_MESSAGE ? "msg" : "rs", name ? name : "");
}

json_t *api_responses_part(const struct api_call *c, enum api_responses_kind kind, bool is_begin)
{
    const struct buf *text = api_responses_text(c, kind);
    json_t *value = is_begin ? json_string("") : json_text_string(buf_text(text), text->length);
    if (kind == API_RESPONSES_REASONING)
        return json_pack("{s:s, s:o}", "type", "reasoning_text", "text", value);
    size_t first = c->generation->response.first_record;
    return json_pack("{s:s, s:o, s:[], s:o}", "type", "output_text", "text", value, "annotations",
                     "logprobs", is_begin ? json_array() : api_responses_logprobs(c, first, true));
}

/* Reasoning is complete when it has led to a message. */
static const char *api_responses_item_status(const struct api_call *c, enum api_responses_kind kind)
{
    const char *status = api_responses_status(c);
    if (kind == API_RESPONSES_REASONING && api_responses_has(c, API_RESPONSES_MESSAGE))
        return "completed";
    if (c->stored->outcome == API_RUNS)
        return "in_progress";
    return strcmp(status, "completed") == 0 ? "completed" : "incomplete";
}

json_t *api_responses_item(const struct api_call *c, enum api_responses_kind kind, bool is_begin)
{
    char id[48];
    const char *status = is_begin ? "in_progress" : api_responses_item_status(c, kind);
    json_t *content =
        is_begin ? json_array() : json_pack("[o]", api_responses_part(c, kind, false));
    api_responses_item_id(c, kind, id);
    if (kind == API_RESPONSES_MESSAGE)
        return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", id, "type", "message", "status", status,
                         "role", "assistant", "content", content);
    return json_pack("{s:s, s:s, s:s, s:[], s:o}", "id", id, "type", "reasoning", "status", status,
                     "summary", "content", content);
}

static json_t *api_responses_output(const struct api_call *c)
{
    json_t *list = json_array();
    int rc = 0;
    for (int kind = API_RESPONSES_REASONING; kind <= API_RESPONSES_MESSAGE; kind++)
        if (api_responses_has(c, (enum api_responses_kind)kind))
            rc |= json_array_append_new(
                list, api_responses_item(c, (enum api_responses_kind)kind, false));
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
