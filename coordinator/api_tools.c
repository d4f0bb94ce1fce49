#include "coordinator/api_tools.h"

#include "coordinator/json_body.h"
#include "coordinator/json_text.h"
#include "coordinator/schema.h"

#include <stdio.h>
#include <string.h>

enum { API_TOOLS_NAME = 256 }; /* bytes */

static const char *api_tools_name(const json_t *tool)
{
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

static bool api_tools_is_name(const json_t *name)
{
    size_t length = json_string_length(name);
    return length > 0 && length <= API_TOOLS_NAME && strlen(json_string_value(name)) == length &&
           !strpbrk(json_string_value(name), "\n<>");
}

/* "tools[index]", as the parameter's name */
struct api_tools_place {
    char name[48];
};

static struct api_tools_place api_tools_place(size_t index)
{
    struct api_tools_place place;
    snprintf(place.name, sizeof place.name, "tools[%zu]", index % 100000);
    return place;
}

static int api_tools_check(const json_t *tool, size_t index, struct err *err)
{
    const struct api_tools_place at = api_tools_place(index);
    const char *place = at.name;
    const json_t *type = json_body_field(tool, "type");
    const json_t *function = json_object_get(tool, "function");
    const json_t *parameters = json_body_field(function, "parameters");
    const json_t *strict = json_body_field(function, "strict");
    if (!json_is_object(tool))
        return err_set_param(err, ERR_INPUT, place, "'%s' must be an object, not %s.", place,
                             json_text_type(tool));
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0))
        return err_set_param(err, ERR_INPUT, place,
                             "'%s' is not of the type \"function\", the only one there is here.",
                             place);
    if (!api_tools_is_name(json_object_get(function, "name")))
        return err_set_param(err, ERR_INPUT, place,
                             "'%s' needs function.name, a string of 1 to %d bytes without line "
                             "breaks, '<' and '>'.",
                             place, API_TOOLS_NAME);
    if (parameters && !json_is_object(parameters))
        return err_set_param(err, ERR_INPUT, place,
                             "'%s' has function.parameters that are %s; a JSON schema is an "
                             "object.",
                             place, json_text_type(parameters));
    if (strict && !json_is_boolean(strict))
        return err_set_param(err, ERR_INPUT, place,
                             "'%s' has a function.strict that is %s; it must be true or false.",
                             place, json_text_type(strict));
    return 0;
}

static bool api_tools_have(const json_t *tools, const char *name)
{
    size_t i;
    const json_t *tool;
    json_array_foreach(tools, i, tool)
    {
        if (strcmp(api_tools_name(tool), name) == 0)
            return true;
    }
    return false;
}

/* {"type": "function", "function": {"name": …}} */
static int api_tools_read_named(struct api_tools *t, const json_t *choice, struct err *err)
{
    const char *name = api_tools_name(choice);
    if (!name)
        return err_set_param(err, ERR_INPUT, "tool_choice",
                             "'tool_choice' must be \"auto\", \"none\", \"required\" or "
                             "{\"type\":\"function\",\"function\":{\"name\":…}}.");
    if (!api_tools_have(t->offered, name))
        return err_set_param(err, ERR_INPUT, "tool_choice",
                             "'tool_choice' names '%.100s', which is none of the 'tools'.", name);
    t->is_required = t->is_single = true;
    t->forced = name;
    return 0;
}

static int api_tools_read_choice(struct api_tools *t, const json_t *body, struct err *err)
{
    const json_t *choice = json_body_field(body, "tool_choice");
    const char *word = json_string_value(choice);
    if (!choice || (word && strcmp(word, "auto") == 0))
        return 0;
    if (word && strcmp(word, "none") == 0) { /* who is not told of tools cannot call them */
        t->offered = NULL;
        return 0;
    }
    if (!word || strcmp(word, "required") != 0)
        return api_tools_read_named(t, choice, err);
    if (!t->offered)
        return err_set_param(err, ERR_INPUT, "tool_choice",
                             "'tool_choice' is \"required\", but there are no 'tools'.");
    t->is_required = true;
    if (json_array_size(t->offered) == 1)
        t->forced = api_tools_name(json_array_get(t->offered, 0));
    return 0;
}

int api_tools_read(struct api_tools *t, const struct api *api, const json_t *body, struct err *err)
{
    json_t *tools = NULL, *tool;
    size_t i;
    bool is_parallel = true;
    *t = (struct api_tools){0};
    int rc = json_body_array(body, "tools", &tools, err);
    json_array_foreach(tools, i, tool)
    {
        if (rc == 0)
            rc = api_tools_check(tool, i, err);
    }
    if (rc == 0)
        rc = json_body_flag(body, "parallel_tool_calls", &is_parallel, err);
    t->is_single = !is_parallel;
    t->offered = rc == 0 && json_array_size(tools) ? tools : NULL;
    if (rc == 0)
        rc = api_tools_read_choice(t, body, err);
    if (rc == 0 && t->offered && api->template && api->tool_format == TOOL_FORMAT_NONE)
        rc = err_set_param(err, ERR_INPUT, "tools",
                           "'tools' cannot be used: the chat template of this model has no place "
                           "for them.");
    return rc;
}

/* ---- what calls must be ---- */

static bool api_tools_is_strict(const json_t *tool)
{
    return json_is_true(json_object_get(json_object_get(tool, "function"), "strict"));
}

static bool api_tools_have_strict(const struct api_tools *t)
{
    size_t i;
    const json_t *tool;
    json_array_foreach(t->offered, i, tool)
    {
        if (api_tools_is_strict(tool))
            return true;
    }
    return false;
}

bool api_tools_are_bound(const struct api_tools *t, const struct api *api)
{
    return t->offered && api->tool_format != TOOL_FORMAT_NONE &&
           (t->is_required || api_tools_have_strict(t));
}

/* The schema of the tool's arguments, which are an object; NULL: it is of another type, or there is
 * no memory. */
static json_t *api_tools_parameters(const json_t *tool)
{
    json_t *schema = json_body_field(json_object_get(tool, "function"), "parameters");
    const json_t *type = json_object_get(schema, "type");
    if (type)
        return json_is_string(type) && strcmp(json_string_value(type), "object") == 0
                   ? json_incref(schema)
                   : NULL;
    json_t *copy = schema ? json_copy(schema) : json_object();
    if (json_object_set_new(copy, "type", json_string("object")) == 0)
        return copy;
    json_decref(copy);
    return NULL;
}

/* Whether the schema can be kept. checks: for all schemas of a request, so that together they cost
 * no more than one may. */
static int api_tools_check_schema(struct grammar_builder *checks, const json_t *schema,
                                  const struct api *api, struct err *err)
{
    uint32_t rule;
    return api->tool_format == TOOL_FORMAT_XML ? schema_read_tags(checks, schema, &rule, err)
                                               : schema_read(checks, schema, &rule, err);
}

/* What the arguments of a tool are held to. keeps: its schema, as long as that can be kept. */
static int api_tools_schema(struct grammar_builder *checks, const struct api *api,
                            const json_t *tool, bool keeps, json_t **ret_schema, struct err *err)
{
    struct err why = {.text = "they are not of the type \"object\""};
    json_t *schema = keeps ? api_tools_parameters(tool) : NULL;
    if (schema && api_tools_check_schema(checks, schema, api, &why) == 0) {
        *ret_schema = schema;
        return 0;
    }
    json_decref(schema);
    if (api_tools_is_strict(tool))
        return err_set(err, ERR_INPUT, "%s", why.text);
    *ret_schema = json_pack("{s:s}", "type", "object");
    return 0;
}

/* A call up to its arguments. NULL: no memory. */
static json_t *api_tools_begin(const struct api *api, const json_t *tool)
{
    struct buf text;
    buf_init(&text);
    tool_calls_begin(api->tool_format, api_tools_name(tool), &text);
    if (api->tool_format == TOOL_FORMAT_HERMES)
        buf_putc(&text, ' ');
    json_t *begin = buf_failed(&text) ? NULL : json_stringn(buf_text(&text), text.length);
    buf_clear(&text);
    return begin;
}

static int api_tools_add_form(json_t *list, struct grammar_builder *checks, const struct api *api,
                              const json_t *tool, bool keeps, struct err *err)
{
    json_t *begin = api_tools_begin(api, tool), *schema = NULL;
    int rc = api_tools_schema(checks, api, tool, keeps, &schema, err);
    if (rc != 0) {
        json_decref(begin);
        return rc;
    }
    return json_array_append_new(list, json_pack("{s:o, s:o}", "begin", begin, "schema", schema)) ==
                   0
               ? 0
               : err_set(err, ERR_MEMORY, "There is no memory for the tools.");
}

/* keeps_all: the schemas of all tools, not of the strict ones alone. */
static int api_tools_list_forms(const struct api_tools *t, const struct api *api, bool keeps_all,
                                json_t *list, struct err *err)
{
    struct grammar_builder checks;
    int rc = list ? 0 : err_set(err, ERR_MEMORY, "There is no memory for the tools.");
    grammar_builder_init(&checks);
    for (size_t i = 0; rc == 0 && i < json_array_size(t->offered); i++) {
        const json_t *tool = json_array_get(t->offered, i);
        struct err why = {0};
        if (t->forced && strcmp(api_tools_name(tool), t->forced) != 0)
            continue;
        rc = api_tools_add_form(list, &checks, api, tool, keeps_all || api_tools_is_strict(tool),
                                &why);
        if (rc == ERR_INPUT)
            err_set_param(err, rc, api_tools_place(i).name,
                          "'%s' is strict, but its function.parameters cannot be kept: %.400s.",
                          api_tools_place(i).name, why.text);
        else if (rc != 0)
            *err = why;
    }
    grammar_builder_clear(&checks);
    return rc;
}

static int api_tools_form_so(const struct api_tools *t, const struct api *api, bool keeps_all,
                             struct constraint_calls *ret_calls, struct err *err)
{
    const bool in_tags = api->tool_format == TOOL_FORMAT_XML;
    json_t *list = json_array();
    struct buf begun;
    int rc = api_tools_list_forms(t, api, keeps_all, list, err);
    if (rc != 0) {
        json_decref(list);
        return rc;
    }
    buf_init(&begun);
    tool_calls_begin(api->tool_format, t->forced, &begun);
    *ret_calls = (struct constraint_calls){
        .tools = list,
        .mark = TOOL_CALLS_BEGIN,
        .end = in_tags ? "</function>\n" TOOL_CALLS_END : "}\n" TOOL_CALLS_END,
        .n_begun = begun.length,
        .is_single = t->is_single,
        .in_tags = in_tags,
    };
    buf_clear(&begun);
    return 0;
}

int api_tools_form(const struct api_tools *t, const struct api *api,
                   struct constraint_calls *ret_calls, struct err *err)
{
    return api_tools_form_so(t, api, t->is_required, ret_calls, err);
}

static int api_tools_require_so(const struct api_tools *t, const struct api *api, bool keeps_all,
                                struct constraint **ret_constraint, struct err *err)
{
    struct constraint_calls calls = {0};
    struct err why = {0};
    const struct constraint_source source = {.kind = CONSTRAINT_CALLS, .calls = &calls};
    int rc = api_tools_form_so(t, api, keeps_all, &calls, err);
    if (rc != 0)
        return rc;
    rc = constraint_get(ret_constraint, coordinator_constraints(api->coordinator), &source, &why);
    json_decref(calls.tools);
    if (rc == ERR_INPUT)
        return err_set_param(err, rc, "tools", "'tools' cannot be kept: %s.", why.text);
    return rc == 0 ? 0 : err_set(err, rc, "%s", why.text);
}

int api_tools_require(const struct api_tools *t, const struct api *api,
                      struct constraint **ret_constraint, struct err *err)
{
    int rc = api_tools_require_so(t, api, true, ret_constraint, err);
    if (rc == ERR_INPUT && !api_tools_have_strict(t)) /* all together are too large */
        rc = api_tools_require_so(t, api, false, ret_constraint, err);
    return rc;
}
