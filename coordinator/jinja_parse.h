/* jinja_parse.h - template text to tree. */
#ifndef PACELINE_COORDINATOR_JINJA_PARSE_H
#define PACELINE_COORDINATOR_JINJA_PARSE_H

#include "coordinator/jinja_ast.h"

/* *ret_body: the statements, in the arena. ERR_MODEL names the construct and its line. */
int jinja_parse(struct jinja_node **ret_body, struct arena *arena, const char *source,
                size_t length, struct err *err);

#endif
