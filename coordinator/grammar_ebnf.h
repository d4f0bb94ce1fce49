/* grammar_ebnf.h - grammars as llama.cpp (GBNF) and vLLM's backends write them:
 *
 *     root ::= greeting (", " [a-z]+){0,3} "!"?   # a comment
 *     greeting ::= "hello" | "good day"
 *
 * Texts in double or single quotes and sets in brackets know \n \r \t \\ \" \' \[ \] \xHH \uHHHH.
 * A rule ends where the next `name ::=` begins. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_EBNF_H
#define PACELINE_COORDINATOR_GRAMMAR_EBNF_H

#include "base/err.h"
#include "coordinator/grammar_expr.h"

/* Makes the builder's rules; it must have none. text: valid UTF-8. ERR_INPUT: the sentence goes on
 * from the name of the source, and has line and column. */
int grammar_ebnf_read(struct grammar_builder *b, const char *text, size_t length, struct err *err);

#endif
