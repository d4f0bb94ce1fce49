/* api_chat.h - POST /v1/chat/completions, and the way from its body to a request, which other APIs
 * for chats take too. */
#ifndef PACELINE_COORDINATOR_API_CHAT_H
#define PACELINE_COORDINATOR_API_CHAT_H

#include "coordinator/api_generation.h"

void api_chat(struct api_call *c);
/* What the call's body, in the form of /v1/chat/completions, asks for, is begun; the answer has the
 * given format. */
void api_chat_begin(struct api_call *c, const struct api_generation_format *format);

#endif
