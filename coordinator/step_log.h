/* step_log.h - at debug level: whose rows a step carries. Workers log the step's number and epoch
 * alone, for they know nothing of requests; here the two are joined. */
#ifndef PACELINE_COORDINATOR_STEP_LOG_H
#define PACELINE_COORDINATOR_STEP_LOG_H

#include "coordinator/pipeline.h"

/* s has been sent. */
void step_log_sent(uint64_t epoch, const struct pipeline_step *s);

#endif
