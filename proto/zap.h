/* zap.h - the door of all bound sockets of a ZeroMQ context (ZAP, https://rfc.zeromq.org/spec/27).
 *
 * libzmq asks once for each connection. Who is not let in gets no answer at all, and after
 * WIRE_HANDSHAKE_MS the connection ends without a word. Until then the question stays open, and is
 * judged again each time: a neighbour may knock a moment before the plan that names it.
 * A message that comes in later carries the key of its sender (wire_key_of()), for what was allowed
 * may not be any more.
 *
 * Open it before sockets are bound, and close it after them: without a handler libzmq would let
 * everybody in, with any key that he says is his. */
#ifndef PACELINE_PROTO_ZAP_H
#define PACELINE_PROTO_ZAP_H

#include "proto/keys.h"

#include <stddef.h>
#include <stdint.h>

#define ZAP_OPEN 64 /* questions at once; past them the oldest is dropped */

/* The domain is that of the socket (wire.h); the peer has proved that the key is its own. */
typedef bool zap_judge(void *context, const char *domain, const unsigned char key[KEYS_BYTES]);

struct zap_question {
    int64_t since_ms;
    unsigned char asker[32]; /* libzmq's name for the connection */
    size_t asker_size;
    char request_id[32], domain[32], address[64];
    size_t request_id_size;
    unsigned char key[KEYS_BYTES];
};

struct zap {
    void *socket; /* ROUTER: readable when somebody knocks */
    zap_judge *judge;
    void *context;
    struct zap_question *open; /* [ZAP_OPEN], in the order of knocking */
    int n_open;
    /* since zap_forget() */
    int n_refused;
    char last_address[64]; /* of one who was refused */
};

int zap_open(struct zap *z, void *zmq, zap_judge *judge, void *context, struct err *err);
void zap_close(struct zap *z); /* half-open is fine */
/* Takes at most 64 knocks, lets in who may come; never waits. Call it when the socket is readable,
 * and soon after the judgement may have changed. */
void zap_serve(struct zap *z);
void zap_forget(struct zap *z);

#endif
