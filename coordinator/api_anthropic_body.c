#include "coordinator/api_anthropic_body.h"

#include "base/buf.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdio.h>
#include <string.h>

/* "messages[3].content[1]": what a sentence calls a part of the question. */
struct place {
    char name[48];
};

static struct place place_of(const char *list, size_t index)
{
    struct place p;
    snprintf(p.name, sizeof p.name, "%s[%zu]", list, index % 100000);
    return p;
}

static struct place place_of_block(size_t message, size_t block)
{
    struct place p;
    snprintf(p.name, sizeof p.name, "messages[%zu].content[%zu]", message % 100000, block % 100000);
    return p;
}

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "(none)";
}

static bool is_of_type(const json_t *object, const char *type)
{
    return strcmp(type_of(object), type) == 0;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "There is no memory for the messages.");
}

/* These take the value. */
static int set_value(json_t *to, const char *name, json_t *value, struct err *err)
{
    return json_object_set_new(to, name, value) == 0 ? 0 : no_memory(err);
}

static int append_value(json_t *list, json_t *value, struct err *err)
{
    return json_array_append_new(list, value) == 0 ? 0 : no_memory(err);
}

/* ---- blocks ---- */

static int check_text(const json_t *block, struct place at, struct err *err)
{
    if (!is_of_type(block, "text"))
        return err_set_param(err, ERR_INPUT, at.name,
                             "'%s' has the type '%.40s', which cannot be used there; this model "
                             "reads text only.",
                             at.name, type_of(block));
    if (!json_is_string(json_object_get(block, "text")))
        return err_set_param(err, ERR_INPUT, at.name, "'%s.text' must be a string.", at.name);
    return 0;
}

/* A string, or an array of text blocks: what the other API takes too. */
static int check_texts(const json_t *content, struct place at, struct err *err)
{
    const json_t *block;
    size_t i;
    int rc = 0;
    if (!json_is_string(content) && !json_is_array(content))
        return err_set_param(err, ERR_INPUT, at.name,
                             "'%s' must be a string or an array of text blocks, not %s.", at.name,
                             content ? json_text_type(content) : "absent");
    json_array_foreach(content, i, block)
    {
        if (rc == 0)
            rc = check_text(block, at, err);
    }
    return rc;
}

static json_t *call_of(const json_t *block)
{
    return json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", json_object_get(block, "id"), "type",
                     "function", "function", "name", json_object_get(block, "name"), "arguments",
                     json_object_get(block, "input"));
}

static int add_call(json_t *calls, const json_t *block, struct place at, struct err *err)
{
    if (!json_is_string(json_object_get(block, "id")) ||
        !json_is_string(json_object_get(block, "name")) ||
        !json_is_object(json_object_get(block, "input")))
        return err_set_param(err, ERR_INPUT, at.name,
                             "'%s' needs id and name, strings, and input, an object.", at.name);
    return append_value(calls, call_of(block), err);
}

/* ---- messages ---- */

static int add_message(json_t *list, const char *role, json_t *content, struct err *err)
{
    return append_value(list, json_pack("{s:s, s:O}", "role", role, "content", content), err);
}

static int add_result(json_t *list, const json_t *block, struct place at, struct err *err)
{
    json_t *id = json_object_get(block, "tool_use_id");
    json_t *content = json_body_field(block, "content");
    if (!json_is_string(id))
        return err_set_param(err, ERR_INPUT, at.name, "'%s' needs tool_use_id, a string.", at.name);
    int rc = content ? check_texts(content, at, err) : 0;
    if (rc != 0)
        return rc;
    json_t *message = json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content",
                                content ? json_incref(content) : json_string(""));
    return append_value(list, message, err);
}

/* Results of tools are messages of their own; the texts between them are the user's. */
static int add_user(json_t *list, const json_t *blocks, size_t index, struct err *err)
{
    const json_t *block;
    json_t *texts = json_array();
    size_t i;
    int rc = texts ? 0 : no_memory(err);
    json_array_foreach(blocks, i, block)
    {
        struct place at = place_of_block(index, i);
        bool is_result = is_of_type(block, "tool_result");
        if (rc == 0 && !is_result)
            rc = check_text(block, at, err);
        if (rc == 0 && !is_result)
            rc = append_value(texts, json_incref((json_t *)block), err);
        if (rc == 0 && is_result && json_array_size(texts)) {
            rc = add_message(list, "user", texts, err);
            json_decref(texts);
            texts = json_array();
        }
        if (rc == 0 && is_result)
            rc = add_result(list, block, at, err);
    }
    if (rc == 0 && json_array_size(texts))
        rc = add_message(list, "user", texts, err);
    json_decref(texts);
    return rc;
}

struct assistant {
    json_t *texts, *calls; /* owned */
    struct buf reasoning;
};

static int add_block(struct assistant *a, json_t *block, struct place at, struct err *err)
{
    const json_t *thinking = json_object_get(block, "thinking");
    if (is_of_type(block, "tool_use"))
        return add_call(a->calls, block, at, err);
    if (is_of_type(block, "redacted_thinking"))
        return 0;
    if (is_of_type(block, "thinking") && json_is_string(thinking)) {
        buf_append(&a->reasoning, json_string_value(thinking), json_string_length(thinking));
        return 0;
    }
    int rc = check_text(block, at, err);
    return rc == 0 ? append_value(a->texts, json_incref(block), err) : rc;
}

static int add_assistant(json_t *list, const json_t *blocks, size_t index, struct err *err)
{
    struct assistant a = {.texts = json_array(), .calls = json_array()};
    json_t *block;
    size_t i;
    int rc = a.texts && a.calls ? 0 : no_memory(err);
    json_array_foreach(blocks, i, block)
    {
        if (rc == 0)
            rc = add_block(&a, block, place_of_block(index, i), err);
    }
    json_t *message = json_pack("{s:s, s:O?}", "role", "assistant", "content", a.texts);
    if (rc == 0 && json_array_size(a.calls))
        rc = set_value(message, "tool_calls", json_incref(a.calls), err);
    if (rc == 0 && a.reasoning.length)
        rc = set_value(message, "reasoning_content",
                       json_stringn(buf_text(&a.reasoning), a.reasoning.length), err);
    if (rc == 0)
        rc = append_value(list, json_incref(message), err);
    json_decref(message);
    json_decref(a.texts);
    json_decref(a.calls);
    buf_clear(&a.reasoning);
    return rc;
}

static int add_turn(json_t *list, const json_t *message, size_t index, struct err *err)
{
    struct place at = place_of("messages", index);
    const char *role = json_string_value(json_object_get(message, "role"));
    json_t *content = json_object_get(message, "content");
    bool is_user = role && strcmp(role, "user") == 0;
    bool is_assistant = role && strcmp(role, "assistant") == 0;
    if (!is_user && !is_assistant && !(role && strcmp(role, "system") == 0))
        return err_set_param(err, ERR_INPUT, at.name,
                             "'%s' must be an object whose role is user or assistant, not '%.40s'.",
                             at.name, role ? role : "(no string)");
    if (json_is_array(content) && is_user)
        return add_user(list, content, index, err);
    if (json_is_array(content) && is_assistant)
        return add_assistant(list, content, index, err);
    int rc = check_texts(content, at, err);
    return rc == 0 ? add_message(list, role, content, err) : rc;
}

/* A last message of the assistant's is the beginning of the answer. */
static int set_beginning(json_t *body, const json_t *list, struct err *err)
{
    const json_t *last = json_array_get(list, json_array_size(list) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    if (!role || strcmp(role, "assistant") != 0)
        return 0;
    if (json_object_get(last, "tool_calls"))
        return err_set_param(err, ERR_INPUT, "messages",
                             "'messages' ends with a tool_use block: its tool_result must follow.");
    return set_value(body, "continue_final_message", json_true(), err);
}

static int set_messages(json_t *body, const json_t *from, struct err *err)
{
    json_t *messages = NULL, *list = json_array(), *system = json_body_field(from, "system");
    const json_t *message;
    size_t i;
    int rc = set_value(body, "messages", list, err);
    if (rc == 0)
        rc = json_body_array(from, "messages", &messages, err);
    if (rc == 0 && json_array_size(messages) == 0)
        rc = err_set_param(err, ERR_INPUT, "messages",
                           "'messages' is missing or empty: it must be an array of at least one "
                           "message.");
    if (rc == 0 && system)
        rc = check_texts(system, (struct place){"system"}, err);
    if (rc == 0 && system)
        rc = add_message(list, "system", system, err);
    json_array_foreach(messages, i, message)
    {
        if (rc == 0)
            rc = add_turn(list, message, i, err);
    }
    return rc == 0 ? set_beginning(body, list, err) : rc;
}

/* ---- tools ---- */

static int add_tool(json_t *list, const json_t *tool, size_t index, struct err *err)
{
    struct place at = place_of("tools", index);
    const json_t *type = json_body_field(tool, "type");
    json_t *description = json_body_field(tool, "description");
    json_t *schema = json_body_field(tool, "input_schema");
    json_t *strict = json_body_field(tool, "strict");
    if (type && !is_of_type(tool, "custom"))
        return err_set_param(err, ERR_INPUT, at.name,
                             "'%s' is of the type '%.40s'; only tools of your own, with an "
                             "input_schema, can be used here.",
                             at.name, type_of(tool));
    if (!json_is_string(json_object_get(tool, "name")) || !json_is_object(schema))
        return err_set_param(err, ERR_INPUT, at.name,
                             "'%s' needs name, a string, and input_schema, an object.", at.name);
    json_t *function = json_pack("{s:O}", "name", json_object_get(tool, "name"));
    int rc = 0;
    if (description)
        rc = json_object_set(function, "description", description);
    if (strict)
        rc |= json_object_set(function, "strict", strict);
    rc |= json_object_set(function, "parameters", schema);
    json_t *value = json_pack("{s:s, s:o}", "type", "function", "function", function);
    if (rc == 0)
        return append_value(list, value, err);
    json_decref(value);
    return no_memory(err);
}

static int set_tools(json_t *body, const json_t *from, struct err *err)
{
    json_t *tools = NULL;
    const json_t *tool;
    size_t i;
    int rc = json_body_array(from, "tools", &tools, err);
    if (rc != 0 || !tools)
        return rc;
    json_t *list = json_array();
    rc = set_value(body, "tools", list, err);
    json_array_foreach(tools, i, tool)
    {
        if (rc == 0)
            rc = add_tool(list, tool, i, err);
    }
    return rc;
}

static json_t *choice_of(const json_t *choice)
{
    if (is_of_type(choice, "tool"))
        return json_pack("{s:s, s:{s:O?}}", "type", "function", "function", "name",
                         json_object_get(choice, "name"));
    return json_string(is_of_type(choice, "any") ? "required" : type_of(choice));
}

static int set_tool_choice(json_t *body, const json_t *from, struct err *err)
{
    json_t *choice = NULL;
    bool is_single = false, is_known = false;
    static const char *const types[] = {"auto", "any", "none", "tool"};
    int rc = json_body_object(from, "tool_choice", &choice, err);
    if (rc != 0 || !choice)
        return rc;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        is_known |= is_of_type(choice, types[i]);
    if (!is_known)
        return err_set_param(err, ERR_INPUT, "tool_choice",
                             "'tool_choice' has the type '%.40s'; it must be auto, any, none or "
                             "tool.",
                             type_of(choice));
    rc = json_body_flag(choice, "disable_parallel_tool_use", &is_single, err);
    if (rc == 0)
        rc = set_value(body, "parallel_tool_calls", json_boolean(!is_single), err);
    return rc == 0 ? set_value(body, "tool_choice", choice_of(choice), err) : rc;
}

/* ---- the rest ---- */

/* Thinking is off unless it is asked for. */
static int set_thinking(json_t *body, const json_t *from, struct err *err)
{
    json_t *thinking = NULL;
    static const char *const types[] = {"disabled", "enabled", "adaptive", "between_tools"};
    size_t i = 0, n = sizeof types / sizeof types[0];
    int rc = json_body_object(from, "thinking", &thinking, err);
    while (thinking && i < n && !is_of_type(thinking, types[i]))
        i++;
    if (rc == 0 && i == n)
        rc = err_set_param(err, ERR_INPUT, "thinking",
                           "'thinking' has the type '%.40s'; it must be enabled, adaptive, "
                           "between_tools or disabled.",
                           type_of(thinking));
    return rc == 0 ? set_value(body, "reasoning_effort", json_string(i ? "medium" : "none"), err)
                   : rc;
}

static int set_plain(json_t *body, const json_t *from, struct err *err)
{
    static const char *const names[][2] = {
        {"model", "model"},
        {"max_tokens", "max_tokens"},
        {"temperature", "temperature"},
        {"top_p", "top_p"},
        {"top_k", "top_k"},
        {"stop_sequences", "stop"},
        {"stream", "stream"},
        {"seed", "seed"},
        {"min_p", "min_p"},
        {"repetition_penalty", "repetition_penalty"},
        {"priority", "priority"},
        {"cache_prompt", "cache_prompt"},
        {"ignore_eos", "ignore_eos"},
        {"chat_template_kwargs", "chat_template_kwargs"},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof names[0]; i++) {
        json_t *value = json_body_field(from, names[i][0]);
        if (value)
            rc = set_value(body, names[i][1], json_incref(value), err);
    }
    return rc;
}

int api_anthropic_body(const json_t *from, bool counts, json_t **ret_body, struct err *err)
{
    json_t *body = json_object();
    int rc = set_plain(body, from, err);
    if (rc == 0 && !counts && !json_object_get(body, "max_tokens"))
        rc = err_set_param(err, ERR_INPUT, "max_tokens", "'max_tokens' is missing: an integer.");
    if (rc == 0)
        rc = set_messages(body, from, err);
    if (rc == 0)
        rc = set_tools(body, from, err);
    if (rc == 0)
        rc = set_tool_choice(body, from, err);
    if (rc == 0)
        rc = set_thinking(body, from, err);
    if (rc == 0)
        *ret_body = body;
    else
        json_decref(body);
    return rc;
}
