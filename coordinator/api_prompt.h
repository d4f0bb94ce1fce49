/* api_prompt.h - a chat's messages and tools to the text that the model reads, and how what it
 * writes behind that is to be taken apart. */
#ifndef PACELINE_COORDINATOR_API_PROMPT_H
#define PACELINE_COORDINATOR_API_PROMPT_H

#include "coordinator/api_call.h"
#include "coordinator/api_tools.h"
#include "coordinator/reply.h"

struct api_prompt {
    struct buf text;
    struct buf begin; /* the end of text that belongs to the reply: a call that was asked for */
    struct api_tools tools;
    struct reply_rules rules;
};

/* Of the call's body. Call api_prompt_clear() after success and failure alike, here and below. */
int api_prompt_make(struct api_prompt *p, struct api_call *c, struct err *err);
/* Of a body whose prompt is known, as n tokens: the messages are not looked at, and `text` is no
 * more than the prompt's end. */
int api_prompt_again(struct api_prompt *p, const struct api *api, const json_t *body,
                     const uint32_t *ids, size_t n, struct err *err);
/* The form that the call's body asks for, into the parameters of its generation: a model that
 * thinks may do so before the answer, and one that has tools may call them instead. A call that is
 * required is no answer, and has a form of its own. */
int api_prompt_constrain(const struct api_prompt *p, struct api_call *c, struct err *err);
void api_prompt_clear(struct api_prompt *p);
/* {"input_tokens": n}: POST /v1/chat/completions/input_tokens. */
void api_prompt_count(struct api_call *c);

#endif
