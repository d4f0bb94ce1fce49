#include "coordinator/jinja_parse_arguments.h"

#include "coordinator/jinja_parse_expression.h"

static int parse_argument(struct jinja_parser *p, struct jinja_node *part)
{
    int rc = 0;
    if (p->now.kind == JINJA_TOKEN_NAME)
        rc = jinja_parser_look(p);
    if (rc < 0)
        return rc;
    if (p->now.kind == JINJA_TOKEN_NAME && p->ahead.kind == JINJA_TOKEN_OPERATOR && p->has_ahead &&
        jinja_value_is(p->ahead.text, "=")) {
        rc = jinja_parser_name(p, &part->name);
        if (rc == 0)
            rc = jinja_parser_advance(p);
    }
    return rc < 0 ? rc : jinja_parse_expression(p, true, &part->a);
}

int jinja_parse_arguments(struct jinja_parser *p, struct jinja_node *n)
{
    struct jinja_node **last = &n->items;
    bool named = false;
    int rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, "(");
    while (rc == 0 && !jinja_parser_sees_operator(p, ")")) {
        if (n->items)
            rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ",");
        if (rc < 0 || (n->items && jinja_parser_sees_operator(p, ")")))
            break;
        if (jinja_parser_sees_operator(p, "*") || jinja_parser_sees_operator(p, "**"))
            return jinja_parser_fail(p, p->now.line, "'*' arguments are not supported");
        struct jinja_node *part = NULL;
        rc = jinja_parser_node(p, JINJA_NODE_PART, &part);
        if (rc < 0)
            return rc;
        *last = part;
        last = &part->next;
        rc = parse_argument(p, part);
        if (rc == 0 && named && !part->name.length)
            rc = jinja_parser_fail(p, part->line, "a positional argument follows a named one");
        named = part->name.length > 0;
        if (rc == 0)
            rc = jinja_parser_close(p, part);
    }
    return rc < 0 ? rc : jinja_parser_advance(p);
}

static int parameter_index(const struct jinja_callable *c, struct jinja_string name)
{
    for (int i = 0; i < JINJA_MAX_PARAMS && c->params[i]; i++)
        if (jinja_value_is(name, c->params[i]))
            return i;
    return -1;
}

/* select("defined"), map("upper"): the names are checked now, so they have to be literal. */
static int check_names(struct jinja_parser *p, const struct jinja_node *n)
{
    const struct jinja_callable *c = n->callable;
    for (int test = 0; test < 2; test++) {
        int param = test ? c->test_param : c->filter_param;
        const struct jinja_node *arg = param ? n->bound[param - 1] : NULL;
        if (!arg)
            continue;
        bool literal = arg->kind == JINJA_NODE_CONSTANT && arg->constant.kind == JINJA_STRING;
        if (!literal)
            return jinja_parser_fail(p, n->line, "'%s' needs a literal name", c->name);
        struct jinja_string name = arg->constant.string;
        if (test ? !jinja_tests_find(name) : !jinja_filters_find(name))
            return jinja_parser_fail(p, n->line, "there is no %s '%.*s'", test ? "test" : "filter",
                                     name.length > 40 ? 40 : (int)name.length, name.bytes);
    }
    return 0;
}

int jinja_parse_arguments_bind(struct jinja_parser *p, struct jinja_node *n, const char *what)
{
    const struct jinja_callable *c = n->callable;
    n->bound = arena_array(p->lex.arena, JINJA_MAX_PARAMS, sizeof *n->bound);
    if (!n->bound)
        return jinja_parser_fail(p, n->line, "the template is too large");
    int position = 0, given = 0;
    for (struct jinja_node *arg = n->items; arg; arg = arg->next, given++) {
        if (c->by_name && arg->name.length)
            continue;
        int i = arg->name.length ? parameter_index(c, arg->name) : position++;
        bool fits = i >= 0 && i < JINJA_MAX_PARAMS && c->params[i] && !n->bound[i];
        if (!fits && arg->name.length)
            return jinja_parser_fail(p, n->line, "the %s '%s' has no argument '%.*s'", what,
                                     c->name, arg->name.length > 40 ? 40 : (int)arg->name.length,
                                     arg->name.bytes);
        if (!fits)
            return jinja_parser_fail(p, n->line, "too many arguments for the %s '%s'", what,
                                     c->name);
        n->bound[i] = arg->a;
    }
    for (int i = 0; i < c->n_required; i++)
        if (!n->bound[i])
            return jinja_parser_fail(p, n->line, "the %s '%s' needs the argument '%s'", what,
                                     c->name, c->params[i]);
    return check_names(p, n);
}
