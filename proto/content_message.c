#include "proto/content_message.h"

#include "proto/content.pb-c.h"

#include <string.h>

int content_request_pack(const struct content_request *r, zmq_msg_t *ret_envelope, struct err *err)
{
    Paceline__ContentRequest q = PACELINE__CONTENT_REQUEST__INIT;
    q.digest.data = (uint8_t *)r->digest;
    q.digest.len = sizeof r->digest;
    q.chunk = r->chunk;
    q.endpoint = (char *)r->endpoint;
    q.insist = r->insist;
    if (zmq_msg_init_size(ret_envelope, paceline__content_request__get_packed_size(&q)) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a request");
    paceline__content_request__pack(&q, zmq_msg_data(ret_envelope));
    return 0;
}

int content_reply_pack(const struct content_reply *r, zmq_msg_t *ret_envelope, struct err *err)
{
    Paceline__ContentReply a = PACELINE__CONTENT_REPLY__INIT;
    a.digest.data = (uint8_t *)r->digest;
    a.digest.len = sizeof r->digest;
    a.chunk = r->chunk;
    a.status = (uint32_t)r->status;
    a.elsewhere = (char *)r->elsewhere;
    if (zmq_msg_init_size(ret_envelope, paceline__content_reply__get_packed_size(&a)) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a reply");
    paceline__content_reply__pack(&a, zmq_msg_data(ret_envelope));
    return 0;
}

static bool content_copy(const ProtobufCBinaryData *digest, const char *endpoint,
                         unsigned char ret_digest[CONTENT_DIGEST_BYTES],
                         char ret_endpoint[CONTENT_ENDPOINT_BYTES])
{
    size_t length = strlen(endpoint);
    if (digest->len != CONTENT_DIGEST_BYTES || length >= CONTENT_ENDPOINT_BYTES)
        return false;
    memcpy(ret_digest, digest->data, CONTENT_DIGEST_BYTES);
    memcpy(ret_endpoint, endpoint, length + 1);
    return true;
}

bool content_request_unpack(struct content_request *ret_request, const void *bytes, size_t size)
{
    if (size > CONTENT_MAX_ENVELOPE)
        return false;
    Paceline__ContentRequest *q = paceline__content_request__unpack(NULL, size, bytes);
    if (!q)
        return false;
    struct content_request r = {.chunk = q->chunk, .insist = q->insist};
    bool ok = content_copy(&q->digest, q->endpoint, r.digest, r.endpoint);
    paceline__content_request__free_unpacked(q, NULL);
    if (ok)
        *ret_request = r;
    return ok;
}

bool content_reply_unpack(struct content_reply *ret_reply, const void *bytes, size_t size)
{
    if (size > CONTENT_MAX_ENVELOPE)
        return false;
    Paceline__ContentReply *a = paceline__content_reply__unpack(NULL, size, bytes);
    if (!a)
        return false;
    struct content_reply r = {.chunk = a->chunk, .status = (enum content_status)a->status};
    bool ok = a->status < CONTENT_STATUSES &&
              content_copy(&a->digest, a->elsewhere, r.digest, r.elsewhere);
    paceline__content_reply__free_unpacked(a, NULL);
    if (ok)
        *ret_reply = r;
    return ok;
}

void content_socket_set_up(void *socket, size_t max_message)
{
    /* A thread that is not there would be refused when it is bound or connected: wire_context()
     * makes two. */
    const uint64_t second = 2;
    const int64_t most = (int64_t)max_message;
    const int high_water = 64;
    zmq_setsockopt(socket, ZMQ_AFFINITY, &second, sizeof second);
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    zmq_setsockopt(socket, ZMQ_SNDHWM, &high_water, sizeof high_water);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &high_water, sizeof high_water);
}
