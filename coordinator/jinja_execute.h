/* jinja_execute.h - runs the statements of a template. */
#ifndef PACELINE_COORDINATOR_JINJA_EXECUTE_H
#define PACELINE_COORDINATOR_JINJA_EXECUTE_H

#include "coordinator/jinja_ast.h"

int jinja_execute_body(struct jinja_run *r, const struct jinja_node *body);
/* *ret: the text that the body prints, instead of the output. */
int jinja_execute_capture(struct jinja_run *r, const struct jinja_node *body,
                          struct jinja_value *ret);

#endif
