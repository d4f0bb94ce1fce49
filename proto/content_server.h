/* content_server.h - gives chunks of tensors to whoever asks: a ROUTER socket on a thread of its
 * own. It knows neither files nor who may have what: a callback finds the bytes. */
#ifndef PACELINE_PROTO_CONTENT_SERVER_H
#define PACELINE_PROTO_CONTENT_SERVER_H

#include "proto/content_message.h"
#include "proto/keys.h"

#include <stdint.h>

/* Bytes that are lent until done(data, hint) is called, from any thread. */
struct content_piece {
    const void *data;
    size_t bytes;
    void (*done)(const void *data, size_t bytes, void *hint);
    void *hint;
};

struct content_server_spec {
    void *zmq; /* context, borrowed */
    const char *host;
    int port;                   /* 0: any */
    const struct key_pair *own; /* borrowed; NULL: plain links */
    /* Called from the server's thread. CONTENT_HERE: *ret_piece is filled; CONTENT_ELSEWHERE:
     * ret_elsewhere is. */
    enum content_status (*find)(void *context, const struct content_request *request,
                                struct content_piece *ret_piece,
                                char ret_elsewhere[CONTENT_ENDPOINT_BYTES]);
    void *context;
};

struct content_server;
/* Binds, then starts the thread. */
int content_server_open(struct content_server **ret_server, const struct content_server_spec *spec,
                        struct err *err);
/* Returns when no piece is lent any more. NULL is fine. */
void content_server_close(struct content_server *s);
/* With keys: who is answered from now on, on old connections too; before the first call nobody.
 * From any thread. */
int content_server_allow(struct content_server *s, const unsigned char (*keys)[KEYS_BYTES],
                         size_t n, struct err *err);
int content_server_port(const struct content_server *s);
int64_t content_server_sent_bytes(const struct content_server *s); /* since the start */

#endif
