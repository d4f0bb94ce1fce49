/* api_constraint.h - what an answer must be, as clients say it: OpenAI's `response_format`, vLLM's
 * `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` and `structured_outputs`. */
#ifndef PACELINE_COORDINATOR_API_CONSTRAINT_H
#define PACELINE_COORDINATOR_API_CONSTRAINT_H

#include "coordinator/api_call.h"
#include "coordinator/constraint.h"

/* The one that the call's body asks for, held by the caller; NULL: none. Failures name the
 * parameter. */
int api_constraint_read(const struct api_call *c, struct constraint **ret_constraint,
                        struct err *err);
/* The same of a format alone, {"type": "text" | "json_object" | "json_schema", …}, which is called
 * `param` in sentences. Its schema stands in `json_schema.schema`, or in `schema`. */
int api_constraint_read_format(const struct api_call *c, const json_t *format, const char *param,
                               struct constraint **ret_constraint, struct err *err);

#endif
