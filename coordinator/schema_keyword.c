#include "coordinator/schema_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Keywords that would change what is accepted, and are not kept. Words that JSON Schema does not
 * know say nothing, as it has it. */
static const char *const refused[] = {
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "contains",
    "multipleOf",
    "additionalItems",
    "$dynamicRef",
    "$recursiveRef",
};

static int check_refused(const struct schema *s, const json_t *part)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (json_object_get(part, refused[i]))
            return schema_fail(s, part, refused[i], "this keyword is not supported");
    if (json_is_true(json_object_get(part, "uniqueItems")))
        return schema_fail(s, part, "uniqueItems", "this keyword is not supported");
    return 0;
}

static int check_kind(const struct schema *s, const json_t *part, const char *keyword, bool is_kind,
                      const char *kind)
{
    if (!json_object_get(part, keyword) || is_kind)
        return 0;
    return schema_fail(s, part, keyword, "must be %s", kind);
}

/* The values of keywords, as far as nobody else looks at them. */
int schema_check_part(const struct schema *s, const json_t *part)
{
    static const char *const numbers[] = {"minimum", "maximum", "exclusiveMinimum",
                                          "exclusiveMaximum"};
    static const char *const lists[] = {"allOf",       "anyOf", "oneOf",
                                        "prefixItems", "enum",  "required"};
    static const char *const objects[] = {"properties", "$defs", "definitions"};
    static const char *const strings[] = {"pattern", "format", "$ref"};
    int rc = check_refused(s, part);
    for (size_t i = 0; rc == 0 && i < sizeof numbers / sizeof numbers[0]; i++)
        rc = check_kind(s, part, numbers[i], json_is_number(json_object_get(part, numbers[i])),
                        "a number");
    for (size_t i = 0; rc == 0 && i < sizeof lists / sizeof lists[0]; i++)
        rc = check_kind(s, part, lists[i], json_is_array(json_object_get(part, lists[i])),
                        "an array");
    for (size_t i = 0; rc == 0 && i < sizeof objects / sizeof objects[0]; i++)
        rc = check_kind(s, part, objects[i], json_is_object(json_object_get(part, objects[i])),
                        "an object");
    for (size_t i = 0; rc == 0 && i < sizeof strings / sizeof strings[0]; i++)
        rc = check_kind(s, part, strings[i], json_is_string(json_object_get(part, strings[i])),
                        "a string");
    if (rc == 0 && json_is_array(json_object_get(part, "items")))
        rc = schema_fail(s, part, "items", "must be a schema; a list of them is 'prefixItems'");
    return rc;
}

/* ---- types ---- */

static const struct {
    const char *name;
    unsigned types;
} type_names[] = {
    {"null", SCHEMA_NULL},     {"boolean", SCHEMA_BOOLEAN}, {"integer", SCHEMA_INTEGER},
    {"number", SCHEMA_NUMBER}, {"string", SCHEMA_STRING},   {"object", SCHEMA_OBJECT},
    {"array", SCHEMA_ARRAY},
};

unsigned schema_type_named(const json_t *name)
{
    const char *text = json_string_value(name);
    for (size_t i = 0; text && i < sizeof type_names / sizeof type_names[0]; i++)
        if (strcmp(type_names[i].name, text) == 0)
            return type_names[i].types;
    return 0;
}

int schema_types(const struct schema *s, const json_t *part, unsigned *ret_types)
{
    const json_t *type = json_object_get(part, "type"), *item;
    unsigned types = json_is_array(type) ? 0 : schema_type_named(type);
    size_t i;
    bool is_known = !type || types || json_is_array(type);
    json_array_foreach(type, i, item)
    {
        types |= schema_type_named(item);
        is_known = is_known && schema_type_named(item);
    }
    *ret_types = type ? types : SCHEMA_ANY_TYPE;
    return is_known
               ? 0
               : schema_fail(s, part, "type",
                             "must be null, boolean, integer, number, string, object or array, "
                             "or a list of these");
}

unsigned schema_type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return SCHEMA_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return SCHEMA_BOOLEAN;
    case JSON_INTEGER:
        return SCHEMA_INTEGER;
    case JSON_REAL:
        return json_real_value(value) == rint(json_real_value(value)) ? SCHEMA_INTEGER
                                                                      : SCHEMA_FRACTION;
    case JSON_STRING:
        return SCHEMA_STRING;
    case JSON_OBJECT:
        return SCHEMA_OBJECT;
    default:
        return SCHEMA_ARRAY;
    }
}

/* ---- references ---- */

/* One step of a JSON pointer: up to the next '/', with ~0, ~1 and %XX decoded. false: malformed. */
static bool pointer_step(const char **at, char *out, size_t size)
{
    size_t n = 0;
    for (; **at && **at != '/'; (*at)++) {
        char c = **at;
        if (c == '%') {
            char digits[3] = {(*at)[1], (*at)[1] ? (*at)[2] : '\0', '\0'}, *end;
            c = (char)strtol(digits, &end, 16);
            if (end != digits + 2 || digits[0] == '+' || digits[0] == '-' || digits[0] == ' ')
                return false;
            *at += 2;
        } else if (c == '~') {
            if ((*at)[1] != '0' && (*at)[1] != '1')
                return false;
            c = (*at)[1] == '0' ? '~' : '/';
            (*at)++;
        }
        if (n + 1 >= size)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

static const json_t *pointer_follow(const json_t *from, const char *pointer)
{
    char step[512];
    while (from && *pointer == '/') {
        pointer++;
        if (!pointer_step(&pointer, step, sizeof step))
            return NULL;
        if (json_is_array(from)) {
            char *end;
            unsigned long index = strtoul(step, &end, 10);
            from = *end || !*step ? NULL : json_array_get(from, index);
        } else {
            from = json_object_get(from, step);
        }
    }
    return *pointer ? NULL : from;
}

const json_t *schema_at(const json_t *root, const char *ref)
{
    return ref[0] == '#' && (!ref[1] || ref[1] == '/') ? pointer_follow(root, ref + 1) : NULL;
}

int schema_resolve(const struct schema *s, const json_t *part, const json_t **ret_target)
{
    const char *ref = json_string_value(json_object_get(part, "$ref"));
    if (ref[0] != '#' || (ref[1] && ref[1] != '/'))
        return schema_fail(s, part, "$ref",
                           "only references inside the schema are supported, such as "
                           "'#/$defs/name'");
    const json_t *target = pointer_follow(s->root, ref + 1);
    if (!target || (!json_is_object(target) && !json_is_boolean(target)))
        return schema_fail(s, part, "$ref", "there is no schema at '%.100s'", ref);
    *ret_target = target;
    return 0;
}
