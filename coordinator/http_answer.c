#include "coordinator/http_connection.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void http_answer_steal(struct http_exchange *x, char **ret_data, size_t *ret_length)
{
    *ret_length = x->call.out.length;
    *ret_data = x->call.out.data;
    buf_init(&x->call.out);
}

/* libmicrohttpd asks for more when the socket has what it was given before. */
static void http_answer_note_delivery(struct http_exchange *x)
{
    if (!x->answered_us)
        return;
    histogram_add(&x->call.api->delivery_s, (double)(clock_now_us() - x->answered_us) / 1e6);
    x->answered_us = 0;
}

/* Gives the next bytes of a stream; with none at hand, the connection sleeps until there is news.
 */
static ssize_t http_answer_read(void *cls, uint64_t position, char *to, size_t room)
{
    struct http_exchange *x = cls;
    struct api_call *call = &x->call;
    if (api_call_pending(call) == 0 && !call->is_complete)
        api_news(call); /* what was left for a slow reader */
    if (call->is_broken)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    bool is_held = api_store_holds(call);
    size_t count = is_held ? 0 : api_call_pending(call);
    if (count == 0)
        http_answer_note_delivery(x);
    if (count == 0 && call->is_complete && !is_held)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (count == 0) {
        http_connection_suspend(x->connection);
        http_connection_expect(x->connection->server, x->written_ms + HTTP_PING_MS);
        return 0;
    }
    if (count > room)
        count = room;
    memcpy(to, call->out.data + call->out_taken, count);
    call->out_taken += count;
    if (api_call_pending(call) == 0) {
        buf_reset(&call->out);
        call->out_taken = 0;
    }
    x->written_ms = clock_now_ms();
    return (ssize_t)count;
}

static struct MHD_Response *http_answer_make(struct http_exchange *x)
{
    if (x->call.is_stream)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_BLOCK, http_answer_read, x,
                                                 NULL);
    char *data;
    size_t length;
    http_answer_steal(x, &data, &length);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, data, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(data);
    return response;
}

/* To whoever called as a part of a larger trace: which part of it this was. */
static void http_answer_tell_trace(struct MHD_Response *response, const struct trace_context *t)
{
    char value[64];
    if (!t->trace_id[0])
        return;
    snprintf(value, sizeof value, "00-%s-%s-%s", t->trace_id, t->span_id, t->flags);
    MHD_add_response_header(response, "traceresponse", value);
}

/* What a browser wants to hear before it shows an answer to a page of another origin. */
static void http_answer_tell_page(struct MHD_Response *response, const struct http_exchange *x)
{
    static const char exposed[] = "X-Request-Id, Retry-After, traceresponse, X-Paceline-Rows, "
                                  "X-Paceline-Vocabulary";
    const struct api_call *call = &x->call;
    if (x->connection->server->origins.allowed)
        MHD_add_response_header(response, "Vary", "Origin");
    if (call->origin != HTTP_ORIGIN_ALLOWED)
        return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", call->page.origin);
    MHD_add_response_header(response, "Access-Control-Expose-Headers", exposed);
    if (!call->is_preflight)
        return;
    const char *wanted = http_connection_header(x->connection, "Access-Control-Request-Headers");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE");
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            wanted ? wanted : "Authorization, Content-Type");
    MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    if (http_connection_header(x->connection, "Access-Control-Request-Private-Network"))
        MHD_add_response_header(response, "Access-Control-Allow-Private-Network", "true");
}

enum MHD_Result http_answer_queue(struct http_exchange *x)
{
    struct MHD_Response *response = http_answer_make(x);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", x->call.content_type);
    MHD_add_response_header(response, "X-Request-Id", x->call.request_id);
    http_answer_tell_trace(response, &x->call.trace);
    http_answer_tell_page(response, x);
    for (size_t i = 0; i < x->call.n_headers; i++)
        MHD_add_response_header(response, x->call.headers[i].name, x->call.headers[i].value);
    x->connection->deadline_ms = INT64_MAX;
    enum MHD_Result queued =
        MHD_queue_response(x->connection->mhd, (unsigned)x->call.status, response);
    MHD_destroy_response(response);
    return queued;
}
