#include "coordinator/api_responses_input.h"

#include "coordinator/api_messages.h"
#include "coordinator/api_prompt.h"
#include "coordinator/api_responses.h"
#include "coordinator/api_store.h"
#include "coordinator/detokenizer.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"
#include "coordinator/token_log.h"

#include <stdlib.h>
#include <string.h>

enum { RESPONSES_METADATA = 16, RESPONSES_METADATA_KEY = 64, RESPONSES_METADATA_VALUE = 512 };

/* ---- what is asked for ---- */

static bool api_responses_lists(const json_t *list, const char *word)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), word) == 0)
            return true;
    }
    return false;
}

static int api_responses_check_metadata(const json_t *question, struct err *err)
{
    json_t *map = NULL, *value;
    const char *key;
    int rc = json_body_object(question, "metadata", &map, err);
    if (rc == 0 && json_object_size(map) > RESPONSES_METADATA)
        rc = err_set_param(err, ERR_INPUT, "metadata",
                           "'metadata' has %zu keys; at most %d are possible.",
                           json_object_size(map), RESPONSES_METADATA);
    json_object_foreach(map, key, value)
    {
        bool is_fine = json_is_string(value) && strlen(key) <= RESPONSES_METADATA_KEY &&
                       json_string_length(value) <= RESPONSES_METADATA_VALUE;
        if (rc == 0 && !is_fine)
            rc = err_set_param(err, ERR_INPUT, "metadata",
                               "'metadata' holds strings of at most %d bytes under keys of at most "
                               "%d; '%.64s' is none.",
                               RESPONSES_METADATA_VALUE, RESPONSES_METADATA_KEY, key);
    }
    return rc;
}

/* What would change the answer, but is not there, is refused instead of ignored. */
static int api_responses_refuse_missing(const json_t *question, struct err *err)
{
    static const char *const absent[] = {"conversation", "prompt", "context_management"};
    json_t *tools = NULL;
    const char *truncation = NULL;
    int rc = json_body_array(question, "tools", &tools, err);
    if (rc == 0 && json_array_size(tools))
        rc = err_set_param(err, ERR_INPUT, "tools",
                           "'tools' are not supported here; use /v1/chat/completions.");
    if (rc == 0)
        rc = json_body_string(question, "truncation", &truncation, NULL, err);
    if (rc == 0 && truncation && strcmp(truncation, "disabled") != 0)
        rc = err_set_param(err, ERR_INPUT, "truncation",
                           "'truncation' can only be \"disabled\" here: an input that is too long "
                           "is refused.");
    for (size_t i = 0; rc == 0 && i < sizeof absent / sizeof absent[0]; i++)
        if (json_body_field(question, absent[i]))
            rc = err_set_param(err, ERR_INPUT, absent[i],
                               "'%s' is not supported; give 'input' and 'previous_response_id'.",
                               absent[i]);
    return rc;
}

int api_responses_input_how(const json_t *question, struct api_responses_how *ret_how,
                            struct err *err)
{
    struct api_responses_how how = {.is_kept = true};
    json_t *include = NULL;
    int rc = json_body_flag(question, "background", &how.is_background, err);
    if (rc == 0)
        rc = json_body_flag(question, "store", &how.is_kept, err);
    if (rc == 0 && how.is_background && !how.is_kept)
        rc = err_set_param(
            err, ERR_INPUT, "background",
            "'background' needs 'store' to be true: nobody could ask for the answer.");
    if (rc == 0)
        rc = json_body_array(question, "include", &include, err);
    if (rc == 0)
        rc = json_body_integer(question, "top_logprobs", 0, BATCH_TOP_LOGPROBS, &how.top_logprobs,
                               err);
    how.wants_logprobs = api_responses_lists(include, "message.output_text.logprobs");
    if (rc == 0)
        rc = api_responses_check_metadata(question, err);
    if (rc == 0)
        rc = api_responses_refuse_missing(question, err);
    if (rc == 0)
        *ret_how = how;
    return rc;
}

/* ---- the parameters ---- */

/* "text": {"format": {...}} to "response_format". */
static int api_responses_set_format(const json_t *question, json_t *body, struct err *err)
{
    json_t *text = NULL, *format = NULL;
    int rc = json_body_object(question, "text", &text, err);
    if (rc == 0 && text)
        rc = json_body_object(text, "format", &format, err);
    if (rc != 0 || !format)
        return rc;
    const char *type = json_string_value(json_object_get(format, "type"));
    json_t *to;
    if (type && strcmp(type, "json_schema") == 0)
        to = json_pack("{s:s, s:{s:O?, s:O?, s:O?}}", "type", "json_schema", "json_schema", "name",
                       json_object_get(format, "name"), "schema", json_object_get(format, "schema"),
                       "strict", json_object_get(format, "strict"));
    else
        to = json_incref(format);
    return json_object_set_new(body, "response_format", to) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the request.");
}

static int api_responses_set_effort(const json_t *question, json_t *body, struct err *err)
{
    json_t *reasoning = NULL;
    int rc = json_body_object(question, "reasoning", &reasoning, err);
    json_t *effort = json_object_get(reasoning, "effort");
    if (rc == 0 && effort && !json_is_null(effort))
        json_object_set(body, "reasoning_effort", effort);
    return rc;
}

int api_responses_input_body(const json_t *question, json_t **ret_body, struct err *err)
{
    /* Fields of /v1/responses that chat completions do not know, or know as something else. */
    static const char *const foreign[] = {"input",
                                          "instructions",
                                          "max_output_tokens",
                                          "max_tokens",
                                          "max_completion_tokens",
                                          "text",
                                          "tools",
                                          "tool_choice",
                                          "include",
                                          "previous_response_id",
                                          "store",
                                          "background",
                                          "metadata",
                                          "truncation",
                                          "reasoning",
                                          "logprobs",
                                          "top_logprobs",
                                          "n",
                                          "stream_options",
                                          "messages",
                                          "response_format"};
    json_t *body = json_copy((json_t *)question);
    if (!body)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        json_object_del(body, foreign[i]);
    int64_t most = 0;
    int rc = json_body_integer(question, "max_output_tokens", 1, INT32_MAX, &most, err);
    if (rc == 0 && most)
        json_object_set_new(body, "max_tokens", json_integer(most));
    if (rc == 0)
        rc = api_responses_set_format(question, body, err);
    if (rc == 0)
        rc = api_responses_set_effort(question, body, err);
    if (rc == 0)
        *ret_body = body;
    else
        json_decref(body);
    return rc;
}

/* ---- the input ---- */

static int api_responses_refuse_item(size_t index, const char *what, struct err *err)
{
    char name[48];
    snprintf(name, sizeof name, "input[%zu]", index % 100000);
    return err_set_param(
        err, ERR_INPUT, name,
        "'%s' is %.80s; here are messages of text only: {\"role\": …, \"content\": "
        "…}.",
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

static int api_responses_add_item(json_t *messages, const json_t *item, size_t index,
                                  struct err *err)
{
    const char *type = json_string_value(json_object_get(item, "type"));
    const json_t *content = json_object_get(item, "content");
    if (!json_is_object(item))
        return api_responses_refuse_item(index, json_text_type(item), err);
    if (type && strcmp(type, "reasoning") == 0) /* what a model thought is no part of the talk */
        return 0;
    if (type && strcmp(type, "message") != 0)
        return api_responses_refuse_item(index, type, err);
    json_t *text = NULL, *role = json_object_get(item, "role");
    int rc = 0;
    if (!api_responses_is_role(role))
        return api_responses_refuse_item(
            index, "a message whose role is not user, assistant, system or developer", err);
    if (json_is_array(content))
        rc = api_responses_read_parts(content, index, &text, err);
    else if (json_is_string(content))
        text = json_incref((json_t *)content);
    else
        rc = api_responses_refuse_item(index, "a message without a content", err);
    if (rc != 0)
        return rc;
    json_t *message = json_pack("{s:O, s:o}", "role", role, "content", text);
    return json_array_append_new(messages, message) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
}

static int api_responses_add_input(json_t *messages, const json_t *question, struct err *err)
{
    const json_t *input = json_body_field(question, "input");
    if (json_is_string(input))
        return json_array_append_new(messages,
                                     json_pack("{s:s, s:O}", "role", "user", "content", input)) == 0
                   ? 0
                   : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
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

/* Templates open the reasoning, or leave that to the model: the prompt's last tokens tell. */
void api_responses_input_rules(const struct api_call *c, const uint32_t *ids, size_t n,
                               struct reply_rules *ret_rules)
{
    const struct tokenizer *t = coordinator_tokenizer(c->api->coordinator);
    struct buf tail;
    buf_init(&tail);
    for (size_t i = n < 16 ? 0 : n - 16; i < n; i++) {
        size_t length;
        const char *piece = tokenizer_piece(t, ids[i], &length);
        buf_append(&tail, piece, length);
    }
    *ret_rules = (struct reply_rules){
        .thinks = c->api->thinks,
        .is_thinking = c->api->thinks && api_prompt_ends_with(&tail, REPLY_THINK_BEGIN),
        .has_thought = c->api->thinks && api_prompt_ends_with(&tail, REPLY_THINK_END)};
    buf_clear(&tail);
}

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

static int api_responses_add_answer(const struct api_call *c, const struct api_stored *d,
                                    json_t *messages, struct err *err)
{
    struct reply_rules rules;
    struct reply reply;
    api_responses_input_rules(c, d->prompts[0].ids, (size_t)d->prompts[0].n, &rules);
    reply_init(&reply, &rules);
    api_responses_read_answer(c, d, &reply);
    const struct buf *said = &reply.content;
    json_t *content = reply_failed(&reply) ? NULL : json_text_string(buf_text(said), said->length);
    reply_clear(&reply);
    return json_array_append_new(
               messages, json_pack("{s:s, s:o}", "role", "assistant", "content", content)) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
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

/* The talk up to the response `id`, the oldest first. depth: how many came after it. */
static int api_responses_add_before(struct api_call *c, const char *id, json_t *messages, int depth,
                                    struct err *err)
{
    json_t *question = NULL;
    const char *before = NULL;
    if (depth == API_MESSAGES_MOST / 2)
        return err_set_param(err, ERR_INPUT, "previous_response_id",
                             "More than %d responses came before.", depth);
    const struct api_stored *d = api_responses_previous(c, id, err);
    if (!d)
        return err->code;
    int rc = json_body_read(&question, d->body, d->body_length, err);
    if (rc == 0)
        rc = json_body_string(question, "previous_response_id", &before, NULL, err);
    if (rc == 0 && before)
        rc = api_responses_add_before(c, before, messages, depth + 1, err);
    if (rc == 0)
        rc = api_responses_add_input(messages, question, err);
    if (rc == 0)
        rc = api_responses_add_answer(c, d, messages, err);
    json_decref(question);
    return rc;
}

int api_responses_input_messages(struct api_call *c, const json_t *question, json_t *body,
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
