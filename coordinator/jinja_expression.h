/* jinja_expression.h - the value of an expression. */
#ifndef PACELINE_COORDINATOR_JINJA_EXPRESSION_H
#define PACELINE_COORDINATOR_JINJA_EXPRESSION_H

#include "coordinator/jinja_ast.h"

int jinja_expression_value(struct jinja_run *r, const struct jinja_node *n,
                           struct jinja_value *ret);
int jinja_expression_truth(struct jinja_run *r, const struct jinja_node *n, bool *ret);

#endif
