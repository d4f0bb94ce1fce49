/* api_anthropic.h - Anthropic's API for chats: POST /v1/messages and /v1/messages/count_tokens. */
#ifndef PACELINE_COORDINATOR_API_ANTHROPIC_H
#define PACELINE_COORDINATOR_API_ANTHROPIC_H

#include "coordinator/api_call.h"

void api_anthropic(struct api_call *c);
void api_anthropic_count(struct api_call *c);

#endif
