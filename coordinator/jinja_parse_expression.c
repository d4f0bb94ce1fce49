#include "coordinator/jinja_parse_expression.h"

#include "coordinator/jinja_parse_arguments.h"

#include <string.h>

/* From weak to strong. `not` stands between `and` and the comparisons. */
enum {
    LEVEL_OR,
    LEVEL_AND,
    LEVEL_NOT,
    LEVEL_COMPARE,
    LEVEL_ADD,
    LEVEL_CONCAT,
    LEVEL_MULTIPLY,
    LEVEL_POWER,
    LEVEL_UNARY
};

static int parse_level(struct jinja_parser *p, int level, struct jinja_node **ret);

/* A node whose first child is what was parsed so far. */
static int wrap(struct jinja_parser *p, enum jinja_node_kind kind, struct jinja_node **node)
{
    struct jinja_node *n;
    int rc = jinja_parser_node(p, kind, &n);
    if (rc < 0)
        return rc;
    n->a = *node;
    *node = n;
    return 0;
}

static const struct {
    const char *sign;
    enum jinja_operator op;
    int level;
} operators[] = {
    {"+", JINJA_ADD, LEVEL_ADD},
    {"-", JINJA_SUBTRACT, LEVEL_ADD},
    {"*", JINJA_MULTIPLY, LEVEL_MULTIPLY},
    {"/", JINJA_DIVIDE, LEVEL_MULTIPLY},
    {"//", JINJA_FLOOR_DIVIDE, LEVEL_MULTIPLY},
    {"%", JINJA_MODULO, LEVEL_MULTIPLY},
    {"**", JINJA_POWER, LEVEL_POWER},
    {"==", JINJA_EQUAL, LEVEL_COMPARE},
    {"!=", JINJA_UNEQUAL, LEVEL_COMPARE},
    {"<", JINJA_LESS, LEVEL_COMPARE},
    {"<=", JINJA_LESS_EQUAL, LEVEL_COMPARE},
    {">", JINJA_GREATER, LEVEL_COMPARE},
    {">=", JINJA_GREATER_EQUAL, LEVEL_COMPARE},
};

static bool sees_operator_of(const struct jinja_parser *p, int level, enum jinja_operator *ret)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (operators[i].level == level && jinja_parser_sees_operator(p, operators[i].sign)) {
            *ret = operators[i].op;
            return true;
        }
    return false;
}

/* left + right - right …, each level's operators from left to right */
static int parse_binary(struct jinja_parser *p, int level, struct jinja_node **ret)
{
    enum jinja_operator op;
    int rc = parse_level(p, level + 1, ret);
    while (rc == 0 && sees_operator_of(p, level, &op)) {
        rc = wrap(p, JINJA_NODE_BINARY, ret);
        if (rc == 0)
            rc = jinja_parser_advance(p);
        if (rc < 0)
            return rc;
        (*ret)->op = op;
        rc = parse_level(p, level + 1, &(*ret)->b);
        if (rc == 0)
            rc = jinja_parser_close(p, *ret);
    }
    return rc;
}

static int parse_logic(struct jinja_parser *p, int level, struct jinja_node **ret)
{
    const char *word = level == LEVEL_OR ? "or" : "and";
    int rc = parse_level(p, level + 1, ret);
    while (rc == 0 && jinja_parser_sees_name(p, word)) {
        rc = wrap(p, level == LEVEL_OR ? JINJA_NODE_OR : JINJA_NODE_AND, ret);
        if (rc == 0)
            rc = jinja_parser_advance(p);
        if (rc == 0)
            rc = parse_level(p, level + 1, &(*ret)->b);
        if (rc == 0)
            rc = jinja_parser_close(p, *ret);
    }
    return rc;
}

static int parse_not(struct jinja_parser *p, struct jinja_node **ret)
{
    if (!jinja_parser_sees_name(p, "not"))
        return parse_level(p, LEVEL_COMPARE, ret);
    int rc = jinja_parser_enter(p);
    if (rc < 0)
        return rc;
    rc = jinja_parser_node(p, JINJA_NODE_NOT, ret);
    if (rc == 0)
        rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = parse_not(p, &(*ret)->a);
    if (rc == 0)
        rc = jinja_parser_close(p, *ret);
    jinja_parser_leave(p);
    return rc;
}

/* *ret_words: how many tokens the operator has; 0: there is none here */
static int see_comparison(struct jinja_parser *p, enum jinja_operator *ret_op, int *ret_words)
{
    *ret_words = 1;
    if (sees_operator_of(p, LEVEL_COMPARE, ret_op))
        return 0;
    *ret_op = JINJA_IN;
    if (jinja_parser_sees_name(p, "in"))
        return 0;
    *ret_op = JINJA_NOT_IN;
    *ret_words = 0;
    if (!jinja_parser_sees_name(p, "not"))
        return 0;
    int rc = jinja_parser_look(p);
    if (rc == 0 && p->ahead.kind == JINJA_TOKEN_NAME && jinja_value_is(p->ahead.text, "in"))
        *ret_words = 2;
    return rc;
}

static int parse_compare(struct jinja_parser *p, struct jinja_node **ret)
{
    enum jinja_operator op;
    int words;
    int rc = parse_level(p, LEVEL_ADD, ret);
    if (rc == 0)
        rc = see_comparison(p, &op, &words);
    if (rc < 0 || !words)
        return rc;
    rc = wrap(p, JINJA_NODE_COMPARE, ret);
    if (rc < 0)
        return rc;
    struct jinja_node **last = &(*ret)->items;
    while (rc == 0 && words) {
        rc = jinja_parser_node(p, JINJA_NODE_PART, last);
        while (rc == 0 && words-- > 0)
            rc = jinja_parser_advance(p);
        if (rc < 0)
            return rc;
        (*last)->op = op;
        rc = parse_level(p, LEVEL_ADD, &(*last)->a);
        if (rc == 0)
            rc = jinja_parser_close(p, *last);
        last = &(*last)->next;
        if (rc == 0)
            rc = see_comparison(p, &op, &words);
    }
    return rc < 0 ? rc : jinja_parser_close(p, *ret);
}

static int parse_concat(struct jinja_parser *p, struct jinja_node **ret)
{
    int rc = parse_level(p, LEVEL_CONCAT + 1, ret);
    if (rc < 0 || !jinja_parser_sees_operator(p, "~"))
        return rc;
    struct jinja_node *n, **last;
    rc = jinja_parser_node(p, JINJA_NODE_CONCAT, &n);
    if (rc < 0)
        return rc;
    last = &n->items;
    struct jinja_node *operand = *ret;
    *ret = n;
    for (;;) {
        rc = jinja_parser_node(p, JINJA_NODE_PART, last);
        if (rc < 0)
            return rc;
        (*last)->a = operand;
        rc = jinja_parser_close(p, *last);
        if (rc < 0 || !jinja_parser_sees_operator(p, "~"))
            break;
        last = &(*last)->next;
        rc = jinja_parser_advance(p);
        if (rc == 0)
            rc = parse_level(p, LEVEL_CONCAT + 1, &operand);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? rc : jinja_parser_close(p, n);
}

/* Items up to a closing bracket, each with its value after a colon if they are pairs. */
static int parse_items(struct jinja_parser *p, const char *close, struct jinja_node *n)
{
    struct jinja_node **last = &n->items;
    int rc = jinja_parser_advance(p); /* the opening bracket */
    while (rc == 0 && !jinja_parser_sees_operator(p, close)) {
        if (n->items)
            rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ",");
        if (rc < 0 || (n->items && jinja_parser_sees_operator(p, close)))
            break;
        rc = jinja_parser_node(p, JINJA_NODE_PART, last);
        if (rc < 0)
            return rc;
        rc = jinja_parse_expression(p, true, &(*last)->a);
        if (rc == 0 && n->kind == JINJA_NODE_DICT) {
            rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ":");
            if (rc == 0)
                rc = jinja_parse_expression(p, true, &(*last)->b);
        }
        if (rc == 0)
            rc = jinja_parser_close(p, *last);
        last = &(*last)->next;
    }
    if (rc == 0)
        rc = jinja_parser_close(p, n);
    return rc < 0 ? rc : jinja_parser_advance(p);
}

static int parse_parentheses(struct jinja_parser *p, struct jinja_node **ret)
{
    int rc = jinja_parser_advance(p);
    if (rc == 0 && jinja_parser_sees_operator(p, ")")) {
        rc = jinja_parser_node(p, JINJA_NODE_TUPLE, ret);
        if (rc == 0)
            rc = jinja_parser_close(p, *ret);
    } else if (rc == 0) {
        rc = jinja_parse_expression_tuple(p, true, ret);
    }
    return rc < 0 ? rc : jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ")");
}

/* "a" "b" is one string. */
static int parse_strings(struct jinja_parser *p, struct jinja_node *n)
{
    struct buf b;
    buf_init(&b);
    int rc = 0, count = 0;
    n->constant = jinja_value_string(p->now.text.bytes, p->now.text.length);
    while (rc == 0 && p->now.kind == JINJA_TOKEN_STRING) {
        buf_append(&b, p->now.text.bytes, p->now.text.length);
        count++;
        rc = jinja_parser_advance(p);
    }
    if (rc == 0 && count > 1) {
        char *copy = arena_alloc(p->lex.arena, b.length);
        if (!copy || buf_failed(&b))
            rc = jinja_parser_fail(p, n->line, "the template is too large");
        else if (b.length)
            memcpy(copy, b.data, b.length);
        n->constant = jinja_value_string(copy, b.length);
    }
    buf_clear(&b);
    return rc;
}

static bool constant_of(const struct jinja_token *t, struct jinja_value *ret)
{
    if (t->kind == JINJA_TOKEN_INT)
        *ret = jinja_value_int(t->integer);
    else if (t->kind == JINJA_TOKEN_FLOAT)
        *ret = jinja_value_real(t->real);
    else if (t->kind != JINJA_TOKEN_NAME)
        return false;
    else if (jinja_value_is(t->text, "true") || jinja_value_is(t->text, "True"))
        *ret = jinja_value_bool(true);
    else if (jinja_value_is(t->text, "false") || jinja_value_is(t->text, "False"))
        *ret = jinja_value_bool(false);
    else if (jinja_value_is(t->text, "none") || jinja_value_is(t->text, "None"))
        *ret = jinja_value_none();
    else
        return false;
    return true;
}

static int parse_name(struct jinja_parser *p, struct jinja_node *n)
{
    static const char *const implied[] = {"varargs", "kwargs", "caller", "super", "self"};
    for (size_t i = 0; i < sizeof implied / sizeof *implied; i++)
        if (jinja_value_is(p->now.text, implied[i]) && (p->macros || i >= 3))
            return jinja_parser_fail(p, n->line, "'%s' is not supported", implied[i]);
    return jinja_parser_name(p, &n->name);
}

static int parse_primary(struct jinja_parser *p, struct jinja_node **ret)
{
    struct jinja_node *n;
    if (jinja_parser_sees_operator(p, "("))
        return parse_parentheses(p, ret);
    int rc = jinja_parser_node(p, JINJA_NODE_CONSTANT, &n);
    if (rc < 0)
        return rc;
    *ret = n;
    if (jinja_parser_sees_operator(p, "[") || jinja_parser_sees_operator(p, "{")) {
        bool list = jinja_parser_sees_operator(p, "[");
        n->kind = list ? JINJA_NODE_LIST : JINJA_NODE_DICT;
        return parse_items(p, list ? "]" : "}", n);
    }
    if (p->now.kind == JINJA_TOKEN_STRING) {
        rc = parse_strings(p, n);
    } else if (constant_of(&p->now, &n->constant)) {
        rc = jinja_parser_advance(p);
    } else if (p->now.kind == JINJA_TOKEN_NAME) {
        n->kind = JINJA_NODE_NAME;
        rc = parse_name(p, n);
    } else {
        return jinja_parser_unexpected(p, "a value");
    }
    return rc < 0 ? rc : jinja_parser_close(p, n);
}

/* One of the three bounds of a slice, which may be left out. */
static int parse_bound(struct jinja_parser *p, struct jinja_node **ret)
{
    if (jinja_parser_sees_operator(p, ":") || jinja_parser_sees_operator(p, "]"))
        return 0;
    return jinja_parse_expression(p, true, ret);
}

static int parse_item(struct jinja_parser *p, struct jinja_node **node)
{
    int rc = wrap(p, JINJA_NODE_ITEM, node);
    if (rc == 0)
        rc = jinja_parser_advance(p);
    if (rc < 0)
        return rc;
    struct jinja_node *n = *node, **bounds[] = {&n->b, &n->c, &n->d};
    if (jinja_parser_sees_operator(p, "]"))
        return jinja_parser_unexpected(p, "an index");
    rc = parse_bound(p, bounds[0]);
    for (int i = 1; rc == 0 && i < 3 && jinja_parser_sees_operator(p, ":"); i++) {
        n->kind = JINJA_NODE_SLICE;
        rc = jinja_parser_advance(p);
        if (rc == 0)
            rc = parse_bound(p, bounds[i]);
    }
    if (rc == 0)
        rc = jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, "]");
    return rc < 0 ? rc : jinja_parser_close(p, n);
}

static int parse_attribute(struct jinja_parser *p, struct jinja_node **node)
{
    int rc = wrap(p, JINJA_NODE_ATTRIBUTE, node);
    struct jinja_node *n = *node;
    if (rc == 0)
        rc = jinja_parser_advance(p);
    if (rc < 0)
        return rc;
    if (p->now.kind == JINJA_TOKEN_INT) { /* list.0 */
        n->kind = JINJA_NODE_ITEM;
        rc = parse_primary(p, &n->b);
        return rc < 0 ? rc : jinja_parser_close(p, n);
    }
    if (p->now.kind != JINJA_TOKEN_NAME)
        return jinja_parser_unexpected(p, "an attribute's name");
    n->name = p->now.text;
    rc = jinja_parser_advance(p);
    if (rc < 0 || !jinja_parser_sees_operator(p, "("))
        return rc < 0 ? rc : jinja_parser_close(p, n);
    n->kind = JINJA_NODE_METHOD;
    n->callable = jinja_methods_find(JINJA_MISSING, n->name);
    if (!n->callable)
        return jinja_parser_fail(p, n->line, "there is no method '%.*s'",
                                 n->name.length > 40 ? 40 : (int)n->name.length, n->name.bytes);
    rc = jinja_parse_arguments(p, n);
    if (rc == 0)
        rc = jinja_parse_arguments_bind(p, n, "method");
    return rc < 0 ? rc : jinja_parser_close(p, n);
}

static int parse_call(struct jinja_parser *p, struct jinja_node *n)
{
    if (n->kind != JINJA_NODE_NAME)
        return jinja_parser_fail(p, p->now.line, "only names and methods can be called");
    n->kind = JINJA_NODE_CALL;
    n->height = 0;
    n->callable = jinja_functions_find(n->name);
    int rc = jinja_parse_arguments(p, n);
    if (rc == 0 && n->callable)
        rc = jinja_parse_arguments_bind(p, n, "function");
    else if (rc == 0)
        rc = jinja_parser_note(p, n->name, &p->called, &p->n_called);
    return rc < 0 ? rc : jinja_parser_close(p, n);
}

static int parse_postfix(struct jinja_parser *p, struct jinja_node **node)
{
    int rc = 0;
    while (rc == 0) {
        if (jinja_parser_sees_operator(p, "."))
            rc = parse_attribute(p, node);
        else if (jinja_parser_sees_operator(p, "["))
            rc = parse_item(p, node);
        else if (jinja_parser_sees_operator(p, "("))
            rc = parse_call(p, *node);
        else
            break;
    }
    return rc;
}

static int unknown(struct jinja_parser *p, const char *what)
{
    int length = p->now.text.length > 40 ? 40 : (int)p->now.text.length;
    return jinja_parser_fail(p, p->now.line, "there is no %s '%.*s'", what, length,
                             p->now.text.bytes);
}

static int parse_filter(struct jinja_parser *p, struct jinja_node **node)
{
    int rc = jinja_parser_advance(p); /* | */
    if (rc == 0)
        rc = wrap(p, JINJA_NODE_FILTER, node);
    if (rc < 0)
        return rc;
    struct jinja_node *n = *node;
    if (p->now.kind != JINJA_TOKEN_NAME)
        return jinja_parser_unexpected(p, "a filter's name");
    n->callable = jinja_filters_find(p->now.text);
    if (!n->callable)
        return unknown(p, "filter");
    rc = jinja_parser_advance(p);
    if (rc == 0 && jinja_parser_sees_operator(p, "("))
        rc = jinja_parse_arguments(p, n);
    if (rc == 0)
        rc = jinja_parse_arguments_bind(p, n, "filter");
    return rc < 0 ? rc : jinja_parser_close(p, n);
}

/* `x is divisibleby 3`: an argument without parentheses. */
static int parse_bare_argument(struct jinja_parser *p, struct jinja_node *n)
{
    int rc = jinja_parser_node(p, JINJA_NODE_PART, &n->items);
    if (rc == 0)
        rc = parse_primary(p, &n->items->a);
    if (rc == 0)
        rc = parse_postfix(p, &n->items->a);
    return rc < 0 ? rc : jinja_parser_close(p, n->items);
}

static int parse_test(struct jinja_parser *p, struct jinja_node **node)
{
    int rc = jinja_parser_advance(p); /* is */
    bool negated = rc == 0 && jinja_parser_sees_name(p, "not");
    if (negated)
        rc = jinja_parser_advance(p);
    if (rc == 0)
        rc = wrap(p, JINJA_NODE_TEST, node);
    if (rc < 0)
        return rc;
    struct jinja_node *n = *node;
    if (p->now.kind != JINJA_TOKEN_NAME)
        return jinja_parser_unexpected(p, "a test's name");
    n->callable = jinja_tests_find(p->now.text);
    if (!n->callable)
        return unknown(p, "test");
    rc = jinja_parser_advance(p);
    if (rc == 0 && jinja_parser_sees_operator(p, "("))
        rc = jinja_parse_arguments(p, n);
    else if (rc == 0 && n->callable->n_required)
        rc = parse_bare_argument(p, n);
    if (rc == 0)
        rc = jinja_parse_arguments_bind(p, n, "test");
    if (rc == 0)
        rc = jinja_parser_close(p, n);
    if (rc < 0 || !negated)
        return rc;
    rc = wrap(p, JINJA_NODE_NOT, node);
    return rc < 0 ? rc : jinja_parser_close(p, *node);
}

static int parse_filters(struct jinja_parser *p, struct jinja_node **node)
{
    int rc = 0;
    while (rc == 0) {
        if (jinja_parser_sees_operator(p, "|"))
            rc = parse_filter(p, node);
        else if (jinja_parser_sees_name(p, "is"))
            rc = parse_test(p, node);
        else if (jinja_parser_sees_operator(p, "("))
            return jinja_parser_fail(p, p->now.line, "only names and methods can be called");
        else
            break;
    }
    return rc;
}

/* filters: a sign takes its operand without them, and they apply to both. */
static int parse_unary(struct jinja_parser *p, bool filters, struct jinja_node **ret)
{
    bool minus = jinja_parser_sees_operator(p, "-"), plus = jinja_parser_sees_operator(p, "+");
    int rc = jinja_parser_enter(p);
    if (rc < 0)
        return rc;
    if (minus || plus) {
        rc = jinja_parser_node(p, minus ? JINJA_NODE_NEGATIVE : JINJA_NODE_POSITIVE, ret);
        if (rc == 0)
            rc = jinja_parser_advance(p);
        if (rc == 0)
            rc = parse_unary(p, false, &(*ret)->a);
        if (rc == 0)
            rc = jinja_parser_close(p, *ret);
    } else {
        rc = parse_primary(p, ret);
    }
    if (rc == 0)
        rc = parse_postfix(p, ret);
    if (rc == 0 && filters)
        rc = parse_filters(p, ret);
    jinja_parser_leave(p);
    return rc;
}

static int parse_level(struct jinja_parser *p, int level, struct jinja_node **ret)
{
    switch (level) {
    case LEVEL_OR:
    case LEVEL_AND:
        return parse_logic(p, level, ret);
    case LEVEL_NOT:
        return parse_not(p, ret);
    case LEVEL_COMPARE:
        return parse_compare(p, ret);
    case LEVEL_CONCAT:
        return parse_concat(p, ret);
    case LEVEL_UNARY:
        return parse_unary(p, true, ret);
    default:
        return parse_binary(p, level, ret);
    }
}

int jinja_parse_expression(struct jinja_parser *p, bool choice, struct jinja_node **ret)
{
    int rc = jinja_parser_enter(p);
    if (rc < 0)
        return rc;
    rc = parse_level(p, LEVEL_OR, ret);
    while (rc == 0 && choice && jinja_parser_sees_name(p, "if")) {
        rc = wrap(p, JINJA_NODE_CHOICE, ret);
        if (rc == 0)
            rc = jinja_parser_advance(p);
        if (rc == 0)
            rc = parse_level(p, LEVEL_OR, &(*ret)->b);
        if (rc == 0 && jinja_parser_sees_name(p, "else")) {
            rc = jinja_parser_advance(p);
            if (rc == 0)
                rc = jinja_parse_expression(p, true, &(*ret)->c);
        }
        if (rc == 0)
            rc = jinja_parser_close(p, *ret);
    }
    jinja_parser_leave(p);
    return rc;
}

static bool ends_tuple(const struct jinja_parser *p)
{
    return p->now.kind == JINJA_TOKEN_PRINT_END || p->now.kind == JINJA_TOKEN_BLOCK_END ||
           jinja_parser_sees_operator(p, ")");
}

int jinja_parse_expression_tuple(struct jinja_parser *p, bool choice, struct jinja_node **ret)
{
    struct jinja_node *first, *tuple;
    int rc = jinja_parse_expression(p, choice, &first);
    *ret = first;
    if (rc < 0 || !jinja_parser_sees_operator(p, ","))
        return rc;
    rc = jinja_parser_node(p, JINJA_NODE_TUPLE, &tuple);
    struct jinja_node **last = rc == 0 ? &tuple->items : NULL;
    while (rc == 0) {
        rc = jinja_parser_node(p, JINJA_NODE_PART, last);
        if (rc < 0)
            return rc;
        (*last)->a = first;
        rc = jinja_parser_close(p, *last);
        last = &(*last)->next;
        if (rc < 0 || !jinja_parser_sees_operator(p, ","))
            break;
        rc = jinja_parser_advance(p);
        if (rc < 0 || ends_tuple(p))
            break;
        rc = jinja_parse_expression(p, choice, &first);
    }
    if (rc < 0)
        return rc;
    *ret = tuple;
    return jinja_parser_close(p, tuple);
}
