/* jinja_macro.h - macros: a body that sees the names where it was defined, and its arguments. */
#ifndef PACELINE_COORDINATOR_JINJA_MACRO_H
#define PACELINE_COORDINATOR_JINJA_MACRO_H

#include "coordinator/jinja_ast.h"

struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_scope *scope;
};

int jinja_macro_define(struct jinja_run *r, const struct jinja_node *n);
/* *ret: the text that it prints. */
int jinja_macro_call(struct jinja_run *r, const struct jinja_macro *macro,
                     const struct jinja_node *call, struct jinja_value *ret);

#endif
