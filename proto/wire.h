/* wire.h - messages on ZeroMQ sockets: small protobuf envelopes, raw tensor frames, and the
 * limits that both sides set before they read a byte of a peer's. */
#ifndef PACELINE_PROTO_WIRE_H
#define PACELINE_PROTO_WIRE_H

#include "base/err.h"
#include "proto/cluster.pb-c.h"
#include "proto/keys.h"

#include <stddef.h>
#include <zmq.h>

#define WIRE_MAX_ENVELOPE (2u << 20)  /* bytes of a Step, a StepResult or a Control */
#define WIRE_MAX_FRAME    (64u << 20) /* bytes of activations or logits */
#define WIRE_MAX_IDENTITY 64
#define WIRE_HANDSHAKE_MS 3000 /* in which two peers with keys agree, or part */

struct wire_identity { /* of a DEALER, as the ROUTER sees it */
    unsigned char bytes[WIRE_MAX_IDENTITY];
    size_t size;
    int fd;       /* of the connection that the message came by; -1: unknown */
    bool has_key; /* of a received message: its sender has proved to have this key */
    unsigned char key[KEYS_BYTES];
};

/* ZAP domains: what a bound socket is for. */
#define WIRE_CONTROL "control" /* a coordinator's: workers, and who has an invite */
#define WIRE_RESULTS "results" /* a coordinator's: workers */
#define WIRE_STEPS   "steps"   /* a worker's: its neighbour upstream */
#define WIRE_CONTENT "content" /* parts of models: coordinator and workers */

/* CURVE: the peer that binds proves to have its key, and both encrypt. Borrowed for the call. */
struct wire_security {
    const struct key_pair *own;
    const unsigned char *server_key; /* [KEYS_BYTES] of the peer that binds; NULL: we bind */
    const char *domain; /* of a socket that binds: what the ZAP handler judges its peers for */
};

/* A context with a thread for control and steps and one for content (content_socket_set_up()). */
int wire_context(void **ret_context, struct err *err);
/* Makes a socket with our limits: messages bounded, no lingering, ZMTP heartbeats (which libzmq's
 * own thread answers, so that a worker deep in a long prefill is not taken for dead).
 * security NULL: plain. A socket that binds needs the context's ZAP handler to be there before. */
int wire_socket(void **ret_socket, void *context, int type, const struct wire_security *security,
                struct err *err);
/* Binds to HOST:PORT (0: any free one; host "" or "*": every address) and tells the port. In use,
 * or not ours: ERR_NETWORK with what to do. */
int wire_bind(void *socket, const char *host, int port, int *ret_port, struct err *err);

/* Watches the socket's connections. *ret_monitor: a PAIR, the caller's to close before the socket.
 */
int wire_monitor(void **ret_monitor, void *socket, void *context, struct err *err);
/* A connection that has ended since: its fd; -1: none. Never waits. */
int wire_ended_connection(void *monitor);
/* The key that the sender of a received message has proved to have. false: none, it came over a
 * plain socket. */
bool wire_key_of(zmq_msg_t *message, unsigned char ret_key[KEYS_BYTES]);

/* One control message. `to` is NULL on a DEALER. A peer that is gone is not an error: its loss is
 * noticed by its silence. */
int wire_send_control(void *socket, const struct wire_identity *to, const Paceline__Control *c,
                      struct err *err);
/* Receives without waiting. 1: *ret_control is the caller's (paceline__control__free_unpacked);
 * 0: nothing there; ERR_NETWORK: the message of *ret_from was malformed and is gone. `ret_from` is
 * NULL on a DEALER. */
int wire_receive_control(void *socket, struct wire_identity *ret_from,
                         Paceline__Control **ret_control, struct err *err);

/* An envelope and a frame, of the content plane; steps and results are data_link.h's. */
/* 1: both frames are the caller's to close; 0: nothing there; ERR_NETWORK: malformed, gone. */
int wire_receive_data(void *socket, zmq_msg_t *ret_envelope, zmq_msg_t *ret_frame, struct err *err);
/* Reads and throws away what is left of a multipart message. */
void wire_skip_parts(void *socket);
/* A frame that owns a copy of the bytes. */
int wire_frame(zmq_msg_t *ret_frame, const void *bytes, size_t size, struct err *err);

#endif
