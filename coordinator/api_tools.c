#include "coordinator/api_tools.h"

#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

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

static int api_tools_check(const json_t *tool, size_t index, struct err *err)
{
    char place[48];
    snprintf(place, sizeof place, "tools[%zu]", index % 100000);
    const json_t *type = json_body_field(tool, "type");
    const json_t *function = json_object_get(tool, "function");
    const json_t *parameters = json_body_field(function, "parameters");
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
    t->is_required = true;
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

int api_tools_read(struct api_tools *t, const struct api_call *c, struct err *err)
{
    json_t *tools = NULL, *tool;
    size_t i;
    bool is_parallel = true;
    *t = (struct api_tools){0};
    int rc = json_body_array(c->body, "tools", &tools, err);
    json_array_foreach(tools, i, tool)
    {
        if (rc == 0)
            rc = api_tools_check(tool, i, err);
    }
    if (rc == 0)
        rc = json_body_flag(c->body, "parallel_tool_calls", &is_parallel, err);
    t->is_single = !is_parallel;
    t->offered = rc == 0 && json_array_size(tools) ? tools : NULL;
    if (rc == 0)
        rc = api_tools_read_choice(t, c->body, err);
    if (rc == 0 && t->offered && c->api->template && c->api->tool_format == TOOL_FORMAT_NONE)
        rc = err_set_param(err, ERR_INPUT, "tools",
                           "'tools' cannot be used: the chat template of this model has no place "
                           "for them.");
    return rc;
}
