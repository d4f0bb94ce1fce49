/* http_server.h - libmicrohttpd inside the coordinator's event loop: bodies in, JSON and SSE out,
 * slow and vanished readers. Routes to api_*.c. */
#ifndef PACELINE_COORDINATOR_HTTP_SERVER_H
#define PACELINE_COORDINATOR_HTTP_SERVER_H

#include "base/err.h"
#include "coordinator/api_store.h"
#include "coordinator/coordinator.h"
#include "coordinator/http_tls.h"

struct http_server;

struct http_server_spec {
    const char *host;            /* numeric address or "localhost" */
    int port;                    /* 0: any free one */
    const char *const *api_keys; /* [n_api_keys]; none: no key is asked for */
    const int *key_tenants;      /* [n_api_keys]; NULL: all are of tenant 0 */
    size_t n_api_keys;
    const char *cors_origins;   /* http_origin_rules.allowed, borrowed; NULL: none */
    const struct http_tls *tls; /* borrowed until http_server_open() returns; NULL: plain HTTP */
    int64_t max_body_bytes, max_header_bytes;
    int64_t receive_ms;              /* for a request's headers, and then for its body */
    int max_connections;             /* those beyond are refused in words */
    struct coordinator *coordinator; /* borrowed */
    struct api_store_spec store;     /* its strings are borrowed */
};

/* ERR_NETWORK: the port is in use or the address is not ours. ERR_CONFIG: no TLS with these. */
int http_server_open(struct http_server **ret_server, const struct http_server_spec *spec,
                     struct err *err);
void http_server_close(struct http_server *s);
int http_server_port(const struct http_server *s);
int http_server_fd(const struct http_server *s);      /* epoll descriptor: readable = call run */
int http_server_wait_ms(const struct http_server *s); /* how long run may wait, -1: for ever */
/* Answers what came in, and writes what coordinator_take_changed() brought. */
void http_server_run(struct http_server *s);
/* No new requests are taken (503 with Retry-After); the running ones go on. */
void http_server_drain(struct http_server *s);
/* What runs will not be finished: what is stored is written down for the next start, and its
 * connections end in the midst. The others wait for the coordinator's word. */
void http_server_give_up(struct http_server *s);
bool http_server_is_idle(const struct http_server *s);

#endif
