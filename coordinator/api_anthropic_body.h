/* api_anthropic_body.h - a question in the form of Anthropic's API as one in the form of
 * /v1/chat/completions, which everything behind it understands. */
#ifndef PACELINE_COORDINATOR_API_ANTHROPIC_BODY_H
#define PACELINE_COORDINATOR_API_ANTHROPIC_BODY_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* *ret_body: a new object that shares values with from. counts: nothing is generated, so that
 * max_tokens may be absent. */
int api_anthropic_body(const json_t *from, bool counts, json_t **ret_body, struct err *err);

#endif
