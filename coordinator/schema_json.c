#include "coordinator/schema_parts.h"

#include "base/buf.h"

#include <string.h>

/* After `{`, `[`, `,` and `:`, and before `}` and `]`: nothing, one space, or a new line and its
 * indentation. */
#define MOST_INDENTATION 64

const struct grammar_expr *schema_mark(struct schema *s, const char *text)
{
    return grammar_text(s->builder, text, strlen(text));
}

/* A rule of JSON itself. true: its number is new, and it must be defined. */
static bool schema_own_rule(struct schema *s, uint32_t *rule)
{
    if (*rule)
        return false;
    *rule = grammar_builder_rule(s->builder);
    return !s->builder->failed;
}

static const struct grammar_expr *ascii(struct schema *s, const char *ranges)
{
    struct grammar_charset set = {0};
    struct arena *a = &s->builder->arena;
    for (; *ranges; ranges += 2)
        if (!grammar_charset_add(&set, a, (unsigned char)ranges[0], (unsigned char)ranges[1]))
            s->builder->failed = true;
    if (!grammar_charset_sort(&set, a))
        s->builder->failed = true;
    return grammar_class(s->builder, &set, GRAMMAR_PLAIN);
}

const struct grammar_expr *schema_space(struct schema *s)
{
    struct grammar_builder *b = s->builder;
    if (schema_own_rule(s, &s->space)) {
        const struct grammar_expr *line = GRAMMAR_SEQUENCE_OF(
            b, schema_mark(s, "\n"), grammar_repeat(b, ascii(s, "  \t\t"), 0, MOST_INDENTATION));
        b->rules[s->space].expr = GRAMMAR_CHOICE_OF(b, grammar_empty(), schema_mark(s, " "), line);
        b->rules[s->space].is_shared = true;
    }
    return grammar_call(b, s->space);
}

/* ---- strings ---- */

/* \uXXXX: a character that is no surrogate, or a pair of them. */
static const struct grammar_expr *escaped_unicode(struct schema *s)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_expr *hex = ascii(s, "09afAF");
    const struct grammar_expr *two = GRAMMAR_SEQUENCE_OF(b, hex, hex);
    const struct grammar_expr *plain =
        GRAMMAR_CHOICE_OF(b, GRAMMAR_SEQUENCE_OF(b, ascii(s, "09acACefEF"), hex, two),
                          GRAMMAR_SEQUENCE_OF(b, ascii(s, "ddDD"), ascii(s, "07"), two));
    const struct grammar_expr *pair =
        GRAMMAR_SEQUENCE_OF(b, ascii(s, "ddDD"), ascii(s, "89abAB"), two, schema_mark(s, "\\u"),
                            ascii(s, "ddDD"), ascii(s, "cfCF"), two);
    return GRAMMAR_SEQUENCE_OF(b, schema_mark(s, "u"), GRAMMAR_CHOICE_OF(b, plain, pair));
}

const struct grammar_expr *schema_character(struct schema *s)
{
    struct grammar_builder *b = s->builder;
    struct grammar_charset set = {0};
    struct arena *a = &b->arena;
    if (s->character)
        return s->character;
    if (!grammar_charset_add(&set, a, 0x20, '"' - 1) ||
        !grammar_charset_add(&set, a, '"' + 1, '<' - 1) ||
        (!s->is_tagged && !grammar_charset_add(&set, a, '<', '<')) ||
        !grammar_charset_add(&set, a, '<' + 1, '\\' - 1) ||
        !grammar_charset_add(&set, a, '\\' + 1, GRAMMAR_LAST_CHARACTER) ||
        !grammar_charset_sort(&set, a))
        b->failed = true;
    const struct grammar_expr *escaped = GRAMMAR_SEQUENCE_OF(
        b, schema_mark(s, "\\"),
        GRAMMAR_CHOICE_OF(b, ascii(s, "\"\"\\\\//bbffnnrrtt"), escaped_unicode(s)));
    s->character = GRAMMAR_CHOICE_OF(b, grammar_class(b, &set, GRAMMAR_PLAIN), escaped);
    return s->character;
}

const struct grammar_expr *schema_any_string(struct schema *s)
{
    struct grammar_builder *b = s->builder;
    if (schema_own_rule(s, &s->any_string)) {
        const struct grammar_expr *quote = schema_mark(s, "\"");
        b->rules[s->any_string].expr = GRAMMAR_SEQUENCE_OF(
            b, quote, grammar_repeat(b, schema_character(s), 0, GRAMMAR_UNBOUNDED), quote);
        b->rules[s->any_string].is_shared = true;
    }
    return grammar_call(b, s->any_string);
}

const struct grammar_expr *schema_quoted(struct schema *s, const char *text, size_t length)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    struct buf out;
    buf_init(&out);
    buf_putc(&out, '"');
    for (size_t i = 0; i < length; i++) {
        const char *found = text[i] ? strchr(escaped, text[i]) : NULL;
        if (found)
            buf_printf(&out, "\\%c", letters[found - escaped]);
        else if ((unsigned char)text[i] < 0x20)
            buf_printf(&out, "\\u%04x", (unsigned char)text[i]);
        else
            buf_putc(&out, text[i]);
    }
    buf_putc(&out, '"');
    if (buf_failed(&out))
        s->builder->failed = true;
    const struct grammar_expr *e = grammar_text(s->builder, buf_text(&out), out.length);
    buf_clear(&out);
    return e;
}

/* ---- numbers ---- */

const struct grammar_expr *schema_any_number(struct schema *s, bool is_integer)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_expr *digit = ascii(s, "09");
    const struct grammar_expr *whole = GRAMMAR_SEQUENCE_OF(
        b, grammar_optional(b, schema_mark(s, "-")),
        GRAMMAR_CHOICE_OF(b, schema_mark(s, "0"),
                          GRAMMAR_SEQUENCE_OF(b, ascii(s, "19"), grammar_repeat(b, digit, 0, 17))));
    if (is_integer)
        return whole;
    const struct grammar_expr *fraction =
        GRAMMAR_SEQUENCE_OF(b, schema_mark(s, "."), grammar_repeat(b, digit, 1, 17));
    const struct grammar_expr *exponent = GRAMMAR_SEQUENCE_OF(
        b, ascii(s, "eeEE"), grammar_optional(b, ascii(s, "++--")), grammar_repeat(b, digit, 1, 2));
    return GRAMMAR_SEQUENCE_OF(b, whole, grammar_optional(b, fraction),
                               grammar_optional(b, exponent));
}

/* ---- anything ---- */

/* item (, item)* or nothing, between two marks */
static const struct grammar_expr *enclosed(struct schema *s, const char *open,
                                           const struct grammar_expr *item, const char *close)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_expr *space = schema_space(s);
    const struct grammar_expr *more = GRAMMAR_SEQUENCE_OF(b, schema_mark(s, ","), space, item);
    const struct grammar_expr *items =
        GRAMMAR_SEQUENCE_OF(b, item, grammar_repeat(b, more, 0, GRAMMAR_UNBOUNDED), space);
    return GRAMMAR_SEQUENCE_OF(b, schema_mark(s, open), space, grammar_optional(b, items),
                               schema_mark(s, close));
}

const struct grammar_expr *schema_any_value(struct schema *s)
{
    struct grammar_builder *b = s->builder;
    if (schema_own_rule(s, &s->any_value)) {
        const struct grammar_expr *e =
            GRAMMAR_CHOICE_OF(b, schema_mark(s, "null"), schema_mark(s, "true"),
                              schema_mark(s, "false"), schema_any_number(s, false),
                              schema_any_string(s), schema_any_object(s), schema_any_array(s));
        b->rules[s->any_value].expr = e;
        b->rules[s->any_value].is_shared = true;
    }
    return grammar_call(b, s->any_value);
}

const struct grammar_expr *schema_any_object(struct schema *s)
{
    struct grammar_builder *b = s->builder;
    if (schema_own_rule(s, &s->any_object)) {
        const struct grammar_expr *space = schema_space(s);
        const struct grammar_expr *member = GRAMMAR_SEQUENCE_OF(
            b, schema_any_string(s), schema_mark(s, ":"), space, schema_any_value(s));
        const struct grammar_expr *e = enclosed(s, "{", member, "}");
        b->rules[s->any_object].expr = e;
        b->rules[s->any_object].is_shared = true;
    }
    return grammar_call(b, s->any_object);
}

const struct grammar_expr *schema_any_array(struct schema *s)
{
    if (schema_own_rule(s, &s->any_array)) {
        const struct grammar_expr *e = enclosed(s, "[", schema_any_value(s), "]");
        s->builder->rules[s->any_array].expr = e;
        s->builder->rules[s->any_array].is_shared = true;
    }
    return grammar_call(s->builder, s->any_array);
}
