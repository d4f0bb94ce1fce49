/* api_responses.h - /v1/responses: OpenAI's newer way to ask, for text. A response is always a
 * stored call (api_store.h) that nobody's connection runs; whoever asked for it, or asks for it
 * again, follows. */
#ifndef PACELINE_COORDINATOR_API_RESPONSES_H
#define PACELINE_COORDINATOR_API_RESPONSES_H

#include "coordinator/api_call.h"

void api_responses_create(struct api_call *c);
/* GET /v1/responses/ID, ?stream=true&starting_after=N */
void api_responses_retrieve(struct api_call *c);
void api_responses_delete(struct api_call *c);
void api_responses_cancel(struct api_call *c); /* POST /v1/responses/ID/cancel */

#endif
