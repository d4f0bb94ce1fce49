#include "proto/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int wire_context(void **ret_context, struct err *err)
{
    void *context = zmq_ctx_new();
    if (!context || zmq_ctx_set(context, ZMQ_IO_THREADS, 2) != 0)
        return err_set(err, ERR_MEMORY, "no ZeroMQ context");
    *ret_context = context;
    return 0;
}

/* Who connects and is refused tries again, less and less often. */
#define RECONNECT_MAX_MS 1000

static int wire_secure(void *socket, const struct wire_security *security, struct err *err)
{
    const int is_server = !security->server_key, reconnect_ms = RECONNECT_MAX_MS;
    const int handshake_ms = WIRE_HANDSHAKE_MS;
    int rc = zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, security->own->public_key, KEYS_BYTES);
    if (rc == 0)
        rc = zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, security->own->secret_key, KEYS_BYTES);
    if (rc == 0)
        rc = zmq_setsockopt(socket, ZMQ_HANDSHAKE_IVL, &handshake_ms, sizeof handshake_ms);
    if (is_server) {
        if (rc == 0)
            rc = zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &is_server, sizeof is_server);
        if (rc == 0)
            rc = zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, security->domain, strlen(security->domain));
    } else {
        if (rc == 0)
            rc = zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, security->server_key, KEYS_BYTES);
        if (rc == 0)
            rc = zmq_setsockopt(socket, ZMQ_RECONNECT_IVL_MAX, &reconnect_ms, sizeof reconnect_ms);
    }
    return rc == 0 ? 0 : err_set(err, ERR_INTERNAL, "no CURVE here: %s", zmq_strerror(errno));
}

int wire_socket(void **ret_socket, void *context, int type, const struct wire_security *security,
                struct err *err)
{
    void *s = zmq_socket(context, type);
    if (!s)
        return err_set(err, ERR_NETWORK, "no ZeroMQ socket: %s", zmq_strerror(errno));
    const int linger_ms = 0, beat_ms = 500, beat_timeout_ms = 10000, high_water = 4096;
    const int64_t max_message = WIRE_MAX_FRAME;
    const int ipv6 = 1;
    const uint64_t first_thread = 1;
    zmq_setsockopt(s, ZMQ_AFFINITY, &first_thread, sizeof first_thread);
    zmq_setsockopt(s, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &max_message, sizeof max_message);
    zmq_setsockopt(s, ZMQ_HEARTBEAT_IVL, &beat_ms, sizeof beat_ms);
    zmq_setsockopt(s, ZMQ_HEARTBEAT_TIMEOUT, &beat_timeout_ms, sizeof beat_timeout_ms);
    zmq_setsockopt(s, ZMQ_SNDHWM, &high_water, sizeof high_water);
    zmq_setsockopt(s, ZMQ_RCVHWM, &high_water, sizeof high_water);
    zmq_setsockopt(s, ZMQ_IPV6, &ipv6, sizeof ipv6);
    int rc = security ? wire_secure(s, security, err) : 0;
    if (rc != 0) {
        zmq_close(s);
        return rc;
    }
    *ret_socket = s;
    return 0;
}

int wire_bind(void *socket, const char *host, int port, int *ret_port, struct err *err)
{
    char endpoint[320];
    const char *address = !host[0] || strcmp(host, "0.0.0.0") == 0 ? "*" : host;
    if (strcmp(address, "localhost") == 0)
        address = "127.0.0.1";
    const char *open = strchr(address, ':') ? "[" : "", *close = open[0] ? "]" : "";
    if (port)
        snprintf(endpoint, sizeof endpoint, "tcp://%s%s%s:%d", open, address, close, port);
    else
        snprintf(endpoint, sizeof endpoint, "tcp://%s%s%s:*", open, address, close);
    if (zmq_bind(socket, endpoint) != 0) {
        if (errno == EADDRINUSE)
            return err_set(err, ERR_NETWORK,
                           "%s:%d is in use by another program: stop it or choose another port",
                           address, port);
        return err_set(err, ERR_NETWORK, "cannot listen on %s:%d: %s", address, port,
                       zmq_strerror(errno));
    }
    size_t size = sizeof endpoint;
    zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size);
    const char *colon = strrchr(endpoint, ':');
    *ret_port = colon ? atoi(colon + 1) : port;
    return 0;
}

void wire_skip_parts(void *socket)
{
    int more = 1;
    size_t size = sizeof more;
    while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        int rc = zmq_msg_recv(&part, socket, ZMQ_DONTWAIT);
        zmq_msg_close(&part);
        if (rc < 0)
            return;
    }
}

int wire_monitor(void **ret_monitor, void *socket, void *context, struct err *err)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://monitor-%p", socket);
    void *monitor = zmq_socket(context, ZMQ_PAIR);
    const int linger_ms = 0;
    if (!monitor || zmq_setsockopt(monitor, ZMQ_LINGER, &linger_ms, sizeof linger_ms) != 0 ||
        zmq_socket_monitor(socket, endpoint, ZMQ_EVENT_DISCONNECTED) != 0 ||
        zmq_connect(monitor, endpoint) != 0) {
        int why = errno;
        if (monitor)
            zmq_close(monitor);
        return err_set(err, ERR_NETWORK, "no monitor of a socket: %s", zmq_strerror(why));
    }
    *ret_monitor = monitor;
    return 0;
}

int wire_ended_connection(void *monitor)
{
    unsigned char event[6]; /* u16 what, u32 fd, of this machine's order; then the address */
    int size = zmq_recv(monitor, event, sizeof event, ZMQ_DONTWAIT);
    if (size < 0)
        return -1;
    wire_skip_parts(monitor);
    uint32_t fd;
    memcpy(&fd, event + 2, sizeof fd);
    return size == sizeof event ? (int)fd : -1;
}

bool wire_key_of(zmq_msg_t *message, unsigned char ret_key[KEYS_BYTES])
{
    const char *user = zmq_msg_gets(message, "User-Id"); /* as zap.c answered */
    return user && keys_parse(user, strlen(user), ret_key);
}

int wire_frame(zmq_msg_t *ret_frame, const void *bytes, size_t size, struct err *err)
{
    if (zmq_msg_init_size(ret_frame, size) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a message of %zu bytes", size);
    if (size)
        memcpy(zmq_msg_data(ret_frame), bytes, size);
    return 0;
}

int wire_send_control(void *socket, const struct wire_identity *to, const Paceline__Control *c,
                      struct err *err)
{
    size_t size = paceline__control__get_packed_size(c);
    zmq_msg_t message;
    if (zmq_msg_init_size(&message, size) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a control message of %zu bytes", size);
    paceline__control__pack(c, zmq_msg_data(&message));
    if (to && zmq_send(socket, to->bytes, to->size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&message);
        return 0;
    }
    if (zmq_msg_send(&message, socket, ZMQ_DONTWAIT) < 0)
        zmq_msg_close(&message);
    return 0;
}

static int wire_receive_identity(void *socket, struct wire_identity *ret_from)
{
    zmq_msg_t part;
    zmq_msg_init(&part);
    if (zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&part);
        return 0;
    }
    size_t size = zmq_msg_size(&part);
    bool is_ours = size > 0 && size <= WIRE_MAX_IDENTITY && zmq_msg_more(&part);
    ret_from->size = is_ours ? size : 0;
    memcpy(ret_from->bytes, zmq_msg_data(&part), ret_from->size);
    zmq_msg_close(&part);
    return is_ours ? 1 : ERR_NETWORK;
}

int wire_receive_control(void *socket, struct wire_identity *ret_from,
                         Paceline__Control **ret_control, struct err *err)
{
    if (ret_from) {
        int rc = wire_receive_identity(socket, ret_from);
        if (rc == 0)
            return 0;
        if (rc < 0) {
            wire_skip_parts(socket);
            return err_set(err, ERR_NETWORK, "an empty control message, or a sender without name");
        }
    }
    zmq_msg_t body;
    zmq_msg_init(&body);
    if (zmq_msg_recv(&body, socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&body);
        return 0;
    }
    bool alone = !zmq_msg_more(&body);
    size_t size = zmq_msg_size(&body);
    if (ret_from) { /* what is known of a connection comes with the body, not always with the name
                     */
        const char *fd = zmq_msg_gets(&body, "__fd");
        ret_from->fd = fd ? atoi(fd) : -1;
        ret_from->has_key = wire_key_of(&body, ret_from->key);
    }
    Paceline__Control *c = NULL;
    if (alone && size <= WIRE_MAX_ENVELOPE)
        c = paceline__control__unpack(NULL, size, zmq_msg_data(&body));
    zmq_msg_close(&body);
    wire_skip_parts(socket);
    if (!c)
        return err_set(err, ERR_NETWORK, "a control message of %zu bytes that is not ours", size);
    *ret_control = c;
    return 1;
}

int wire_receive_data(void *socket, zmq_msg_t *ret_envelope, zmq_msg_t *ret_frame, struct err *err)
{
    zmq_msg_init(ret_envelope);
    if (zmq_msg_recv(ret_envelope, socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(ret_envelope);
        return 0;
    }
    zmq_msg_init(ret_frame);
    if (zmq_msg_more(ret_envelope) && zmq_msg_size(ret_envelope) <= WIRE_MAX_ENVELOPE &&
        zmq_msg_recv(ret_frame, socket, ZMQ_DONTWAIT) >= 0 && !zmq_msg_more(ret_frame))
        return 1;
    zmq_msg_close(ret_envelope);
    zmq_msg_close(ret_frame);
    wire_skip_parts(socket);
    return err_set(err, ERR_NETWORK, "a message that is not an envelope and a frame");
}
