/* jinja_operators.h - arithmetic, comparison and membership with Python's rules. Integers are of
 * 64 bits: a result that does not fit is an error, never another number. */
#ifndef PACELINE_COORDINATOR_JINJA_OPERATORS_H
#define PACELINE_COORDINATOR_JINJA_OPERATORS_H

#include "coordinator/jinja_ast.h"

int jinja_operators_binary(struct jinja_run *r, enum jinja_operator op, const struct jinja_value *a,
                           const struct jinja_value *b, struct jinja_value *ret);
int jinja_operators_sign(struct jinja_run *r, bool negative, const struct jinja_value *a,
                         struct jinja_value *ret);
int jinja_operators_compare(struct jinja_run *r, enum jinja_operator op,
                            const struct jinja_value *a, const struct jinja_value *b, bool *ret);

#endif
