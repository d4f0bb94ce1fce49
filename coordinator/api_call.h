/* api_call.h - one HTTP call, free of any HTTP library: what was asked, and the answer as it
 * grows. The server fills the first part, api.c finds the endpoint, api_*.c write the answer. */
#ifndef PACELINE_COORDINATOR_API_CALL_H
#define PACELINE_COORDINATOR_API_CALL_H

#include "base/buf.h"
#include "base/err.h"
#include "coordinator/answer_counts.h"
#include "coordinator/chat_template.h"
#include "coordinator/coordinator.h"
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
    const char *const *keys;      /* [n_keys], borrowed; none: no key is asked for */
    const int *key_tenants;       /* [n_keys] */
    size_t n_keys;
    bool is_draining;
    struct answer_counts answers; /* since the start */
};

/* Whose object an error is. */
enum api_form { API_FORM_OPENAI, API_FORM_ANTHROPIC };

struct api_header {
    const char *name; /* a constant */
    char value[80];
};

struct api_generation;
struct api_route;

struct api_call {
    struct api *api;

    /* the question */
    const char *method, *path;     /* borrowed; path is decoded */
    const char *after;             /* ?after=… of the query, borrowed; NULL without it */
    const struct api_route *route; /* NULL: none fits */
    enum api_form form;
    char request_id[129];
    struct trace_context trace;
    int tenant;   /* whose key was given; 0 without keys */
    json_t *body; /* owned; NULL without one */

    /* the answer */
    int status;
    const char *content_type;
    struct api_header headers[4];
    size_t n_headers;
    const char *error_code; /* the error object's "code", where one has been agreed on */
    bool is_stream;         /* the answer goes out while it is made */
    bool is_complete;       /* nothing will be added any more */
    bool is_broken;         /* the stream cannot be completed: the connection is cut */
    struct buf out;
    size_t out_taken; /* bytes of out that the server has sent */

    /* a call that waits for the model */
    struct api_generation *generation; /* owned; NULL for the others */
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
