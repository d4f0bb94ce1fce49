#include "proto/zap.h"

#include "base/clock.h"
#include "proto/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define ENDPOINT "inproc://zeromq.zap.01"

enum zap_part { /* of a question, as a ROUTER gets it */
                ZAP_ASKER,
                ZAP_EMPTY,
                ZAP_VERSION,
                ZAP_REQUEST_ID,
                ZAP_DOMAIN,
                ZAP_ADDRESS,
                ZAP_IDENTITY,
                ZAP_MECHANISM,
                ZAP_CREDENTIALS,
                ZAP_PARTS
};

struct zap_message {
    char parts[ZAP_PARTS][256];
    size_t sizes[ZAP_PARTS]; /* more than 255: it was cut */
    int n_parts;
};

int zap_open(struct zap *z, void *zmq, zap_judge *judge, void *context, struct err *err)
{
    *z = (struct zap){.judge = judge, .context = context};
    z->open = calloc(ZAP_OPEN, sizeof *z->open);
    z->socket = zmq_socket(zmq, ZMQ_ROUTER);
    const int linger_ms = 0;
    if (z->socket)
        zmq_setsockopt(z->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    if (!z->open || !z->socket || zmq_bind(z->socket, ENDPOINT) != 0) {
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
    free(z->open);
    *z = (struct zap){0};
}

void zap_forget(struct zap *z)
{
    z->n_refused = 0;
    z->last_address[0] = '\0';
}

/* false: there is none */
static bool zap_receive(struct zap *z, struct zap_message *ret_message)
{
    *ret_message = (struct zap_message){0};
    int more = 1;
    for (int i = 0; more; i++) {
        char spare[1], *part = i < ZAP_PARTS ? ret_message->parts[i] : spare;
        const size_t room = i < ZAP_PARTS ? sizeof ret_message->parts[i] - 1 : sizeof spare;
        int n = zmq_recv(z->socket, part, room, ZMQ_DONTWAIT);
        if (n < 0)
            return false;
        if (i < ZAP_PARTS)
            ret_message->sizes[i] = (size_t)n;
        ret_message->n_parts++;
        size_t size = sizeof more;
        zmq_getsockopt(z->socket, ZMQ_RCVMORE, &more, &size);
    }
    return true;
}

/* false: it is no question of CURVE */
static bool zap_understand(const struct zap_message *m, struct zap_question *ret_question)
{
    struct zap_question q = {.since_ms = clock_now_ms(),
                             .asker_size = m->sizes[ZAP_ASKER],
                             .request_id_size = m->sizes[ZAP_REQUEST_ID]};
    if (m->n_parts != ZAP_PARTS || strcmp(m->parts[ZAP_VERSION], "1.0") != 0 ||
        strcmp(m->parts[ZAP_MECHANISM], "CURVE") != 0 || m->sizes[ZAP_CREDENTIALS] != KEYS_BYTES ||
        q.asker_size > sizeof q.asker || q.request_id_size > sizeof q.request_id)
        return false;
    const char *address = m->parts[ZAP_ADDRESS], *mapped = "::ffff:"; /* IPv4 on an IPv6 socket */
    if (strncmp(address, mapped, strlen(mapped)) == 0)
        address += strlen(mapped);
    snprintf(q.address, sizeof q.address, "%.63s", address);
    snprintf(q.domain, sizeof q.domain, "%.31s", m->parts[ZAP_DOMAIN]);
    memcpy(q.asker, m->parts[ZAP_ASKER], q.asker_size);
    memcpy(q.request_id, m->parts[ZAP_REQUEST_ID], q.request_id_size);
    memcpy(q.key, m->parts[ZAP_CREDENTIALS], KEYS_BYTES);
    *ret_question = q;
    return true;
}

static void zap_let_in(struct zap *z, const struct zap_question *q)
{
    char user[KEYS_TEXT_BYTES]; /* what wire_key_of() reads */
    keys_format(q->key, user);
    const struct {
        const void *bytes;
        size_t size;
    } parts[] = {{q->asker, q->asker_size},
                 {"", 0},
                 {"1.0", 3},
                 {q->request_id, q->request_id_size},
                 {"200", 3},
                 {"", 0},
                 {user, strlen(user)},
                 {"", 0}};
    const size_t n = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < n; i++)
        if (zmq_send(z->socket, parts[i].bytes, parts[i].size,
                     (i + 1 < n ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT) < 0)
            return; /* it is gone */
}

static void zap_drop(struct zap *z, int index)
{
    z->n_open--;
    memmove(&z->open[index], &z->open[index + 1], (size_t)(z->n_open - index) * sizeof *z->open);
}

static void zap_refuse(struct zap *z, int index)
{
    z->n_refused++;
    memcpy(z->last_address, z->open[index].address, sizeof z->last_address);
    zap_drop(z, index);
}

void zap_serve(struct zap *z)
{
    struct zap_message m;
    struct zap_question q;
    for (int i = 0; i < ZAP_OPEN && zap_receive(z, &m); i++) {
        if (!zap_understand(&m, &q))
            continue;
        if (z->n_open == ZAP_OPEN)
            zap_refuse(z, 0);
        z->open[z->n_open++] = q;
    }
    const int64_t now_ms = clock_now_ms();
    for (int i = 0; i < z->n_open;) {
        if (z->judge(z->context, z->open[i].domain, z->open[i].key)) {
            zap_let_in(z, &z->open[i]);
            zap_drop(z, i);
        } else if (now_ms - z->open[i].since_ms > WIRE_HANDSHAKE_MS) {
            zap_refuse(z, i);
        } else {
            i++;
        }
    }
}
