/* plain_template.c - chat_template.h for a tree whose template interpreter is not there. */
#include "coordinator/chat_template.h"

#include <stdlib.h>

struct chat_template {
    char nothing;
};

int chat_template_new(struct chat_template **ret_template, const char *source, size_t length,
                      struct err *err)
{
    struct chat_template *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_MEMORY, "no memory");
    *ret_template = t;
    return 0;
}

void chat_template_free(struct chat_template *t)
{
    free(t);
}

int chat_template_render(const struct chat_template *t, const json_t *context, struct buf *out,
                         struct err *err)
{
    size_t i;
    json_t *message;
    json_array_foreach(json_object_get(context, "messages"), i, message)
    {
        buf_printf(out, "<|im_start|>%s\n%s<|im_end|>\n",
                   json_string_value(json_object_get(message, "role")),
                   json_string_value(json_object_get(message, "content")));
    }
    if (json_is_true(json_object_get(context, "add_generation_prompt")))
        buf_puts(out, "<|im_start|>assistant\n");
    return 0;
}
