#include "proto/content_server.h"

#include "proto/key_set.h"
#include "proto/wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Pieces lent at once, over all peers: what the server may hold in memory. */
#define MAX_LENT       16
#define LOOK_EVERY_MS  1
#define TURN_MESSAGES  64
#define CLOSE_LIMIT_MS 5000

/* Outlives the server while libzmq still holds a piece. */
struct loans {
    atomic_int n_lent;
    atomic_int n_owners; /* the server, and each loan */
};

struct content_server {
    struct content_server_spec spec;
    pthread_t thread;
    bool runs;
    void *socket; /* ROUTER */
    int stop;     /* eventfd */
    int port;
    struct loans *loans;
    struct key_set allowed; /* where links have keys */
    atomic_int_fast64_t sent_bytes;
};

struct loan {
    struct loans *loans;
    struct content_piece piece;
};

static void loans_leave(struct loans *l)
{
    if (atomic_fetch_sub(&l->n_owners, 1) == 1)
        free(l);
}

/* libzmq's: the bytes are on their way, or nobody wants them any more. */
static void loan_end(void *data, void *hint)
{
    struct loan *loan = hint;
    loan->piece.done(data, loan->piece.bytes, loan->piece.hint);
    atomic_fetch_sub(&loan->loans->n_lent, 1);
    loans_leave(loan->loans);
    free(loan);
}

static bool content_server_lend(struct content_server *s, const struct content_piece *piece,
                                zmq_msg_t *ret_frame)
{
    struct loan *loan = malloc(sizeof *loan);
    if (loan) {
        *loan = (struct loan){s->loans, *piece};
        atomic_fetch_add(&s->loans->n_lent, 1);
        atomic_fetch_add(&s->loans->n_owners, 1);
        if (zmq_msg_init_data(ret_frame, (void *)piece->data, piece->bytes, loan_end, loan) == 0)
            return true;
        atomic_fetch_sub(&s->loans->n_lent, 1);
        loans_leave(s->loans);
        free(loan);
    }
    piece->done(piece->data, piece->bytes, piece->hint);
    return false;
}

/* All three frames, or none: what a peer's queue does not take is dropped, and asked for again. */
static void content_server_reply(struct content_server *s, const struct wire_identity *to,
                                 const struct content_reply *reply, zmq_msg_t *frame)
{
    zmq_msg_t envelope;
    struct err err;
    if (content_reply_pack(reply, &envelope, &err) != 0) {
        zmq_msg_close(frame);
        return;
    }
    int64_t bytes = (int64_t)zmq_msg_size(frame);
    atomic_fetch_add(&s->sent_bytes, bytes); /* before the receiver can know of them */
    if (zmq_send(s->socket, to->bytes, to->size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_msg_send(&envelope, s->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&envelope);
    } else if (zmq_msg_send(frame, s->socket, ZMQ_DONTWAIT) >= 0) {
        return;
    }
    zmq_msg_close(frame);
    atomic_fetch_sub(&s->sent_bytes, bytes);
}

static void content_server_answer(struct content_server *s, const struct wire_identity *from,
                                  const struct content_request *request)
{
    struct content_reply reply = {.chunk = request->chunk};
    memcpy(reply.digest, request->digest, sizeof reply.digest);
    struct content_piece piece = {0};
    zmq_msg_t frame;
    zmq_msg_init(&frame);
    reply.status = s->spec.find(s->spec.context, request, &piece, reply.elsewhere);
    if (reply.status == CONTENT_HERE && !content_server_lend(s, &piece, &frame))
        reply.status = CONTENT_LATER;
    content_server_reply(s, from, &reply, &frame);
}

/* One part; false: nothing there. */
static bool content_server_take(struct content_server *s, zmq_msg_t *part)
{
    zmq_msg_init(part);
    if (zmq_msg_recv(part, s->socket, ZMQ_DONTWAIT) >= 0)
        return true;
    zmq_msg_close(part);
    return false;
}

/* A connection outlives the right to have it. */
static bool content_server_admits(struct content_server *s, zmq_msg_t *part)
{
    unsigned char key[KEYS_BYTES];
    return !s->spec.own || (wire_key_of(part, key) && key_set_has(&s->allowed, key));
}

/* Identity and envelope, nothing else; what is different is dropped. false: nothing there. */
static bool content_server_receive(struct content_server *s)
{
    zmq_msg_t part;
    struct wire_identity from = {0};
    struct content_request request;
    if (!content_server_take(s, &part))
        return false;
    bool more = zmq_msg_more(&part), ok = more && zmq_msg_size(&part) <= WIRE_MAX_IDENTITY;
    if (ok) {
        from.size = zmq_msg_size(&part);
        memcpy(from.bytes, zmq_msg_data(&part), from.size);
    }
    zmq_msg_close(&part);
    for (int n = 1; more && content_server_take(s, &part); n++) {
        more = zmq_msg_more(&part);
        ok = ok && n == 1 && !more && content_server_admits(s, &part) &&
             content_request_unpack(&request, zmq_msg_data(&part), zmq_msg_size(&part));
        zmq_msg_close(&part);
    }
    if (ok)
        content_server_answer(s, &from, &request);
    return true;
}

static void *content_server_main(void *argument)
{
    struct content_server *s = argument;
    zmq_pollitem_t items[] = {{.fd = s->stop, .events = ZMQ_POLLIN},
                              {.socket = s->socket, .events = ZMQ_POLLIN}};
    for (;;) {
        bool is_full = atomic_load(&s->loans->n_lent) >= MAX_LENT;
        if (zmq_poll(items, is_full ? 1 : 2, is_full ? LOOK_EVERY_MS : -1) < 0 && errno != EINTR)
            break;
        if (items[0].revents)
            break;
        for (int i = 0; i < TURN_MESSAGES && atomic_load(&s->loans->n_lent) < MAX_LENT; i++)
            if (!content_server_receive(s))
                break;
    }
    return NULL;
}

static int content_server_start(struct content_server *s, struct err *err)
{
    s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->loans = calloc(1, sizeof *s->loans);
    if (s->stop < 0 || !s->loans)
        return err_set(err, ERR_MEMORY, "no memory for the content server");
    atomic_store(&s->loans->n_owners, 1);
    const struct wire_security security = {.own = s->spec.own, .domain = WIRE_CONTENT};
    int rc = wire_socket(&s->socket, s->spec.zmq, ZMQ_ROUTER, s->spec.own ? &security : NULL, err);
    if (rc != 0)
        return rc;
    content_socket_set_up(s->socket, CONTENT_MAX_ENVELOPE);
    rc = wire_bind(s->socket, s->spec.host, s->spec.port, &s->port, err);
    if (rc != 0)
        return rc;
    int failed = pthread_create(&s->thread, NULL, content_server_main, s);
    if (failed)
        return err_set(err, ERR_MEMORY, "content server's thread: %s", strerror(failed));
    s->runs = true;
    return 0;
}

int content_server_open(struct content_server **ret_server, const struct content_server_spec *spec,
                        struct err *err)
{
    struct content_server *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for the content server");
    s->spec = *spec;
    s->stop = -1;
    key_set_init(&s->allowed);
    int rc = content_server_start(s, err);
    if (rc == 0) {
        *ret_server = s;
        s = NULL;
    }
    content_server_close(s);
    return rc;
}

void content_server_close(struct content_server *s)
{
    if (!s)
        return;
    if (s->runs) {
        const uint64_t one = 1;
        if (write(s->stop, &one, sizeof one) == sizeof one)
            pthread_join(s->thread, NULL);
    }
    if (s->socket)
        zmq_close(s->socket);
    if (s->loans) {
        for (int i = 0; i < CLOSE_LIMIT_MS && atomic_load(&s->loans->n_lent) > 0; i++)
            usleep(1000);
        loans_leave(s->loans);
    }
    if (s->stop >= 0)
        close(s->stop);
    key_set_clear(&s->allowed);
    free(s);
}

int content_server_allow(struct content_server *s, const unsigned char (*keys)[KEYS_BYTES],
                         size_t n, struct err *err)
{
    return key_set_replace(&s->allowed, keys, n, err);
}

int content_server_port(const struct content_server *s)
{
    return s->port;
}

int64_t content_server_sent_bytes(const struct content_server *s)
{
    return atomic_load(&s->sent_bytes);
}
