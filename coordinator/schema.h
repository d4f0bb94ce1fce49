/* schema.h - JSON Schema (draft 2020-12, as far as docs/http.md says) as a grammar of JSON texts.
 *
 * Every text of the grammar is JSON that the schema accepts; not every JSON that it accepts is a
 * text of the grammar: members stand in the order of `properties`, white space is bounded, numbers
 * have at most 18 digits before and 17 after the point. What could not be kept is refused with the
 * path of its keyword. */
#ifndef PACELINE_COORDINATOR_SCHEMA_H
#define PACELINE_COORDINATOR_SCHEMA_H

#include "base/err.h"
#include "coordinator/grammar_expr.h"

#include <jansson.h>

/* Makes rules of the builder; *ret_rule: the one of the whole. The schema is not used after the
 * call. What all schemas of a builder cost together is bounded. ERR_INPUT: the sentence goes on
 * from the name of the source. */
int schema_read(struct grammar_builder *b, const json_t *schema, uint32_t *ret_rule,
                struct err *err);
/* The same of a tool's arguments that are written in tags: see schema_tags.h. */
int schema_read_tags(struct grammar_builder *b, const json_t *schema, uint32_t *ret_rule,
                     struct err *err);

#endif
