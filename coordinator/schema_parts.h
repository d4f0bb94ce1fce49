/* schema_parts.h - what the schema_*.c share.
 *
 * A value may have to satisfy several schemas at once (`allOf`, `$ref` beside other keywords,
 * `properties` of two branches): they are its parts. Where there are alternatives (`anyOf`), each
 * is a list of parts whose plain keywords hold together: a form. Rules are found by their parts,
 * which is what ends recursion. */
#ifndef PACELINE_COORDINATOR_SCHEMA_PARTS_H
#define PACELINE_COORDINATOR_SCHEMA_PARTS_H

#include "base/err.h"
#include "coordinator/grammar_automaton.h"
#include "coordinator/grammar_expr.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum schema_type {
    SCHEMA_NULL = 1,
    SCHEMA_BOOLEAN = 2,
    SCHEMA_INTEGER = 4,
    SCHEMA_FRACTION = 8, /* numbers that are no integers */
    SCHEMA_NUMBER = SCHEMA_INTEGER | SCHEMA_FRACTION,
    SCHEMA_STRING = 16,
    SCHEMA_OBJECT = 32,
    SCHEMA_ARRAY = 64,
    SCHEMA_ANY_TYPE = 127
};

struct schema_parts {
    const json_t **items; /* [n], in the order of the text, each once */
    size_t n, capacity;
};

struct schema_form {
    struct schema_parts parts; /* objects; their keywords that refer to others were followed */
    unsigned types;            /* of enum schema_type */
    json_t *literals;          /* array of the values that enum and const leave; NULL: no limit */
};

enum schema_rule_kind { SCHEMA_RULE_VALUE, SCHEMA_RULE_OBJECT, SCHEMA_RULE_ARRAY };

struct schema_rule {
    enum schema_rule_kind kind;
    struct schema_parts parts;
    uint32_t rule;
    uint32_t next; /* in the same slot: 1 + number, or 0 */
};

enum {
    SCHEMA_SLOTS = 1024,
    SCHEMA_WORK = 16 /* values that a schema counts as */
};

struct schema {
    struct grammar_builder *builder;
    const json_t *root;
    struct err *err;
    struct schema_rule *rules; /* [n_rules], of which n_done are defined */
    size_t n_rules, n_done, capacity;
    uint32_t slots[SCHEMA_SLOTS];
    json_t *owned; /* array: values that were made and live as long */
    /* Rules and expressions of JSON itself; 0 and NULL until they are asked for. */
    uint32_t any_value, any_object, any_array, any_string, space;
    const struct grammar_expr *character; /* of a string */
    bool is_tagged;                       /* which has no '<', for it stands among tags */
    struct schema_parts checked;          /* whose oneOf has been judged, or is just now */
};

/* ---- schema.c ---- */
int schema_no_memory(const struct schema *s);
/* ERR_INPUT: what, at the path of `node`, and below it `keyword` (may be NULL). */
int schema_fail(const struct schema *s, const json_t *node, const char *keyword, const char *format,
                ...) __attribute__((format(printf, 4, 5)));
/* Counts n values that are to be looked at; ERR_INPUT when that is more than a schema may cost. */
int schema_work(struct schema *s, const json_t *part, size_t n);
bool schema_has_work(struct schema *s, size_t n); /* false: the next schema_work() fails */
/* A value, and all values in it. */
size_t schema_weight(const json_t *value);
int schema_add_part(struct schema *s, struct schema_parts *p, const json_t *part);
/* The whole: what `write` makes of s->root, and the rules that it needs. */
int schema_read_by(struct grammar_builder *b, const json_t *schema,
                   int (*write)(struct schema *s, const struct grammar_expr **ret_expr),
                   uint32_t *ret_rule, struct err *err);
/* The texts of one form, of all its types. */
int schema_form_texts(struct schema *s, const struct schema_form *f, struct grammar_list *texts);
/* A value that satisfies all parts: a call of a rule that is made, if need be, later. */
const struct grammar_expr *schema_value(struct schema *s, const struct schema_parts *parts);
/* The number of a keyword of the part that counts something, or `otherwise`. */
int schema_count(const struct schema *s, const json_t *part, const char *keyword,
                 uint32_t otherwise, uint32_t *ret_count);

/* ---- schema_expand.c: parts to forms ---- */
struct schema_forms {
    struct schema_form *items; /* [n] */
    size_t n, capacity;
};
int schema_expand(struct schema *s, const struct schema_parts *parts, struct schema_forms *forms);
/* ---- schema_keyword.c ---- */
int schema_check_part(const struct schema *s, const json_t *part);
int schema_types(const struct schema *s, const json_t *part, unsigned *ret_types);
unsigned schema_type_of(const json_t *value);
int schema_resolve(const struct schema *s, const json_t *part, const json_t **ret_target);
unsigned schema_type_named(const json_t *name); /* 0: none has that name */
/* What "#…" refers to, or NULL. */
const json_t *schema_at(const json_t *root, const char *ref);
/* ---- schema_disjoint.c: refuses a oneOf of which a value might satisfy two branches ---- */
int schema_check_one_of(struct schema *s, const json_t *part);

/* ---- one file each: the texts of a form that are of that type ---- */
int schema_string(struct schema *s, const struct schema_form *f,
                  const struct grammar_expr **ret_expr);
/* Patterns and lengths of the string itself, without quotes; NULL: any. */
int schema_string_automaton(struct schema *s, const struct schema_form *f,
                            const struct grammar_automaton **ret_automaton);
int schema_number(struct schema *s, const struct schema_form *f,
                  const struct grammar_expr **ret_expr);
int schema_object(struct schema *s, const struct schema_form *f,
                  const struct grammar_expr **ret_expr);
int schema_array(struct schema *s, const struct schema_form *f,
                 const struct grammar_expr **ret_expr);
const struct grammar_expr *schema_literal(struct schema *s, const json_t *value);
/* The pattern of a format that is kept, or NULL. */
const char *schema_format_pattern(const char *format);

/* ---- schema_json.c: JSON itself ---- */
const struct grammar_expr *schema_any_value(struct schema *s);
const struct grammar_expr *schema_any_object(struct schema *s);
const struct grammar_expr *schema_any_array(struct schema *s);
const struct grammar_expr *schema_any_string(struct schema *s);
const struct grammar_expr *schema_any_number(struct schema *s, bool is_integer);
const struct grammar_expr *schema_character(struct schema *s);
const struct grammar_expr *schema_space(struct schema *s);
const struct grammar_expr *schema_mark(struct schema *s, const char *text);
/* The string with its quotes, as JSON writes it. */
const struct grammar_expr *schema_quoted(struct schema *s, const char *text, size_t length);

#endif
