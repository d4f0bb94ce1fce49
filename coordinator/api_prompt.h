/* api_prompt.h - a chat's messages and tools to the text that the model reads, and how what it
 * writes behind that is to be taken apart. */
#ifndef PACELINE_COORDINATOR_API_PROMPT_H
#define PACELINE_COORDINATOR_API_PROMPT_H

#include "coordinator/api_call.h"
#include "coordinator/reply.h"

struct api_prompt {
    struct buf text;
    struct buf begin; /* the end of text that belongs to the reply: a call that was asked for */
    struct reply_rules rules;
};

/* Of the call's body. Call api_prompt_clear() after success and failure alike. */
int api_prompt_make(struct api_prompt *p, struct api_call *c, struct err *err);
void api_prompt_clear(struct api_prompt *p);
/* {"input_tokens": n}: POST /v1/chat/completions/input_tokens. */
void api_prompt_count(struct api_call *c);

#endif
