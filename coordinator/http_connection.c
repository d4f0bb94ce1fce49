#include "coordinator/http_connection.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/http_socket.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void http_connection_expect(struct http_server *s, int64_t at_ms)
{
    if (at_ms < s->next_timer_ms)
        s->next_timer_ms = at_ms;
}

void http_connection_set_deadline(struct http_connection *c)
{
    c->deadline_ms = clock_now_ms() + (c->is_gone      ? HTTP_FAREWELL_MS
                                       : c->is_surplus ? HTTP_SURPLUS_MS
                                                       : c->server->receive_ms);
    http_connection_expect(c->server, c->deadline_ms);
}

void http_connection_served(struct http_connection *c)
{
    c->was_served = true;
    c->received = http_socket_received(c->fd);
    http_connection_set_deadline(c);
}

static void http_connection_leave_room(struct http_connection *c)
{
    if (!c->is_ended && !c->is_surplus)
        c->server->n_open--;
}

/* libmicrohttpd sees the end of input and closes. */
static void http_connection_end(struct http_connection *c)
{
    shutdown(c->fd, SHUT_RDWR);
    c->deadline_ms = INT64_MAX;
    http_connection_leave_room(c);
    c->is_ended = true;
}

/* To whom has begun a request and not finished it; libmicrohttpd can answer only what is whole.
 * Over TLS it ends without a word. */
static void http_connection_time_out(struct http_connection *c)
{
    char body[256], text[512];
    struct http_server *s = c->server;
    if (!s->has_tls && !c->is_gone && (c->exchange || http_socket_received(c->fd) > c->received)) {
        int length =
            snprintf(body, sizeof body,
                     "{\"error\":{\"message\":\"The request did not come within the %" PRId64
                     " s that are allowed here for its headers, and then for its body.\",\"type\":"
                     "\"timeout_error\",\"param\":null,\"code\":\"request_timeout\"}}",
                     s->receive_ms / 1000);
        length = snprintf(text, sizeof text,
                          "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: "
                          "application/json\r\nContent-Length: %d\r\n\r\n%s",
                          length, body);
        http_socket_tell(c->fd, text, (size_t)length);
    }
    if (c->exchange)
        c->exchange->call.status = 408; /* for log and counts */
    http_connection_end(c);
}

/* Whoever has idled longest between two requests gives way. */
static void http_connection_make_room(struct http_server *s)
{
    struct http_connection *idlest = NULL;
    int64_t latest_ms = clock_now_ms() + s->receive_ms - HTTP_IDLE_MS;
    for (struct http_connection *c = s->connections; c; c = c->next)
        if (c->was_served && !c->exchange && !c->is_ended && !c->is_surplus &&
            c->deadline_ms <= latest_ms) {
            idlest = c;
            latest_ms = c->deadline_ms;
        }
    if (idlest)
        http_connection_end(idlest);
}

/* One that came when there was no room is refused in words, on one of a few spare places. */
static void http_connection_find_room(struct http_connection *c)
{
    struct http_server *s = c->server;
    int64_t now_ms = clock_now_ms();
    if (s->n_open >= s->max_connections)
        http_connection_make_room(s);
    c->is_surplus = s->n_open >= s->max_connections;
    s->n_open += !c->is_surplus;
    if (!c->is_surplus || now_ms < s->tell_full_ms)
        return;
    s->tell_full_ms = now_ms + HTTP_TELL_MS;
    log_warning("all %d HTTP connections are taken: others are refused (--max-connections)",
                s->max_connections);
}

void http_connection_suspend(struct http_connection *c)
{
    c->is_suspended = true;
    MHD_suspend_connection(c->mhd);
}

void http_connection_resume(struct http_connection *c)
{
    if (!c->is_suspended)
        return;
    c->is_suspended = false;
    c->server->has_resumed = true;
    MHD_resume_connection(c->mhd);
}

static void http_connection_open(struct http_server *s, struct MHD_Connection *mhd, void **context)
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
    http_connection_find_room(c);
    http_connection_set_deadline(c);
    /* Once is enough: a client that has gone does not come back. */
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = c};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        log_warning("a vanished client will be noticed late: epoll_ctl: %s", strerror(errno));
}

static void http_connection_close(struct http_server *s, void **context)
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
    http_connection_leave_room(c);
    free(c);
    *context = NULL;
}

void http_connection_notify(void *cls, struct MHD_Connection *mhd, void **context,
                            enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        http_connection_open(cls, mhd, context);
    else
        http_connection_close(cls, context);
}

const char *http_connection_header(const struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

const char *http_connection_argument(const struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_GET_ARGUMENT_KIND, name);
}

/* Clients that have closed: their requests are cancelled before anything else is computed. */
void http_connection_watch(struct http_server *s)
{
    struct epoll_event events[HTTP_EVENTS];
    int count = epoll_wait(s->epoll_fd, events, HTTP_EVENTS, 0);
    for (int i = 0; i < count; i++) {
        struct http_connection *c = events[i].data.ptr;
        if (!c) /* libmicrohttpd's own, the journal's, and that of plans */
            continue;
        c->is_gone = true;
        if (c->deadline_ms != INT64_MAX)
            http_connection_set_deadline(c); /* what is missing of its request will not come */
        struct http_exchange *x = c->exchange;
        if (x && x->has_begun && !x->call.is_complete) {
            api_abandon(&x->call);
            http_connection_resume(c);
        }
    }
}

/* *ret_at_ms: when to look again. *n: pings that this turn may send yet. */
static void http_connection_ping(struct http_connection *c, int64_t now_ms, int *n,
                                 int64_t *ret_at_ms)
{
    struct http_exchange *x = c->exchange;
    if (!x || !c->is_suspended || !x->call.is_stream || api_store_holds(&x->call) ||
        strncmp(x->call.content_type, "text/event-stream", 17) != 0)
        return;
    int64_t due_ms = x->written_ms + HTTP_PING_MS;
    if (now_ms >= due_ms && *n > 0) {
        (*n)--;
        buf_puts(&x->call.out, ": ping\n\n");
        http_connection_resume(c);
    } else if (due_ms < *ret_at_ms) {
        *ret_at_ms = due_ms > now_ms ? due_ms : now_ms + 1;
    }
}

void http_connection_run_timers(struct http_server *s)
{
    int64_t now_ms = clock_now_ms(), next_ms = INT64_MAX;
    int n_pings = HTTP_PINGS;
    if (now_ms < s->next_timer_ms)
        return;
    for (struct http_connection *c = s->connections; c; c = c->next) {
        http_connection_ping(c, now_ms, &n_pings, &next_ms);
        if (c->deadline_ms == INT64_MAX)
            continue;
        if (now_ms >= c->deadline_ms) {
            http_connection_time_out(c);
        } else if (c->deadline_ms < next_ms) {
            next_ms = c->deadline_ms;
        }
    }
    s->next_timer_ms = next_ms;
}
