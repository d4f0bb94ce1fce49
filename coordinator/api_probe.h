/* api_probe.h - POST /v1/probe: what the model thinks of given tokens, as logits or as the
 * log-probability of each. */
#ifndef PACELINE_COORDINATOR_API_PROBE_H
#define PACELINE_COORDINATOR_API_PROBE_H

#include "coordinator/api_call.h"

void api_probe(struct api_call *c);

#endif
