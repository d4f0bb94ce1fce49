#include "coordinator/api_responses_talk.h"

#include "coordinator/api_messages.h"
#include "coordinator/api_prompt.h"
#include "coordinator/api_responses.h"
#include "coordinator/api_responses_input.h"
#include "coordinator/api_store.h"
#include "coordinator/detokenizer.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"
#include "coordinator/token_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the input ---- */

static int api_responses_refuse_item(size_t index, const char *what, struct err *err)
{
    char name[48];
    snprintf(name, sizeof name, "input[%zu]", index % 100000);
    return err_set_param(
        err, ERR_INPUT, name,
        "'%s' is %.80s; here are messages of text, {\"role\": …, \"content\": …}, calls of "
        "functions and their output.",
        name, what);
}

/* Parts of "input_text" and "output_text" to parts of "text". */
static int api_responses_read_parts(const json_t *parts, size_t index, json_t **ret_parts,
                                    struct err *err)
{
    json_t *list = json_array(), *part;
    size_t i;
    int rc = list ? 0 : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    json_array_foreach(parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        json_t *text = json_object_get(part, "text");
        bool is_text = type && json_is_string(text) &&
                       (strcmp(type, "input_text") == 0 || strcmp(type, "output_text") == 0 ||
                        strcmp(type, "text") == 0);
        if (rc == 0 && !is_text)
            rc = api_responses_refuse_item(index, "a message with a part that is no text", err);
        if (rc == 0 &&
            json_array_append_new(list, json_pack("{s:s, s:O}", "type", "text", "text", text)) != 0)
            rc = err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    }
    if (rc == 0)
        *ret_parts = list;
    else
        json_decref(list);
    return rc;
}

static bool api_responses_is_role(const json_t *role)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    for (size_t i = 0; json_is_string(role) && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(json_string_value(role), roles[i]) == 0)
            return true;
    return false;
}

/* A text, or parts of it; `what`: where that is missing. */
static int api_responses_read_text(const json_t *content, size_t index, const char *what,
                                   json_t **ret_text, struct err *err)
{
    if (json_is_array(content))
        return api_responses_read_parts(content, index, ret_text, err);
    if (!json_is_string(content))
        return api_responses_refuse_item(index, what, err);
    *ret_text = json_incref((json_t *)content);
    return 0;
}

static int api_responses_append(json_t *list, json_t *value, struct err *err)
{
    return json_array_append_new(list, value) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
}

static int api_responses_add_message(json_t *messages, const json_t *item, size_t index,
                                     struct err *err)
{
    json_t *text = NULL, *role = json_object_get(item, "role");
    if (!api_responses_is_role(role))
        return api_responses_refuse_item(
            index, "a message whose role is not user, assistant, system or developer", err);
    int rc = api_responses_read_text(json_object_get(item, "content"), index,
                                     "a message without a content", &text, err);
    return rc == 0 ? api_responses_append(
                         messages, json_pack("{s:O, s:o}", "role", role, "content", text), err)
                   : rc;
}

/* The calls of a turn, with what was said before them, are one message of the assistant's. */
static int api_responses_add_call(json_t *messages, const json_t *item, size_t index,
                                  struct err *err)
{
    json_t *name = json_object_get(item, "name"), *arguments = json_object_get(item, "arguments");
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    if (!json_is_string(name) || !json_is_string(arguments))
        return api_responses_refuse_item(index, "a call without a name or arguments", err);
    json_t *call = json_pack("{s:O?, s:s, s:{s:O, s:O}}", "id", json_object_get(item, "call_id"),
                             "type", "function", "function", "name", name, "arguments", arguments);
    if (!role || strcmp(role, "assistant") != 0)
        return api_responses_append(
            messages,
            json_pack("{s:s, s:n, s:[o]}", "role", "assistant", "content", "tool_calls", call),
            err);
    json_t *calls = json_object_get(last, "tool_calls");
    if (calls)
        return api_responses_append(calls, call, err);
    return json_object_set_new(last, "tool_calls", json_pack("[o]", call)) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
}

static int api_responses_add_output(json_t *messages, const json_t *item, size_t index,
                                    struct err *err)
{
    json_t *text = NULL, *id = json_object_get(item, "call_id");
    if (!json_is_string(id))
        return api_responses_refuse_item(index, "an output without the call_id of its call", err);
    int rc = api_responses_read_text(json_object_get(item, "output"), index,
                                     "the output of a call without a text", &text, err);
    return rc == 0 ? api_responses_append(messages,
                                          json_pack("{s:s, s:O, s:o}", "role", "tool",
                                                    "tool_call_id", id, "content", text),
                                          err)
                   : rc;
}

static int api_responses_add_item(json_t *messages, const json_t *item, size_t index,
                                  struct err *err)
{
    const char *type = json_string_value(json_object_get(item, "type"));
    if (!json_is_object(item))
        return api_responses_refuse_item(index, json_text_type(item), err);
    if (!type || strcmp(type, "message") == 0)
        return api_responses_add_message(messages, item, index, err);
    if (strcmp(type, "function_call") == 0)
        return api_responses_add_call(messages, item, index, err);
    if (strcmp(type, "function_call_output") == 0)
        return api_responses_add_output(messages, item, index, err);
    if (strcmp(type, "reasoning") == 0) /* what a model thought is no part of the talk */
        return 0;
    return api_responses_refuse_item(index, type, err);
}

static int api_responses_add_input(json_t *messages, const json_t *question, struct err *err)
{
    const json_t *input = json_body_field(question, "input");
    if (json_is_string(input))
        return api_responses_append(messages,
                                    json_pack("{s:s, s:O}", "role", "user", "content", input), err);
    if (!json_is_array(input) || json_array_size(input) == 0)
        return err_set_param(err, ERR_INPUT, "input",
                             "'input' must be a string, or an array of at least one message, not "
                             "%s.",
                             input ? json_text_type(input) : "absent");
    if (json_array_size(input) > API_MESSAGES_MOST)
        return err_set_param(err, ERR_INPUT, "input",
                             "'input' has %zu items; at most %d are possible.",
                             json_array_size(input), API_MESSAGES_MOST);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(input); i++)
        rc = api_responses_add_item(messages, json_array_get(input, i), i, err);
    return rc;
}

/* ---- what came before ---- */

/* What it said, without what it thought. */
static void api_responses_read_answer(const struct api_call *c, const struct api_stored *d,
                                      struct reply *reply)
{
    const struct buf *log = &d->choices[0].log;
    struct batch_result token;
    struct detokenizer text;
    struct buf out;
    size_t at = 0;
    detokenizer_init(&text, coordinator_tokenizer(c->api->coordinator), true);
    buf_init(&out);
    while (token_log_next(log->data, log->length, &at, d->with_records, &token))
        detokenizer_push(&text, token.token, &out);
    detokenizer_finish(&text, &out);
    reply_push(reply, buf_text(&out), out.length);
    reply_finish(reply);
    reply->has_failed |= buf_failed(&out);
    buf_clear(&out);
}

static json_t *api_responses_said_call(const struct tool_call *call)
{
    return json_pack("{s:s, s:{s:o, s:o}}", "type", "function", "function", "name",
                     json_text_string(call->name, strlen(call->name)), "arguments",
                     json_text_string(buf_text(&call->arguments), call->arguments.length));
}

/* What it said as a message. NULL: no memory. */
static json_t *api_responses_said(const struct reply *reply)
{
    const struct buf *said = &reply->content;
    if (reply_failed(reply))
        return NULL;
    json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content",
                                json_text_string(buf_text(said), said->length));
    json_t *calls = reply->n_calls ? json_array() : NULL;
    int rc = reply->n_calls ? json_object_set_new(message, "tool_calls", calls) : 0;
    for (size_t i = 0; rc == 0 && i < reply->n_calls; i++)
        rc = json_array_append_new(calls, api_responses_said_call(&reply->calls[i]));
    if (rc == 0)
        return message;
    json_decref(message);
    return NULL;
}

static int api_responses_add_answer(const struct api_call *c, const struct api_stored *d,
                                    const json_t *question, json_t *messages, struct err *err)
{
    json_t *body = NULL;
    struct api_prompt prompt = {0};
    int rc = api_responses_input_body(question, &body, err);
    if (rc == 0)
        rc = api_prompt_again(&prompt, c->api, body, d->prompts[0].ids, (size_t)d->prompts[0].n,
                              err);
    if (rc == 0) {
        struct reply reply;
        reply_init(&reply, &prompt.rules);
        reply_push(&reply, buf_text(&prompt.begin), prompt.begin.length);
        api_responses_read_answer(c, d, &reply);
        rc = api_responses_append(messages, api_responses_said(&reply), err);
        reply_clear(&reply);
    }
    api_prompt_clear(&prompt);
    json_decref(body);
    return rc;
}

static const struct api_stored *api_responses_previous(struct api_call *c, const char *id,
                                                       struct err *err)
{
    const struct api_stored *d = api_store_find(c->api->store, id, c->tenant);
    if (d && d->route->begin == api_responses_create && d->outcome == API_DONE)
        return d;
    c->error_code = "previous_response_not_found";
    err_set_param(err, ERR_INPUT, "previous_response_id",
                  "There is no finished response '%.48s' here: it was deleted, not stored, or kept "
                  "no longer.",
                  id);
    return NULL;
}

/* *ret_id: what came before it, for free(), or NULL. */
static int api_responses_id_before(const struct api_stored *d, char **ret_id, struct err *err)
{
    json_t *question = NULL;
    const char *before = NULL;
    int rc = json_body_read(&question, d->body, d->body_length, err);
    if (rc == 0)
        rc = json_body_string(question, "previous_response_id", &before, NULL, err);
    if (rc == 0 && before && !(*ret_id = strdup(before)))
        rc = err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    json_decref(question);
    return rc;
}

/* The talk up to the response `id`, the oldest first; one question at a time is in memory. depth:
 * how many came after it. */
static int api_responses_add_before(struct api_call *c, const char *id, json_t *messages, int depth,
                                    struct err *err)
{
    json_t *question = NULL;
    char *before = NULL;
    if (depth == API_MESSAGES_MOST / 2)
        return err_set_param(err, ERR_INPUT, "previous_response_id",
                             "More than %d responses came before.", depth);
    const struct api_stored *d = api_responses_previous(c, id, err);
    if (!d)
        return err->code;
    int rc = api_responses_id_before(d, &before, err);
    if (rc == 0 && before)
        rc = api_responses_add_before(c, before, messages, depth + 1, err);
    free(before);
    if (rc == 0)
        rc = json_body_read(&question, d->body, d->body_length, err);
    if (rc == 0)
        rc = api_responses_add_input(messages, question, err);
    if (rc == 0)
        rc = api_responses_add_answer(c, d, question, messages, err);
    json_decref(question);
    return rc;
}

int api_responses_talk_messages(struct api_call *c, const json_t *question, json_t *body,
                                struct err *err)
{
    const char *instructions = NULL, *before = NULL;
    json_t *messages = json_array();
    if (json_object_set_new(body, "messages", messages) != 0)
        return err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    int rc = json_body_string(question, "instructions", &instructions, NULL, err);
    if (rc == 0)
        rc = json_body_string(question, "previous_response_id", &before, NULL, err);
    if (rc == 0 && instructions &&
        json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "system", "content",
                                                  json_object_get(question, "instructions"))) != 0)
        rc = err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    if (rc == 0 && before)
        rc = api_responses_add_before(c, before, messages, 0, err);
    if (rc == 0)
        rc = api_responses_add_input(messages, question, err);
    return rc;
}
