#include "coordinator/api_constraint.h"

#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <string.h>

/* Larger sources are refused before they are looked at. */
#define MOST_TEXT_BYTES ((size_t)64 * 1024)

/* Who asks, and how the model answers. */
struct asker {
    const struct api_call *call;
    const struct api_constraint_how *how; /* or NULL */
};

static int constraint_make(const struct asker *a, const struct constraint_source *source,
                           const char *param, struct constraint **ret_constraint, struct err *err)
{
    struct err why = {0};
    struct constraint_source whole = *source;
    if (a->how) {
        whole.manner = a->how->manner;
        whole.calls = a->how->calls;
    }
    int rc = constraint_get(ret_constraint, coordinator_constraints(a->call->api->coordinator),
                            &whole, &why);
    if (rc == ERR_INPUT)
        return err_set_param(err, rc, param, "'%s' cannot be used: %s.", param, why.text);
    return rc == 0 ? 0 : err_set(err, rc, "%s", why.text);
}

static int constraint_of_schema(const struct asker *a, const json_t *schema, const char *param,
                                struct constraint **ret_constraint, struct err *err)
{
    const struct constraint_source source = {.kind = CONSTRAINT_SCHEMA, .json = schema};
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return err_set_param(err, ERR_INPUT, param, "'%s' needs a JSON schema, not %s.", param,
                             schema ? json_text_type(schema) : "nothing");
    return constraint_make(a, &source, param, ret_constraint, err);
}

static int constraint_of_any_object(const struct asker *a, const char *param,
                                    struct constraint **ret_constraint, struct err *err)
{
    json_t *schema = json_pack("{s:s}", "type", "object");
    if (!schema)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    int rc = constraint_of_schema(a, schema, param, ret_constraint, err);
    json_decref(schema);
    return rc;
}

/* {"type": "text" | "json_object" | "json_schema", …}: the schema stands in `json_schema.schema`,
 * or in `schema`. */
static int constraint_of_format(const struct asker *a, const json_t *format, const char *param,
                                struct constraint **ret_constraint, struct err *err)
{
    const char *type = json_string_value(json_object_get(format, "type"));
    const json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!schema)
        schema = json_object_get(format, "schema");
    if (type && strcmp(type, "text") == 0)
        return 0;
    if (type && strcmp(type, "json_object") == 0)
        return schema ? constraint_of_schema(a, schema, param, ret_constraint, err)
                      : constraint_of_any_object(a, param, ret_constraint, err);
    if (type && strcmp(type, "json_schema") == 0)
        return constraint_of_schema(a, schema, param, ret_constraint, err);
    return err_set_param(err, ERR_INPUT, param,
                         "The 'type' of '%s' can only be 'text', 'json_object' or 'json_schema'.",
                         param);
}

/* vLLM's values: the schema may also be given as its text. */
static int constraint_of_json(const struct asker *a, const json_t *value, const char *param,
                              struct constraint **ret_constraint, struct err *err)
{
    json_t *schema = NULL;
    struct err why = {0};
    if (!json_is_string(value))
        return constraint_of_schema(a, value, param, ret_constraint, err);
    if (json_body_read(&schema, json_string_value(value), json_string_length(value), &why) != 0)
        return err_set_param(err, ERR_INPUT, param, "'%s' is not a JSON schema: %s", param,
                             why.text);
    int rc = constraint_of_schema(a, schema, param, ret_constraint, err);
    json_decref(schema);
    return rc;
}

static int constraint_of_choices(const struct asker *a, const json_t *value, const char *param,
                                 struct constraint **ret_constraint, struct err *err)
{
    const struct constraint_source source = {.kind = CONSTRAINT_CHOICES, .json = value};
    return constraint_make(a, &source, param, ret_constraint, err);
}

static int constraint_of_text(const struct asker *a, const json_t *value, enum constraint_kind kind,
                              const char *param, struct constraint **ret_constraint,
                              struct err *err)
{
    const struct constraint_source source = {
        .kind = kind, .text = json_string_value(value), .length = json_string_length(value)};
    if (!json_is_string(value))
        return err_set_param(err, ERR_INPUT, param, "'%s' must be a string, not %s.", param,
                             json_text_type(value));
    if (source.length > MOST_TEXT_BYTES)
        return err_set_param(err, ERR_INPUT, param, "'%s' has %zu bytes; at most %zu are possible.",
                             param, source.length, MOST_TEXT_BYTES);
    return constraint_make(a, &source, param, ret_constraint, err);
}

/* What a client may write, at the top of the body or, under the second name, in
 * `structured_outputs`. */
enum wish { WISH_JSON, WISH_REGEX, WISH_CHOICE, WISH_GRAMMAR, WISH_OBJECT, WISH_MISSING };
static const struct {
    const char *top, *inside;
    enum wish wish;
} wishes[] = {
    {"guided_json", "json", WISH_JSON},
    {"guided_regex", "regex", WISH_REGEX},
    {"guided_choice", "choice", WISH_CHOICE},
    {"guided_grammar", "grammar", WISH_GRAMMAR},
    {NULL, "json_object", WISH_OBJECT},
    /* These would change the answer, and are not there. */
    {"guided_whitespace_pattern", "whitespace_pattern", WISH_MISSING},
    {NULL, "structural_tag", WISH_MISSING},
};

static int constraint_of_wish(const struct asker *a, enum wish wish, const json_t *value,
                              const char *param, struct constraint **ret_constraint,
                              struct err *err)
{
    switch (wish) {
    case WISH_JSON:
        return constraint_of_json(a, value, param, ret_constraint, err);
    case WISH_REGEX:
        return constraint_of_text(a, value, CONSTRAINT_REGEX, param, ret_constraint, err);
    case WISH_CHOICE:
        return constraint_of_choices(a, value, param, ret_constraint, err);
    case WISH_GRAMMAR:
        return constraint_of_text(a, value, CONSTRAINT_GRAMMAR, param, ret_constraint, err);
    case WISH_OBJECT:
        return json_is_true(value) ? constraint_of_any_object(a, param, ret_constraint, err) : 0;
    default:
        return err_set_param(err, ERR_INPUT, param, "'%s' is not supported.", param);
    }
}

static int constraint_add(const struct asker *a, const json_t *from, bool is_inside,
                          struct constraint **constraint, struct err *err)
{
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        const char *name = is_inside ? wishes[i].inside : wishes[i].top;
        const json_t *value = name ? json_body_field(from, name) : NULL;
        struct constraint *found = NULL;
        if (!value)
            continue;
        int rc = constraint_of_wish(a, wishes[i].wish, value, name, &found, err);
        if (rc != 0)
            return rc;
        if (found && *constraint) {
            constraint_release(found);
            return err_set_param(err, ERR_INPUT, name,
                                 "'%s' is one form too many: an answer can have only one.", name);
        }
        *constraint = found ? found : *constraint;
    }
    return 0;
}

/* Any words, but calls that are bound. */
static int constraint_of_talk(const struct asker *a, struct constraint **ret_constraint,
                              struct err *err)
{
    struct api_constraint_how how = *a->how;
    how.manner.call_begin = how.manner.call_end = NULL; /* they are part of what is described */
    const struct constraint_source source = {.kind = CONSTRAINT_TALK};
    return constraint_make(&(struct asker){a->call, &how}, &source, "tools", ret_constraint, err);
}

int api_constraint_read(const struct api_call *c, const struct api_constraint_how *how,
                        struct constraint **ret_constraint, struct err *err)
{
    static const char name[] = "response_format";
    const struct asker a = {c, how};
    struct constraint *constraint = NULL;
    json_t *format = NULL, *outputs = NULL;
    int rc = json_body_object(c->body, name, &format, err);
    if (rc == 0 && format)
        rc = constraint_of_format(&a, format, name, &constraint, err);
    if (rc == 0)
        rc = constraint_add(&a, c->body, false, &constraint, err);
    if (rc == 0)
        rc = json_body_object(c->body, "structured_outputs", &outputs, err);
    if (rc == 0 && outputs)
        rc = constraint_add(&a, outputs, true, &constraint, err);
    if (rc == 0 && !constraint && how && how->calls)
        rc = constraint_of_talk(&a, &constraint, err);
    if (rc != 0) {
        constraint_release(constraint);
        return rc;
    }
    *ret_constraint = constraint;
    return 0;
}
