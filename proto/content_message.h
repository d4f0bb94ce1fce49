/* content_message.h - requests for chunks of tensors and their replies, checked; and the limits
 * of the sockets that carry them. */
#ifndef PACELINE_PROTO_CONTENT_MESSAGE_H
#define PACELINE_PROTO_CONTENT_MESSAGE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

#define CONTENT_DIGEST_BYTES   32
#define CONTENT_CHUNK_BYTES    ((size_t)4 << 20)
#define CONTENT_ENDPOINT_BYTES 128
#define CONTENT_MAX_ENVELOPE   512

enum content_status {
    CONTENT_HERE,      /* the frame holds the chunk */
    CONTENT_ABSENT,    /* not here */
    CONTENT_COMING,    /* not yet here, but fetched */
    CONTENT_LATER,     /* busy: ask again */
    CONTENT_ELSEWHERE, /* a peer was given it a moment ago */
    CONTENT_STATUSES
};

struct content_request {
    unsigned char digest[CONTENT_DIGEST_BYTES];
    uint32_t chunk;
    bool insist;
    char endpoint[CONTENT_ENDPOINT_BYTES];
};

struct content_reply {
    unsigned char digest[CONTENT_DIGEST_BYTES];
    uint32_t chunk;
    enum content_status status;
    char elsewhere[CONTENT_ENDPOINT_BYTES];
};

int content_request_pack(const struct content_request *r, zmq_msg_t *ret_envelope, struct err *err);
int content_reply_pack(const struct content_reply *r, zmq_msg_t *ret_envelope, struct err *err);
/* false: malformed, or longer than it may be. */
bool content_request_unpack(struct content_request *ret_request, const void *bytes, size_t size);
bool content_reply_unpack(struct content_reply *ret_reply, const void *bytes, size_t size);

/* A socket of the content plane: bounded to `max_message` bytes a frame, and served by the
 * context's second thread, where it has one, so that chunks and steps do not wait for each other.
 * Before it is bound or connected. */
void content_socket_set_up(void *socket, size_t max_message);

#endif
