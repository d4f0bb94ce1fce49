#include "coordinator/json_body.h"

#include "coordinator/json_text.h"

#include <stdlib.h>
#include <string.h>

/* jansson has a limit of its own of the depth, 2048: too deep for a template that recurses over the
 * values. It has none of what they take: some 100 bytes each, for one or two of text. */
static int json_body_check_counts(int depth, const struct json_body_counts *n, size_t line,
                                  size_t column, struct err *err)
{
    if (depth > JSON_BODY_DEPTH)
        return err_set(err, ERR_INPUT,
                       "The body is nested deeper than %d levels at line %zu, column %zu.",
                       JSON_BODY_DEPTH, line, column);
    if (n->containers > JSON_BODY_CONTAINERS)
        return err_set(err, ERR_INPUT,
                       "The body has more than %d objects and arrays at line %zu, column %zu.",
                       JSON_BODY_CONTAINERS, line, column);
    if (n->commas > JSON_BODY_COMMAS)
        return err_set(err, ERR_INPUT, "The body has more than %d values at line %zu, column %zu.",
                       JSON_BODY_COMMAS, line, column);
    return 0;
}

/* What it will take once it is read. */
static int json_body_check_shape(const char *text, size_t length, struct json_body_counts *n,
                                 struct err *err)
{
    size_t line = 1, line_start = 0;
    int depth = 0, rc = 0;
    bool in_string = false;
    for (size_t i = 0; rc == 0 && i < length; i++) {
        char c = text[i];
        if (c == '\n') {
            line++;
            line_start = i + 1;
        }
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (c == '{' || c == '[' || c == ',') {
            depth += c != ',';
            n->containers += c != ',';
            n->commas += c == ',';
            rc = json_body_check_counts(depth, n, line, i - line_start + 1, err);
        }
    }
    return rc;
}

static bool json_body_is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r\n", text[i]) || text[i] == '\0')
            return false;
    return true;
}

int json_body_read(json_t **ret_body, const char *text, size_t length, struct err *err)
{
    struct json_body_counts counts = {0};
    return json_body_read_beside(ret_body, &counts, text, length, err);
}

int json_body_read_beside(json_t **ret_body, struct json_body_counts *counts, const char *text,
                          size_t length, struct err *err)
{
    if (json_body_is_blank(text, length))
        return err_set(err, ERR_INPUT, "The body is empty: it must be a JSON object.");
    int rc = json_body_check_shape(text, length, counts, err);
    if (rc != 0)
        return rc;
    json_error_t e;
    json_t *body = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!body) {
        enum json_error_code code = json_error_code(&e);
        if (code == json_error_out_of_memory)
            return err_set(err, ERR_MEMORY, "There is no memory for the body.");
        const char *what = e.text;
        if (code == json_error_invalid_utf8)
            what = "the text is not valid UTF-8";
        else if (code == json_error_null_character || code == json_error_null_byte_in_key)
            what = "a string holds the character U+0000, which is not allowed";
        return err_set(err, ERR_INPUT, "The body is not valid JSON at line %d, column %d: %s.",
                       e.line, e.column, what);
    }
    if (!json_is_object(body)) {
        rc = err_set(err, ERR_INPUT, "The body must be a JSON object, not %s.",
                     json_text_type(body));
        json_decref(body);
        return rc;
    }
    *ret_body = body;
    return 0;
}

json_t *json_body_field(const json_t *body, const char *name)
{
    json_t *value = json_object_get(body, name);
    return json_is_null(value) ? NULL : value;
}

int json_body_integer(const json_t *body, const char *name, int64_t low, int64_t high,
                      int64_t *value, struct err *err)
{
    const json_t *field = json_body_field(body, name);
    if (!field)
        return 0;
    if (!json_is_integer(field))
        return err_set_param(err, ERR_INPUT, name,
                             "'%s' must be an integer from %lld to %lld, not %s.", name,
                             (long long)low, (long long)high, json_text_type(field));
    int64_t given = json_integer_value(field);
    if (given < low || given > high)
        return err_set_param(err, ERR_INPUT, name,
                             "'%s' is %lld; it must be an integer from %lld to %lld.", name,
                             (long long)given, (long long)low, (long long)high);
    *value = given;
    return 0;
}

int json_body_real(const json_t *body, const char *name, double low, double high, double *value,
                   struct err *err)
{
    const json_t *field = json_body_field(body, name);
    if (!field)
        return 0;
    if (!json_is_number(field))
        return err_set_param(err, ERR_INPUT, name, "'%s' must be a number from %g to %g, not %s.",
                             name, low, high, json_text_type(field));
    double given = json_number_value(field);
    if (!(given >= low && given <= high))
        return err_set_param(err, ERR_INPUT, name, "'%s' is %g; it must be from %g to %g.", name,
                             given, low, high);
    *value = given;
    return 0;
}

int json_body_flag(const json_t *body, const char *name, bool *value, struct err *err)
{
    const json_t *field = json_body_field(body, name);
    if (!field)
        return 0;
    if (!json_is_boolean(field))
        return err_set_param(err, ERR_INPUT, name, "'%s' must be true or false, not %s.", name,
                             json_text_type(field));
    *value = json_is_true(field);
    return 0;
}

static int json_body_wrong(const char *name, const char *wanted, const json_t *field,
                           struct err *err)
{
    return err_set_param(err, ERR_INPUT, name, "'%s' must be %s, not %s.", name, wanted,
                         json_text_type(field));
}

int json_body_string(const json_t *body, const char *name, const char **value, size_t *length,
                     struct err *err)
{
    const json_t *field = json_body_field(body, name);
    if (!field)
        return 0;
    if (!json_is_string(field))
        return json_body_wrong(name, "a string", field, err);
    *value = json_string_value(field);
    if (length)
        *length = json_string_length(field);
    return 0;
}

int json_body_object(const json_t *body, const char *name, json_t **value, struct err *err)
{
    json_t *field = json_body_field(body, name);
    if (field && !json_is_object(field))
        return json_body_wrong(name, "an object", field, err);
    if (field)
        *value = field;
    return 0;
}

int json_body_array(const json_t *body, const char *name, json_t **value, struct err *err)
{
    json_t *field = json_body_field(body, name);
    if (field && !json_is_array(field))
        return json_body_wrong(name, "an array", field, err);
    if (field)
        *value = field;
    return 0;
}

int json_body_ids(const json_t *array, const char *name, int64_t vocabulary, size_t most,
                  uint32_t **ret_ids, size_t *ret_count, struct err *err)
{
    size_t count = json_array_size(array);
    if (count > most)
        return err_set_param(err, ERR_INPUT, name,
                             "'%s' has %zu tokens; at most %zu are possible here.", name, count,
                             most);
    uint32_t *ids = malloc((count ? count : 1) * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_MEMORY, "There is no memory for %zu tokens.", count);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        json_int_t id = json_integer_value(item);
        if (json_is_integer(item) && id >= 0 && id < vocabulary) {
            ids[i] = (uint32_t)id;
            continue;
        }
        free(ids);
        if (!json_is_integer(item))
            return err_set_param(err, ERR_INPUT, name,
                                 "'%s' must hold token ids (integers from 0 to %lld), but "
                                 "element %zu is %s.",
                                 name, (long long)vocabulary - 1, i, json_text_type(item));
        return err_set_param(err, ERR_INPUT, name,
                             "Element %zu of '%s' is %lld; token ids go from 0 to %lld.", i, name,
                             (long long)id, (long long)vocabulary - 1);
    }
    *ret_ids = ids;
    *ret_count = count;
    return 0;
}
