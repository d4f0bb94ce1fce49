/* jinja_ast.h - a parsed template. All of it lives in the template's arena. */
#ifndef PACELINE_COORDINATOR_JINJA_AST_H
#define PACELINE_COORDINATOR_JINJA_AST_H

#include "coordinator/jinja_callable.h"

enum jinja_node_kind {
    /* statements */
    JINJA_NODE_TEXT,       /* constant */
    JINJA_NODE_PRINT,      /* a */
    JINJA_NODE_IF,         /* items: branches, each with a condition a (NULL: else) and a body */
    JINJA_NODE_FOR,        /* target a, over b, filter c or NULL; body, orelse */
    JINJA_NODE_SET,        /* target a = b */
    JINJA_NODE_SET_BLOCK,  /* target a, body */
    JINJA_NODE_MACRO,      /* name; items: parameters, each with a default a or NULL; body */
    JINJA_NODE_GENERATION, /* body */
    JINJA_NODE_BREAK,
    JINJA_NODE_CONTINUE,
    /* expressions */
    JINJA_NODE_CONSTANT,
    JINJA_NODE_NAME,
    JINJA_NODE_LIST,      /* items */
    JINJA_NODE_TUPLE,     /* items; also as a target */
    JINJA_NODE_DICT,      /* items: pairs a, b */
    JINJA_NODE_ATTRIBUTE, /* a.name; also as a target */
    JINJA_NODE_ITEM,      /* a[b] */
    JINJA_NODE_SLICE,     /* a[b:c:d], each of b, c, d may be NULL */
    JINJA_NODE_CALL,      /* name(items); an item's name is empty if it is positional */
    JINJA_NODE_METHOD,    /* a.name(items) */
    JINJA_NODE_FILTER,    /* a | name(items) */
    JINJA_NODE_TEST,      /* a is name(items) */
    JINJA_NODE_NOT,
    JINJA_NODE_NEGATIVE,
    JINJA_NODE_POSITIVE,
    JINJA_NODE_BINARY, /* a op b */
    JINJA_NODE_AND,
    JINJA_NODE_OR,
    JINJA_NODE_CONCAT,  /* items */
    JINJA_NODE_COMPARE, /* a; items: each an operand a with its op */
    JINJA_NODE_CHOICE,  /* a if b else c (or NULL) */
    JINJA_NODE_PART     /* one of the items above */
};

enum jinja_operator {
    JINJA_ADD,
    JINJA_SUBTRACT,
    JINJA_MULTIPLY,
    JINJA_DIVIDE,
    JINJA_FLOOR_DIVIDE,
    JINJA_MODULO,
    JINJA_POWER,
    JINJA_EQUAL,
    JINJA_UNEQUAL,
    JINJA_LESS,
    JINJA_LESS_EQUAL,
    JINJA_GREATER,
    JINJA_GREATER_EQUAL,
    JINJA_IN,
    JINJA_NOT_IN
};

struct jinja_node {
    enum jinja_node_kind kind;
    enum jinja_operator op;
    int line;
    int height; /* of the tree below: bounds the stack that evaluating takes */
    struct jinja_string name;
    struct jinja_value constant;
    struct jinja_node *a, *b, *c, *d;
    struct jinja_node *items, *body, *orelse; /* lists by `next` */
    struct jinja_node *next;
    const struct jinja_callable *callable; /* of CALL (unless it is a macro), FILTER, TEST */
    struct jinja_node **bound;             /* its arguments by parameter; NULL where not given */
};

#endif
