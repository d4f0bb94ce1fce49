#include "coordinator/grammar_ebnf.h"

#include "coordinator/grammar_regex.h"
#include "coordinator/grammar_utf8.h"

#include <stdlib.h>
#include <string.h>

#define MOST_DEPTH    100
#define MOST_SUFFIXES 4
#define MOST_REPEATS  1000000

struct name {
    const char *text; /* in the grammar */
    size_t length, at;
    uint32_t rule;
};

struct ebnf {
    struct grammar_builder *builder;
    const char *text;
    size_t at, end;
    int depth;
    struct err *err;
    struct name *names; /* [builder->n_rules], sorted; one for each rule */
    size_t n_names;
};

static int ebnf_fail(const struct ebnf *p, size_t at, const char *what)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        column += ((unsigned char)p->text[i] & 0xC0) != 0x80;
        if (p->text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return err_set(p->err, ERR_INPUT, "%s, at line %zu, column %zu", what, line, column);
}

static int ebnf_no_memory(const struct ebnf *p)
{
    p->builder->failed = true;
    return err_set(p->err, ERR_INPUT, "it is too large: there is no memory for it");
}

static void ebnf_skip_space(struct ebnf *p)
{
    while (p->at < p->end) {
        if (p->text[p->at] == '#')
            while (p->at < p->end && p->text[p->at] != '\n')
                p->at++;
        else if (strchr(" \t\r\n", p->text[p->at]))
            p->at++;
        else
            return;
    }
}

static bool ebnf_skip(struct ebnf *p, char c)
{
    if (p->at == p->end || p->text[p->at] != c)
        return false;
    p->at++;
    return true;
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* The name at this place, or one of no length; what follows it is skipped up to `::=`, if there is
 * one. */
static struct name ebnf_read_name(struct ebnf *p, bool *ret_is_rule)
{
    struct name n = {.text = p->text + p->at, .at = p->at};
    while (p->at < p->end && is_name(p->text[p->at]))
        p->at++;
    n.length = p->at - n.at;
    size_t after = p->at;
    ebnf_skip_space(p);
    *ret_is_rule = p->end - p->at >= 3 && memcmp(p->text + p->at, "::=", 3) == 0;
    p->at = *ret_is_rule ? p->at + 3 : after;
    return n;
}

/* ---- names ---- */

static int name_compare(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    if (order == 0)
        order = (x->length > y->length) - (x->length < y->length);
    return order;
}

static const struct name *ebnf_find(const struct ebnf *p, const struct name *n)
{
    return p->n_names ? bsearch(n, p->names, p->n_names, sizeof *n, name_compare) : NULL;
}

/* Steps over a quoted text or a set, which may hold anything that looks like a rule. */
static int ebnf_skip_quoted(struct ebnf *p, char close, const char *what)
{
    size_t at = p->at++;
    while (p->at < p->end && p->text[p->at] != close)
        p->at += p->text[p->at] == '\\' && p->at + 1 < p->end ? 2 : 1;
    return ebnf_skip(p, close) ? 0 : ebnf_fail(p, at, what);
}

static int ebnf_skip_token(struct ebnf *p)
{
    switch (p->text[p->at]) {
    case '"':
    case '\'':
        return ebnf_skip_quoted(p, p->text[p->at], "this text has no closing quote");
    case '[':
        return ebnf_skip_quoted(p, ']', "this '[' is never closed");
    default:
        p->at++;
        return 0;
    }
}

static int ebnf_add_name(struct ebnf *p, struct name n)
{
    static const char root[] = "root";
    struct name *grown = realloc(p->names, (p->n_names + 1) * sizeof *grown);
    if (!grown)
        return ebnf_no_memory(p);
    p->names = grown;
    bool is_root = n.length == strlen(root) && memcmp(n.text, root, n.length) == 0;
    n.rule = is_root ? 0 : grammar_builder_rule(p->builder);
    if (p->builder->failed)
        return ebnf_no_memory(p);
    p->names[p->n_names++] = n;
    return 0;
}

/* All rules by name, before any of them is read. */
static int ebnf_collect_names(struct ebnf *p)
{
    const struct name root = {.text = "root", .length = 4};
    int rc = 0;
    grammar_builder_rule(p->builder); /* 0: root */
    while (rc == 0) {
        ebnf_skip_space(p);
        if (p->at == p->end)
            break;
        bool is_rule = false;
        struct name n = {0};
        if (is_name(p->text[p->at]))
            n = ebnf_read_name(p, &is_rule);
        if (is_rule)
            rc = ebnf_add_name(p, n);
        else if (n.length == 0)
            rc = ebnf_skip_token(p);
    }
    if (rc != 0)
        return rc;
    if (p->n_names)
        qsort(p->names, p->n_names, sizeof *p->names, name_compare);
    for (size_t i = 1; i < p->n_names; i++)
        if (name_compare(&p->names[i - 1], &p->names[i]) == 0)
            return ebnf_fail(p, p->names[i].at, "this rule is there twice");
    if (!ebnf_find(p, &root))
        return err_set(p->err, ERR_INPUT, "there is no rule 'root ::= …', where the text begins");
    p->at = 0;
    return 0;
}

/* ---- expressions ---- */

/* n hexadecimal digits */
static bool ebnf_read_hex(struct ebnf *p, size_t n, uint32_t *ret_character)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint32_t c = 0;
    for (size_t i = 0; i < n; i++, p->at++) {
        const char *digit =
            p->at < p->end && p->text[p->at] ? strchr(digits, p->text[p->at]) : NULL;
        if (!digit)
            return false;
        c = c * 16 + (uint32_t)(digit - digits) % 16;
    }
    *ret_character = c;
    return c <= GRAMMAR_LAST_CHARACTER && (c < 0xD800 || c > 0xDFFF);
}

static int ebnf_read_escape(struct ebnf *p, uint32_t *ret_character)
{
    static const char letters[] = "nrt", controls[] = "\n\r\t";
    size_t at = p->at - 1;
    char c = p->at < p->end ? p->text[p->at++] : '\0';
    const char *letter = c ? strchr(letters, c) : NULL;
    size_t n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (n_hex)
        return ebnf_read_hex(p, n_hex, ret_character)
                   ? 0
                   : ebnf_fail(p, at, "hexadecimal digits of a character are missing");
    if (letter)
        *ret_character = (unsigned char)controls[letter - letters];
    else if (c && strchr("\\\"'[]/", c))
        *ret_character = (unsigned char)c;
    else
        return ebnf_fail(p, at, "an escape that is not known");
    return 0;
}

static int ebnf_read_text(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    const size_t at = p->at;
    const char quote = p->text[at];
    size_t n = 0;
    int rc = ebnf_skip_quoted(p, quote, "this text has no closing quote");
    if (rc != 0)
        return rc;
    unsigned char *bytes = arena_alloc(&p->builder->arena, p->at - at); /* with quotes */
    if (!bytes)
        return ebnf_no_memory(p);
    p->at = at + 1;
    while (!ebnf_skip(p, quote)) {
        uint32_t c = 0;
        if (ebnf_skip(p, '\\')) {
            rc = ebnf_read_escape(p, &c);
            if (rc != 0)
                return rc;
            n += grammar_utf8_encode(c, bytes + n); /* no longer than its escape */
        } else {
            bytes[n++] = (unsigned char)p->text[p->at++];
        }
    }
    *ret_expr = grammar_text(p->builder, (const char *)bytes, n);
    return 0;
}

/* A set is written as in a regular expression. */
static int ebnf_read_set(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    size_t at = p->at;
    int rc = ebnf_skip_quoted(p, ']', "this '[' is never closed");
    const struct grammar_regex set = {.pattern = p->text + at, .length = p->at - at};
    if (rc == 0 && grammar_regex_read(ret_expr, p->builder, &set, p->err) != 0)
        rc = ebnf_fail(p, at, "this set is not written as one");
    return rc;
}

static int ebnf_read_choice(struct ebnf *p, const struct grammar_expr **ret_expr);

static int ebnf_read_group(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    size_t at = p->at++;
    if (p->depth >= MOST_DEPTH)
        return ebnf_fail(p, at, "groups are nested too deeply");
    p->depth++;
    int rc = ebnf_read_choice(p, ret_expr);
    p->depth--;
    ebnf_skip_space(p);
    return rc == 0 && !ebnf_skip(p, ')') ? ebnf_fail(p, at, "this '(' is never closed") : rc;
}

static int ebnf_read_call(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    bool is_rule;
    struct name n = ebnf_read_name(p, &is_rule);
    const struct name *found = ebnf_find(p, &n);
    if (!found)
        return ebnf_fail(p, n.at, "there is no rule of this name");
    *ret_expr = grammar_call(p->builder, found->rule);
    return 0;
}

static int ebnf_read_atom(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    char c = p->text[p->at];
    if (c == '"' || c == '\'')
        return ebnf_read_text(p, ret_expr);
    if (c == '[')
        return ebnf_read_set(p, ret_expr);
    if (c == '(')
        return ebnf_read_group(p, ret_expr);
    if (c == '.') {
        p->at++;
        *ret_expr = grammar_range(p->builder, 0, GRAMMAR_LAST_CHARACTER, GRAMMAR_PLAIN);
        return 0;
    }
    if (is_name(c))
        return ebnf_read_call(p, ret_expr);
    return ebnf_fail(p, p->at, "a text, a set, a group or the name of a rule should stand here");
}

static bool ebnf_read_number(struct ebnf *p, uint32_t *ret_number)
{
    size_t first = p->at;
    uint32_t n = 0;
    for (; p->at < p->end && p->text[p->at] >= '0' && p->text[p->at] <= '9'; p->at++)
        n = n > MOST_REPEATS ? n : n * 10 + (uint32_t)(p->text[p->at] - '0');
    *ret_number = n;
    return p->at > first;
}

static int ebnf_read_bounds(struct ebnf *p, uint32_t *ret_min, uint32_t *ret_max)
{
    size_t at = p->at++;
    bool has_min, has_max = true;
    ebnf_skip_space(p);
    has_min = ebnf_read_number(p, ret_min);
    *ret_max = *ret_min;
    ebnf_skip_space(p);
    if (ebnf_skip(p, ',')) {
        ebnf_skip_space(p);
        if (!ebnf_read_number(p, ret_max))
            *ret_max = GRAMMAR_UNBOUNDED;
        ebnf_skip_space(p);
    } else {
        has_max = has_min;
    }
    if (!has_max || !ebnf_skip(p, '}'))
        return ebnf_fail(p, at, "bounds are written {n}, {n,}, {,m} or {n,m}");
    if (*ret_min > MOST_REPEATS || (*ret_max != GRAMMAR_UNBOUNDED && *ret_max > MOST_REPEATS) ||
        *ret_max < *ret_min)
        return ebnf_fail(p, at, "bounds of a repetition that are too large, or upside down");
    return 0;
}

static int ebnf_read_repeat(struct ebnf *p, const struct grammar_expr **expr)
{
    for (int n = 0;; n++) {
        uint32_t min = 0, max = GRAMMAR_UNBOUNDED;
        int rc = 0;
        ebnf_skip_space(p);
        char c = p->at < p->end ? p->text[p->at] : '\0';
        if (c == '{')
            rc = ebnf_read_bounds(p, &min, &max);
        else if (c == '*' || c == '+' || c == '?')
            p->at++;
        else
            return 0;
        min = c == '+' ? 1 : min;
        max = c == '?' ? 1 : max;
        if (rc == 0 && n >= MOST_SUFFIXES)
            rc = ebnf_fail(p, p->at, "repetitions are nested too deeply");
        if (rc != 0)
            return rc;
        *expr = grammar_repeat(p->builder, *expr, min, max);
    }
}

/* Up to a '|', a ')', the next rule or the end; an empty one is the empty text. */
static int ebnf_read_sequence(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    struct grammar_list list = {0};
    for (;;) {
        ebnf_skip_space(p);
        size_t at = p->at;
        bool is_rule = false;
        if (at < p->end && is_name(p->text[at])) {
            ebnf_read_name(p, &is_rule);
            p->at = at;
        }
        if (at == p->end || is_rule || p->text[at] == '|' || p->text[at] == ')')
            break;
        const struct grammar_expr *atom = NULL;
        int rc = ebnf_read_atom(p, &atom);
        if (rc == 0)
            rc = ebnf_read_repeat(p, &atom);
        if (rc != 0)
            return rc;
        grammar_list_add(p->builder, &list, atom);
    }
    *ret_expr = grammar_sequence(p->builder, list.items, list.n);
    return 0;
}

static int ebnf_read_choice(struct ebnf *p, const struct grammar_expr **ret_expr)
{
    struct grammar_list list = {0};
    do {
        const struct grammar_expr *sequence = NULL;
        int rc = ebnf_read_sequence(p, &sequence);
        if (rc != 0)
            return rc;
        grammar_list_add(p->builder, &list, sequence);
        ebnf_skip_space(p);
    } while (ebnf_skip(p, '|'));
    *ret_expr = grammar_choice(p->builder, list.items, list.n);
    return 0;
}

static int ebnf_read_rules(struct ebnf *p)
{
    for (;;) {
        bool is_rule = false;
        ebnf_skip_space(p);
        if (p->at == p->end)
            return 0;
        size_t at = p->at;
        struct name n = ebnf_read_name(p, &is_rule);
        if (!is_rule)
            return ebnf_fail(p, at, "a rule should begin here: name ::= …");
        const struct name *found = ebnf_find(p, &n);
        const struct grammar_expr *e = NULL;
        int rc = ebnf_read_choice(p, &e);
        if (rc != 0)
            return rc;
        p->builder->rules[found->rule].expr = e;
    }
}

int grammar_ebnf_read(struct grammar_builder *b, const char *text, size_t length, struct err *err)
{
    struct ebnf p = {.builder = b, .text = text, .end = length, .err = err};
    int rc = ebnf_collect_names(&p);
    if (rc == 0)
        rc = ebnf_read_rules(&p);
    free(p.names);
    return rc;
}
