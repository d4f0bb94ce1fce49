/* api_constraint.h - what an answer must be, as clients say it: OpenAI's `response_format`, vLLM's
 * `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` and `structured_outputs`. */
#ifndef PACELINE_COORDINATOR_API_CONSTRAINT_H
#define PACELINE_COORDINATOR_API_CONSTRAINT_H

#include "coordinator/api_call.h"
#include "coordinator/constraint.h"

/* How the model answers. */
struct api_constraint_how {
    struct constraint_manner manner;
    const struct constraint_calls *calls; /* what its calls must be; NULL: anything */
};

/* The one that the call's body asks for, held by the caller; NULL: none. how: NULL: a model that
 * neither thinks nor calls tools. Failures name the parameter. */
int api_constraint_read(const struct api_call *c, const struct api_constraint_how *how,
                        struct constraint **ret_constraint, struct err *err);

#endif
