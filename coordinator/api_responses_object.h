/* api_responses_object.h - a response and its parts as JSON, from a call that follows it. */
#ifndef PACELINE_COORDINATOR_API_RESPONSES_OBJECT_H
#define PACELINE_COORDINATOR_API_RESPONSES_OBJECT_H

#include "coordinator/api_generation.h"

/* "queued", "in_progress", "completed", "incomplete", "failed", "cancelled": of what was told. */
const char *api_responses_status(const struct api_call *c);
/* The whole response. status NULL: as it is; otherwise what it was when it had said nothing. */
json_t *api_responses_object(const struct api_call *c, const char *status);

/* ---- the output: items in the order in which they began, each with one part of text, or a call
 * ---- */

enum api_responses_kind { API_RESPONSES_REASONING, API_RESPONSES_MESSAGE, API_RESPONSES_CALL };
struct api_responses_item {
    enum api_responses_kind kind;
    size_t number;                   /* among those of its kind */
    size_t from, to;                 /* bytes of what the reply has of that kind; of calls: none */
    size_t first_record, end_record; /* the tokens that have shown it */
    size_t told, records_told;       /* as a stream: of both, where the next delta begins */
};

/* Takes apart what the newest token has shown. */
void api_responses_read(struct api_call *c);
/* The text, or a call's arguments, [*ret_length] bytes. */
const char *api_responses_text(const struct api_call *c, const struct api_responses_item *item,
                               size_t *ret_length);
/* "msg_…", "rs_…" or "fc_…" */
void api_responses_item_id(const struct api_call *c, const struct api_responses_item *item,
                           char to[48]);
/* is_begin: as they were without text. */
json_t *api_responses_item(const struct api_call *c, const struct api_responses_item *item,
                           bool is_begin);
json_t *api_responses_part(const struct api_call *c, const struct api_responses_item *item,
                           bool is_begin);
/* An array of the tokens [first, end); empty where nobody asked. with_bytes: as they stand in a
 * part, not in an event. */
json_t *api_responses_logprobs(const struct api_call *c, size_t first, size_t end, bool with_bytes);

#endif
