/* api_metrics.h - GET /metrics: what Prometheus collects. docs/observability.md lists all names. */
#ifndef PACELINE_COORDINATOR_API_METRICS_H
#define PACELINE_COORDINATOR_API_METRICS_H

#include "coordinator/api_call.h"

void api_metrics(struct api_call *c);

#endif
