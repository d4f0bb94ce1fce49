/* api_tokens.h - text to ids and back, and messages to text, without asking the model. */
#ifndef PACELINE_COORDINATOR_API_TOKENS_H
#define PACELINE_COORDINATOR_API_TOKENS_H

#include "coordinator/api_call.h"

void api_tokens_tokenize(struct api_call *c);
void api_tokens_detokenize(struct api_call *c);
void api_tokens_apply_template(struct api_call *c);

#endif
