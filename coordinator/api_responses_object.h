/* api_responses_object.h - a response and its parts as JSON, from a call that follows it. */
#ifndef PACELINE_COORDINATOR_API_RESPONSES_OBJECT_H
#define PACELINE_COORDINATOR_API_RESPONSES_OBJECT_H

#include "coordinator/api_generation.h"

/* "queued", "in_progress", "completed", "incomplete", "failed", "cancelled": of what was told. */
const char *api_responses_status(const struct api_call *c);
/* The whole response. status NULL: as it is; otherwise what it was when it had said nothing. */
json_t *api_responses_object(const struct api_call *c, const char *status);
/* The items of its output, one part each. */
enum api_responses_kind { API_RESPONSES_REASONING, API_RESPONSES_MESSAGE };

/* Takes apart what the newest token has shown. */
void api_responses_read(struct api_call *c);
/* Where the item stands in the output, given that it is there. */
int api_responses_index(const struct api_call *c, enum api_responses_kind kind);
/* "msg_…" or "rs_…" */
void api_responses_item_id(const struct api_call *c, enum api_responses_kind kind, char to[48]);
const struct buf *api_responses_text(const struct api_call *c, enum api_responses_kind kind);
/* is_begin: as they were without text. */
json_t *api_responses_item(const struct api_call *c, enum api_responses_kind kind, bool is_begin);
json_t *api_responses_part(const struct api_call *c, enum api_responses_kind kind, bool is_begin);
/* An array of the tokens from the record `first` on; empty where nobody asked. with_bytes: as they
 * stand in a part, not in an event. */
json_t *api_responses_logprobs(const struct api_call *c, size_t first, bool with_bytes);

#endif
