/* api_trace.h - GET /cluster/trace: the steps that came back since the last question. */
#ifndef PACELINE_COORDINATOR_API_TRACE_H
#define PACELINE_COORDINATOR_API_TRACE_H

#include "coordinator/api_call.h"

void api_trace(struct api_call *c);

#endif
