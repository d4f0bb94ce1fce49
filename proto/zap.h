/* zap.h - the door of all bound sockets of a ZeroMQ context (ZAP, https://rfc.zeromq.org/spec/27).
 *
 * libzmq asks once for each connection. Who is refused gets silence: status 300 ends the connection
 * without a word, and the peer, if it means well, tries again. A message that comes in later
 * carries the key of its sender (wire_key_of()), for what was allowed may not be any more.
 *
 * Open it before sockets are bound, and close it after them: without a handler libzmq would let
 * everybody in, with any key that he says is his. */
#ifndef PACELINE_PROTO_ZAP_H
#define PACELINE_PROTO_ZAP_H

#include "proto/keys.h"

/* The domain is that of the socket (wire.h); the peer has proved that the key is its own. */
typedef bool zap_judge(void *context, const char *domain, const unsigned char key[KEYS_BYTES]);

struct zap {
    void *socket; /* REP: readable when somebody knocks */
    zap_judge *judge;
    void *context;
    /* since zap_forget() */
    int n_refused;
    char last_address[64]; /* of one who was refused */
};

int zap_open(struct zap *z, void *zmq, zap_judge *judge, void *context, struct err *err);
void zap_close(struct zap *z); /* half-open is fine */
/* Answers at most 64 knocks, never waits. */
void zap_serve(struct zap *z);
void zap_forget(struct zap *z);

#endif
