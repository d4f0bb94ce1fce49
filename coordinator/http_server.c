/* http_server.c - one thread, three callers: libmicrohttpd brings bytes, the coordinator brings
 * news, the clock brings pings and deadlines.
 *
 * A call that waits is suspended in libmicrohttpd, which then looks away from its socket. So an
 * epoll descriptor of our own watches every connection for the client's farewell, and holds
 * libmicrohttpd's descriptor too: the one that http_server_fd() gives out. */
#include "coordinator/http_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/api.h"
#include "coordinator/call_log.h"
#include "coordinator/http_listen.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HTTP_SERVER_PING_MS = 15 * 1000,       /* a comment for proxies that close silent streams */
    HTTP_SERVER_ARRIVAL_MS = 60 * 1000,    /* for headers (idle time included), and then the body */
    HTTP_SERVER_FAREWELL_MS = 1000,        /* for what a client sent before it closed its side */
    HTTP_SERVER_STALL_S = 120,             /* libmicrohttpd's: nothing read or written */
    HTTP_SERVER_MEMORY = 64 * 1024,        /* of a connection: its headers, and its write buffer */
    HTTP_SERVER_EXCESS = 64 * 1024 * 1024, /* read and dropped, so that the 413 can be read */
    HTTP_SERVER_EVENTS = 64
};

/* One question and its answer; a connection carries one after the other. */
struct http_exchange {
    struct http_connection *connection;
    char method[16];
    char *path;
    struct buf body;
    size_t dropped;  /* bytes of the body that nobody wants */
    bool is_refused; /* the answer stood before the body came */
    bool has_begun;
    int64_t started_ms, written_ms;
    struct api_call call;
};

struct http_connection {
    struct http_server *server;
    struct MHD_Connection *mhd;
    int fd;
    bool is_suspended;
    bool is_gone;                   /* the client has closed its side */
    int64_t deadline_ms;            /* for the next whole request; INT64_MAX: it is there */
    struct http_exchange *exchange; /* NULL between two requests */
    struct http_connection *next, *previous;
};

struct http_server {
    struct api api;
    char **keys; /* copies */
    int *key_tenants;
    struct http_origin_rules origins;
    struct MHD_Daemon *daemon;
    int epoll_fd, port;
    int64_t max_body_bytes;
    int64_t next_timer_ms; /* no ping and no deadline is due before */
    bool is_closing;
    bool has_resumed; /* libmicrohttpd has to run again */
    int n_exchanges;
    struct http_connection *connections;
};

/* ---- connections ---- */

static void http_server_expect(struct http_server *s, int64_t at_ms)
{
    if (at_ms < s->next_timer_ms)
        s->next_timer_ms = at_ms;
}

static void http_server_set_deadline(struct http_connection *c)
{
    c->deadline_ms =
        clock_now_ms() + (c->is_gone ? HTTP_SERVER_FAREWELL_MS : HTTP_SERVER_ARRIVAL_MS);
    http_server_expect(c->server, c->deadline_ms);
}

static void http_server_suspend(struct http_connection *c)
{
    c->is_suspended = true;
    MHD_suspend_connection(c->mhd);
}

static void http_server_resume(struct http_connection *c)
{
    if (!c->is_suspended)
        return;
    c->is_suspended = false;
    c->server->has_resumed = true;
    MHD_resume_connection(c->mhd);
}

static void http_server_connected(struct http_server *s, struct MHD_Connection *mhd, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct http_connection *c = calloc(1, sizeof *c);
    *context = NULL; /* the handler refuses to serve it */
    if (!c || !info) {
        free(c);
        return;
    }
    *context = c;
    c->server = s;
    c->mhd = mhd;
    c->fd = info->connect_fd;
    c->next = s->connections;
    if (c->next)
        c->next->previous = c;
    s->connections = c;
    http_server_set_deadline(c);
    /* Once is enough: a client that has gone does not come back. */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = c};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        log_warning("a vanished client will be noticed late: epoll_ctl: %s", strerror(errno));
}

static void http_server_disconnected(struct http_server *s, void **context)
{
    struct http_connection *c = *context;
    if (!c)
        return;
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->next)
        c->next->previous = c->previous;
    if (c->previous)
        c->previous->next = c->next;
    else
        s->connections = c->next;
    free(c);
    *context = NULL;
}

static void http_server_notify(void *cls, struct MHD_Connection *mhd, void **context,
                               enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        http_server_connected(cls, mhd, context);
    else
        http_server_disconnected(cls, context);
}

/* ---- exchanges ---- */

static const char *http_server_header(const struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

static const char *http_server_argument(const struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_GET_ARGUMENT_KIND, name);
}

/* A page's question, and whether the browser only asks if it may be asked. */
static void http_server_judge_page(const struct http_connection *c, struct api_call *call)
{
    call->page =
        (struct http_origin_question){.method = call->method,
                                      .origin = http_server_header(c, "Origin"),
                                      .host = http_server_header(c, "Host"),
                                      .fetch_site = http_server_header(c, "Sec-Fetch-Site"),
                                      .fetch_mode = http_server_header(c, "Sec-Fetch-Mode"),
                                      .fetch_dest = http_server_header(c, "Sec-Fetch-Dest")};
    call->origin = http_origin_judge(&c->server->origins, &call->page);
    call->is_preflight = call->page.origin && strcmp(call->method, "OPTIONS") == 0 &&
                         http_server_header(c, "Access-Control-Request-Method");
}

/* The client's own id, when it can stand in a header and a log line, or one of ours. */
static void http_server_name(struct http_exchange *x, const char *given)
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
    x->call.after = http_server_argument(c, "after");
    x->call.starting_after = http_server_argument(c, "starting_after");
    x->call.stream = http_server_argument(c, "stream");
    const char *last = http_server_header(c, "Last-Event-ID");
    x->call.last_event_id = last && *last ? last : NULL;
    const char *accept = http_server_header(c, "Accept");
    x->call.wants_event_ids =
        x->call.last_event_id || (accept && strcasestr(accept, "text/event-stream"));
    x->call.if_none_match = http_server_header(c, "If-None-Match");
    x->call.accept_encoding = http_server_header(c, "Accept-Encoding");
    http_server_judge_page(c, &x->call);
    http_server_name(x, http_server_header(c, "X-Request-Id"));
    trace_context_read(&x->call.trace, http_server_header(c, "traceparent"));
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
static void http_server_completed(void *cls, struct MHD_Connection *mhd, void **context,
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
    http_server_set_deadline(c);
}

/* ---- answers ---- */

static void http_server_steal(struct http_exchange *x, char **ret_data, size_t *ret_length)
{
    *ret_length = x->call.out.length;
    *ret_data = x->call.out.data;
    buf_init(&x->call.out);
}

/* Gives the next bytes of a stream; with none at hand, the connection sleeps until there is news.
 */
static ssize_t http_server_read(void *cls, uint64_t position, char *to, size_t room)
{
    struct http_exchange *x = cls;
    struct api_call *call = &x->call;
    if (api_call_pending(call) == 0 && !call->is_complete)
        api_news(call); /* what was left for a slow reader */
    if (call->is_broken)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    bool is_held = api_store_holds(call);
    size_t count = is_held ? 0 : api_call_pending(call);
    if (count == 0 && call->is_complete && !is_held)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (count == 0) {
        http_server_suspend(x->connection);
        http_server_expect(x->connection->server, x->written_ms + HTTP_SERVER_PING_MS);
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

static struct MHD_Response *http_server_response(struct http_exchange *x)
{
    if (x->call.is_stream)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_SERVER_MEMORY,
                                                 http_server_read, x, NULL);
    char *data;
    size_t length;
    http_server_steal(x, &data, &length);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, data, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(data);
    return response;
}

/* To whoever called as a part of a larger trace: which part of it this was. */
static void http_server_tell_trace(struct MHD_Response *response, const struct trace_context *t)
{
    char value[64];
    if (!t->trace_id[0])
        return;
    snprintf(value, sizeof value, "00-%s-%s-%s", t->trace_id, t->span_id, t->flags);
    MHD_add_response_header(response, "traceresponse", value);
}

/* What a browser wants to hear before it shows an answer to a page of another origin. */
static void http_server_tell_page(struct MHD_Response *response, const struct http_exchange *x)
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
    const char *wanted = http_server_header(x->connection, "Access-Control-Request-Headers");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE");
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            wanted ? wanted : "Authorization, Content-Type");
    MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    if (http_server_header(x->connection, "Access-Control-Request-Private-Network"))
        MHD_add_response_header(response, "Access-Control-Allow-Private-Network", "true");
}

static enum MHD_Result http_server_queue(struct http_exchange *x)
{
    struct MHD_Response *response = http_server_response(x);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", x->call.content_type);
    MHD_add_response_header(response, "X-Request-Id", x->call.request_id);
    http_server_tell_trace(response, &x->call.trace);
    http_server_tell_page(response, x);
    for (size_t i = 0; i < x->call.n_headers; i++)
        MHD_add_response_header(response, x->call.headers[i].name, x->call.headers[i].value);
    x->connection->deadline_ms = INT64_MAX;
    enum MHD_Result queued =
        MHD_queue_response(x->connection->mhd, (unsigned)x->call.status, response);
    MHD_destroy_response(response);
    return queued;
}

/* ---- questions ---- */

static void http_server_refuse_length(struct http_exchange *x)
{
    struct err err;
    err_set(&err, ERR_INPUT, "The body is longer than the %" PRId64 " bytes that are allowed here.",
            x->connection->server->max_body_bytes);
    api_call_refuse(&x->call, 413, "request_too_large", &err);
    x->is_refused = true;
    buf_clear(&x->body);
}

/* The length that the client announced; -1: none. What is no number, libmicrohttpd has refused. */
static int64_t http_server_announced(const struct http_connection *c)
{
    const char *text = http_server_header(c, "Content-Length");
    return text ? strtoll(text, NULL, 10) : -1;
}

/* The headers are there. A refusal usually waits until the body is read, for a client that is
 * still writing may not read an answer; not if it waits for our word, or would send too much. */
static enum MHD_Result http_server_start(struct http_connection *c, const char *url,
                                         const char *method, void **context)
{
    struct http_exchange *x = http_exchange_new(c, method, url);
    if (!x)
        return MHD_NO;
    *context = x;
    http_server_set_deadline(c);
    int64_t announced = http_server_announced(c);
    x->is_refused = !api_admit(&x->call, http_server_header(c, "Authorization"),
                               http_server_header(c, "X-Api-Key"));
    if (!x->is_refused && announced > c->server->max_body_bytes)
        http_server_refuse_length(x);
    const char *expect = http_server_header(c, "Expect");
    bool is_waiting = expect && strcasecmp(expect, "100-continue") == 0;
    if (x->is_refused && (is_waiting || announced > c->server->max_body_bytes + HTTP_SERVER_EXCESS))
        return http_server_queue(x);
    return MHD_YES;
}

static enum MHD_Result http_server_take_body(struct http_exchange *x, const char *data,
                                             size_t *size)
{
    if (!x->is_refused && x->body.length + *size > (size_t)x->connection->server->max_body_bytes)
        http_server_refuse_length(x);
    if (x->is_refused) {
        x->dropped += *size;
        if (x->dropped > (size_t)x->connection->server->max_body_bytes + HTTP_SERVER_EXCESS)
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
static bool http_server_is_ready(const struct http_exchange *x)
{
    return x->call.is_stream || (x->call.is_complete && !api_store_holds(&x->call));
}

/* The question is complete: begin, or, woken up, answer. */
static enum MHD_Result http_server_serve(struct http_exchange *x)
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
    if (http_server_is_ready(x))
        return http_server_queue(x);
    if (c->server->is_closing)
        return MHD_NO;
    http_server_suspend(c);
    return MHD_YES;
}

static enum MHD_Result http_server_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                          const char *method, const char *version,
                                          const char *upload, size_t *upload_size, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_connection *c = info ? info->socket_context : NULL;
    if (!c)
        return MHD_NO;
    if (!*context)
        return http_server_start(c, url, method, context);
    struct http_exchange *x = *context;
    if (*upload_size)
        return http_server_take_body(x, upload, upload_size);
    return http_server_serve(x);
}

static void http_server_log(void *cls, const char *format, va_list args)
{
    char line[256];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\r\n")] = '\0';
    log_debug("http: %s", line);
}

/* ---- life ---- */

/* libmicrohttpd copies what it is given, and says no more than that it did not work. */
static int http_server_start_daemon(struct http_server *s, const struct http_server_spec *spec,
                                    int listen_fd, struct err *err)
{
    unsigned flags = MHD_USE_ERROR_LOG | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    const bool has_tls = spec->tls && MHD_is_feature_supported(MHD_FEATURE_TLS) == MHD_YES;
    const struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, has_tls ? spec->tls->certificate : NULL},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, has_tls ? spec->tls->key : NULL},
        {MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    if (!spec->tls || has_tls)
        s->daemon = MHD_start_daemon(
            flags | (has_tls ? MHD_USE_TLS : 0), 0, NULL, NULL, http_server_handle, s,
            MHD_OPTION_EXTERNAL_LOGGER, http_server_log, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
            MHD_OPTION_NOTIFY_CONNECTION, http_server_notify, s, MHD_OPTION_NOTIFY_COMPLETED,
            http_server_completed, s, MHD_OPTION_CONNECTION_LIMIT,
            (unsigned)(spec->max_connections > 0 ? spec->max_connections : 1),
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_SERVER_STALL_S,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_SERVER_MEMORY, MHD_OPTION_ARRAY,
            has_tls ? tls : none, MHD_OPTION_END);
    if (!s->daemon) {
        close(listen_fd);
        return err_set(err, spec->tls ? ERR_CONFIG : ERR_NETWORK,
                       "the HTTP%s server on %s:%d could not be started%s", spec->tls ? "S" : "",
                       spec->host, spec->port,
                       !spec->tls ? ""
                       : has_tls  ? ": GnuTLS does not take the certificate or its key"
                                  : ": this libmicrohttpd was built without TLS");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event event = {.events = EPOLLIN};
    if (!info || epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, info->epoll_fd, &event) != 0)
        return err_set(err, ERR_NETWORK, "the HTTP server's events cannot be watched: %s",
                       strerror(errno));
    return 0;
}

static int http_server_copy_keys(struct http_server *s, const struct http_server_spec *spec,
                                 struct err *err)
{
    s->keys = calloc(spec->n_api_keys + 1, sizeof *s->keys);
    s->key_tenants = calloc(spec->n_api_keys + 1, sizeof *s->key_tenants);
    for (size_t i = 0; s->keys && s->key_tenants && i < spec->n_api_keys; i++) {
        s->keys[i] = strdup(spec->api_keys[i]);
        if (!s->keys[i])
            break;
        if (spec->key_tenants)
            s->key_tenants[i] = spec->key_tenants[i];
        s->api.n_keys++;
    }
    s->api.key_tenants = s->key_tenants;
    s->api.keys = (const char *const *)s->keys;
    if (!s->keys || !s->key_tenants || s->api.n_keys < spec->n_api_keys)
        return err_set(err, ERR_MEMORY, "no memory for the HTTP server");
    return 0;
}

/* A model without a usable template still completes text, so this is no failure here. */
static void http_server_read_template(struct http_server *s)
{
    size_t length = 0;
    const char *source = weight_file_string(coordinator_weights(s->api.coordinator),
                                            "tokenizer.chat_template", &length);
    struct err *err = &s->api.template_failure;
    if (!source)
        err_set(err, ERR_MODEL, "its file has no chat template (tokenizer.chat_template).");
    else if (chat_template_new(&s->api.template, source, length, err) != 0)
        log_warning("the model's chat template cannot be used: %s", err->text);
    if (!s->api.template)
        return;
    s->api.tool_format = tool_calls_format(source, length);
    s->api.thinks = reply_thinks(source, length);
}

static int http_server_open_store(struct http_server *s, const struct http_server_spec *spec,
                                  struct err *err)
{
    int rc = api_store_new(&s->api.store, &spec->store, err);
    int fd = rc == 0 ? api_store_fd(s->api.store) : -1;
    struct epoll_event event = {.events = EPOLLIN};
    if (fd >= 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return err_set(err, ERR_NETWORK, "the journal's events cannot be watched: %s",
                       strerror(errno));
    return rc;
}

int http_server_open(struct http_server **ret_server, const struct http_server_spec *spec,
                     struct err *err)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for the HTTP server");
    s->api.coordinator = spec->coordinator;
    s->max_body_bytes = spec->max_body_bytes;
    s->origins = (struct http_origin_rules){.allowed = spec->cors_origins,
                                            .checks_host = spec->n_api_keys == 0};
    s->next_timer_ms = INT64_MAX;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listen_fd = -1;
    int rc = 0;
    if (s->epoll_fd < 0)
        rc = err_set(err, ERR_NETWORK, "epoll_create1: %s", strerror(errno));
    if (rc == 0)
        rc = http_server_copy_keys(s, spec, err);
    if (rc == 0)
        rc = http_server_open_store(s, spec, err);
    if (rc == 0)
        rc = http_listen_open(spec->host, spec->port, &listen_fd, &s->port, err);
    if (rc == 0)
        rc = http_server_start_daemon(s, spec, listen_fd, err);
    if (rc != 0) {
        http_server_close(s);
        return rc;
    }
    http_server_read_template(s);
    *ret_server = s;
    return 0;
}

void http_server_close(struct http_server *s)
{
    if (!s)
        return;
    s->is_closing = true;
    if (s->api.store)
        api_store_close(s->api.store);
    /* libmicrohttpd cannot be stopped while connections are suspended. */
    for (struct http_connection *c = s->connections; c; c = c->next) {
        if (c->exchange && !c->exchange->call.is_complete)
            api_abandon(&c->exchange->call);
        http_server_resume(c);
    }
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    api_store_free(s->api.store);
    chat_template_free(s->api.template);
    for (size_t i = 0; i < s->api.n_keys; i++) {
        explicit_bzero(s->keys[i], strlen(s->keys[i]));
        free(s->keys[i]);
    }
    free(s->keys);
    free(s->key_tenants);
    free(s);
}

int http_server_port(const struct http_server *s)
{
    return s->port;
}

int http_server_fd(const struct http_server *s)
{
    return s->epoll_fd;
}

/* ---- running ---- */

int http_server_wait_ms(const struct http_server *s)
{
    int64_t wait = -1;
    MHD_UNSIGNED_LONG_LONG mhd_ms;
    if (MHD_get_timeout(s->daemon, &mhd_ms) == MHD_YES)
        wait = mhd_ms < INT32_MAX ? (int64_t)mhd_ms : INT32_MAX;
    if (s->next_timer_ms != INT64_MAX) {
        int64_t left = s->next_timer_ms - clock_now_ms();
        left = left < 0 ? 0 : left;
        if (wait < 0 || left < wait)
            wait = left;
    }
    return wait > INT32_MAX ? INT32_MAX : (int)wait;
}

/* Clients that have closed: their requests are cancelled before anything else is computed. */
static void http_server_watch(struct http_server *s)
{
    struct epoll_event events[HTTP_SERVER_EVENTS];
    int count = epoll_wait(s->epoll_fd, events, HTTP_SERVER_EVENTS, 0);
    for (int i = 0; i < count; i++) {
        struct http_connection *c = events[i].data.ptr;
        if (!c) /* libmicrohttpd's own, and the journal's */
            continue;
        c->is_gone = true;
        if (c->deadline_ms != INT64_MAX)
            http_server_set_deadline(c); /* what is missing of its request will not come */
        struct http_exchange *x = c->exchange;
        if (x && x->has_begun && !x->call.is_complete) {
            api_abandon(&x->call);
            http_server_resume(c);
        }
    }
}

/* Its connection goes on, if there is something to send. */
static void http_server_show(struct http_exchange *x)
{
    if (x->call.is_complete || (x->call.is_stream && api_call_pending(&x->call)))
        http_server_resume(x->connection);
}

static void http_server_take_news(struct http_server *s)
{
    struct request *r;
    while ((r = coordinator_take_changed(s->api.coordinator))) {
        struct api_call *call = r->owner;
        struct http_exchange *x = call ? call->connection : NULL;
        if (call)
            api_news(call);
        if (x)
            http_server_show(x);
    }
}

/* Calls that follow others, and those that waited for the journal. */
static void http_server_take_store(struct http_server *s)
{
    struct api_call *call;
    bool has_settled = api_store_run(s->api.store, &s->api);
    while ((call = api_store_take_woken(s->api.store)))
        http_server_show(call->connection);
    for (struct http_connection *c = s->connections; has_settled && c; c = c->next)
        if (c->exchange && c->is_suspended)
            http_server_show(c->exchange);
}

/* *ret_at_ms: when to look again. */
static void http_server_ping(struct http_connection *c, int64_t now_ms, int64_t *ret_at_ms)
{
    struct http_exchange *x = c->exchange;
    if (!x || !c->is_suspended || !x->call.is_stream || api_store_holds(&x->call) ||
        strncmp(x->call.content_type, "text/event-stream", 17) != 0)
        return;
    if (now_ms >= x->written_ms + HTTP_SERVER_PING_MS) {
        buf_puts(&x->call.out, ": ping\n\n");
        http_server_resume(c);
    } else if (x->written_ms + HTTP_SERVER_PING_MS < *ret_at_ms) {
        *ret_at_ms = x->written_ms + HTTP_SERVER_PING_MS;
    }
}

static void http_server_run_timers(struct http_server *s)
{
    int64_t now_ms = clock_now_ms(), next_ms = INT64_MAX;
    if (now_ms < s->next_timer_ms)
        return;
    for (struct http_connection *c = s->connections; c; c = c->next) {
        http_server_ping(c, now_ms, &next_ms);
        if (c->deadline_ms == INT64_MAX)
            continue;
        if (now_ms >= c->deadline_ms) {
            /* libmicrohttpd sees the end of input and closes. */
            shutdown(c->fd, SHUT_RDWR);
            c->deadline_ms = INT64_MAX;
        } else if (c->deadline_ms < next_ms) {
            next_ms = c->deadline_ms;
        }
    }
    s->next_timer_ms = next_ms;
}

void http_server_run(struct http_server *s)
{
    http_server_watch(s);
    MHD_run(s->daemon);
    s->has_resumed = false;
    http_server_take_news(s);
    http_server_take_store(s);
    http_server_run_timers(s);
    if (s->has_resumed) {
        s->has_resumed = false;
        MHD_run(s->daemon);
    }
}

void http_server_drain(struct http_server *s)
{
    s->api.is_draining = true;
}

void http_server_give_up(struct http_server *s)
{
    api_store_close(s->api.store);
}

bool http_server_is_idle(const struct http_server *s)
{
    return s->n_exchanges == 0;
}
