/* token_log.h - what a choice has said so far, as bytes that can be kept: its tokens and, where a
 * client asked for them, their log-probabilities. They are read back one by one, as if they had
 * come from the model. In this machine's byte order: a log never leaves it. */
#ifndef PACELINE_COORDINATOR_TOKEN_LOG_H
#define PACELINE_COORDINATOR_TOKEN_LOG_H

#include "base/buf.h"
#include "coordinator/request.h"

/* record: what is known of the token beside its id; NULL: nothing (the end of the text).
 * with_records must be the same for all of a log. */
void token_log_append(struct buf *log, uint32_t token, bool with_records,
                      const struct token_record *record);
/* The token at byte *at, which moves behind it. false: there is none, or what stands there is none
 * (*at stays then, short of the length). */
bool token_log_next(const void *log, size_t length, size_t *at, bool with_records,
                    struct batch_result *ret_result);
/* Tokens in the log; -1: it is damaged. */
int token_log_count(const void *log, size_t length, bool with_records);

#endif
