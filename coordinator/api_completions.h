/* api_completions.h - POST /v1/completions. */
#ifndef PACELINE_COORDINATOR_API_COMPLETIONS_H
#define PACELINE_COORDINATOR_API_COMPLETIONS_H

#include "coordinator/api_call.h"

void api_completions(struct api_call *c);

#endif
