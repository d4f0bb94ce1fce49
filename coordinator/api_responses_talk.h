/* api_responses_talk.h - the talk that a body of /v1/responses goes on with, as messages of chat
 * completions. */
#ifndef PACELINE_COORDINATOR_API_RESPONSES_TALK_H
#define PACELINE_COORDINATOR_API_RESPONSES_TALK_H

#include "coordinator/api_call.h"

/* Puts the messages into the body: instructions, those of the responses before, with their answers,
 * and the input. question: the body as it came. */
int api_responses_talk_messages(struct api_call *c, const json_t *question, json_t *body,
                                struct err *err);

#endif
