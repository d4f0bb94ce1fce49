#include "coordinator/tool_schema.h"

#include "coordinator/json_text.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { TOOL_SCHEMA_DEPTH = 4 };

enum {
    KIND_STRING = 1,
    KIND_NUMBER = 2,
    KIND_BOOLEAN = 4,
    KIND_OBJECT = 8,
    KIND_ARRAY = 16,
    KIND_NULL = 32
};

static unsigned tool_schema_kind(const char *type)
{
    static const struct {
        const char *name;
        unsigned kind;
    } kinds[] = {{"string", KIND_STRING},   {"integer", KIND_NUMBER}, {"number", KIND_NUMBER},
                 {"boolean", KIND_BOOLEAN}, {"object", KIND_OBJECT},  {"array", KIND_ARRAY},
                 {"null", KIND_NULL}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(type, kinds[i].name) == 0)
            return kinds[i].kind;
    return 0;
}

static unsigned tool_schema_kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return KIND_OBJECT;
    case JSON_ARRAY:
        return KIND_ARRAY;
    case JSON_STRING:
        return KIND_STRING;
    case JSON_INTEGER:
    case JSON_REAL:
        return KIND_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE:
        return KIND_BOOLEAN;
    default:
        return KIND_NULL;
    }
}

static unsigned tool_schema_type(const json_t *type)
{
    return json_is_string(type) ? tool_schema_kind(json_string_value(type)) : 0;
}

/* The kinds that a schema allows; 0: it does not say. */
static unsigned tool_schema_kinds(const json_t *schema, int depth)
{
    static const char *const unions[] = {"anyOf", "oneOf"};
    const json_t *type = json_object_get(schema, "type"), *item;
    unsigned kinds = tool_schema_type(type);
    size_t i;
    json_array_foreach(type, i, item)
    {
        kinds |= tool_schema_type(item);
    }
    if (kinds || depth == 0)
        return kinds;
    json_array_foreach(json_object_get(schema, "enum"), i, item)
    {
        kinds |= tool_schema_kind_of(item);
    }
    for (size_t k = 0; k < sizeof unions / sizeof unions[0]; k++)
        json_array_foreach(json_object_get(schema, unions[k]), i, item)
        {
            kinds |= tool_schema_kinds(item, depth - 1);
        }
    return kinds;
}

static const json_t *tool_schema_find(const json_t *tools, const char *tool, const char *parameter)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(tools, i, entry)
    {
        const json_t *function = json_object_get(entry, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        const json_t *schema = json_object_get(function, "parameters");
        if (name && strcmp(name, tool) == 0)
            return json_object_get(json_object_get(schema, "properties"), parameter);
    }
    return NULL;
}

/* Words that templates make of Python's values; a model repeats what it was shown. */
static const char *tool_schema_word(const char *text, size_t length, unsigned kinds)
{
    if ((kinds & KIND_BOOLEAN) && length == 4 && strncasecmp(text, "true", 4) == 0)
        return "true";
    if ((kinds & KIND_BOOLEAN) && length == 5 && strncasecmp(text, "false", 5) == 0)
        return "false";
    if ((kinds & KIND_NULL) && length == 4 &&
        (strncasecmp(text, "null", 4) == 0 || strncasecmp(text, "none", 4) == 0))
        return "null";
    return NULL;
}

void tool_schema_write(const json_t *tools, const char *tool, const char *parameter,
                       const char *text, size_t length, struct buf *out)
{
    unsigned kinds = tool_schema_kinds(tool_schema_find(tools, tool, parameter), TOOL_SCHEMA_DEPTH);
    if (!kinds) /* a parameter nobody knows, or a schema of references */
        kinds = KIND_OBJECT | KIND_ARRAY;
    const char *word = tool_schema_word(text, length, kinds);
    if (word) {
        buf_puts(out, word);
        return;
    }
    json_t *value = NULL;
    if (kinds & ~(unsigned)KIND_STRING)
        value = json_loadb(text, length, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL,
                           NULL);
    if (value && (tool_schema_kind_of(value) & kinds & ~(unsigned)KIND_STRING))
        buf_append(out, text, length);
    else
        json_text_quote(out, text, length);
    json_decref(value);
}
