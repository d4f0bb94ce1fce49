#include "proto/data_link.h"

#include "proto/block_sum.h"
#include "proto/wire.h"

#include <errno.h>

enum { SUMS_BYTES = 2 * BLOCK_SUM_BYTES };

static void data_link_sums(zmq_msg_t *envelope, zmq_msg_t *frame, unsigned char to[SUMS_BYTES])
{
    block_sum_write(block_sum(zmq_msg_data(envelope), zmq_msg_size(envelope)), to);
    block_sum_write(block_sum(zmq_msg_data(frame), zmq_msg_size(frame)), to + BLOCK_SUM_BYTES);
}

int data_link_send(void *socket, zmq_msg_t *envelope, zmq_msg_t *frame, bool is_plain,
                   struct err *err)
{
    unsigned char sums[SUMS_BYTES];
    if (is_plain)
        data_link_sums(envelope, frame, sums);
    if (zmq_msg_send(envelope, socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        int why = errno;
        zmq_msg_close(envelope);
        zmq_msg_close(frame);
        return err_set(err, ERR_LIMIT, "the next stage takes no message: %s", zmq_strerror(why));
    }
    if (zmq_msg_send(frame, socket, ZMQ_DONTWAIT | (is_plain ? ZMQ_SNDMORE : 0)) < 0) {
        zmq_msg_close(frame);
        return err_set(err, ERR_LIMIT, "the next stage takes no frame: %s", zmq_strerror(errno));
    }
    if (is_plain && zmq_send(socket, sums, sizeof sums, ZMQ_DONTWAIT) < 0)
        return err_set(err, ERR_LIMIT, "the next stage takes no checksum: %s", zmq_strerror(errno));
    return 0;
}

static int data_link_verify(zmq_msg_t *envelope, zmq_msg_t *frame, const unsigned char *sums,
                            struct err *err)
{
    const struct {
        zmq_msg_t *part;
        const char *name;
    } parts[] = {{envelope, "envelope"}, {frame, "frame"}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const size_t size = zmq_msg_size(parts[i].part);
        if (block_sum(zmq_msg_data(parts[i].part), size) !=
            block_sum_read(sums + i * BLOCK_SUM_BYTES))
            return err_set(err, ERR_DAMAGED, "the checksum of %s of %zu bytes is wrong",
                           parts[i].name, size);
    }
    return 0;
}

static bool data_link_take_part(void *socket, zmq_msg_t *part, bool is_last)
{
    return zmq_msg_recv(part, socket, ZMQ_DONTWAIT) >= 0 && (zmq_msg_more(part) != 0) == !is_last;
}

int data_link_receive(void *socket, zmq_msg_t *ret_envelope, zmq_msg_t *ret_frame, bool is_plain,
                      struct err *err)
{
    zmq_msg_t sums;
    zmq_msg_init(ret_envelope);
    if (zmq_msg_recv(ret_envelope, socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(ret_envelope);
        return 0;
    }
    zmq_msg_init(ret_frame);
    zmq_msg_init(&sums);
    int rc = 0;
    if (!zmq_msg_more(ret_envelope) || zmq_msg_size(ret_envelope) > WIRE_MAX_ENVELOPE ||
        !data_link_take_part(socket, ret_frame, !is_plain) ||
        (is_plain &&
         (!data_link_take_part(socket, &sums, true) || zmq_msg_size(&sums) != SUMS_BYTES)))
        rc = err_set(err, ERR_NETWORK, "a message that is not an envelope and a frame%s",
                     is_plain ? " with their checksums" : "");
    else if (is_plain)
        rc = data_link_verify(ret_envelope, ret_frame, zmq_msg_data(&sums), err);
    zmq_msg_close(&sums);
    if (rc == 0)
        return 1;
    zmq_msg_close(ret_envelope);
    zmq_msg_close(ret_frame);
    wire_skip_parts(socket);
    return rc;
}
