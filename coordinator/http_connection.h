/* http_connection.h - the parts of http_server.c: a connection, the exchanges on it one after the
 * other, and their answers. For these files alone.
 *
 * A call that waits is suspended in libmicrohttpd, which then looks away from its socket. So an
 * epoll descriptor of our own watches every connection for the client's farewell, and holds
 * libmicrohttpd's descriptor too: the one that http_server_fd() gives out. */
#ifndef PACELINE_COORDINATOR_HTTP_CONNECTION_H
#define PACELINE_COORDINATOR_HTTP_CONNECTION_H

#include "coordinator/api.h"
#include "coordinator/api_store.h"

#include <microhttpd.h>

enum {
    HTTP_PING_MS = 15 * 1000,       /* a comment for proxies that close silent streams */
    HTTP_PINGS = 8,                 /* in one turn: tokens do not wait for a thousand of them */
    HTTP_SURPLUS_MS = 5 * 1000,     /* for the headers of whom there is no room for */
    HTTP_IDLE_MS = 1000,            /* after so long a connection may give way to another */
    HTTP_SPARE = 64,                /* connections to be refused on, in words */
    HTTP_TELL_MS = 60 * 1000,       /* between two lines of the log about it */
    HTTP_FAREWELL_MS = 1000,        /* for what a client sent before it closed its side */
    HTTP_STALL_S = 120,             /* libmicrohttpd's: nothing read or written */
    HTTP_MEMORY = 32 * 1024,        /* of a connection: its write buffer; and twice its headers */
    HTTP_BLOCK = 4096,              /* of a stream to who knows no chunks */
    HTTP_EXCESS = 64 * 1024 * 1024, /* read and dropped, so that the 413 can be read */
    HTTP_EVENTS = 64
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
    int64_t answered_us; /* when results came that its client has not got yet; 0: none */
    struct api_call call;
};

struct http_connection {
    struct http_server *server;
    struct MHD_Connection *mhd;
    int fd;
    bool is_suspended;
    bool is_surplus;                /* it gets a refusal, and no more */
    bool is_ended;                  /* by us: libmicrohttpd will notice */
    bool was_served;                /* since then it idles between two requests */
    bool is_gone;                   /* the client has closed its side */
    int64_t deadline_ms;            /* for the next whole request; INT64_MAX: it is there */
    uint64_t received;              /* bytes, up to the end of the last request */
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
    int64_t max_body_bytes, max_header_bytes;
    int64_t receive_ms;          /* for headers (idle time included), and then the body */
    int max_connections, n_open; /* n_open: without the surplus */
    int64_t tell_full_ms;        /* not before: that there are too many */
    bool has_tls;
    int64_t next_timer_ms; /* no ping and no deadline is due before */
    bool is_closing;
    bool has_resumed; /* libmicrohttpd has to run again */
    int n_exchanges;
    int64_t answered_us; /* when the results came whose news are told now; 0: there are none */
    struct http_connection *connections;
};

/* ---- http_connection.c ---- */

/* Something is to be looked at, at that time. */
void http_connection_expect(struct http_server *s, int64_t at_ms);
/* From now on, for what is missing of the next request. */
void http_connection_set_deadline(struct http_connection *c);
/* Its answer was sent: it may ask again. */
void http_connection_served(struct http_connection *c);
void http_connection_suspend(struct http_connection *c);
void http_connection_resume(struct http_connection *c);
/* Of the request that is read; NULL: there is none. Borrowed until the answer was sent. */
const char *http_connection_header(const struct http_connection *c, const char *name);
const char *http_connection_argument(const struct http_connection *c, const char *name);
/* libmicrohttpd's word that one has come or gone; cls: the server. */
void http_connection_notify(void *cls, struct MHD_Connection *mhd, void **context,
                            enum MHD_ConnectionNotificationCode code);
/* Clients that have closed: their requests are cancelled before anything else is computed. */
void http_connection_watch(struct http_server *s);
/* Pings, and the end of those whose time is up. */
void http_connection_run_timers(struct http_server *s);

/* ---- http_exchange.c ---- */

/* libmicrohttpd's calls: headers, then pieces of the body, then its end; cls: the server. */
enum MHD_Result http_exchange_handle(void *cls, struct MHD_Connection *mhd, const char *url,
                                     const char *method, const char *version, const char *upload,
                                     size_t *upload_size, void **context);
/* Decodes an address, or an argument of it, in place; its length. */
size_t http_exchange_unescape(void *cls, struct MHD_Connection *mhd, char *text);
/* It has sent the answer, or given up. */
void http_exchange_completed(void *cls, struct MHD_Connection *mhd, void **context,
                             enum MHD_RequestTerminationCode code);

/* ---- http_answer.c ---- */

/* The answer of x, whole or a stream, goes out. */
enum MHD_Result http_answer_queue(struct http_exchange *x);

#endif
