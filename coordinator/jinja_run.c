#include "coordinator/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int jinja_run_fail(struct jinja_run *r, const char *format, ...)
{
    char sentence[400];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return err_set(r->err, ERR_INPUT, "chat template, line %d: %s", r->line, sentence);
}

int jinja_run_no_memory(struct jinja_run *r)
{
    return err_set(r->err, ERR_MEMORY, "chat template, line %d: no memory", r->line);
}

int jinja_run_charge(struct jinja_run *r, size_t size)
{
    r->steps += 1 + size;
    if (r->steps > JINJA_RUN_MAX_STEPS)
        return jinja_run_fail(r, "rendering takes more than %d steps", JINJA_RUN_MAX_STEPS);
    return 0;
}

int jinja_run_enter(struct jinja_run *r)
{
    if (r->depth >= JINJA_RUN_MAX_DEPTH)
        return jinja_run_fail(r, "calls or values are nested too deeply");
    int rc = jinja_run_charge(r, 0);
    if (rc == 0)
        r->depth++;
    return rc;
}

void jinja_run_leave(struct jinja_run *r)
{
    r->depth--;
}

int jinja_run_alloc(struct jinja_run *r, size_t count, size_t size, void *ret_pointer)
{
    int rc = jinja_run_charge(r, count / 64);
    if (rc < 0)
        return rc;
    if (size && count > (r->arena.limit - r->arena.used) / size)
        return jinja_run_fail(r, "the values need more than %d MiB", JINJA_RUN_MAX_MEMORY >> 20);
    void *block = arena_array(&r->arena, count, size);
    if (!block)
        return jinja_run_no_memory(r);
    memcpy(ret_pointer, &block, sizeof block);
    return 0;
}

int jinja_run_append(struct jinja_run *r, struct buf *b, const char *bytes, size_t length)
{
    int rc = jinja_run_charge(r, length / 64);
    if (rc < 0)
        return rc;
    if (length > JINJA_RUN_MAX_OUTPUT || b->length > JINJA_RUN_MAX_OUTPUT - length)
        return jinja_run_fail(r, "the text is longer than %d MiB", JINJA_RUN_MAX_OUTPUT >> 20);
    buf_append(b, bytes, length);
    return buf_failed(b) ? jinja_run_no_memory(r) : 0;
}

int jinja_run_puts(struct jinja_run *r, struct buf *b, const char *text)
{
    return jinja_run_append(r, b, text, strlen(text));
}

int jinja_run_keep(struct jinja_run *r, struct buf *b, struct jinja_value *ret)
{
    char *bytes;
    int rc = buf_failed(b) ? jinja_run_no_memory(r) : jinja_run_alloc(r, b->length, 1, &bytes);
    if (rc == 0) {
        if (b->length)
            memcpy(bytes, b->data, b->length);
        *ret = jinja_value_string(bytes, b->length);
    }
    buf_clear(b);
    return rc;
}

int jinja_run_push_scope(struct jinja_run *r, struct jinja_scope *parent)
{
    struct jinja_scope *scope = NULL;
    int rc = jinja_run_alloc(r, 1, sizeof *scope, &scope);
    if (rc < 0)
        return rc;
    scope->parent = parent;
    r->scope = scope;
    return 0;
}

int jinja_run_set(struct jinja_run *r, struct jinja_string name, const struct jinja_value *value)
{
    size_t seen = 0;
    for (struct jinja_variable *v = r->scope->variables; v; v = v->next, seen++)
        if (jinja_value_same(v->name, name)) {
            v->value = *value;
            return jinja_run_charge(r, seen / 4);
        }
    struct jinja_variable *added = NULL;
    int rc = jinja_run_charge(r, seen / 4);
    if (rc == 0)
        rc = jinja_run_alloc(r, 1, sizeof *added, &added);
    if (rc < 0)
        return rc;
    *added = (struct jinja_variable){name, *value, r->scope->variables};
    r->scope->variables = added;
    return 0;
}

int jinja_run_lookup(struct jinja_run *r, struct jinja_string name, struct jinja_value *ret)
{
    size_t seen = 0;
    for (const struct jinja_scope *s = r->scope; s; s = s->parent, seen++)
        for (const struct jinja_variable *v = s->variables; v; v = v->next, seen++)
            if (jinja_value_same(v->name, name)) {
                *ret = v->value;
                return jinja_run_charge(r, seen / 4);
            }
    ret->kind = JINJA_MISSING;
    return jinja_run_charge(r, seen / 4);
}
