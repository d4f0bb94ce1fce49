/* Who gets through a door (zap.h), over real sockets, and what those learn who do not. */
#include "proto/wire.h"
#include "proto/zap.h"
#include "worker/worker_door.h"
#include "worker/worker_finder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct house {
    void *zmq, *bound;
    struct zap zap;
    struct key_pair own, guest;
    bool is_open; /* to the guest */
    int port;
    void *visitors[4];
    int n_visitors;
};

static bool house_judge(void *context, const char *domain, const unsigned char key[KEYS_BYTES])
{
    const struct house *h = context;
    assert_string_equal(domain, WIRE_CONTROL);
    return h->is_open && keys_are_equal(key, h->guest.public_key);
}

static int house_open(void **state)
{
    static struct house h;
    struct err err;
    h = (struct house){.zmq = zmq_ctx_new()};
    *state = &h;
    const struct wire_security security = {.own = &h.own, .domain = WIRE_CONTROL};
    if (keys_make(&h.own, &err) != 0 || keys_make(&h.guest, &err) != 0 ||
        zap_open(&h.zap, h.zmq, house_judge, &h, &err) != 0 ||
        wire_socket(&h.bound, h.zmq, ZMQ_ROUTER, &security, &err) != 0)
        return -1;
    return wire_bind(h.bound, "127.0.0.1", 0, &h.port, &err);
}

static int house_close(void **state)
{
    struct house *h = *state;
    for (int i = 0; i < h->n_visitors; i++)
        zmq_close(h->visitors[i]);
    zmq_close(h->bound);
    zap_close(&h->zap);
    zmq_ctx_term(h->zmq);
    return 0;
}

/* One that has said hello, with `own` keys (NULL: plain), to the host with that key. */
static void *house_visit(struct house *h, const struct key_pair *own, const unsigned char *host_key)
{
    void *socket;
    struct err err;
    char endpoint[64];
    const struct wire_security security = {.own = own, .server_key = host_key};
    assert_int_equal(wire_socket(&socket, h->zmq, ZMQ_DEALER, own ? &security : NULL, &err), 0);
    h->visitors[h->n_visitors++] = socket;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", h->port);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    Paceline__Leave leave = PACELINE__LEAVE__INIT;
    leave.reason = (char *)"hello";
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = PACELINE__CONTROL__BODY_LEAVE;
    c.leave = &leave;
    assert_int_equal(wire_send_control(socket, NULL, &c, &err), 0);
    return socket;
}

/* Serves the door until a message came or the time is over. */
static bool house_hears(struct house *h, struct wire_identity *ret_from, int limit_ms)
{
    for (int i = 0; i < limit_ms / 10; i++) {
        zmq_pollitem_t items[] = {{.socket = h->zap.socket, .events = ZMQ_POLLIN},
                                  {.socket = h->bound, .events = ZMQ_POLLIN}};
        zmq_poll(items, 2, 10);
        zap_serve(&h->zap);
        Paceline__Control *c = NULL;
        struct err err;
        if (wire_receive_control(h->bound, ret_from, &c, &err) == 1) {
            paceline__control__free_unpacked(c, NULL);
            return true;
        }
    }
    return false;
}

static void test_guest(void **state)
{
    struct house *h = *state;
    struct wire_identity from = {0};
    h->is_open = true;
    house_visit(h, &h->guest, h->own.public_key);
    assert_true(house_hears(h, &from, 5000));
    assert_true(from.has_key);
    assert_memory_equal(from.key, h->guest.public_key, KEYS_BYTES);
    assert_int_equal(h->zap.n_refused, 0);
}

static void test_strangers(void **state)
{
    struct house *h = *state;
    struct key_pair stranger;
    struct wire_identity from;
    struct err err;
    assert_int_equal(keys_make(&stranger, &err), 0);
    h->is_open = true;
    house_visit(h, &stranger, h->own.public_key);   /* a key that is not known */
    house_visit(h, NULL, NULL);                     /* none */
    house_visit(h, &h->guest, stranger.public_key); /* who wants to talk to somebody else */
    assert_false(house_hears(h, &from, WIRE_HANDSHAKE_MS + 500));
    assert_true(h->zap.n_refused > 0);
    assert_string_equal(h->zap.last_address, "127.0.0.1");
    for (int i = 0; i < h->n_visitors; i++) { /* nobody was told anything */
        Paceline__Control *c = NULL;
        assert_int_equal(wire_receive_control(h->visitors[i], NULL, &c, &err), 0);
    }
}

/* Who knocks too early waits, and is let in as soon as he may be. */
static void test_later(void **state)
{
    struct house *h = *state;
    struct wire_identity from;
    house_visit(h, &h->guest, h->own.public_key);
    assert_false(house_hears(h, &from, 300));
    assert_int_equal(h->zap.n_open, 1);
    h->is_open = true;
    assert_true(house_hears(h, &from, 5000));
}

/* So does one whose first connection has ended in silence. */
static void test_much_later(void **state)
{
    struct house *h = *state;
    struct wire_identity from;
    house_visit(h, &h->guest, h->own.public_key);
    assert_false(house_hears(h, &from, WIRE_HANDSHAKE_MS + 500));
    assert_true(h->zap.n_refused > 0);
    h->is_open = true;
    assert_true(house_hears(h, &from, 10000));
}

/* ---- a worker's door ---- */

static void test_worker_door(void **state)
{
    unsigned char keys[6][KEYS_BYTES];
    for (int i = 0; i < 6; i++)
        memset(keys[i], i + 1, KEYS_BYTES);
    struct worker_door d;
    struct err err;
    void *zmq = zmq_ctx_new();
    assert_int_equal(worker_door_open(&d, zmq, keys[0], &err), 0);
    zap_judge *judge = d.zap.judge;
    assert_false(judge(&d, WIRE_STEPS, keys[1]));
    assert_false(judge(&d, WIRE_STEPS, keys[0])); /* no plan names the coordinator either */
    assert_true(judge(&d, WIRE_CONTENT, keys[0]));
    assert_false(judge(&d, WIRE_CONTROL, keys[0]));
    ProtobufCBinaryData peers[] = {{KEYS_BYTES, keys[1]}, {KEYS_BYTES, keys[2]}};
    Paceline__Load load = PACELINE__LOAD__INIT;
    assert_int_equal(worker_door_on_load(&d, &load, &err), ERR_NETWORK);
    load.next_key = (ProtobufCBinaryData){KEYS_BYTES, keys[5]};
    assert_int_equal(worker_door_on_peers(&d, peers, 2, &err), 0);
    for (int i = 1; i < 4; i++) { /* three plans, of which the newest two count */
        load.upstream_key = (ProtobufCBinaryData){KEYS_BYTES, keys[i]};
        assert_int_equal(worker_door_on_load(&d, &load, &err), 0);
    }
    assert_false(judge(&d, WIRE_STEPS, keys[1]));
    assert_true(judge(&d, WIRE_STEPS, keys[2]));
    assert_true(judge(&d, WIRE_STEPS, keys[3]));
    assert_false(judge(&d, WIRE_STEPS, keys[5]));
    assert_true(judge(&d, WIRE_CONTENT, keys[1]));
    assert_false(judge(&d, WIRE_CONTENT, keys[4]));
    peers[1].len = 31; /* those before stay */
    assert_int_equal(worker_door_on_peers(&d, peers, 2, &err), ERR_NETWORK);
    assert_true(judge(&d, WIRE_CONTENT, keys[2]));
    assert_int_equal(worker_door_on_peers(&d, peers, 1, &err), 0); /* who was revoked is out */
    assert_true(judge(&d, WIRE_CONTENT, keys[0]));
    assert_true(judge(&d, WIRE_CONTENT, keys[1]));
    assert_false(judge(&d, WIRE_CONTENT, keys[2]));
    worker_door_close(&d);
    zmq_ctx_term(zmq);
}

/* ---- beacons ---- */

static void test_believing(void **state)
{
    struct worker_finder f = {.fd = -1};
    struct worker_settings s = {.cluster_name = (char *)"office"};
    struct beacon b = {.port = 1, .cluster = "office"};
    assert_false(worker_finder_believes(&f, &s, &b, "h")); /* plain, and we are not insecure */
    assert_true(f.told_locked && !f.told_foreign);
    s.insecure = true;
    assert_true(worker_finder_believes(&f, &s, &b, "h"));
    b.is_encrypted = true;
    assert_false(worker_finder_believes(&f, &s, &b, "h"));
    b.is_encrypted = false;
    strcpy(b.cluster, "lab");
    assert_false(worker_finder_believes(&f, &s, &b, "h"));
    assert_true(f.told_foreign);
    s.is_encrypted = true; /* enrolled: the key decides, not the name */
    memset(s.coordinator_key, 4, KEYS_BYTES);
    b.is_encrypted = true;
    memset(b.key, 5, KEYS_BYTES);
    strcpy(b.cluster, "office");
    assert_false(worker_finder_believes(&f, &s, &b, "h"));
    memset(b.key, 4, KEYS_BYTES);
    strcpy(b.cluster, "renamed");
    assert_true(worker_finder_believes(&f, &s, &b, "h"));
    b.is_encrypted = false; /* a plain one with our key is a lie */
    strcpy(b.cluster, "office");
    assert_false(worker_finder_believes(&f, &s, &b, "h"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_guest, house_open, house_close),
        cmocka_unit_test_setup_teardown(test_strangers, house_open, house_close),
        cmocka_unit_test_setup_teardown(test_later, house_open, house_close),
        cmocka_unit_test_setup_teardown(test_much_later, house_open, house_close),
        cmocka_unit_test(test_worker_door),
        cmocka_unit_test(test_believing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
