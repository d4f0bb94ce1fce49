/* Chunks from several sources at once, of which one is slow, or most cannot be reached. */
#include "worker/content_fetch.h"

#include "base/clock.h"
#include "proto/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SOURCES   4
#define ABSENT    12 /* nobody listens there; together they could hold the whole window */
#define TENSORS   64
#define BYTES     1000
#define QUICK     4 /* answers of the slow one, at first */
#define LIMIT_MS  30000
#define POLL_MS   5
#define STALL_MS  20000
#define MOST_OWED (CONTENT_FETCH_WINDOW / SOURCES)

struct world {
    void *zmq, *routers[SOURCES];
    struct content_fetch_source sources[SOURCES];
    struct content_fetch_tensor tensors[TENSORS];
    int n_asked[SOURCES];
};

static void say(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static void open_sources(struct world *w)
{
    struct err err;
    *w = (struct world){.zmq = NULL};
    assert_int_equal(wire_context(&w->zmq, &err), 0);
    for (int i = 0; i < SOURCES; i++) {
        int port;
        assert_int_equal(wire_socket(&w->routers[i], w->zmq, ZMQ_ROUTER, NULL, &err), 0);
        assert_int_equal(wire_bind(w->routers[i], "127.0.0.1", 0, &port, &err), 0);
        snprintf(w->sources[i].endpoint, sizeof w->sources[i].endpoint, "tcp://127.0.0.1:%d", port);
    }
    for (int i = 0; i < TENSORS; i++) {
        w->tensors[i] = (struct content_fetch_tensor){.name = "tensor", .bytes = BYTES};
        w->tensors[i].digest[0] = (unsigned char)i;
    }
}

static void answer(void *router, zmq_msg_t *from, const struct content_request *q)
{
    struct content_reply r = {.chunk = q->chunk, .status = CONTENT_HERE};
    zmq_msg_t envelope, frame;
    struct err err;
    memcpy(r.digest, q->digest, sizeof r.digest);
    assert_int_equal(content_reply_pack(&r, &envelope, &err), 0);
    assert_int_equal(zmq_msg_init_size(&frame, BYTES), 0);
    memset(zmq_msg_data(&frame), q->digest[0], BYTES);
    assert_true(zmq_msg_send(from, router, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_msg_send(&envelope, router, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_msg_send(&frame, router, 0) >= 0);
}

/* The first source answers a few, so that more is asked of it, and then none. */
static void serve(struct world *w, int source)
{
    zmq_msg_t from, envelope;
    struct content_request q;
    zmq_msg_init(&from);
    while (zmq_msg_recv(&from, w->routers[source], ZMQ_DONTWAIT) >= 0) {
        zmq_msg_init(&envelope);
        assert_true(zmq_msg_recv(&envelope, w->routers[source], 0) >= 0);
        assert_true(content_request_unpack(&q, zmq_msg_data(&envelope), zmq_msg_size(&envelope)));
        zmq_msg_close(&envelope);
        if (w->n_asked[source]++ < QUICK || source > 0)
            answer(w->routers[source], &from, &q);
        zmq_msg_close(&from);
        zmq_msg_init(&from);
    }
    zmq_msg_close(&from);
}

/* Takes everything from the sources that listen, the first n_sources of those told. */
static void fetch_all(struct world *w, const struct content_fetch_source *sources, int n_sources)
{
    struct content_fetch *f;
    struct err err;
    const struct content_fetch_spec spec = {.zmq = w->zmq,
                                            .own_endpoint = "",
                                            .n_sources = n_sources,
                                            .sources = sources,
                                            .n_tensors = TENSORS,
                                            .tensors = w->tensors,
                                            .stall_ms = STALL_MS,
                                            .tell = say};
    assert_int_equal(content_fetch_open(&f, &spec, &err), 0);
    for (size_t i = 0; i < TENSORS; i++)
        content_fetch_want(f, i, 0);
    int n_good = 0;
    for (int64_t end_ms = clock_now_ms() + LIMIT_MS; n_good < TENSORS;) {
        struct content_arrival a;
        assert_true(clock_now_ms() < end_ms);
        for (int i = 0; i < SOURCES; i++)
            serve(w, i);
        if (content_fetch_take(f, POLL_MS, &a)) {
            assert_int_equal(*(unsigned char *)zmq_msg_data(&a.frame), a.tensor);
            content_fetch_settle(f, &a, true);
            n_good++;
        }
    }
    content_fetch_close(f);
}

static void close_sources(struct world *w)
{
    for (int i = 0; i < SOURCES; i++)
        zmq_close(w->routers[i]);
    zmq_ctx_term(w->zmq);
}

static void a_slow_source_holds_its_part_of_the_window(void **state)
{
    (void)state;
    static struct world w;
    open_sources(&w);
    fetch_all(&w, w.sources, SOURCES);
    /* What it owed was asked of others in the end. */
    assert_true(w.n_asked[0] > QUICK);
    assert_true(w.n_asked[0] <= QUICK + MOST_OWED);
    close_sources(&w);
}

static void who_cannot_be_reached_holds_nothing(void **state)
{
    (void)state;
    static struct world w;
    struct content_fetch_source sources[ABSENT + 1] = {{.name = ""}};
    struct err err;
    open_sources(&w);
    for (int i = 0; i < ABSENT; i++) { /* ports that were free a moment ago */
        void *closed;
        int port;
        assert_int_equal(wire_socket(&closed, w.zmq, ZMQ_ROUTER, NULL, &err), 0);
        assert_int_equal(wire_bind(closed, "127.0.0.1", 0, &port, &err), 0);
        assert_int_equal(zmq_close(closed), 0);
        snprintf(sources[i].endpoint, sizeof sources[i].endpoint, "tcp://127.0.0.1:%d", port);
    }
    sources[ABSENT] = w.sources[1];
    int64_t begin_ms = clock_now_ms();
    fetch_all(&w, sources, ABSENT + 1);
    assert_true(clock_now_ms() - begin_ms < STALL_MS);
    assert_int_equal(w.n_asked[1], TENSORS);
    close_sources(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_source_holds_its_part_of_the_window),
        cmocka_unit_test(who_cannot_be_reached_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
