#include "coordinator/schema_parts.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As short as it can be and still be the same number. */
static const struct grammar_expr *literal_number(struct schema *s, const json_t *value)
{
    char text[40];
    if (json_is_integer(value)) {
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
        return schema_mark(s, text);
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, json_real_value(value));
        if (strtod(text, NULL) == json_real_value(value)) /* never NaN: it was JSON */
            break;
    }
    return schema_mark(s, text);
}

static const struct grammar_expr *literal_array(struct schema *s, const json_t *value)
{
    struct grammar_list list = {0};
    const struct grammar_expr *space = schema_space(s);
    const json_t *item;
    size_t i;
    grammar_list_add(s->builder, &list, schema_mark(s, "["));
    grammar_list_add(s->builder, &list, space);
    json_array_foreach(value, i, item)
    {
        if (i) {
            grammar_list_add(s->builder, &list, schema_mark(s, ","));
            grammar_list_add(s->builder, &list, space);
        }
        grammar_list_add(s->builder, &list, schema_literal(s, item));
    }
    if (json_array_size(value))
        grammar_list_add(s->builder, &list, space);
    grammar_list_add(s->builder, &list, schema_mark(s, "]"));
    return grammar_sequence(s->builder, list.items, list.n);
}

static const struct grammar_expr *literal_object(struct schema *s, const json_t *value)
{
    struct grammar_list list = {0};
    const struct grammar_expr *space = schema_space(s);
    const char *key;
    json_t *item;
    bool is_first = true;
    grammar_list_add(s->builder, &list, schema_mark(s, "{"));
    grammar_list_add(s->builder, &list, space);
    json_object_foreach((json_t *)value, key, item)
    {
        if (!is_first) {
            grammar_list_add(s->builder, &list, schema_mark(s, ","));
            grammar_list_add(s->builder, &list, space);
        }
        is_first = false;
        grammar_list_add(s->builder, &list, schema_quoted(s, key, strlen(key)));
        grammar_list_add(s->builder, &list, schema_mark(s, ":"));
        grammar_list_add(s->builder, &list, space);
        grammar_list_add(s->builder, &list, schema_literal(s, item));
    }
    if (!is_first)
        grammar_list_add(s->builder, &list, space);
    grammar_list_add(s->builder, &list, schema_mark(s, "}"));
    return grammar_sequence(s->builder, list.items, list.n);
}

/* As deep as the schema, whose depth its reader has bounded. */
const struct grammar_expr *schema_literal(struct schema *s, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return schema_mark(s, "null");
    case JSON_TRUE:
        return schema_mark(s, "true");
    case JSON_FALSE:
        return schema_mark(s, "false");
    case JSON_INTEGER:
    case JSON_REAL:
        return literal_number(s, value);
    case JSON_STRING:
        return schema_quoted(s, json_string_value(value), json_string_length(value));
    case JSON_OBJECT:
        return literal_object(s, value);
    default:
        return literal_array(s, value);
    }
}
