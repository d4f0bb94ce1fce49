#include "coordinator/http_connection.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
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
    c->deadline_ms = clock_now_ms() + (c->is_gone ? HTTP_FAREWELL_MS : HTTP_ARRIVAL_MS);
    http_connection_expect(c->server, c->deadline_ms);
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
        if (!c) /* libmicrohttpd's own, and the journal's */
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

/* *ret_at_ms: when to look again. */
static void http_connection_ping(struct http_connection *c, int64_t now_ms, int64_t *ret_at_ms)
{
    struct http_exchange *x = c->exchange;
    if (!x || !c->is_suspended || !x->call.is_stream || api_store_holds(&x->call) ||
        strncmp(x->call.content_type, "text/event-stream", 17) != 0)
        return;
    if (now_ms >= x->written_ms + HTTP_PING_MS) {
        buf_puts(&x->call.out, ": ping\n\n");
        http_connection_resume(c);
    } else if (x->written_ms + HTTP_PING_MS < *ret_at_ms) {
        *ret_at_ms = x->written_ms + HTTP_PING_MS;
    }
}

void http_connection_run_timers(struct http_server *s)
{
    int64_t now_ms = clock_now_ms(), next_ms = INT64_MAX;
    if (now_ms < s->next_timer_ms)
        return;
    for (struct http_connection *c = s->connections; c; c = c->next) {
        http_connection_ping(c, now_ms, &next_ms);
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
