#include "coordinator/chat_template.h"

#include "coordinator/jinja_execute.h"
#include "coordinator/jinja_parse.h"

#include <stdlib.h>

enum {
    MAX_SOURCE_BYTES = 1024 * 1024, /* published templates have some 10 KB */
    MAX_TREE_BYTES = 64 * 1024 * 1024
};

struct chat_template {
    struct arena arena;
    struct jinja_node *body;
};

int chat_template_new(struct chat_template **ret_template, const char *source, size_t length,
                      struct err *err)
{
    if (length > MAX_SOURCE_BYTES)
        return err_set(err, ERR_MODEL, "chat template: it has %zu bytes, more than %d", length,
                       MAX_SOURCE_BYTES);
    struct chat_template *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_MEMORY, "chat template: no memory");
    arena_init(&t->arena, MAX_TREE_BYTES);
    int rc = jinja_parse(&t->body, &t->arena, source, length, err);
    if (rc == 0) {
        *ret_template = t;
        t = NULL;
    }
    chat_template_free(t);
    return rc;
}

void chat_template_free(struct chat_template *t)
{
    if (!t)
        return;
    arena_clear(&t->arena);
    free(t);
}

static int set_names(struct jinja_run *r, const json_t *context)
{
    struct jinja_value names;
    int rc = jinja_value_from_json(r, context, &names);
    for (size_t i = 0; rc == 0 && i < names.dict->count; i++)
        rc = jinja_run_set(r, names.dict->pairs[i].key.string, &names.dict->pairs[i].value);
    return rc;
}

int chat_template_render(const struct chat_template *t, const json_t *context, struct buf *out,
                         struct err *err)
{
    if (!json_is_object(context))
        return err_set(err, ERR_INTERNAL, "chat template: the context is not an object");
    struct jinja_run r = {.err = err, .line = 1};
    struct buf text;
    buf_init(&text);
    r.out = &text;
    arena_init(&r.arena, JINJA_RUN_MAX_MEMORY);
    int rc = jinja_run_push_scope(&r, NULL);
    if (rc == 0)
        rc = set_names(&r, context);
    if (rc == 0) /* the template's own names may hide those of the context */
        rc = jinja_run_push_scope(&r, r.scope);
    if (rc == 0)
        rc = jinja_execute_body(&r, t->body);
    if (rc == 0) {
        buf_append(out, text.data, text.length);
        if (buf_failed(out))
            rc = err_set(err, ERR_MEMORY, "chat template: no memory for the prompt");
    }
    buf_clear(&text);
    arena_clear(&r.arena);
    return rc;
}
