/* api_messages.h - a client's messages and tools, checked, normalised and rendered by the model's
 * own template. */
#ifndef PACELINE_COORDINATOR_API_MESSAGES_H
#define PACELINE_COORDINATOR_API_MESSAGES_H

#include "coordinator/api_call.h"
#include "coordinator/api_tools.h"

enum { API_MESSAGES_MOST = 8192 };

/* Reads messages, reasoning_effort, chat_template_kwargs and continue_final_message of the body;
 * appends the prompt's text. */
int api_messages_render(struct api_call *c, const struct api_tools *tools, struct buf *out,
                        struct err *err);

#endif
