/* api_rerank.h - POST /v1/rerank: how well documents answer a query, by a model that has learnt to
 * say yes or no to that. */
#ifndef PACELINE_COORDINATOR_API_RERANK_H
#define PACELINE_COORDINATOR_API_RERANK_H

#include "coordinator/api_call.h"

void api_rerank(struct api_call *c);

#endif
