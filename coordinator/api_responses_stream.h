/* api_responses_stream.h - a response as typed events. Their order and numbers depend on the tokens
 * alone, one delta for each that shows text, so that a client may go on after any of them. */
#ifndef PACELINE_COORDINATOR_API_RESPONSES_STREAM_H
#define PACELINE_COORDINATOR_API_RESPONSES_STREAM_H

#include "coordinator/api_call.h"

/* Writes what is new of the stored call that c follows. */
void api_responses_stream(struct api_call *c);

#endif
