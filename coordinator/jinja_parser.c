#include "coordinator/jinja_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int jinja_parser_fail(struct jinja_parser *p, int line, const char *format, ...)
{
    char sentence[400];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return err_set(p->err, ERR_MODEL, "chat template, line %d: %s", line, sentence);
}

int jinja_parser_unexpected(struct jinja_parser *p, const char *wanted)
{
    if (p->now.kind == JINJA_TOKEN_END)
        return jinja_parser_fail(p, p->now.line, "the template ends where %s should be", wanted);
    const struct jinja_string text = p->now.text;
    int length = text.length > 40 ? 40 : (int)text.length;
    return jinja_parser_fail(p, p->now.line, "'%.*s' stands where %s should be", length,
                             text.bytes ? text.bytes : "", wanted);
}

int jinja_parser_advance(struct jinja_parser *p)
{
    if (p->has_ahead) {
        p->now = p->ahead;
        p->has_ahead = false;
        return 0;
    }
    return jinja_lex_next(&p->lex, &p->now);
}

int jinja_parser_look(struct jinja_parser *p)
{
    int rc = p->has_ahead ? 0 : jinja_lex_next(&p->lex, &p->ahead);
    p->has_ahead = rc == 0;
    return rc;
}

bool jinja_parser_sees(const struct jinja_parser *p, enum jinja_token_kind kind, const char *text)
{
    return p->now.kind == kind && (!text || jinja_value_is(p->now.text, text));
}

bool jinja_parser_sees_name(const struct jinja_parser *p, const char *text)
{
    return jinja_parser_sees(p, JINJA_TOKEN_NAME, text);
}

bool jinja_parser_sees_operator(const struct jinja_parser *p, const char *text)
{
    return jinja_parser_sees(p, JINJA_TOKEN_OPERATOR, text);
}

int jinja_parser_expect(struct jinja_parser *p, enum jinja_token_kind kind, const char *text)
{
    char wanted[40];
    snprintf(wanted, sizeof wanted, "'%s'", text);
    bool bracket = kind == JINJA_TOKEN_BLOCK_END || kind == JINJA_TOKEN_PRINT_END;
    if (!jinja_parser_sees(p, kind, bracket ? NULL : text))
        return jinja_parser_unexpected(p, wanted);
    return jinja_parser_advance(p);
}

static bool is_reserved(struct jinja_string name)
{
    static const char *const words[] = {"and",  "or",    "not",  "if",    "else", "elif",
                                        "in",   "is",    "for",  "true",  "True", "false",
                                        "none", "False", "None", "import"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (jinja_value_is(name, words[i]))
            return true;
    return false;
}

int jinja_parser_name(struct jinja_parser *p, struct jinja_string *ret)
{
    if (p->now.kind != JINJA_TOKEN_NAME || is_reserved(p->now.text))
        return jinja_parser_unexpected(p, "a name");
    *ret = p->now.text;
    return jinja_parser_advance(p);
}

int jinja_parser_node(struct jinja_parser *p, enum jinja_node_kind kind, struct jinja_node **ret)
{
    struct jinja_node *n = arena_alloc(p->lex.arena, sizeof *n);
    if (!n)
        return err_set(p->err, ERR_MODEL, "chat template, line %d: the template is too large",
                       p->now.line);
    n->kind = kind;
    n->line = p->now.line;
    *ret = n;
    return 0;
}

static int list_height(const struct jinja_node *n)
{
    int height = 0;
    for (; n; n = n->next)
        if (n->height > height)
            height = n->height;
    return height;
}

int jinja_parser_close(struct jinja_parser *p, struct jinja_node *n)
{
    const struct jinja_node *single[] = {n->a, n->b, n->c, n->d};
    const struct jinja_node *lists[] = {n->items, n->body, n->orelse};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (single[i] && single[i]->height > n->height)
            n->height = single[i]->height;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (list_height(lists[i]) > n->height)
            n->height = list_height(lists[i]);
    n->height++;
    if (n->height > JINJA_PARSER_MAX_HEIGHT)
        return jinja_parser_fail(p, n->line, "the template is nested too deeply");
    return 0;
}

int jinja_parser_note(struct jinja_parser *p, struct jinja_string name, struct jinja_node **list,
                      int *count)
{
    struct jinja_node *part = NULL;
    if (++*count > JINJA_PARSER_MAX_NAMES)
        return jinja_parser_fail(p, p->now.line, "more than %d assignments or calls",
                                 JINJA_PARSER_MAX_NAMES);
    int rc = jinja_parser_node(p, JINJA_NODE_PART, &part);
    if (rc < 0)
        return rc;
    part->name = name;
    part->next = *list;
    *list = part;
    return 0;
}

int jinja_parser_enter(struct jinja_parser *p)
{
    if (p->depth >= JINJA_PARSER_MAX_DEPTH)
        return jinja_parser_fail(p, p->now.line, "the template is nested too deeply");
    p->depth++;
    return 0;
}

void jinja_parser_leave(struct jinja_parser *p)
{
    p->depth--;
}
