/* api_embeddings.h - POST /v1/embeddings. */
#ifndef PACELINE_COORDINATOR_API_EMBEDDINGS_H
#define PACELINE_COORDINATOR_API_EMBEDDINGS_H

#include "coordinator/api_call.h"

void api_embeddings(struct api_call *c);

#endif
