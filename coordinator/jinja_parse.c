#include "coordinator/jinja_parse.h"

#include "coordinator/jinja_parse_expression.h"

/* Statements up to (and not past) one of the end words, given as "else|endfor|"; the tag's
 * opening bracket is read. NULL: up to the end of the template. */
static int parse_body(struct jinja_parser *p, const char *ends, int line,
                      struct jinja_node **ret_list);

static bool is_word_of(const struct jinja_token *t, const char *words)
{
    if (t->kind != JINJA_TOKEN_NAME)
        return false;
    while (*words) {
        size_t n = 0;
        while (words[n] != '|')
            n++;
        if (jinja_value_same(t->text, (struct jinja_string){words, n}))
            return true;
        words += n + 1;
    }
    return false;
}

/* A body and the closing tag's word; its closing bracket is left to parse_body(). */
static int parse_block(struct jinja_parser *p, const char *end, int line, struct jinja_node **ret)
{
    int rc = jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, "%}");
    if (rc == 0)
        rc = parse_body(p, end, line, ret);
    if (rc == 0)
        rc = jinja_parser_advance(p);
    return rc;
}

static int remember(struct jinja_parser *p, struct jinja_string name)
{
    return jinja_parser_note(p, name, &p->names, &p->n_names);
}

/* A name, or ns.field. */
static int parse_single_target(struct jinja_parser *p, bool fields, struct jinja_node **ret)
{
    struct jinja_node *n, *owner;
    int rc = jinja_parser_node(p, JINJA_NODE_NAME, &n);
    if (rc == 0)
        rc = jinja_parser_name(p, &n->name);
    if (rc < 0)
        return rc;
    if (!fields || !jinja_parser_sees_operator(p, ".")) {
        *ret = n;
        rc = jinja_parser_close(p, n);
        return rc < 0 ? rc : remember(p, n->name);
    }
    owner = n;
    rc = jinja_parser_close(p, owner);
    if (rc == 0)
        rc = jinja_parser_node(p, JINJA_NODE_ATTRIBUTE, &n);
    if (rc == 0)
        rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = jinja_parser_name(p, &n->name);
    if (rc < 0)
        return rc;
    n->a = owner;
    *ret = n;
    return jinja_parser_close(p, n);
}

/* One target, or a tuple of them, possibly in parentheses. */
static int parse_target(struct jinja_parser *p, bool fields, struct jinja_node **ret)
{
    bool parentheses = jinja_parser_sees_operator(p, "(");
    struct jinja_node *first = NULL, **last = &first, *tuple;
    int line = p->now.line, count = 0;
    bool comma = false;
    int rc = parentheses ? jinja_parser_advance(p) : 0;
    while (rc == 0) {
        rc = parse_single_target(p, fields, last);
        count++;
        if (rc < 0 || !jinja_parser_sees_operator(p, ","))
            break;
        comma = true;
        last = &(*last)->next;
        rc = jinja_parser_advance(p);
        if (p->now.kind != JINJA_TOKEN_NAME || jinja_parser_sees_name(p, "in"))
            break;
    }
    if (rc == 0 && parentheses)
        rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ")");
    if (rc < 0)
        return rc;
    *ret = first;
    if (!comma)
        return 0;
    rc = jinja_parser_node(p, JINJA_NODE_TUPLE, &tuple);
    if (rc < 0)
        return rc;
    tuple->line = line;
    tuple->items = first;
    *ret = tuple;
    return jinja_parser_close(p, tuple);
}

static int parse_if(struct jinja_parser *p, struct jinja_node *n)
{
    struct jinja_node **last = &n->items;
    bool more = true;
    int rc = 0;
    while (rc == 0 && more) {
        struct jinja_node *branch;
        rc = jinja_parser_node(p, JINJA_NODE_PART, &branch);
        if (rc < 0)
            return rc;
        *last = branch;
        last = &branch->next;
        bool otherwise = jinja_parser_sees_name(p, "else");
        rc = jinja_parser_advance(p); /* if, elif, else */
        if (rc == 0 && !otherwise)
            rc = jinja_parse_expression_tuple(p, false, &branch->a);
        if (rc == 0)
            rc = jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, "%}");
        if (rc == 0)
            rc = parse_body(p, otherwise ? "endif|" : "elif|else|endif|", n->line, &branch->body);
        if (rc == 0)
            rc = jinja_parser_close(p, branch);
        more = rc == 0 && !jinja_parser_sees_name(p, "endif");
    }
    return rc < 0 ? rc : jinja_parser_advance(p);
}

static int parse_for(struct jinja_parser *p, struct jinja_node *n)
{
    int rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = parse_target(p, false, &n->a);
    if (rc == 0)
        rc = jinja_parser_expect(p, JINJA_TOKEN_NAME, "in");
    if (rc == 0)
        rc = jinja_parse_expression_tuple(p, false, &n->b);
    if (rc == 0 && jinja_parser_sees_name(p, "if")) {
        rc = jinja_parser_advance(p);
        if (rc == 0)
            rc = jinja_parse_expression(p, true, &n->c);
    }
    if (rc == 0 && jinja_parser_sees_name(p, "recursive"))
        rc = jinja_parser_fail(p, p->now.line, "'recursive' loops are not supported");
    if (rc < 0)
        return rc;
    rc = jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, "%}");
    p->loops++;
    if (rc == 0)
        rc = parse_body(p, "else|endfor|", n->line, &n->body);
    p->loops--;
    if (rc < 0)
        return rc;
    bool otherwise = jinja_parser_sees_name(p, "else");
    rc = jinja_parser_advance(p);
    return rc == 0 && otherwise ? parse_block(p, "endfor|", n->line, &n->orelse) : rc;
}

static int parse_set(struct jinja_parser *p, struct jinja_node *n)
{
    int rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = parse_target(p, true, &n->a);
    if (rc < 0)
        return rc;
    if (jinja_parser_sees_operator(p, "=")) {
        rc = jinja_parser_advance(p);
        return rc < 0 ? rc : jinja_parse_expression_tuple(p, true, &n->b);
    }
    if (jinja_parser_sees_operator(p, "|"))
        return jinja_parser_fail(p, p->now.line, "a filter on a set block is not supported");
    n->kind = JINJA_NODE_SET_BLOCK;
    int loops = p->loops;
    p->loops = 0;
    rc = parse_block(p, "endset|", n->line, &n->body);
    p->loops = loops;
    return rc;
}

static int parse_parameters(struct jinja_parser *p, struct jinja_node *n)
{
    struct jinja_node **last = &n->items;
    bool defaults = false;
    int rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, "(");
    while (rc == 0 && !jinja_parser_sees_operator(p, ")")) {
        if (n->items)
            rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ",");
        struct jinja_node *part = NULL;
        if (rc == 0)
            rc = jinja_parser_node(p, JINJA_NODE_PART, &part);
        if (rc < 0)
            return rc;
        *last = part;
        last = &part->next;
        rc = jinja_parser_name(p, &part->name);
        if (rc == 0)
            rc = remember(p, part->name);
        if (rc == 0 && jinja_parser_sees_operator(p, "=")) {
            defaults = true;
            rc = jinja_parser_advance(p);
            if (rc == 0)
                rc = jinja_parse_expression(p, true, &part->a);
        } else if (rc == 0 && defaults) {
            rc = jinja_parser_fail(p, part->line, "a parameter without a default follows one");
        }
        if (rc == 0)
            rc = jinja_parser_close(p, part);
    }
    return rc < 0 ? rc : jinja_parser_advance(p);
}

static int parse_macro(struct jinja_parser *p, struct jinja_node *n)
{
    int rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = jinja_parser_name(p, &n->name);
    if (rc == 0)
        rc = remember(p, n->name);
    int loops = p->loops;
    p->loops = 0;
    p->macros++;
    if (rc == 0)
        rc = parse_parameters(p, n);
    if (rc == 0)
        rc = parse_block(p, "endmacro|", n->line, &n->body);
    p->loops = loops;
    p->macros--;
    return rc;
}

static int parse_generation(struct jinja_parser *p, struct jinja_node *n)
{
    int loops = p->loops;
    p->loops = 0;
    int rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = parse_block(p, "endgeneration|", n->line, &n->body);
    p->loops = loops;
    return rc;
}

static int parse_jump(struct jinja_parser *p, struct jinja_node *n)
{
    if (!p->loops)
        return jinja_parser_fail(p, n->line, "'%s' stands outside of a loop",
                                 n->kind == JINJA_NODE_BREAK ? "break" : "continue");
    return jinja_parser_advance(p);
}

static const struct {
    const char *word;
    enum jinja_node_kind kind;
    int (*parse)(struct jinja_parser *p, struct jinja_node *n);
} statements[] = {
    {"if", JINJA_NODE_IF, parse_if},
    {"for", JINJA_NODE_FOR, parse_for},
    {"set", JINJA_NODE_SET, parse_set},
    {"macro", JINJA_NODE_MACRO, parse_macro},
    {"generation", JINJA_NODE_GENERATION, parse_generation},
    {"break", JINJA_NODE_BREAK, parse_jump},
    {"continue", JINJA_NODE_CONTINUE, parse_jump},
};

/* From the word behind {% to the closing bracket. */
static int parse_statement(struct jinja_parser *p, struct jinja_node **ret)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (!jinja_parser_sees_name(p, statements[i].word))
            continue;
        int rc = jinja_parser_enter(p);
        if (rc < 0)
            return rc;
        rc = jinja_parser_node(p, statements[i].kind, ret);
        if (rc == 0)
            rc = statements[i].parse(p, *ret);
        jinja_parser_leave(p);
        return rc < 0 ? rc : jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, "%}");
    }
    if (p->now.kind != JINJA_TOKEN_NAME)
        return jinja_parser_unexpected(p, "the name of a tag");
    int length = p->now.text.length > 40 ? 40 : (int)p->now.text.length;
    return jinja_parser_fail(p, p->now.line, "the tag '%.*s' is not supported here", length,
                             p->now.text.bytes);
}

static int parse_print(struct jinja_parser *p, struct jinja_node **ret)
{
    int rc = jinja_parser_node(p, JINJA_NODE_PRINT, ret);
    if (rc == 0)
        rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = jinja_parse_expression_tuple(p, true, &(*ret)->a);
    return rc < 0 ? rc : jinja_parser_expect(p, JINJA_TOKEN_PRINT_END, "}}");
}

static int parse_text(struct jinja_parser *p, struct jinja_node **ret)
{
    int rc = jinja_parser_node(p, JINJA_NODE_TEXT, ret);
    if (rc < 0)
        return rc;
    (*ret)->constant = jinja_value_string(p->now.text.bytes, p->now.text.length);
    return jinja_parser_advance(p);
}

static int parse_body(struct jinja_parser *p, const char *ends, int line,
                      struct jinja_node **ret_list)
{
    struct jinja_node **last = ret_list;
    int rc = 0;
    while (rc == 0) {
        if (p->now.kind == JINJA_TOKEN_END)
            return ends ? jinja_parser_fail(p, line, "the tag that begins here has no end") : 0;
        if (p->now.kind == JINJA_TOKEN_TEXT) {
            rc = parse_text(p, last);
        } else if (p->now.kind == JINJA_TOKEN_PRINT_BEGIN) {
            rc = parse_print(p, last);
        } else {
            rc = jinja_parser_advance(p); /* {% */
            if (rc == 0 && ends && is_word_of(&p->now, ends))
                return 0;
            if (rc == 0)
                rc = parse_statement(p, last);
        }
        if (rc == 0)
            rc = jinja_parser_close(p, *last);
        if (rc == 0)
            last = &(*last)->next;
    }
    return rc;
}

/* Calls may stand before the macro that they call, so they are checked at the end. */
static int check_calls(struct jinja_parser *p)
{
    for (const struct jinja_node *call = p->called; call; call = call->next) {
        const struct jinja_node *known = p->names;
        while (known && !jinja_value_same(known->name, call->name))
            known = known->next;
        int length = call->name.length > 40 ? 40 : (int)call->name.length;
        if (!known)
            return jinja_parser_fail(p, call->line, "there is no function or macro '%.*s'", length,
                                     call->name.bytes);
    }
    return 0;
}

int jinja_parse(struct jinja_node **ret_body, struct arena *arena, const char *source,
                size_t length, struct err *err)
{
    struct jinja_parser p = {.err = err};
    struct jinja_node *body = NULL;
    int rc = jinja_lex_open(&p.lex, arena, source, length, err);
    if (rc == 0)
        rc = jinja_parser_advance(&p);
    if (rc == 0)
        rc = parse_body(&p, NULL, 1, &body);
    if (rc == 0)
        rc = check_calls(&p);
    if (rc == 0)
        *ret_body = body;
    return rc;
}
