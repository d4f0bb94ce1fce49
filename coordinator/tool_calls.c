#include "coordinator/tool_calls.h"

#include "base/err.h"
#include "coordinator/json_member.h"
#include "coordinator/json_text.h"
#include "coordinator/tool_schema.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool tool_calls_has(const char *text, size_t length, const char *tag)
{
    return memmem(text, length, tag, strlen(tag)) != NULL;
}

enum tool_format tool_calls_format(const char *source, size_t length)
{
    if (tool_calls_has(source, length, "<function="))
        return TOOL_FORMAT_XML;
    return tool_calls_has(source, length, TOOL_CALLS_BEGIN) ? TOOL_FORMAT_HERMES : TOOL_FORMAT_NONE;
}

void tool_calls_clear(struct tool_call *call)
{
    free(call->name);
    buf_clear(&call->arguments);
    *call = (struct tool_call){0};
}

static int tool_calls_done(struct tool_call *call, struct tool_call *ret_call)
{
    if (!call->name || buf_failed(&call->arguments)) {
        tool_calls_clear(call);
        return ERR_MEMORY;
    }
    *ret_call = *call;
    return 1;
}

/* ---- Hermes ---- */

static size_t tool_calls_space(const char *text, size_t at, size_t length)
{
    while (at < length && memchr(" \t\r\n", text[at], 4))
        at++;
    return at;
}

/* Arguments that are an object, or one that is written in a string; NULL: they are neither. */
static const char *tool_calls_arguments(const json_t *value, const char *text, size_t length,
                                        size_t *ret_length)
{
    if (json_is_object(value))
        return json_member_find(text, length, "arguments", ret_length);
    json_t *inner = json_loadb(json_string_value(value), json_string_length(value),
                               JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    bool is_object = json_is_object(inner);
    json_decref(inner);
    *ret_length = json_string_length(value);
    return is_object ? json_string_value(value) : NULL;
}

static int tool_calls_parse_hermes(const char *text, size_t length, struct tool_call *ret_call,
                                   size_t *ret_used)
{
    json_error_t end = {0};
    json_t *object = json_loadb(
        text, length, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_DISABLE_EOF_CHECK, &end);
    const json_t *name = json_object_get(object, "name");
    const json_t *value = json_object_get(object, "arguments");
    const char *arguments = "{}";
    size_t n_arguments = 2;
    bool has_name = json_is_string(name) && json_string_length(name) &&
                    strlen(json_string_value(name)) == json_string_length(name);
    if (has_name && value)
        arguments = tool_calls_arguments(value, text, (size_t)end.position, &n_arguments);
    int rc = 0;
    if (has_name && arguments) {
        struct tool_call call = {.name = strdup(json_string_value(name))};
        buf_append(&call.arguments, arguments, n_arguments);
        *ret_used = tool_calls_space(text, (size_t)end.position, length);
        rc = tool_calls_done(&call, ret_call);
    }
    json_decref(object);
    return rc;
}

/* ---- tags ---- */

/* What is left of the text. */
struct tool_calls_rest {
    const char *text;
    size_t length;
};

static void tool_calls_drop(struct tool_calls_rest *r, size_t count)
{
    r->text += count;
    r->length -= count;
}

static void tool_calls_drop_space(struct tool_calls_rest *r)
{
    tool_calls_drop(r, tool_calls_space(r->text, 0, r->length));
}

static bool tool_calls_begins(const struct tool_calls_rest *r, const char *tag)
{
    return r->length >= strlen(tag) && memcmp(r->text, tag, strlen(tag)) == 0;
}

/* "<TAG=name>": the name, malloc'd; *ret_rest: what follows. NULL: there is no such tag. */
static char *tool_calls_take_tag(struct tool_calls_rest *r, const char *tag, bool *ret_failed)
{
    if (!tool_calls_begins(r, tag))
        return NULL;
    const char *name = r->text + strlen(tag);
    const char *end = memchr(name, '>', r->length - strlen(tag));
    size_t length = end ? (size_t)(end - name) : 0;
    if (!length || memchr(name, '\n', length) || memchr(name, '<', length) ||
        memchr(name, '\0', length))
        return NULL;
    char *copy = strndup(name, length);
    *ret_failed |= !copy;
    tool_calls_drop(r, strlen(tag) + length + 1);
    return copy;
}

/* The end of a value: the first end tag behind which the call goes on as a call does. */
static bool tool_calls_take_value(struct tool_calls_rest *r, const char **ret_text,
                                  size_t *ret_length)
{
    static const char end[] = "</parameter>";
    struct tool_calls_rest after = *r;
    const char *at;
    while ((at = memmem(after.text, after.length, end, strlen(end)))) {
        tool_calls_drop(&after, (size_t)(at - after.text) + strlen(end));
        struct tool_calls_rest next = after;
        tool_calls_drop_space(&next);
        if (tool_calls_begins(&next, "<parameter=") || tool_calls_begins(&next, "</function>"))
            break;
    }
    if (!at)
        return false;
    *ret_text = r->text;
    *ret_length = (size_t)(at - r->text);
    if (*ret_length && (*ret_text)[0] == '\n') {
        (*ret_text)++;
        (*ret_length)--;
    }
    if (*ret_length && (*ret_text)[*ret_length - 1] == '\n')
        (*ret_length)--;
    *r = after;
    return true;
}

/* One parameter with its value: 1; 0: there is none; ERR_MEMORY. */
static int tool_calls_take_parameter(struct tool_calls_rest *r, const json_t *tools,
                                     struct tool_call *call)
{
    bool failed = false;
    const char *value;
    size_t length;
    char *name = tool_calls_take_tag(r, "<parameter=", &failed);
    if (!name || !tool_calls_take_value(r, &value, &length)) {
        free(name);
        return failed ? ERR_MEMORY : 0;
    }
    buf_puts(&call->arguments, call->arguments.length > 1 ? ", " : "");
    json_text_quote(&call->arguments, name, strlen(name));
    buf_puts(&call->arguments, ": ");
    tool_schema_write(tools, call->name, name, value, length, &call->arguments);
    free(name);
    return 1;
}

static int tool_calls_parse_tags(const json_t *tools, const char *text, size_t length,
                                 struct tool_call *ret_call, size_t *ret_used)
{
    struct tool_calls_rest r = {text, length};
    struct tool_call call = {0};
    bool failed = false;
    tool_calls_drop_space(&r);
    call.name = tool_calls_take_tag(&r, "<function=", &failed);
    int rc = call.name ? 1 : failed ? ERR_MEMORY : 0;
    buf_putc(&call.arguments, '{');
    while (rc == 1) {
        tool_calls_drop_space(&r);
        if (!tool_calls_begins(&r, "<parameter="))
            break;
        rc = tool_calls_take_parameter(&r, tools, &call);
    }
    if (rc == 1 && !tool_calls_begins(&r, "</function>"))
        rc = 0;
    if (rc != 1) {
        tool_calls_clear(&call);
        return rc;
    }
    tool_calls_drop(&r, strlen("</function>"));
    tool_calls_drop_space(&r);
    *ret_used = length - r.length;
    buf_putc(&call.arguments, '}');
    return tool_calls_done(&call, ret_call);
}

int tool_calls_parse(enum tool_format format, const json_t *tools, const char *text, size_t length,
                     struct tool_call *ret_call, size_t *ret_used)
{
    return format == TOOL_FORMAT_XML
               ? tool_calls_parse_tags(tools, text, length, ret_call, ret_used)
               : tool_calls_parse_hermes(text, length, ret_call, ret_used);
}

/* No space at the end: it is part of the next token in most texts that a model has read. */
void tool_calls_begin(enum tool_format format, const char *name, struct buf *out)
{
    buf_puts(out, TOOL_CALLS_BEGIN "\n");
    if (format == TOOL_FORMAT_XML) {
        buf_puts(out, "<function=");
        if (name)
            buf_printf(out, "%s>\n", name);
        return;
    }
    buf_puts(out, "{\"name\": ");
    if (!name) {
        buf_putc(out, '"');
        return;
    }
    json_text_quote(out, name, strlen(name));
    buf_puts(out, ", \"arguments\":");
}
