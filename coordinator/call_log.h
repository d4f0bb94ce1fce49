/* call_log.h - a line of the log for each HTTP call that has ended, with the ids by which it is
 * found again in other lines and other programs. */
#ifndef PACELINE_COORDINATOR_CALL_LOG_H
#define PACELINE_COORDINATOR_CALL_LOG_H

#include "coordinator/api_call.h"

/* Without a word of what was asked or answered. Calls that did not ask the model are told at debug
 * level. */
void call_log_end(const struct api_call *c, int64_t took_ms);

#endif
