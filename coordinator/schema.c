#include "coordinator/schema.h"

#include "coordinator/schema_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rules that one schema may need: of values, objects and arrays, each seen with other parts. */
#define MOST_RULES 5000
/* Schemas, and values in them, that are looked at or compared, over all that one builder reads: a
 * few nanoseconds each. */
#define MOST_WORK 800000

/* ---- words about what is wrong ---- */

struct path {
    char text[160];
    size_t length;
};

/* Appends /key, with ~0 and ~1, as far as there is room. */
static void path_add(struct path *p, const char *key)
{
    char *at = p->text + p->length, *end = p->text + sizeof p->text - 4;
    if (at < end)
        *at++ = '/';
    for (; *key && at < end; key++) {
        if (*key == '~' || *key == '/') {
            *at++ = '~';
            *at++ = *key == '~' ? '0' : '1';
        } else {
            *at++ = *key;
        }
    }
    if (*key)
        at = stpcpy(at, "…");
    *at = '\0';
    p->length = (size_t)(at - p->text);
}

/* The way from `from` to the value `to`, which stands somewhere below it or is it. */
static bool path_find(const json_t *from, const json_t *to, struct path *p)
{
    const size_t before = p->length;
    const char *key;
    json_t *value;
    size_t i;
    if (from == to)
        return true;
    json_object_foreach((json_t *)from, key, value)
    {
        path_add(p, key);
        if (path_find(value, to, p))
            return true;
        p->text[p->length = before] = '\0';
    }
    json_array_foreach(from, i, value)
    {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        path_add(p, number);
        if (path_find(value, to, p))
            return true;
        p->text[p->length = before] = '\0';
    }
    return false;
}

int schema_no_memory(const struct schema *s)
{
    s->builder->failed = true;
    return err_set(s->err, ERR_INPUT, "it is too large: there is no memory for it");
}

int schema_fail(const struct schema *s, const json_t *node, const char *keyword, const char *format,
                ...)
{
    struct path path = {.text = "#", .length = 1};
    char what[240];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    path_find(s->root, node, &path);
    if (keyword)
        path_add(&path, keyword);
    return err_set(s->err, ERR_INPUT, "%s: %s", path.text, what);
}

bool schema_has_work(struct schema *s, size_t n)
{
    size_t *done = &s->builder->n_values;
    *done += n < MOST_WORK ? SCHEMA_WORK + n : MOST_WORK;
    return *done <= MOST_WORK;
}

int schema_work(struct schema *s, const json_t *part, size_t n)
{
    return schema_has_work(s, n)
               ? 0
               : schema_fail(s, part, NULL, "there are too many alternatives, or values");
}

size_t schema_weight(const json_t *value)
{
    size_t weight = 1, i;
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)value, key, item) weight += schema_weight(item);
    json_array_foreach(value, i, item) weight += schema_weight(item);
    return weight;
}

int schema_count(const struct schema *s, const json_t *part, const char *keyword,
                 uint32_t otherwise, uint32_t *ret_count)
{
    const json_t *value = json_object_get(part, keyword);
    *ret_count = otherwise;
    if (!value)
        return 0;
    double n = json_number_value(value);
    if (!json_is_number(value) || !(n >= 0) || n != (double)(uint64_t)n)
        return schema_fail(s, part, keyword, "must be an integer, 0 or more");
    if (n > 1000000)
        return schema_fail(s, part, keyword, "is more than 1000000");
    *ret_count = (uint32_t)n;
    return 0;
}

/* ---- rules by their parts ---- */

int schema_add_part(struct schema *s, struct schema_parts *p, const json_t *part)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i] == part)
            return 0;
    if (p->n == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 4;
        const json_t **grown = arena_array(&s->builder->arena, capacity, sizeof(void *));
        if (!grown)
            return schema_no_memory(s);
        if (p->n)
            memcpy(grown, p->items, p->n * sizeof(void *));
        p->items = grown;
        p->capacity = capacity;
    }
    p->items[p->n++] = part;
    return 0;
}

static uint32_t parts_slot(enum schema_rule_kind kind, const struct schema_parts *p)
{
    uint64_t h = kind;
    for (size_t i = 0; i < p->n; i++)
        h = (h ^ (uintptr_t)p->items[i]) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 40) % SCHEMA_SLOTS;
}

/* The rule of that kind for these parts; it is defined when its turn comes. */
static const struct grammar_expr *schema_rule_of(struct schema *s, enum schema_rule_kind kind,
                                                 const struct schema_parts *p)
{
    uint32_t slot = parts_slot(kind, p);
    for (uint32_t i = s->slots[slot]; i; i = s->rules[i - 1].next) {
        const struct schema_rule *r = &s->rules[i - 1];
        if (r->kind == kind && r->parts.n == p->n &&
            memcmp(r->parts.items, p->items, p->n * sizeof(void *)) == 0)
            return grammar_call(s->builder, r->rule);
    }
    if (s->n_rules == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 32;
        struct schema_rule *grown =
            s->n_rules >= MOST_RULES ? NULL : realloc(s->rules, capacity * sizeof *grown);
        if (!grown) {
            s->builder->failed = true;
            return grammar_never();
        }
        s->rules = grown;
        s->capacity = capacity;
    }
    struct schema_rule *r = &s->rules[s->n_rules++];
    *r = (struct schema_rule){.kind = kind, .parts = *p, .next = s->slots[slot]};
    r->rule = grammar_builder_rule(s->builder);
    /* Objects of many alternatives as one automaton could have a state for each set of them. */
    if (!s->builder->failed)
        s->builder->rules[r->rule].is_shared = kind == SCHEMA_RULE_OBJECT;
    s->slots[slot] = (uint32_t)s->n_rules;
    return grammar_call(s->builder, r->rule);
}

const struct grammar_expr *schema_value(struct schema *s, const struct schema_parts *parts)
{
    return parts->n ? schema_rule_of(s, SCHEMA_RULE_VALUE, parts) : schema_any_value(s);
}

/* ---- values ---- */

static int form_literals(struct schema *s, const struct schema_form *f, struct grammar_list *texts)
{
    const json_t *value;
    size_t i;
    json_array_foreach(f->literals, i, value) if (schema_type_of(value) & f->types)
        grammar_list_add(s->builder, texts, schema_literal(s, value));
    return 0;
}

int schema_form_texts(struct schema *s, const struct schema_form *f, struct grammar_list *texts)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_expr *e = NULL;
    int rc = 0;
    if (f->literals)
        return form_literals(s, f, texts);
    if (f->parts.n == 0) {
        grammar_list_add(b, texts, schema_any_value(s));
        return 0;
    }
    if (f->types & SCHEMA_NULL)
        grammar_list_add(b, texts, schema_mark(s, "null"));
    if (f->types & SCHEMA_BOOLEAN) {
        grammar_list_add(b, texts, schema_mark(s, "true"));
        grammar_list_add(b, texts, schema_mark(s, "false"));
    }
    if (f->types & SCHEMA_INTEGER) {
        rc = schema_number(s, f, &e);
        if (rc == 0)
            grammar_list_add(b, texts, e);
    }
    if (rc == 0 && f->types & SCHEMA_STRING) {
        rc = schema_string(s, f, &e);
        if (rc == 0)
            grammar_list_add(b, texts, e);
    }
    if (rc == 0 && f->types & SCHEMA_OBJECT)
        grammar_list_add(b, texts, schema_rule_of(s, SCHEMA_RULE_OBJECT, &f->parts));
    if (rc == 0 && f->types & SCHEMA_ARRAY)
        grammar_list_add(b, texts, schema_rule_of(s, SCHEMA_RULE_ARRAY, &f->parts));
    return rc;
}

static int value_texts(struct schema *s, const struct schema_parts *parts,
                       const struct grammar_expr **ret_expr)
{
    struct schema_forms forms = {0};
    struct grammar_list texts = {0};
    int rc = schema_expand(s, parts, &forms);
    for (size_t i = 0; rc == 0 && i < forms.n; i++)
        rc = schema_form_texts(s, &forms.items[i], &texts);
    if (rc == 0)
        *ret_expr = grammar_choice(s->builder, texts.items, texts.n);
    return rc;
}

static int schema_define(struct schema *s, const struct schema_rule *r)
{
    const struct schema_form form = {.parts = r->parts};
    const struct grammar_expr *e = NULL;
    uint32_t rule = r->rule; /* r may move */
    int rc;
    if (r->kind == SCHEMA_RULE_OBJECT)
        rc = schema_object(s, &form, &e);
    else if (r->kind == SCHEMA_RULE_ARRAY)
        rc = schema_array(s, &form, &e);
    else
        rc = value_texts(s, &r->parts, &e);
    if (rc == 0 && !s->builder->failed)
        s->builder->rules[rule].expr = e;
    return rc;
}

int schema_read_by(struct grammar_builder *b, const json_t *schema,
                   int (*write)(struct schema *s, const struct grammar_expr **ret_expr),
                   uint32_t *ret_rule, struct err *err)
{
    struct schema s = {.builder = b, .root = schema, .err = err, .owned = json_array()};
    uint32_t first = grammar_builder_rule(b);
    const struct grammar_expr *e = NULL;
    int rc = s.owned ? write(&s, &e) : schema_no_memory(&s);
    if (e && !b->failed)
        b->rules[first].expr = e;
    for (; rc == 0 && s.n_done < s.n_rules && !b->failed; s.n_done++) {
        const struct schema_rule rule = s.rules[s.n_done];
        rc = schema_define(&s, &rule);
    }
    if (rc == 0 && b->failed)
        rc = err_set(err, ERR_INPUT, "it is too large");
    if (rc == 0)
        *ret_rule = first;
    free(s.rules);
    json_decref(s.owned);
    return rc;
}

static int schema_write(struct schema *s, const struct grammar_expr **ret_expr)
{
    struct schema_parts root = {0};
    int rc = schema_add_part(s, &root, s->root);
    if (rc == 0)
        *ret_expr = schema_value(s, &root);
    return rc;
}

int schema_read(struct grammar_builder *b, const json_t *schema, uint32_t *ret_rule,
                struct err *err)
{
    return schema_read_by(b, schema, schema_write, ret_rule, err);
}
