/* jinja_parser.h - what the parsers of statements and of expressions share. */
#ifndef PACELINE_COORDINATOR_JINJA_PARSER_H
#define PACELINE_COORDINATOR_JINJA_PARSER_H

#include "coordinator/jinja_ast.h"
#include "coordinator/jinja_lex.h"

enum { JINJA_PARSER_MAX_DEPTH = 200, JINJA_PARSER_MAX_HEIGHT = 200, JINJA_PARSER_MAX_NAMES = 5000 };

struct jinja_parser {
    struct jinja_lex lex;
    struct jinja_token now, ahead;
    bool has_ahead;
    int depth; /* of the recursion */
    int loops; /* open in this macro */
    int macros;
    struct jinja_node *names;  /* PARTs: macros and assigned names, which can be called */
    struct jinja_node *called; /* PARTs: calls of names that are no functions */
    int n_names, n_called;
    struct err *err;
};

int jinja_parser_fail(struct jinja_parser *p, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "…, line 3: <what> 'the token'" */
int jinja_parser_unexpected(struct jinja_parser *p, const char *wanted);
int jinja_parser_advance(struct jinja_parser *p);
int jinja_parser_look(struct jinja_parser *p); /* fills p->ahead */
bool jinja_parser_sees(const struct jinja_parser *p, enum jinja_token_kind kind, const char *text);
bool jinja_parser_sees_name(const struct jinja_parser *p, const char *text);
bool jinja_parser_sees_operator(const struct jinja_parser *p, const char *text);
int jinja_parser_expect(struct jinja_parser *p, enum jinja_token_kind kind, const char *text);
int jinja_parser_name(struct jinja_parser *p, struct jinja_string *ret); /* not a reserved one */
int jinja_parser_node(struct jinja_parser *p, enum jinja_node_kind kind, struct jinja_node **ret);
/* Computes the height once all children are there; refuses one that is too high. */
int jinja_parser_close(struct jinja_parser *p, struct jinja_node *n);
/* Puts a PART with that name in front of the list; refuses too many. */
int jinja_parser_note(struct jinja_parser *p, struct jinja_string name, struct jinja_node **list,
                      int *count);
int jinja_parser_enter(struct jinja_parser *p);
void jinja_parser_leave(struct jinja_parser *p);

#endif
