#include "coordinator/tool_schema.h"

#include "coordinator/json_text.h"
#include "coordinator/schema_tags.h"

#include <string.h>

/* The schema of the tool's arguments, or NULL. */
static const json_t *tool_schema_find(const json_t *tools, const char *tool)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(tools, i, entry)
    {
        const json_t *function = json_object_get(entry, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        if (name && strcmp(name, tool) == 0)
            return json_object_get(function, "parameters");
    }
    return NULL;
}

void tool_schema_write(const json_t *tools, const char *tool, const char *parameter,
                       const char *text, size_t length, struct buf *out)
{
    const json_t *schema = tool_schema_find(tools, tool);
    const json_t *own = json_object_get(json_object_get(schema, "properties"), parameter);
    const char *word;
    bool is_string = schema_tags_is_string(text, length, schema_tags_types(schema, own), &word);
    if (word)
        buf_puts(out, word);
    else if (is_string)
        json_text_quote(out, text, length);
    else
        buf_append(out, text, length);
}
