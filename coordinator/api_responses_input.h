/* api_responses_input.h - a body of /v1/responses, checked, in the words of chat completions, which
 * the files that read parameters and messages know. */
#ifndef PACELINE_COORDINATOR_API_RESPONSES_INPUT_H
#define PACELINE_COORDINATOR_API_RESPONSES_INPUT_H

#include "coordinator/api_call.h"

struct api_responses_how {
    bool is_background, is_kept, wants_logprobs;
    int64_t top_logprobs;
};

/* question: the body as it came. */
int api_responses_input_how(const json_t *question, struct api_responses_how *ret_how,
                            struct err *err);
/* *ret_body: as POST /v1/chat/completions would have it, without messages; the caller's. */
int api_responses_input_body(const json_t *question, json_t **ret_body, struct err *err);

#endif
