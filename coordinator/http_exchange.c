#include "coordinator/http_connection.h"

#include "base/clock.h"
#include "coordinator/call_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

/* A page's question, and whether the browser only asks if it may be asked. */
static void http_exchange_judge_page(const struct http_connection *c, struct api_call *call)
{
    call->page =
        (struct http_origin_question){.method = call->method,
                                      .origin = http_connection_header(c, "Origin"),
                                      .host = http_connection_header(c, "Host"),
                                      .fetch_site = http_connection_header(c, "Sec-Fetch-Site"),
                                      .fetch_mode = http_connection_header(c, "Sec-Fetch-Mode"),
                                      .fetch_dest = http_connection_header(c, "Sec-Fetch-Dest")};
    call->origin = http_origin_judge(&c->server->origins, &call->page);
    call->is_preflight = call->page.origin && strcmp(call->method, "OPTIONS") == 0 &&
                         http_connection_header(c, "Access-Control-Request-Method");
}

/* The client's own id, when it can stand in a header and a log line, or one of ours. */
static void http_exchange_name(struct http_exchange *x, const char *given)
{
    size_t length = given ? strlen(given) : 0;
    bool is_usable = length > 0 && length < sizeof x->call.request_id;
    for (size_t i = 0; is_usable && i < length; i++)
        is_usable = given[i] > 0x20 && given[i] < 0x7f;
    uint64_t bits[2] = {0};
    if (is_usable)
        memcpy(x->call.request_id, given, length + 1);
    else if (getrandom(bits, sizeof bits, GRND_NONBLOCK) == (ssize_t)sizeof bits)
        snprintf(x->call.request_id, sizeof x->call.request_id, "%016" PRIx64 "%016" PRIx64,
                 bits[0], bits[1]);
}

static struct http_exchange *http_exchange_new(struct http_connection *c, const char *method,
                                               const char *path)
{
    struct http_exchange *x = calloc(1, sizeof *x);
    char *copy = strdup(path);
    if (!x || !copy) {
        free(x);
        free(copy);
        return NULL;
    }
    x->connection = c;
    x->path = copy;
    snprintf(x->method, sizeof x->method, "%s", method);
    x->started_ms = x->written_ms = clock_now_ms();
    buf_init(&x->body);
    api_call_init(&x->call, &c->server->api, x->method, x->path);
    x->call.connection = x;
    x->call.after = http_connection_argument(c, "after");
    x->call.starting_after = http_connection_argument(c, "starting_after");
    x->call.stream = http_connection_argument(c, "stream");
    const char *last = http_connection_header(c, "Last-Event-ID");
    x->call.last_event_id = last && *last ? last : NULL;
    const char *accept = http_connection_header(c, "Accept");
    x->call.wants_event_ids =
        x->call.last_event_id || (accept && strcasestr(accept, "text/event-stream"));
    x->call.if_none_match = http_connection_header(c, "If-None-Match");
    x->call.accept_encoding = http_connection_header(c, "Accept-Encoding");
    http_exchange_judge_page(c, &x->call);
    http_exchange_name(x, http_connection_header(c, "X-Request-Id"));
    trace_context_read(&x->call.trace, http_connection_header(c, "traceparent"));
    c->exchange = x;
    c->server->n_exchanges++;
    return x;
}

static void http_exchange_free(struct http_exchange *x)
{
    const struct api_call *call = &x->call;
    call_log_end(call, clock_now_ms() - x->started_ms);
    answer_counts_add(&call->api->answers, call->route ? call->route->path : "",
                      api_call_status(call));
    x->connection->server->n_exchanges--;
    x->connection->exchange = NULL;
    api_call_clear(&x->call);
    buf_clear(&x->body);
    free(x->path);
    free(x);
}

/* libmicrohttpd has sent the answer, or given up; its requests end here if they have not yet. */
void http_exchange_completed(void *cls, struct MHD_Connection *mhd, void **context,
                             enum MHD_RequestTerminationCode code)
{
    struct http_exchange *x = *context;
    if (!x)
        return;
    struct http_connection *c = x->connection;
    *context = NULL;
    x->call.is_delivered =
        code == MHD_REQUEST_TERMINATED_COMPLETED_OK && x->call.is_complete && !x->call.is_broken;
    http_exchange_free(x);
    http_connection_served(c);
}

/* ---- questions ---- */

static void http_exchange_refuse_length(struct http_exchange *x)
{
    struct err err;
    err_set(&err, ERR_INPUT, "The body is longer than the %" PRId64 " bytes that are allowed here.",
            x->connection->server->max_body_bytes);
    api_call_refuse(&x->call, 413, "request_too_large", &err);
    x->is_refused = true;
    buf_clear(&x->body);
}

static enum MHD_Result http_exchange_add_bytes(void *cls, enum MHD_ValueKind kind, const char *name,
                                               size_t name_bytes, const char *value,
                                               size_t value_bytes)
{
    int64_t *sum = cls;
    *sum += (int64_t)(name_bytes + value_bytes) + 4; /* ": " and the line's end */
    return MHD_YES;
}

/* What libmicrohttpd has no room for at all, it has refused itself. */
static void http_exchange_check_headers(struct http_exchange *x)
{
    const struct http_connection *c = x->connection;
    struct err err;
    int64_t bytes = (int64_t)strlen(x->path);
    MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND | MHD_GET_ARGUMENT_KIND,
                                http_exchange_add_bytes, &bytes);
    if (bytes <= c->server->max_header_bytes)
        return;
    err_set(&err, ERR_INPUT,
            "The headers are longer than the %" PRId64 " bytes that are allowed here.",
            c->server->max_header_bytes);
    api_call_refuse(&x->call, 431, "headers_too_large", &err);
    x->is_refused = true;
}

static void http_exchange_refuse_connection(struct http_exchange *x)
{
    struct err err;
    err_set(&err, ERR_UNAVAILABLE,
            "This server has the %d connections already that it may have: try again later.",
            x->connection->server->max_connections);
    api_call_header(&x->call, "Connection", "close");
    api_call_refuse(&x->call, 503, "too_many_connections", &err);
    x->is_refused = true;
}

/* The length that the client announced; -1: none. What is no number, libmicrohttpd has refused. */
static int64_t http_exchange_announced(const struct http_connection *c)
{
    const char *text = http_connection_header(c, "Content-Length");
    return text ? strtoll(text, NULL, 10) : -1;
}

/* The headers are there. A refusal usually waits until the body is read, for a client that is
 * still writing may not read an answer; not if it waits for our word, or would send too much. */
static enum MHD_Result http_exchange_start(struct http_connection *c, const char *url,
                                           const char *method, void **context)
{
    struct http_exchange *x = http_exchange_new(c, method, url);
    if (!x)
        return MHD_NO;
    *context = x;
    http_connection_set_deadline(c);
    int64_t announced = http_exchange_announced(c);
    api_choose_form(&x->call);
    http_exchange_check_headers(x);
    if (c->is_surplus)
        http_exchange_refuse_connection(x);
    if (!x->is_refused)
        x->is_refused = !api_admit(&x->call, http_connection_header(c, "Authorization"),
                                   http_connection_header(c, "X-Api-Key"));
    if (!x->is_refused && announced > c->server->max_body_bytes)
        http_exchange_refuse_length(x);
    const char *expect = http_connection_header(c, "Expect");
    bool is_waiting = expect && strcasecmp(expect, "100-continue") == 0;
    if (x->is_refused && (is_waiting || announced > c->server->max_body_bytes + HTTP_EXCESS))
        return http_answer_queue(x);
    return MHD_YES;
}

static enum MHD_Result http_exchange_take_body(struct http_exchange *x, const char *data,
                                               size_t *size)
{
    if (!x->is_refused && x->body.length + *size > (size_t)x->connection->server->max_body_bytes)
        http_exchange_refuse_length(x);
    if (x->is_refused) {
        x->dropped += *size;
        if (x->dropped > (size_t)x->connection->server->max_body_bytes + HTTP_EXCESS)
            return MHD_NO;
    } else {
        buf_append(&x->body, data, *size);
        if (buf_failed(&x->body))
            return MHD_NO;
    }
    *size = 0;
    return MHD_YES;
}

/* There is an answer, or the beginning of one, that may be sent. */
static bool http_exchange_is_ready(const struct http_exchange *x)
{
    return x->call.is_stream || (x->call.is_complete && !api_store_holds(&x->call));
}

/* The question is complete: begin, or, woken up, answer. */
static enum MHD_Result http_exchange_serve(struct http_exchange *x)
{
    struct http_connection *c = x->connection;
    c->deadline_ms = INT64_MAX;
    if (!x->has_begun && !x->is_refused) {
        x->has_begun = true;
        api_begin(&x->call, buf_text(&x->body), x->body.length);
        buf_clear(&x->body);
        if (c->is_gone && !x->call.is_complete)
            api_abandon(&x->call);
    }
    if (x->call.is_broken && !x->call.is_stream)
        return MHD_NO;
    if (http_exchange_is_ready(x))
        return http_answer_queue(x);
    if (c->server->is_closing)
        return MHD_NO;
    http_connection_suspend(c);
    return MHD_YES;
}

/* With a zero byte in it, it stays as it is: cut short it would be another address. */
size_t http_exchange_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
    return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}

enum MHD_Result http_exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_connection *c = info ? info->socket_context : NULL;
    if (!c)
        return MHD_NO;
    if (!*context)
        return http_exchange_start(c, url, method, context);
    struct http_exchange *x = *context;
    if (*upload_size)
        return http_exchange_take_body(x, upload, upload_size);
    return http_exchange_serve(x);
}
