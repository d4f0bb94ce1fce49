/* http_server.c - one thread, three callers: libmicrohttpd brings bytes, the coordinator brings
 * news, the clock brings pings and deadlines. */
#include "coordinator/http_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/api_plan.h"
#include "coordinator/http_connection.h"
#include "coordinator/http_listen.h"
#include "coordinator/plan_desk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const double http_server_delivery_bounds[] = {
    .0001, .0002, .0003, .0005, .0007, .001, .0015, .002, .003, .005, .01, .025, .05, .1, .25, 1};

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
            flags | (has_tls ? MHD_USE_TLS : 0), 0, NULL, NULL, http_exchange_handle, s,
            MHD_OPTION_EXTERNAL_LOGGER, http_server_log, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
            MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify, s, MHD_OPTION_NOTIFY_COMPLETED,
            http_exchange_completed, s, MHD_OPTION_UNESCAPE_CALLBACK, http_exchange_unescape, NULL,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)(s->max_connections + HTTP_SPARE),
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_STALL_S,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(HTTP_MEMORY + 2 * s->max_header_bytes),
            MHD_OPTION_ARRAY, has_tls ? tls : none, MHD_OPTION_END);
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

static int http_server_open_planner(struct http_server *s, struct err *err)
{
    int rc = plan_desk_open(&s->api.planner, err);
    struct epoll_event event = {.events = EPOLLIN};
    if (rc == 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, plan_desk_fd(s->api.planner), &event) != 0)
        return err_set(err, ERR_NETWORK, "plans cannot be watched: %s", strerror(errno));
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
    s->max_header_bytes = spec->max_header_bytes;
    s->receive_ms = spec->receive_ms;
    s->max_connections = spec->max_connections > 0 ? spec->max_connections : 1;
    s->has_tls = spec->tls;
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
        rc = http_listen_open(spec->host, spec->port, &listen_fd, &s->port, err);
    if (rc == 0)
        rc = http_server_open_store(s, spec, err);
    if (rc == 0)
        rc = http_server_open_planner(s, err);
    if (rc != 0 && listen_fd >= 0)
        close(listen_fd);
    if (rc == 0)
        rc = http_server_start_daemon(s, spec, listen_fd, err);
    if (rc != 0) {
        http_server_close(s);
        return rc;
    }
    http_server_read_template(s);
    histogram_init(&s->api.delivery_s, http_server_delivery_bounds,
                   sizeof http_server_delivery_bounds / sizeof http_server_delivery_bounds[0]);
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
        http_connection_resume(c);
    }
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    api_store_free(s->api.store);
    plan_desk_close(s->api.planner);
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

/* Its connection goes on, if there is something to send. */
static void http_server_show(struct http_exchange *x)
{
    if (!x->answered_us && x->call.is_stream && api_call_pending(&x->call) &&
        !api_store_holds(&x->call))
        x->answered_us = x->connection->server->answered_us;
    if (x->call.is_complete || (x->call.is_stream && api_call_pending(&x->call)))
        http_connection_resume(x->connection);
}

/* Results become bytes that wait to be sent, for those who asked and those who follow them. */
static void http_server_take_news(struct http_server *s)
{
    struct request *r;
    struct api_call *call;
    s->answered_us = coordinator_take_answered_us(s->api.coordinator);
    while ((r = coordinator_take_changed(s->api.coordinator))) {
        call = r->owner;
        struct http_exchange *x = call ? call->connection : NULL;
        if (call)
            api_news(call);
        if (x)
            http_server_show(x);
    }
    while ((call = api_store_take_woken(s->api.store)))
        http_server_show(call->connection);
    s->answered_us = 0;
}

/* Calls that waited for the journal. */
static void http_server_run_store(struct http_server *s)
{
    bool has_settled = api_store_run(s->api.store, &s->api);
    for (struct http_connection *c = s->connections; has_settled && c; c = c->next)
        if (c->exchange && c->is_suspended)
            http_server_show(c->exchange);
}

static void http_server_take_plans(struct http_server *s)
{
    struct api_call *call;
    while ((call = api_plan_take(&s->api)))
        http_server_show(call->connection);
}

/* libmicrohttpd takes the bytes of those that were resumed in one run, and sends most in the next.
 */
static void http_server_send(struct http_server *s)
{
    bool has_resumed = s->has_resumed;
    s->has_resumed = false;
    MHD_run(s->daemon);
    if (has_resumed)
        MHD_run(s->daemon);
}

/* Results leave before anything else is done that takes time. */
void http_server_run(struct http_server *s)
{
    http_connection_watch(s);
    http_server_take_news(s);
    http_server_send(s);
    http_server_run_store(s);
    http_server_take_news(s); /* of what has just begun */
    http_server_take_plans(s);
    http_connection_run_timers(s);
    if (s->has_resumed)
        http_server_send(s);
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
