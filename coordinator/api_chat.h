/* api_chat.h - POST /v1/chat/completions. */
#ifndef PACELINE_COORDINATOR_API_CHAT_H
#define PACELINE_COORDINATOR_API_CHAT_H

#include "coordinator/api_call.h"

void api_chat(struct api_call *c);

#endif
