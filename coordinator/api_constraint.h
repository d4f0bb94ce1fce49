/* api_constraint.h - what an answer must be, as clients say it: OpenAI's `response_format`, vLLM's
 * `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` and `structured_outputs`. */
#ifndef PACELINE_COORDINATOR_API_CONSTRAINT_H
#define PACELINE_COORDINATOR_API_CONSTRAINT_H

#include "coordinator/api_call.h"
#include "coordinator/constraint.h"

/* The one that the call's body asks for, held by the caller; NULL: none. manner: whether the model
 * thinks or calls tools; NULL: neither. Failures name the parameter. */
int api_constraint_read(const struct api_call *c, const struct constraint_manner *manner,
                        struct constraint **ret_constraint, struct err *err);

#endif
