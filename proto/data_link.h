/* data_link.h - steps and results on their way: an envelope, a tensor frame, and, where the link
 * itself proves nothing, checksums of both.
 *
 * CURVE authenticates every byte. On a plain link a third part of 16 bytes follows, XXH3 of the
 * envelope and of the frame: TCP's own sum is 16 bits wide and ends where the network card does. */
#ifndef PACELINE_PROTO_DATA_LINK_H
#define PACELINE_PROTO_DATA_LINK_H

#include "base/err.h"

#include <stdbool.h>
#include <zmq.h>

/* is_plain: no CURVE. Both parts are handed over to ZeroMQ on success and closed on failure.
 * ERR_LIMIT: the peer does not take any more (its queue is full or it is gone). */
int data_link_send(void *socket, zmq_msg_t *envelope, zmq_msg_t *frame, bool is_plain,
                   struct err *err);
/* Never waits. 1: both parts are the caller's to close; 0: nothing there; ERR_NETWORK: not such a
 * message; ERR_DAMAGED: it was one when it was sent. What failed is gone. */
int data_link_receive(void *socket, zmq_msg_t *ret_envelope, zmq_msg_t *ret_frame, bool is_plain,
                      struct err *err);

#endif
