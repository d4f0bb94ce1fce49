#include "coordinator/api_messages.h"

#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* messages[index]… as the parameter's name */
struct api_messages_place {
    char name[48];
};

static struct api_messages_place api_messages_place(size_t index, const char *format, ...)
{
    struct api_messages_place place;
    char tail[32];
    va_list args;
    va_start(args, format);
    vsnprintf(tail, sizeof tail, format, args);
    va_end(args);
    snprintf(place.name, sizeof place.name, "messages[%zu]%s", index % 100000, tail);
    return place;
}

static const char *api_messages_role(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0)
            return roles[i];
    /* OpenAI's newer word; no template of Qwen's knows it. */
    return strcmp(role, "developer") == 0 ? "system" : NULL;
}

/* Content parts to one text. */
static int api_messages_join(const json_t *parts, size_t index, struct buf *out, struct err *err)
{
    size_t i;
    json_t *part;
    json_array_foreach(parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0) {
            struct api_messages_place place = api_messages_place(index, ".content[%zu]", i % 1000);
            return err_set_param(err, ERR_INPUT, place.name,
                                 "'%s' has the type '%.40s'; this model reads text only: "
                                 "{\"type\":\"text\",\"text\":\"…\"}.",
                                 place.name, type ? type : "(none)");
        }
        if (!json_is_string(text)) {
            struct api_messages_place place =
                api_messages_place(index, ".content[%zu].text", i % 1000);
            return err_set_param(err, ERR_INPUT, place.name, "'%s' must be a string.", place.name);
        }
        buf_append(out, json_string_value(text), json_string_length(text));
    }
    return 0;
}

static int api_messages_set_content(json_t *to, const json_t *message, size_t index,
                                    struct err *err)
{
    json_t *content = json_object_get(message, "content");
    bool has_calls = json_array_size(json_object_get(message, "tool_calls")) > 0;
    struct buf text;
    buf_init(&text);
    int rc = 0;
    if (json_is_string(content)) {
        buf_append(&text, json_string_value(content), json_string_length(content));
    } else if (json_is_array(content)) {
        rc = api_messages_join(content, index, &text, err);
    } else if (content ? !json_is_null(content) || !has_calls : !has_calls) {
        struct api_messages_place place = api_messages_place(index, ".content");
        rc = err_set_param(err, ERR_INPUT, place.name,
                           "'%s' must be a string or an array of text parts, not %s.", place.name,
                           content ? json_text_type(content) : "absent");
    }
    if (rc == 0 &&
        (buf_failed(&text) ||
         json_object_set_new(to, "content", json_stringn(buf_text(&text), text.length)) != 0))
        rc = err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    buf_clear(&text);
    return rc;
}

/* OpenAI sends a call's arguments as a string of JSON, the templates expect the object. */
static json_t *api_messages_call(const json_t *call, struct json_body_counts *counts)
{
    json_t *copy = json_deep_copy(call);
    json_t *function = json_object_get(copy, "function");
    const json_t *arguments = json_object_get(function, "arguments");
    if (!json_is_string(arguments))
        return copy;
    json_t *parsed = NULL;
    struct err ignored;
    if (json_body_read_beside(&parsed, counts, json_string_value(arguments),
                              json_string_length(arguments), &ignored) == 0)
        json_object_set_new(function, "arguments", parsed);
    return copy;
}

static int api_messages_set_calls(json_t *to, const json_t *message, size_t index,
                                  struct json_body_counts *counts, struct err *err)
{
    const json_t *calls = json_body_field(message, "tool_calls");
    if (!calls)
        return 0;
    struct api_messages_place place = api_messages_place(index, ".tool_calls");
    if (!json_is_array(calls))
        return err_set_param(err, ERR_INPUT, place.name, "'%s' must be an array, not %s.",
                             place.name, json_text_type(calls));
    json_t *list = json_array();
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        const json_t *name = json_object_get(json_object_get(call, "function"), "name");
        if (!json_is_string(name)) {
            json_decref(list);
            return err_set_param(err, ERR_INPUT, place.name,
                                 "'%s' must hold objects with function.name and "
                                 "function.arguments; element %zu does not.",
                                 place.name, i);
        }
        json_array_append_new(list, api_messages_call(call, counts));
    }
    if (json_object_set_new(to, "tool_calls", list) != 0)
        return err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    return 0;
}

/* counts: of all arguments of calls. */
static int api_messages_add(json_t *list, const json_t *message, size_t index,
                            struct json_body_counts *counts, struct err *err)
{
    struct api_messages_place place = api_messages_place(index, "");
    if (!json_is_object(message))
        return err_set_param(err, ERR_INPUT, place.name, "'%s' must be an object, not %s.",
                             place.name, json_text_type(message));
    const char *given = json_string_value(json_object_get(message, "role"));
    const char *role = given ? api_messages_role(given) : NULL;
    place = api_messages_place(index, ".role");
    if (!role)
        return err_set_param(err, ERR_INPUT, place.name,
                             "'%s' is '%.40s'; it must be system, developer, user, assistant or "
                             "tool.",
                             place.name, given ? given : "(not a string)");
    json_t *to = json_pack("{s:s}", "role", role);
    int rc = json_array_append_new(list, to) == 0
                 ? 0
                 : err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    if (rc == 0)
        rc = api_messages_set_content(to, message, index, err);
    if (rc == 0)
        rc = api_messages_set_calls(to, message, index, counts, err);
    static const char *const kept[] = {"name", "tool_call_id", "reasoning_content"};
    for (size_t i = 0; rc == 0 && i < sizeof kept / sizeof kept[0]; i++) {
        json_t *value = json_body_field(message, kept[i]);
        place = api_messages_place(index, ".%s", kept[i]);
        if (value && !json_is_string(value))
            rc = err_set_param(err, ERR_INPUT, place.name, "'%s' must be a string, not %s.",
                               place.name, json_text_type(value));
        else if (value)
            json_object_set(to, kept[i], value);
    }
    return rc;
}

/* Whether the model may think first: not if it is told how its answer begins, else as
 * 'reasoning_effort' says, else as the template likes. Templates know no degrees. */
static int api_messages_set_thinking(json_t *context, const json_t *body, bool has_begun,
                                     struct err *err)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    const char *effort = NULL;
    size_t i = 0, n = sizeof efforts / sizeof efforts[0];
    int rc = json_body_string(body, "reasoning_effort", &effort, NULL, err);
    if (rc != 0)
        return rc;
    while (effort && i < n && strcmp(effort, efforts[i]) != 0)
        i++;
    if (i == n)
        return err_set_param(err, ERR_INPUT, "reasoning_effort",
                             "'reasoning_effort' is '%.40s'; it must be none, minimal, low, "
                             "medium, high or xhigh.",
                             effort);
    if (has_begun || effort)
        json_object_set_new(context, "enable_thinking", json_boolean(!has_begun && i > 1));
    return 0;
}

static int api_messages_set_kwargs(json_t *context, const json_t *body, struct err *err)
{
    json_t *kwargs = NULL, *value;
    const char *key;
    int rc = json_body_object(body, "chat_template_kwargs", &kwargs, err);
    json_object_foreach(kwargs, key, value)
    {
        if (strcmp(key, "messages") == 0 || strcmp(key, "tools") == 0)
            return err_set_param(err, ERR_INPUT, "chat_template_kwargs",
                                 "'chat_template_kwargs' cannot replace '%s'.", key);
        json_object_set(context, key, value);
    }
    return rc;
}

/* 'continue_final_message': the last message, the assistant's, is one to be gone on with. It is
 * taken off the list; *ret_last: its reference, or NULL. */
static int api_messages_take_last(json_t *list, const json_t *body, json_t **ret_last,
                                  struct err *err)
{
    bool is_continued = false;
    int rc = json_body_flag(body, "continue_final_message", &is_continued, err);
    if (rc != 0 || !is_continued)
        return rc;
    size_t last = json_array_size(list) - 1;
    json_t *message = json_array_get(list, last);
    if (strcmp(json_string_value(json_object_get(message, "role")), "assistant") != 0 ||
        json_object_get(message, "tool_calls"))
        return err_set_param(
            err, ERR_INPUT, "continue_final_message",
            "'continue_final_message' is true, but the last message is not text of "
            "the assistant's.");
    if (last == 0)
        return err_set_param(err, ERR_INPUT, "messages",
                             "'messages' holds nothing but the beginning of the answer.");
    *ret_last = json_incref(message);
    json_array_remove(list, last);
    return 0;
}

static int api_messages_read(json_t *list, const json_t *body, struct err *err)
{
    json_t *messages = NULL, *message;
    struct json_body_counts counts = {0};
    size_t i;
    int rc = json_body_array(body, "messages", &messages, err);
    if (rc == 0 && json_array_size(messages) == 0)
        rc = err_set_param(err, ERR_INPUT, "messages",
                           "'messages' is missing or empty: it must be an array of at least one "
                           "message.");
    if (rc == 0 && json_array_size(messages) > API_MESSAGES_MOST)
        rc = err_set_param(err, ERR_INPUT, "messages",
                           "'messages' has %zu messages; at most %d are possible.",
                           json_array_size(messages), API_MESSAGES_MOST);
    json_array_foreach(messages, i, message)
    {
        if (rc == 0)
            rc = api_messages_add(list, message, i, &counts, err);
    }
    return rc;
}

static int api_messages_context(json_t *context, const json_t *body, const struct api_tools *tools,
                                json_t **ret_last, struct err *err)
{
    json_t *list = json_array();
    if (json_object_set_new(context, "messages", list) != 0 ||
        json_object_set_new(context, "add_generation_prompt", json_true()) != 0)
        return err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    int rc = api_messages_read(list, body, err);
    if (rc == 0)
        rc = api_messages_take_last(list, body, ret_last, err);
    if (rc == 0 && tools->offered && json_object_set(context, "tools", tools->offered) != 0)
        rc = err_set(err, ERR_MEMORY, "There is no memory for the messages.");
    if (rc == 0)
        rc = api_messages_set_thinking(context, body, tools->is_required || *ret_last, err);
    if (rc == 0)
        rc = api_messages_set_kwargs(context, body, err);
    return rc;
}

int api_messages_render(struct api_call *c, const struct api_tools *tools, struct buf *out,
                        struct err *err)
{
    json_t *context = json_object(), *last = NULL;
    int rc = api_messages_context(context, c->body, tools, &last, err);
    if (rc == 0 && !c->api->template)
        rc =
            err_set(err, ERR_INPUT,
                    "This model cannot chat: %.300s Use /v1/completions with a prompt of your own.",
                    c->api->template_failure.text);
    if (rc == 0)
        rc = chat_template_render(c->api->template, context, out, err);
    const json_t *begun = json_object_get(last, "content");
    buf_append(out, json_string_value(begun), json_string_length(begun));
    if (rc == 0 && buf_failed(out))
        rc = err_set(err, ERR_MEMORY, "There is no memory for the prompt.");
    json_decref(context);
    json_decref(last);
    return rc;
}
