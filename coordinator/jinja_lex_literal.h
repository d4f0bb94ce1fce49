/* jinja_lex_literal.h - numbers and quoted strings inside a template's tags. */
#ifndef PACELINE_COORDINATOR_JINJA_LEX_LITERAL_H
#define PACELINE_COORDINATOR_JINJA_LEX_LITERAL_H

#include "coordinator/jinja_lex.h"

/* Read what stands at l->at, without moving; *ret_end: the position behind it. */
int jinja_lex_literal_string(struct jinja_lex *l, struct jinja_token *ret, size_t *ret_end);
int jinja_lex_literal_number(struct jinja_lex *l, struct jinja_token *ret, size_t *ret_end);

#endif
