/* jinja_parse_expression.h - the expressions of a template, by jinja2's precedence. */
#ifndef PACELINE_COORDINATOR_JINJA_PARSE_EXPRESSION_H
#define PACELINE_COORDINATOR_JINJA_PARSE_EXPRESSION_H

#include "coordinator/jinja_parser.h"

/* choice: `a if b else c` may stand there. */
int jinja_parse_expression(struct jinja_parser *p, bool choice, struct jinja_node **ret);
/* The same, or several with commas between: a tuple. */
int jinja_parse_expression_tuple(struct jinja_parser *p, bool choice, struct jinja_node **ret);

#endif
