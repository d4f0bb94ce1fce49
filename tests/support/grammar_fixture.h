/* grammar_fixture.h - texts against grammars, byte by byte. */
#ifndef PACELINE_TESTS_SUPPORT_GRAMMAR_FIXTURE_H
#define PACELINE_TESTS_SUPPORT_GRAMMAR_FIXTURE_H

#include "coordinator/constraint.h"
#include "coordinator/grammar.h"

#include <stdbool.h>
#include <stddef.h>

/* The compiled source; a failure to compile fails the test. */
struct grammar *grammar_of(const struct constraint_source *source);
struct grammar *grammar_of_text(enum constraint_kind kind, const char *text);
struct grammar *grammar_of_schema(const char *json);
/* The sentence with which the source is refused; one that is not fails the test. For the call. */
const char *grammar_refusal(enum constraint_kind kind, const char *text);
/* Whether the text may stand there whole. *ret_alive: how many of its bytes may come. */
bool grammar_accepts(const struct grammar *g, const char *text, size_t length, size_t *ret_alive);
/* texts: NULL-terminated. Every prefix of those that are accepted is alive. */
void expect_texts(const struct grammar *g, bool accepted, const char *const *texts);

#endif
