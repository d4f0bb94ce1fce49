#include "proto/zap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#define ENDPOINT "inproc://zeromq.zap.01"

enum zap_part { /* of a request */
                ZAP_VERSION,
                ZAP_REQUEST_ID,
                ZAP_DOMAIN,
                ZAP_ADDRESS,
                ZAP_IDENTITY,
                ZAP_MECHANISM,
                ZAP_CREDENTIALS,
                ZAP_PARTS
};

struct zap_request {
    char parts[ZAP_PARTS][256];
    size_t sizes[ZAP_PARTS];
    int n_parts;
};

int zap_open(struct zap *z, void *zmq, zap_judge *judge, void *context, struct err *err)
{
    *z = (struct zap){.judge = judge, .context = context};
    z->socket = zmq_socket(zmq, ZMQ_REP);
    const int linger_ms = 0;
    if (z->socket)
        zmq_setsockopt(z->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    if (!z->socket || zmq_bind(z->socket, ENDPOINT) != 0) {
        int rc = err_set(err, ERR_INTERNAL, "no ZAP handler: %s", zmq_strerror(errno));
        zap_close(z);
        return rc;
    }
    return 0;
}

void zap_close(struct zap *z)
{
    if (z->socket)
        zmq_close(z->socket);
    *z = (struct zap){0};
}

void zap_forget(struct zap *z)
{
    z->n_refused = 0;
    z->last_address[0] = '\0';
}

/* false: there is none */
static bool zap_receive(struct zap *z, struct zap_request *ret_request)
{
    *ret_request = (struct zap_request){0};
    int more = 1;
    for (int i = 0; more; i++) {
        char spare[1], *part = i < ZAP_PARTS ? ret_request->parts[i] : spare;
        const size_t room = i < ZAP_PARTS ? sizeof ret_request->parts[i] - 1 : sizeof spare;
        int n = zmq_recv(z->socket, part, room, ZMQ_DONTWAIT);
        if (n < 0)
            return false;
        if (i < ZAP_PARTS)
            ret_request->sizes[i] = (size_t)n; /* more than the room: it was cut */
        ret_request->n_parts++;
        size_t size = sizeof more;
        zmq_getsockopt(z->socket, ZMQ_RCVMORE, &more, &size);
    }
    return true;
}

static void zap_answer(struct zap *z, const struct zap_request *r, const char *status,
                       const char *user)
{
    const char *const parts[] = {"1.0", r->parts[ZAP_REQUEST_ID], status, "", user, ""};
    const size_t n = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < n; i++) {
        const size_t size = i == 1 ? r->sizes[ZAP_REQUEST_ID] : strlen(parts[i]);
        zmq_send(z->socket, parts[i], size, (i + 1 < n ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT);
    }
}

void zap_serve(struct zap *z)
{
    struct zap_request r;
    for (int i = 0; i < 64 && zap_receive(z, &r); i++) {
        unsigned char key[KEYS_BYTES];
        char user[KEYS_TEXT_BYTES] = "";
        bool is_sound = r.n_parts == ZAP_PARTS && r.sizes[ZAP_REQUEST_ID] < sizeof r.parts[0] &&
                        strcmp(r.parts[ZAP_VERSION], "1.0") == 0 &&
                        strcmp(r.parts[ZAP_MECHANISM], "CURVE") == 0 &&
                        r.sizes[ZAP_CREDENTIALS] == KEYS_BYTES;
        memcpy(key, r.parts[ZAP_CREDENTIALS], KEYS_BYTES);
        if (is_sound && z->judge(z->context, r.parts[ZAP_DOMAIN], key)) {
            keys_format(key, user);
            zap_answer(z, &r, "200", user);
            continue;
        }
        z->n_refused++;
        const char *address = r.parts[ZAP_ADDRESS],
                   *mapped = "::ffff:"; /* IPv4 on an IPv6 socket */
        if (strncmp(address, mapped, strlen(mapped)) == 0)
            address += strlen(mapped);
        snprintf(z->last_address, sizeof z->last_address, "%.63s", address);
        if (r.sizes[ZAP_REQUEST_ID] >= sizeof r.parts[0])
            r.sizes[ZAP_REQUEST_ID] = 0;
        zap_answer(z, &r, "300", user);
    }
}
