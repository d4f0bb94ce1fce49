#include "coordinator/api_responses_input.h"

#include "coordinator/json_body.h"
#include "coordinator/json_text.h"
#include "proto/batch.h"

#include <stdio.h>
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
    const char *truncation = NULL;
    int rc = json_body_string(question, "truncation", &truncation, NULL, err);
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

static int api_responses_add_tool(json_t *list, json_t *tool, size_t index, struct err *err)
{
    static const char *const fields[] = {"name", "description", "parameters", "strict"};
    const char *type = json_string_value(json_object_get(tool, "type"));
    char place[48];
    snprintf(place, sizeof place, "tools[%zu]", index % 100000);
    if (!type || strcmp(type, "function") != 0)
        return err_set_param(err, ERR_INPUT, place,
                             "'%s' is of the type '%.40s'; only functions can be used here: "
                             "{\"type\": \"function\", \"name\": …}.",
                             place, type ? type : "(none)");
    json_t *function = json_object();
    int rc = function ? 0 : -1;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        json_t *value = json_body_field(tool, fields[i]);
        if (value)
            rc |= json_object_set(function, fields[i], value);
    }
    rc |= json_array_append_new(list,
                                json_pack("{s:s, s:o}", "type", "function", "function", function));
    return rc == 0 ? 0 : err_set(err, ERR_MEMORY, "There is no memory for the tools.");
}

static int api_responses_set_tools(const json_t *question, json_t *body, struct err *err)
{
    json_t *tools = NULL, *list, *tool;
    size_t i;
    int rc = json_body_array(question, "tools", &tools, err);
    if (rc != 0 || json_array_size(tools) == 0)
        return rc;
    list = json_array();
    if (json_object_set_new(body, "tools", list) != 0)
        return err_set(err, ERR_MEMORY, "There is no memory for the tools.");
    json_array_foreach(tools, i, tool)
    {
        if (rc == 0)
            rc = api_responses_add_tool(list, tool, i, err);
    }
    return rc;
}

/* {"type": "function", "name": …} to {"type": "function", "function": {"name": …}} */
static int api_responses_set_choice(const json_t *question, json_t *body, struct err *err)
{
    json_t *choice = json_body_field(question, "tool_choice");
    json_t *name = json_object_get(choice, "name");
    const char *type = json_string_value(json_object_get(choice, "type"));
    if (!choice)
        return 0;
    if (!json_is_string(choice) && !(type && strcmp(type, "function") == 0 && json_is_string(name)))
        return err_set_param(err, ERR_INPUT, "tool_choice",
                             "'tool_choice' must be \"auto\", \"none\", \"required\" or "
                             "{\"type\":\"function\",\"name\":…}.");
    json_t *to = json_is_string(choice)
                     ? json_incref(choice)
                     : json_pack("{s:s, s:{s:O}}", "type", "function", "function", "name", name);
    return json_object_set_new(body, "tool_choice", to) == 0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the request.");
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
        rc = api_responses_set_tools(question, body, err);
    if (rc == 0)
        rc = api_responses_set_choice(question, body, err);
    if (rc == 0)
        *ret_body = body;
    else
        json_decref(body);
    return rc;
}
