/* api.h - the table of endpoints: which call goes to which file, with which rights. */
#ifndef PACELINE_COORDINATOR_API_H
#define PACELINE_COORDINATOR_API_H

#include "coordinator/api_call.h"

struct api_route {
    const char *method; /* GET serves HEAD too */
    const char *path;   /* one that ends in / matches everything below it, but for "/" itself */
    const char *end;    /* of what it matches below it; NULL: any */
    bool is_open;       /* needs no key */
    bool needs_body;
    bool generates;     /* refused while nothing is in service, or while draining */
    bool is_resumable;  /* its streams can be gone on with: Last-Event-ID */
    enum api_form form; /* of its errors */
    void (*begin)(struct api_call *c);
};

/* The route of exactly that path, or NULL. */
const struct api_route *api_route_find(const char *method, const char *path);
/* In what form a call's errors are told: before anything is refused. */
void api_choose_form(struct api_call *c);
/* Once a call's headers are there: finds its route, and judges whose page asks and the key. false:
 * the answer stands, mostly a refusal. */
bool api_admit(struct api_call *c, const char *authorization, const char *x_api_key);
/* The body is complete. Afterwards the call is complete, or waits for api_news(). */
void api_begin(struct api_call *c, const char *body, size_t length);
/* r, one of the call's requests, has changed, or the client has taken what was pending. */
void api_news(struct api_call *c);
/* The client is gone, or took too long: its requests end at once. */
void api_abandon(struct api_call *c);

#endif
