/* Who is answered by a server of weights with keys: the right to ask ends with an old connection
 * still there. */
#include "proto/content_server.h"
#include "proto/wire.h"
#include "proto/zap.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LIMIT_MS  20000
#define SILENT_MS 200

struct place {
    void *zmq, *asker;
    struct zap zap;
    struct key_pair own, guest;
    struct content_server *server;
};

static bool let_all_in(void *context, const char *domain, const unsigned char key[KEYS_BYTES])
{
    (void)context, (void)domain, (void)key;
    return true;
}

static enum content_status find_nothing(void *context, const struct content_request *request,
                                        struct content_piece *ret_piece,
                                        char ret_elsewhere[CONTENT_ENDPOINT_BYTES])
{
    (void)context, (void)request, (void)ret_piece, (void)ret_elsewhere;
    return CONTENT_ABSENT;
}

static int place_open(void **state)
{
    static struct place p;
    struct err err;
    char endpoint[64];
    p = (struct place){.zmq = NULL};
    *state = &p;
    if (wire_context(&p.zmq, &err) != 0 || keys_make(&p.own, &err) != 0 ||
        keys_make(&p.guest, &err) != 0 || zap_open(&p.zap, p.zmq, let_all_in, NULL, &err) != 0)
        return -1;
    const struct content_server_spec spec = {
        .zmq = p.zmq, .host = "127.0.0.1", .own = &p.own, .find = find_nothing};
    const struct wire_security security = {.own = &p.guest, .server_key = p.own.public_key};
    if (content_server_open(&p.server, &spec, &err) != 0 ||
        wire_socket(&p.asker, p.zmq, ZMQ_DEALER, &security, &err) != 0)
        return -1;
    content_socket_set_up(p.asker, CONTENT_MAX_ENVELOPE);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", content_server_port(p.server));
    return zmq_connect(p.asker, endpoint);
}

static int place_close(void **state)
{
    struct place *p = *state;
    content_server_close(p->server);
    zmq_close(p->asker);
    zap_close(&p->zap);
    zmq_ctx_term(p->zmq);
    return 0;
}

static void ask(struct place *p)
{
    const struct content_request request = {.chunk = 7};
    zmq_msg_t envelope;
    struct err err;
    assert_int_equal(content_request_pack(&request, &envelope, &err), 0);
    assert_true(zmq_msg_send(&envelope, p->asker, 0) >= 0);
}

static bool is_answered(struct place *p, int within_ms)
{
    const int64_t end_ms = clock_now_ms() + within_ms;
    char bytes[CONTENT_MAX_ENVELOPE];
    while (clock_now_ms() < end_ms) {
        zmq_pollitem_t items[] = {{.socket = p->zap.socket, .events = ZMQ_POLLIN},
                                  {.socket = p->asker, .events = ZMQ_POLLIN}};
        assert_true(zmq_poll(items, 2, 20) >= 0);
        zap_serve(&p->zap);
        if (!(items[1].revents & ZMQ_POLLIN))
            continue;
        while (zmq_recv(p->asker, bytes, sizeof bytes, ZMQ_DONTWAIT) >= 0)
            ;
        return true;
    }
    return false;
}

static void only_those_that_are_here_are_answered(void **state)
{
    struct place *p = *state;
    struct err err;
    const unsigned char(*guest)[KEYS_BYTES] = (const void *)p->guest.public_key;
    const unsigned char(*other)[KEYS_BYTES] = (const void *)p->own.public_key;
    ask(p);
    assert_false(is_answered(p, SILENT_MS)); /* nobody is, yet */
    assert_int_equal(content_server_allow(p->server, guest, 1, &err), 0);
    ask(p);
    assert_true(is_answered(p, LIMIT_MS));
    assert_int_equal(content_server_allow(p->server, other, 1, &err), 0);
    ask(p);
    assert_false(is_answered(p, SILENT_MS)); /* revoked, and connected still */
    assert_int_equal(content_server_allow(p->server, NULL, 0, &err), 0);
    ask(p);
    assert_false(is_answered(p, SILENT_MS));
    assert_int_equal(content_server_allow(p->server, guest, 1, &err), 0);
    ask(p);
    assert_true(is_answered(p, LIMIT_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_those_that_are_here_are_answered, place_open,
                                        place_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
