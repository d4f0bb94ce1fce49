/* api_usage.h - what an answer says of itself: token counts, times, log-probabilities. */
#ifndef PACELINE_COORDINATOR_API_USAGE_H
#define PACELINE_COORDINATOR_API_USAGE_H

#include "coordinator/api_generation.h"

struct api_usage {
    int64_t prompt, cached;        /* cached ones are some of the prompt's */
    int64_t completion, reasoning; /* as well */
};

struct api_usage api_usage_count(const struct api_generation *g);
/* Of all choices; 0 where the text is not taken apart. */
int64_t api_usage_reasoning_tokens(const struct api_generation *g);
json_t *api_usage_json(const struct api_generation *g);
/* llama-server's `timings`. */
json_t *api_usage_timings_json(const struct api_generation *g);

json_t *api_usage_logprob(float logprob);
/* Characters that begin in the token's bytes. */
size_t api_usage_characters(const struct api_call *c, uint32_t token);
/* {"content": [{token, logprob, bytes, top_logprobs}]} */
json_t *api_usage_chat_logprobs(const struct api_generation_piece *piece);
/* {"tokens", "token_logprobs", "top_logprobs", "text_offset"} */
json_t *api_usage_text_logprobs(const struct api_generation_piece *piece);
json_t *api_usage_token_ids(const struct api_generation_piece *piece);
json_t *api_usage_prompt_ids(const struct request *r);

#endif
