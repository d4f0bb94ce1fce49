#include "coordinator/api.h"

#include "coordinator/access.h"
#include "coordinator/api_admin.h"
#include "coordinator/api_anthropic.h"
#include "coordinator/api_chat.h"
#include "coordinator/api_completions.h"
#include "coordinator/api_embeddings.h"
#include "coordinator/api_generation.h"
#include "coordinator/api_metrics.h"
#include "coordinator/api_plan.h"
#include "coordinator/api_probe.h"
#include "coordinator/api_prompt.h"
#include "coordinator/api_replay.h"
#include "coordinator/api_rerank.h"
#include "coordinator/api_responses.h"
#include "coordinator/api_static.h"
#include "coordinator/api_store.h"
#include "coordinator/api_tokens.h"
#include "coordinator/api_trace.h"
#include "coordinator/json_body.h"

#include <stdio.h>
#include <string.h>

static const struct api_route api_routes[] = {
    {"GET", "/", .is_open = true, .begin = api_static},
    {"GET", "/page/", .is_open = true, .begin = api_static},
    {"GET", "/health", .is_open = true, .begin = api_admin_health},
    {"GET", "/v1/health", .is_open = true, .begin = api_admin_health},
    {"GET", "/ready", .is_open = true, .begin = api_admin_ready},
    {"GET", "/metrics", .begin = api_metrics},
    {"GET", "/models", .begin = api_admin_models},
    {"GET", "/v1/models", .begin = api_admin_models},
    {"GET", "/v1/models/", .begin = api_admin_model},
    {"GET", "/openapi.json", .begin = api_static},
    {"GET", "/cluster", .begin = api_admin_cluster},
    {"GET", "/cluster/trace", .begin = api_trace},
    {"GET", "/cluster/plan", .begin = api_plan_choices},
    {"POST", "/cluster/plan", .needs_body = true, .begin = api_plan},
    {"POST", "/cluster/drain", .needs_body = true, .begin = api_admin_drain},
    {"POST", "/cluster/resume", .needs_body = true, .begin = api_admin_resume},
    {"POST", "/v1/chat/completions", .needs_body = true, .generates = true, .is_resumable = true,
     .begin = api_chat},
    {"POST", "/chat/completions", .needs_body = true, .generates = true, .is_resumable = true,
     .begin = api_chat},
    {"POST", "/v1/completions", .needs_body = true, .generates = true, .is_resumable = true,
     .begin = api_completions},
    {"POST", "/completions", .needs_body = true, .generates = true, .is_resumable = true,
     .begin = api_completions},
    {"POST", "/v1/responses", .needs_body = true, .generates = true, .is_resumable = true,
     .begin = api_responses_create},
    {"GET", "/v1/responses/", .begin = api_responses_retrieve},
    {"DELETE", "/v1/responses/", .begin = api_responses_delete},
    {"POST", "/v1/responses/", .end = "/cancel", .begin = api_responses_cancel},
    {"POST", "/v1/chat/completions/input_tokens", .needs_body = true, .begin = api_prompt_count},
    {"POST", "/v1/messages", .needs_body = true, .generates = true, .is_resumable = true,
     .form = API_FORM_ANTHROPIC, .begin = api_anthropic},
    {"POST", "/v1/messages/count_tokens", .needs_body = true, .form = API_FORM_ANTHROPIC,
     .begin = api_anthropic_count},
    {"POST", "/v1/embeddings", .needs_body = true, .generates = true, .begin = api_embeddings},
    {"POST", "/embeddings", .needs_body = true, .generates = true, .begin = api_embeddings},
    {"POST", "/v1/rerank", .needs_body = true, .generates = true, .begin = api_rerank},
    {"POST", "/rerank", .needs_body = true, .generates = true, .begin = api_rerank},
    {"POST", "/v1/probe", .needs_body = true, .generates = true, .begin = api_probe},
    {"POST", "/tokenize", .needs_body = true, .begin = api_tokens_tokenize},
    {"POST", "/detokenize", .needs_body = true, .begin = api_tokens_detokenize},
    {"POST", "/apply-template", .needs_body = true, .begin = api_tokens_apply_template},
};

static bool api_path_matches(const struct api_route *r, const char *path)
{
    size_t length = strlen(r->path), n = strlen(path), end = r->end ? strlen(r->end) : 0;
    if (length > 1 && r->path[length - 1] == '/')
        return strncmp(path, r->path, length) == 0 && n > length + end &&
               (!end || strcmp(path + n - end, r->end) == 0);
    return strcmp(path, r->path) == 0;
}

static bool api_method_matches(const struct api_route *r, const char *method)
{
    return strcmp(r->method, method) == 0 ||
           (strcmp(r->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* *ret_other: a route of that path with another method. */
static const struct api_route *api_find(const struct api_call *c,
                                        const struct api_route **ret_other)
{
    for (size_t i = 0; i < sizeof api_routes / sizeof api_routes[0]; i++) {
        const struct api_route *r = &api_routes[i];
        if (!api_path_matches(r, c->path))
            continue;
        if (api_method_matches(r, c->method))
            return r;
        *ret_other = r;
    }
    return NULL;
}

const struct api_route *api_route_find(const char *method, const char *path)
{
    for (size_t i = 0; i < sizeof api_routes / sizeof api_routes[0]; i++)
        if (strcmp(api_routes[i].method, method) == 0 && strcmp(api_routes[i].path, path) == 0)
            return &api_routes[i];
    return NULL;
}

static bool api_refuse_key(struct api_call *c, bool was_given)
{
    struct err err;
    err_set(&err, ERR_AUTH,
            was_given ? "The API key is not one of this server's keys."
                      : "This server needs an API key: send 'Authorization: Bearer KEY'.");
    api_call_refuse(c, 401, "invalid_api_key", &err);
    return false;
}

/* The methods of all routes of that path: "GET, HEAD, POST". */
static void api_methods(const char *path, char *to, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof api_routes / sizeof api_routes[0]; i++) {
        const struct api_route *r = &api_routes[i];
        if (!api_path_matches(r, path) || n >= size)
            continue;
        n += (size_t)snprintf(to + n, size - n, "%s%s", n ? ", " : "",
                              strcmp(r->method, "GET") == 0 ? "GET, HEAD" : r->method);
    }
}

static bool api_refuse_path(struct api_call *c, const struct api_route *other)
{
    struct err err;
    char methods[64];
    if (!other) {
        err_set(&err, ERR_NOT_FOUND, "There is nothing at %s %s.", c->method, c->path);
        api_call_refuse(c, 404, NULL, &err);
        return false;
    }
    api_methods(c->path, methods, sizeof methods);
    err_set(&err, ERR_INPUT, "%s is not possible at %s; use %s.", c->method, c->path, methods);
    api_call_header(c, "Allow", "%s", methods);
    api_call_refuse(c, 405, NULL, &err);
    return false;
}

static bool api_refuse_page(struct api_call *c)
{
    struct err err;
    if (c->origin == HTTP_ORIGIN_WRONG_HOST)
        err_set(&err, ERR_AUTH,
                "This server is not known as %.200s, a name by which web pages could reach it: use "
                "its address or localhost, or allow the name: --cors-origin http://NAME.",
                c->page.host);
    else
        err_set(&err, ERR_AUTH,
                "Web pages of %.200s may not use this server: --cors-origin allows them.",
                c->page.origin ? c->page.origin : "other sites");
    api_call_refuse(c, 403,
                    c->origin == HTTP_ORIGIN_WRONG_HOST ? "host_not_allowed" : "origin_not_allowed",
                    &err);
    return false;
}

void api_choose_form(struct api_call *c)
{
    const struct api_route *other = NULL, *route = api_find(c, &other);
    c->form = route ? route->form : other ? other->form : API_FORM_OPENAI;
}

bool api_admit(struct api_call *c, const char *authorization, const char *x_api_key)
{
    const struct api_route *other = NULL;
    c->route = api_find(c, &other);
    if (c->origin == HTTP_ORIGIN_STRANGE || c->origin == HTTP_ORIGIN_WRONG_HOST)
        return api_refuse_page(c);
    if (c->is_preflight) {
        api_call_complete(c, 204);
        return false;
    }
    bool is_open = c->api->n_keys == 0 || (c->route && c->route->is_open);
    const char *key = authorization ? access_bearer(authorization) : x_api_key;
    size_t index = access_find(c->api->keys, c->api->n_keys, key);
    if (!is_open && index == c->api->n_keys)
        return api_refuse_key(c, authorization || x_api_key);
    if (index < c->api->n_keys)
        c->tenant = c->api->key_tenants[index];
    if (!c->route)
        return api_refuse_path(c, other);
    return true;
}

static bool api_is_available(struct api_call *c)
{
    struct err err;
    struct coordinator_status status;
    if (c->api->is_draining) {
        err_set(&err, ERR_UNAVAILABLE, "The server is shutting down and takes no new requests.");
        api_call_fail(c, &err);
        return false;
    }
    coordinator_status(c->api->coordinator, &status);
    if (status.ready || status.is_degraded)
        return true;
    err_set(&err, ERR_UNAVAILABLE, "The model is not in service yet: %s", status.waiting_for);
    api_call_fail(c, &err);
    return false;
}

void api_begin(struct api_call *c, const char *body, size_t length)
{
    struct err err = {0};
    if (c->route->is_resumable && c->last_event_id) {
        api_replay_resume(c);
        return;
    }
    if (c->route->generates && !api_is_available(c))
        return;
    if (c->route->needs_body && json_body_read(&c->body, body, length, &err) != 0) {
        api_call_fail(c, &err);
        return;
    }
    c->text = body;
    c->text_length = length;
    c->route->begin(c);
    c->text = NULL;
}

void api_news(struct api_call *c)
{
    if (!c->connection)
        api_store_news(c); /* afterwards c may be gone */
    else if (c->generation && !c->is_complete)
        api_generation_news(c);
}

void api_abandon(struct api_call *c)
{
    api_store_leave(c);
    api_plan_leave(c);
    api_generation_free(c->generation);
    c->generation = NULL;
    c->is_complete = true;
    c->is_broken = true;
}
