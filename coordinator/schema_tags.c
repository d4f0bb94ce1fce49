#include "coordinator/schema_tags.h"

#include "coordinator/schema.h"
#include "coordinator/schema_parts.h"

#include <string.h>
#include <strings.h>

enum { TAGS_DEPTH = 16, TAGS_WORK = 10000 * SCHEMA_WORK, TAGS_PROPERTIES = 500 };

/* ---- how a value is read ---- */

static bool tags_spend(size_t *left, size_t n)
{
    bool has_room = *left >= n;
    *left = has_room ? *left - n : 0;
    return has_room;
}

/* left: what may be looked at, as schema_work() counts it. */
static unsigned tags_named(const json_t *root, const json_t *schema, int depth, size_t *left)
{
    static const char *const unions[] = {"anyOf", "oneOf", "allOf"};
    const json_t *ref = json_object_get(schema, "$ref"), *type = json_object_get(schema, "type");
    const json_t *list = json_object_get(schema, "enum"),
                 *single = json_object_get(schema, "const");
    unsigned types = schema_type_named(type);
    for (size_t i = 0; i < json_array_size(type) && tags_spend(left, 1); i++)
        types |= schema_type_named(json_array_get(type, i));
    if (types || depth == 0)
        return types;
    for (size_t i = 0; i < json_array_size(list) && tags_spend(left, 1); i++)
        types |= schema_type_of(json_array_get(list, i));
    if (single)
        types |= schema_type_of(single);
    if (json_is_string(ref) && tags_spend(left, SCHEMA_WORK + json_string_length(ref)))
        types |= tags_named(root, schema_at(root, json_string_value(ref)), depth - 1, left);
    for (size_t k = 0; k < sizeof unions / sizeof unions[0]; k++) {
        list = json_object_get(schema, unions[k]);
        for (size_t i = 0; i < json_array_size(list) && tags_spend(left, SCHEMA_WORK); i++)
            types |= tags_named(root, json_array_get(list, i), depth - 1, left);
    }
    return types;
}

static unsigned tags_types(const json_t *root, const json_t *schema, size_t *left)
{
    unsigned types = tags_named(root, schema, TAGS_DEPTH, left);
    if (!types) /* who says nothing of numbers and words means texts */
        types = SCHEMA_STRING | SCHEMA_OBJECT | SCHEMA_ARRAY;
    return types & SCHEMA_NUMBER ? types | SCHEMA_NUMBER : types;
}

unsigned schema_tags_types(const json_t *root, const json_t *schema)
{
    size_t left = TAGS_WORK;
    return tags_types(root, schema, &left);
}

/* Words that templates make of Python's values; a model repeats what it was shown. */
static const char *tags_word(const char *text, size_t length, unsigned types)
{
    static const struct {
        const char *word, *json;
        unsigned type;
    } words[] = {{"true", "true", SCHEMA_BOOLEAN},
                 {"false", "false", SCHEMA_BOOLEAN},
                 {"null", "null", SCHEMA_NULL},
                 {"none", "null", SCHEMA_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if ((types & words[i].type) && length == strlen(words[i].word) &&
            strncasecmp(text, words[i].word, length) == 0)
            return words[i].json;
    return NULL;
}

bool schema_tags_is_string(const char *text, size_t length, unsigned types, const char **ret_word)
{
    const unsigned others = types & ~(unsigned)SCHEMA_STRING;
    *ret_word = tags_word(text, length, types);
    if (*ret_word || !others)
        return !*ret_word;
    json_t *value =
        json_loadb(text, length, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    bool is_other = value && (schema_type_of(value) & others);
    json_decref(value);
    return !is_other;
}

/* ---- the texts of a value ---- */

/* Strings end where a tag does, whatever they are. */
static int tags_without(struct schema *s, const struct grammar_automaton **ret_automaton)
{
    static const char *const marks[] = {"</parameter>", "</function>", "</tool_call>"};
    struct grammar_builder *b = s->builder;
    const struct grammar_expr *any = grammar_repeat(
        b, grammar_range(b, 0, GRAMMAR_LAST_CHARACTER, GRAMMAR_PLAIN), 0, GRAMMAR_UNBOUNDED);
    const struct grammar_automaton *with = NULL;
    struct grammar_list list = {0};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        grammar_list_add(b, &list, schema_mark(s, marks[i]));
    int rc = grammar_automaton_from(
        &with, b, GRAMMAR_SEQUENCE_OF(b, any, grammar_choice(b, list.items, list.n), any), s->err);
    return rc == 0 ? grammar_automaton_other(ret_automaton, b, with, s->err) : rc;
}

/* Those that do not begin as what would be read as another type. */
static int tags_unlike(struct schema *s, const char *beginnings,
                       const struct grammar_automaton **automaton)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_automaton *like = NULL, *unlike = NULL;
    const struct grammar_expr *any = grammar_repeat(
        b, grammar_range(b, 0, GRAMMAR_LAST_CHARACTER, GRAMMAR_PLAIN), 0, GRAMMAR_UNBOUNDED);
    struct grammar_list list = {0};
    for (; *beginnings; beginnings++)
        grammar_list_add(b, &list, grammar_text(b, beginnings, 1));
    int rc = grammar_automaton_from(
        &like, b, GRAMMAR_SEQUENCE_OF(b, grammar_choice(b, list.items, list.n), any), s->err);
    if (rc == 0)
        rc = grammar_automaton_other(&unlike, b, like, s->err);
    return rc == 0 ? grammar_automaton_both(automaton, b, *automaton, unlike, s->err) : rc;
}

static int tags_string(struct schema *s, const struct schema_form *f, unsigned types,
                       bool has_literals, struct grammar_list *texts)
{
    const struct grammar_automaton *limits = NULL, *all = NULL;
    int rc = tags_without(s, &all);
    if (rc == 0)
        rc = schema_string_automaton(s, f, &limits);
    if (rc == 0 && limits)
        rc = grammar_automaton_both(&all, s->builder, all, limits, s->err);
    if (rc == 0 && (types & (SCHEMA_NUMBER | SCHEMA_OBJECT | SCHEMA_ARRAY)))
        rc = tags_unlike(s, "-0123456789{[ \t\r\n", &all);
    if (rc == 0 && has_literals && (types & (SCHEMA_BOOLEAN | SCHEMA_NULL)))
        rc = tags_unlike(s, "tTfFnN \t\r\n", &all);
    if (rc == 0)
        grammar_list_add(s->builder, texts, grammar_from_automaton(s->builder, all, GRAMMAR_PLAIN));
    return rc;
}

/* Values that are listed, as far as they are read as what they are. */
static void tags_literals(struct schema *s, const struct schema_form *f, unsigned types,
                          struct grammar_list *texts)
{
    const json_t *value;
    size_t i;
    json_array_foreach(f->literals, i, value)
    {
        const char *text = json_string_value(value), *word;
        size_t length = json_string_length(value);
        if (!(schema_type_of(value) & f->types & types))
            continue;
        if (!text)
            grammar_list_add(s->builder, texts, schema_literal(s, value));
        else if (schema_tags_is_string(text, length, types, &word) && !strstr(text, "</"))
            grammar_list_add(s->builder, texts, grammar_text(s->builder, text, length));
    }
}

static int tags_form(struct schema *s, const struct schema_form *f, unsigned types,
                     bool has_literals, struct grammar_list *texts)
{
    struct schema_form others = *f;
    int rc = 0;
    if (f->literals) {
        tags_literals(s, f, types, texts);
        return 0;
    }
    if (f->types & types & SCHEMA_STRING)
        rc = tags_string(s, f, types, has_literals, texts);
    others.types &= types & ~(unsigned)SCHEMA_STRING;
    return rc == 0 ? schema_form_texts(s, &others, texts) : rc;
}

static int tags_value(struct schema *s, const json_t *own, const struct grammar_expr **ret_expr)
{
    size_t left = TAGS_WORK; /* as much as when it is read; and all that is spent has a limit */
    const unsigned types = tags_types(s->root, own, &left);
    struct schema_parts parts = {0};
    struct schema_forms forms = {0};
    struct grammar_list texts = {0};
    bool has_literals = false;
    int rc = schema_work(s, own, TAGS_WORK - left);
    if (rc == 0)
        rc = schema_add_part(s, &parts, own);
    if (rc == 0)
        rc = schema_expand(s, &parts, &forms);
    for (size_t i = 0; i < forms.n; i++)
        has_literals |= forms.items[i].literals != NULL;
    for (size_t i = 0; rc == 0 && i < forms.n; i++)
        rc = tags_form(s, &forms.items[i], types, has_literals, &texts);
    if (rc == 0)
        *ret_expr = grammar_choice(s->builder, texts.items, texts.n);
    return rc;
}

/* ---- parameters ---- */

static const struct grammar_expr *tags_around(struct schema *s, const struct grammar_expr *name,
                                              const struct grammar_expr *value)
{
    return GRAMMAR_SEQUENCE_OF(s->builder, schema_mark(s, "<parameter="), name,
                               schema_mark(s, ">\n"), value, schema_mark(s, "\n</parameter>\n"));
}

static int tags_check_name(struct schema *s, const char *name)
{
    return *name && !strpbrk(name, "<>\n")
               ? 0
               : schema_fail(s, s->root, "properties",
                             "the name of a parameter cannot be written in a tag: '%.40s'", name);
}

static bool tags_requires(const json_t *schema, const char *name)
{
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i, item)
    {
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

/* Any names and texts. */
static int tags_any(struct schema *s, const struct grammar_expr **ret_expr)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_automaton *text = NULL, *name = NULL, *with = NULL;
    const struct grammar_expr *any = grammar_repeat(
        b, grammar_range(b, 0, GRAMMAR_LAST_CHARACTER, GRAMMAR_PLAIN), 0, GRAMMAR_UNBOUNDED);
    const struct grammar_expr *wrong =
        GRAMMAR_CHOICE_OF(b, schema_mark(s, "<"), schema_mark(s, ">"), schema_mark(s, "\n"));
    const struct grammar_expr *bad =
        GRAMMAR_CHOICE_OF(b, grammar_empty(), GRAMMAR_SEQUENCE_OF(b, any, wrong, any));
    int rc = grammar_automaton_from(&with, b, bad, s->err);
    if (rc == 0)
        rc = grammar_automaton_other(&name, b, with, s->err);
    if (rc == 0)
        rc = tags_without(s, &text);
    if (rc == 0)
        *ret_expr = grammar_repeat(b,
                                   tags_around(s, grammar_from_automaton(b, name, GRAMMAR_PLAIN),
                                               grammar_from_automaton(b, text, GRAMMAR_PLAIN)),
                                   0, GRAMMAR_UNBOUNDED);
    return rc;
}

static int tags_parameters(struct schema *s, json_t *properties,
                           const struct grammar_expr **ret_expr)
{
    struct grammar_list list = {0};
    const char *name;
    json_t *own;
    int rc = 0;
    json_object_foreach(properties, name, own)
    {
        const struct grammar_expr *value = NULL;
        rc = tags_check_name(s, name);
        if (rc == 0)
            rc = tags_value(s, own, &value);
        if (rc != 0)
            return rc;
        const struct grammar_expr *one = tags_around(s, schema_mark(s, name), value);
        grammar_list_add(s->builder, &list,
                         tags_requires(s->root, name) ? one : grammar_optional(s->builder, one));
    }
    *ret_expr = grammar_sequence(s->builder, list.items, list.n);
    return 0;
}

/* Names that must be there stand in `properties`, which are those of the schema itself. */
static int tags_check(struct schema *s)
{
    const json_t *properties = json_object_get(s->root, "properties"), *item;
    const json_t *required = json_object_get(s->root, "required");
    struct schema_parts root = {0};
    struct schema_forms forms = {0};
    size_t i;
    int rc = schema_add_part(s, &root, s->root);
    if (rc == 0)
        rc = schema_expand(s, &root, &forms);
    if (rc == 0 && (forms.n != 1 || forms.items[0].parts.n != 1 || forms.items[0].literals))
        rc = schema_fail(s, s->root, NULL, "in tags, parameters must stand in 'properties' alone");
    if (rc == 0 && json_object_size(properties) + json_array_size(required) > TAGS_PROPERTIES)
        rc = schema_fail(s, s->root, NULL, "in tags, there are more than %d parameters",
                         TAGS_PROPERTIES);
    json_array_foreach(required, i, item)
    {
        if (rc == 0 &&
            !(json_is_string(item) && json_object_get(properties, json_string_value(item))))
            rc = schema_fail(s, s->root, "required", "in tags, it must name 'properties'");
    }
    return rc;
}

static int tags_write(struct schema *s, const struct grammar_expr **ret_expr)
{
    json_t *properties = json_object_get(s->root, "properties");
    bool is_any = json_object_size(properties) == 0 &&
                  !json_is_false(json_object_get(s->root, "additionalProperties"));
    s->is_tagged = true;
    int rc = tags_check(s);
    if (rc != 0)
        return rc;
    return is_any ? tags_any(s, ret_expr) : tags_parameters(s, properties, ret_expr);
}

int schema_read_tags(struct grammar_builder *b, const json_t *schema, uint32_t *ret_rule,
                     struct err *err)
{
    return schema_read_by(b, schema, tags_write, ret_rule, err);
}
