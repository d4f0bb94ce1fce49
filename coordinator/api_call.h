/* api_call.h - one HTTP call, free of any HTTP library: what was asked, and the answer as it
 * grows. The server fills the first part, api.c finds the endpoint, api_*.c write the answer. */
#ifndef PACELINE_COORDINATOR_API_CALL_H
#define PACELINE_COORDINATOR_API_CALL_H

#include "base/buf.h"
#include "base/err.h"
#include "coordinator/answer_counts.h"
#include "coordinator/chat_template.h"
#include "coordinator/coordinator.h"
#include "coordinator/histogram.h"
#include "coordinator/http_origin.h"
#include "coordinator/reply.h"
#include "coordinator/trace_context.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* What the endpoints share; one for a server. */
struct api {
    struct coordinator *coordinator; /* borrowed */
    struct chat_template *template;  /* NULL: see template_failure */
    struct err template_failure;
    enum tool_format tool_format; /* that the template teaches */
    bool thinks;                  /* the template knows of reasoning */
    struct api_store *store;      /* borrowed */
    struct plan_desk *planner;    /* borrowed */
    const char *const *keys;      /* [n_keys], borrowed; none: no key is asked for */
    const int *key_tenants;       /* [n_keys] */
    size_t n_keys;
    bool is_draining;
    struct answer_counts answers; /* since the start */
    struct histogram delivery_s;  /* of streams: from results to their bytes in the socket */
};

/* Whose object an error is. */
enum api_form { API_FORM_OPENAI, API_FORM_ANTHROPIC };

struct api_header {
    const char *name; /* a constant */
    char value[160];
};

struct api_generation;
struct api_route;
struct api_store;
struct api_stored;

/* How a call stands to the one that is stored (api_store.h). */
enum api_role {
    API_BEGINS,       /* it is new */
    API_BEGINS_AGAIN, /* it runs on from what an earlier one had, its name, seed and tokens */
    API_FOLLOWS       /* it tells what another runs, or has run */
};

struct api_call {
    struct api *api;

    /* the question */
    const char *method, *path; /* borrowed; path is decoded */
    /* Of the query (?after=…) and the headers; borrowed, NULL without them. */
    const char *after, *starting_after, *stream, *last_event_id;
    const char *if_none_match, *accept_encoding;
    bool wants_event_ids; /* it asked for an event stream by that name, so it knows what ids are */
    struct http_origin_question page; /* borrowed */
    enum http_origin origin;
    bool is_preflight;             /* a browser asks whether a page may ask */
    const struct api_route *route; /* NULL: none fits */
    enum api_form form;
    char request_id[129];
    struct trace_context trace;
    int tenant;       /* whose key was given; 0 without keys */
    json_t *body;     /* owned; NULL without one */
    const char *text; /* the body as it came, [text_length], while the call begins; borrowed */
    size_t text_length;

    /* the answer */
    int status;
    const char *content_type;
    struct api_header headers[8];
    size_t n_headers;
    const char *error_code; /* the error object's "code", where one has been agreed on */
    struct err failure;     /* code != 0: the answer is this error */
    bool is_stream;         /* the answer goes out while it is made */
    bool is_complete;       /* nothing will be added any more */
    bool is_broken;         /* the stream cannot be completed: the connection is cut */
    struct buf out;
    size_t out_taken; /* bytes of out that the server has sent */

    /* a call that waits for the model */
    struct api_generation *generation; /* owned; NULL for the others */

    bool waits_for_plan; /* at api->planner */

    /* a call that is stored */
    struct api_stored *stored;
    enum api_role role;
    bool carries;      /* its client's leaving ends what it follows */
    bool is_delivered; /* the whole answer is on its way to the client */
    uint64_t ticket;   /* nothing is sent before the journal has come so far */
    struct api_call *next_follower, *next_woken;
    bool is_woken;
    void *connection; /* the server's own; NULL: nobody listens */
};

void api_call_init(struct api_call *c, struct api *api, const char *method, const char *path);
void api_call_clear(struct api_call *c);
void api_call_header(struct api_call *c, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The complete answer; takes the reference. value NULL (no memory on the way) answers 500. */
void api_call_answer(struct api_call *c, int status, json_t *value);
/* The complete answer is what stands in out, JSON. */
void api_call_complete(struct api_call *c, int status);
/* The complete answer is an error object in the call's form, with the status that belongs to err's
 * code. */
void api_call_fail(struct api_call *c, const struct err *err);
/* … with a status of its own, and the error object's "code" (may be NULL). */
void api_call_refuse(struct api_call *c, int status, const char *code, const struct err *err);
/* The error object's "code" for a failure that has one by its kind, or NULL. */
const char *api_call_error_code(const struct err *err);
/* {"error": {…}} */
json_t *api_call_error_json(const struct api_call *c, int status, const char *code,
                            const struct err *err);
/* The model's name, which may come from a file's and need not be UTF-8. */
json_t *api_call_model_json(const struct api_call *c);
/* Of the answer; 499: the client went away before there was one. */
int api_call_status(const struct api_call *c);
/* Bytes in out that wait to be sent. */
size_t api_call_pending(const struct api_call *c);

#endif
