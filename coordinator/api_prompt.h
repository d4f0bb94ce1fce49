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
/* Whether the text ends with the tag, but for white space. */
bool api_prompt_ends_with(const struct buf *text, const char *tag);
/* The form that the call's body asks for, into the parameters of its generation: a model that
 * thinks may do so before the answer, and one that has tools may call them instead. A call that has
 * begun is no answer, and bound to nothing. */
int api_prompt_constrain(struct api_call *c, const struct reply_rules *rules, bool has_begun_call,
                         struct err *err);
void api_prompt_clear(struct api_prompt *p);
/* {"input_tokens": n}: POST /v1/chat/completions/input_tokens. */
void api_prompt_count(struct api_call *c);

#endif
