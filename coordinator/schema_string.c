#include "coordinator/schema_parts.h"

#include "coordinator/grammar_regex.h"

#include <string.h>

/* What the parts say of a string. */
struct limits {
    uint32_t min, max;
    const json_t *pattern_part; /* the last one that has a pattern or a format that is kept */
    size_t n_patterns;
};

static const char *part_pattern(const json_t *part, bool is_format, size_t *ret_length)
{
    const json_t *value = json_object_get(part, is_format ? "format" : "pattern");
    const char *text = json_string_value(value);
    if (is_format)
        text = schema_format_pattern(text);
    *ret_length = text && !is_format ? json_string_length(value) : text ? strlen(text) : 0;
    return text;
}

static int string_limits(const struct schema *s, const struct schema_form *f, struct limits *l)
{
    *l = (struct limits){.max = GRAMMAR_UNBOUNDED};
    for (size_t i = 0; i < f->parts.n; i++) {
        const json_t *part = f->parts.items[i];
        uint32_t min, max;
        size_t length;
        int rc = schema_count(s, part, "minLength", 0, &min);
        if (rc == 0)
            rc = schema_count(s, part, "maxLength", GRAMMAR_UNBOUNDED, &max);
        if (rc != 0)
            return rc;
        l->min = min > l->min ? min : l->min;
        l->max = max < l->max ? max : l->max;
        for (int is_format = 0; is_format < 2; is_format++) {
            if (!part_pattern(part, is_format, &length))
                continue;
            l->n_patterns++;
            l->pattern_part = part;
        }
    }
    return 0;
}

static int string_pattern(struct schema *s, const json_t *part, bool is_format,
                          const struct grammar_expr **ret_expr)
{
    struct grammar_regex r = {.spelling = GRAMMAR_JSON, .is_search = true};
    struct err why = {0};
    r.pattern = part_pattern(part, is_format, &r.length);
    if (grammar_regex_read(ret_expr, s->builder, &r, &why) == 0)
        return 0;
    return schema_fail(s, part, is_format ? "format" : "pattern", "%s", why.text);
}

/* *all, NULL at first, and `text` too. */
static int string_and(struct schema *s, const json_t *part, const struct grammar_expr *text,
                      const struct grammar_automaton **all)
{
    const struct grammar_automaton *one = NULL;
    struct err why;
    int rc = grammar_automaton_from(&one, s->builder, text, &why);
    if (rc == 0 && *all)
        rc = grammar_automaton_both(&one, s->builder, *all, one, &why);
    if (rc != 0)
        return schema_fail(s, part, NULL,
                           "patterns and lengths together take too many states, or too long");
    *all = one;
    return 0;
}

/* All patterns and the length at once, as one automaton. */
static int string_all(struct schema *s, const struct schema_form *f, const struct limits *l,
                      const struct grammar_automaton **ret_automaton)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_expr *any = grammar_range(b, 0, GRAMMAR_LAST_CHARACTER, GRAMMAR_PLAIN);
    int rc = 0;
    if (l->min > 0 || l->max != GRAMMAR_UNBOUNDED)
        rc = string_and(s, l->pattern_part, grammar_repeat(b, any, l->min, l->max), ret_automaton);
    for (size_t i = 0; rc == 0 && i < 2 * f->parts.n; i++) {
        const json_t *part = f->parts.items[i / 2];
        const struct grammar_expr *pattern = NULL;
        size_t length;
        if (!part_pattern(part, i % 2, &length))
            continue;
        rc = string_pattern(s, part, i % 2, &pattern);
        if (rc == 0)
            rc = string_and(s, part, pattern, ret_automaton);
    }
    return rc;
}

int schema_string_automaton(struct schema *s, const struct schema_form *f,
                            const struct grammar_automaton **ret_automaton)
{
    struct limits l;
    *ret_automaton = NULL;
    int rc = string_limits(s, f, &l);
    return rc == 0 ? string_all(s, f, &l, ret_automaton) : rc;
}

static const struct grammar_expr *quoted(struct schema *s, const struct grammar_expr *inside)
{
    const struct grammar_expr *quote = schema_mark(s, "\"");
    return GRAMMAR_SEQUENCE_OF(s->builder, quote, inside, quote);
}

int schema_string(struct schema *s, const struct schema_form *f,
                  const struct grammar_expr **ret_expr)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_automaton *automaton = NULL;
    const struct grammar_expr *pattern = NULL;
    struct limits l;
    int rc = string_limits(s, f, &l);
    if (rc != 0)
        return rc;
    bool any_length = l.min == 0 && l.max == GRAMMAR_UNBOUNDED;
    if (l.n_patterns == 0) {
        *ret_expr = any_length ? schema_any_string(s)
                               : quoted(s, grammar_repeat(b, schema_character(s), l.min, l.max));
        return 0;
    }
    if (l.n_patterns == 1 && any_length) {
        size_t length;
        bool is_format = !part_pattern(l.pattern_part, false, &length);
        rc = string_pattern(s, l.pattern_part, is_format, &pattern);
        if (rc == 0)
            *ret_expr = quoted(s, pattern);
        return rc;
    }
    rc = string_all(s, f, &l, &automaton);
    if (rc == 0)
        *ret_expr = quoted(s, grammar_from_automaton(b, automaton, GRAMMAR_JSON));
    return rc;
}
