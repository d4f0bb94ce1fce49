/* Workers that join, are refused, fall silent, restart and talk nonsense, over real sockets. */
#include "coordinator/registry.h"

#include "base/clock.h"
#include "base/version.h"

#include "tests/support/exam_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct desk {
    void *zmq;
    struct registry registry;
    int port;
    void *peers[64]; /* closed with the desk, also after a failure */
    int n_peers;
};

static int desk_open(void **state)
{
    static struct desk d;
    struct err err;
    d = (struct desk){.zmq = zmq_ctx_new()};
    if (registry_open(&d.registry, d.zmq, "127.0.0.1", 0, NULL, &d.port, &err) != 0)
        return -1;
    *state = &d;
    return 0;
}

static int desk_close(void **state)
{
    struct desk *d = *state;
    for (int i = 0; i < d->n_peers; i++)
        zmq_close(d->peers[i]);
    registry_close(&d->registry);
    zmq_ctx_term(d->zmq);
    return 0;
}

/* ---- a worker's side ---- */

static void *peer_open(struct desk *d, const char *identity)
{
    void *socket;
    struct err err;
    char endpoint[64];
    assert_true(d->n_peers < 64);
    assert_int_equal(wire_socket(&socket, d->zmq, ZMQ_DEALER, NULL, &err), 0);
    d->peers[d->n_peers++] = socket;
    zmq_setsockopt(socket, ZMQ_ROUTING_ID, identity, strlen(identity));
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", d->port);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

static void peer_send(void *socket, Paceline__Control__BodyCase kind, void *body)
{
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = kind;
    c.hello = body;
    assert_int_equal(wire_send_control(socket, NULL, &c, NULL), 0);
}

static Paceline__Hello hello_of(const char *name, uint64_t incarnation)
{
    Paceline__Hello h = PACELINE__HELLO__INIT;
    h.protocol_version = PACELINE_PROTOCOL_VERSION;
    h.numerics_version = PACELINE_NUMERICS_VERSION;
    h.program_version = (char *)PACELINE_VERSION;
    h.name = (char *)name;
    h.threads = 4;
    h.isa = (char *)"avx2";
    h.memory_bytes = 1 << 30;
    h.data_endpoint = (char *)"tcp://127.0.0.1:4000";
    h.incarnation = incarnation;
    h.exam = exam_message(3, 0);
    return h;
}

/* Waits for what the peer has sent to arrive. */
static void desk_receive(struct desk *d)
{
    zmq_pollitem_t item = {.socket = d->registry.socket, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&item, 1, 2000), 1);
    registry_receive(&d->registry);
}

static Paceline__Control *peer_receive(void *socket)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    Paceline__Control *c = NULL;
    struct err err;
    assert_int_equal(zmq_poll(&item, 1, 2000), 1);
    assert_int_equal(wire_receive_control(socket, NULL, &c, &err), 1);
    return c;
}

static void *peer_join(struct desk *d, const char *identity, const char *name, uint64_t incarnation,
                       const char *expected_name)
{
    void *socket = peer_open(d, identity);
    Paceline__Hello h = hello_of(name, incarnation);
    peer_send(socket, PACELINE__CONTROL__BODY_HELLO, &h);
    desk_receive(d);
    Paceline__Control *c = peer_receive(socket);
    assert_int_equal(c->body_case, PACELINE__CONTROL__BODY_WELCOME);
    assert_string_equal(c->welcome->name, expected_name);
    assert_in_range(c->welcome->heartbeat_ms, 1, 250);
    paceline__control__free_unpacked(c, NULL);
    return socket;
}

static void peer_beat(void *socket, uint64_t epoch, uint64_t ready_epoch)
{
    Paceline__Heartbeat beat = PACELINE__HEARTBEAT__INIT;
    beat.epoch = epoch;
    beat.ready_epoch = ready_epoch;
    peer_send(socket, PACELINE__CONTROL__BODY_HEARTBEAT, &beat);
}

/* The deployment's part: a stage, of a plan. */
static void give_stage(struct worker_entry *w, uint64_t epoch)
{
    w->stage = w->first_layer = 0;
    w->end_layer = 4;
    w->epoch = epoch;
    w->state = WORKER_LOADING;
    w->beats_astray = 0;
}

/* ---- clocks ---- */

static void a_beat_that_is_answered_tells_the_clock(void **state)
{
    struct desk *d = *state;
    void *socket = peer_join(d, "a", "desk", 1, "desk");
    const struct worker_entry *w = d->registry.workers;
    int64_t offset, width;
    peer_beat(socket, 0, 0); /* answers nothing */
    desk_receive(d);
    assert_false(clock_offset_estimate(&w->clock, clock_now_us(), &offset, &width));
    registry_keep_time(&d->registry);
    Paceline__Control *c = peer_receive(socket);
    assert_int_equal(c->body_case, PACELINE__CONTROL__BODY_HEARTBEAT);
    assert_true(c->heartbeat->sent_us > 0);
    Paceline__Heartbeat beat = PACELINE__HEARTBEAT__INIT;
    beat.echo_us = c->heartbeat->sent_us;
    paceline__control__free_unpacked(c, NULL);
    beat.echo_received_us = beat.sent_us = (uint64_t)clock_now_us() + 7000000;
    peer_send(socket, PACELINE__CONTROL__BODY_HEARTBEAT, &beat);
    desk_receive(d);
    assert_true(clock_offset_estimate(&w->clock, clock_now_us(), &offset, &width));
    assert_true(llabs(offset - 7000000) <= width);
    beat.echo_us = beat.sent_us = UINT64_MAX; /* a liar harms nobody */
    peer_send(socket, PACELINE__CONTROL__BODY_HEARTBEAT, &beat);
    desk_receive(d);
    assert_true(clock_offset_estimate(&w->clock, clock_now_us(), &offset, &width));
    assert_true(llabs(offset - 7000000) <= width);
}

/* ---- joining ---- */

static void a_worker_joins(void **state)
{
    struct desk *d = *state;
    peer_join(d, "a", "desk-7", 1, "desk-7");
    assert_true(d->registry.joined);
    const struct worker_entry *w = d->registry.workers;
    assert_int_equal(d->registry.n_workers, 1);
    assert_string_equal(w->name, "desk-7");
    assert_string_equal(w->isa, "avx2");
    assert_string_equal(w->address, "tcp://127.0.0.1:4000");
    assert_int_equal(w->threads, 4);
    assert_int_equal(w->memory_bytes, 1 << 30);
    assert_int_equal(w->stage, -1);
}

static void a_name_is_given_once(void **state)
{
    struct desk *d = *state;
    peer_join(d, "a", "desk", 1, "desk");
    peer_join(d, "b", "desk", 2, "desk-2");
    peer_join(d, "c", "desk", 3, "desk-3");
    peer_join(d, "d", "", 4, "worker");
    peer_join(d, "e", "a b\nc\x1b[2J", 5, "a_b_c_[2J");
    assert_int_equal(d->registry.n_workers, 5);
}

static void hello_may_come_twice(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    Paceline__Hello h = hello_of("desk", 1);
    peer_send(a, PACELINE__CONTROL__BODY_HELLO, &h);
    desk_receive(d);
    Paceline__Control *c = peer_receive(a);
    assert_int_equal(c->body_case, PACELINE__CONTROL__BODY_WELCOME);
    assert_string_equal(c->welcome->name, "desk");
    paceline__control__free_unpacked(c, NULL);
    assert_int_equal(d->registry.n_workers, 1);
}

static void expect_refusal(struct desk *d, const Paceline__Hello *h, const char *words)
{
    void *socket = peer_open(d, "refused");
    peer_send(socket, PACELINE__CONTROL__BODY_HELLO, (void *)h);
    desk_receive(d);
    Paceline__Control *c = peer_receive(socket);
    assert_int_equal(c->body_case, PACELINE__CONTROL__BODY_REFUSE);
    if (!strstr(c->refuse->reason, words))
        fail_msg("\"%s\" says nothing of \"%s\"", c->refuse->reason, words);
    assert_null(strchr(c->refuse->reason, '\n'));
    paceline__control__free_unpacked(c, NULL);
    assert_int_equal(d->registry.n_workers, 0);
    assert_false(d->registry.joined);
}

static void who_does_not_fit_is_refused_in_words(void **state)
{
    struct desk *d = *state;
    Paceline__Hello h = hello_of("x", 1);
    h.protocol_version++;
    h.program_version = (char *)"9\n9";
    expect_refusal(d, &h, "protocol version");
    h = hello_of("x", 1);
    h.numerics_version++;
    expect_refusal(d, &h, "numerics");
    h = hello_of("x", 1);
    h.threads = 0;
    expect_refusal(d, &h, "0 threads");
    h = hello_of("x", 1);
    h.memory_bytes = -1;
    expect_refusal(d, &h, "-1 bytes");
    static const char *const endpoints[] = {
        "",           "tcp://",        "tcp://:1",        "tcp://host",     "ipc:///tmp/x",
        "tcp://h:0",  "tcp://h:65536", "tcp://h:1x",      "tcp://h:",       "tcp://h;i:1",
        "tcp://*:80", "tcp://[]:1",    "tcp://[::1:4000", "tcp://a b:4000", "tcp://h:999999",
        "tcp://]:1",  "tcp://[:1",     "tcp://[::1]x:1",  "tcp://h:1\n",    "tcp://[g::1]:1"};
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++) {
        h = hello_of("x", 1);
        h.data_endpoint = (char *)endpoints[i];
        expect_refusal(d, &h, "endpoint");
    }
}

static void endpoints_of_every_kind_are_taken(void **state)
{
    struct desk *d = *state;
    static const char *const endpoints[] = {"tcp://192.168.0.7:65535", "tcp://[fe80::1%eth0]:1",
                                            "tcp://desk-7.office_lan:4000", "tcp://[::1]:4000"};
    for (size_t i = 0; i < 4; i++) {
        char identity[] = {'a' + (char)i, 0};
        void *socket = peer_open(d, identity);
        Paceline__Hello h = hello_of(identity, i + 1);
        h.data_endpoint = (char *)endpoints[i];
        peer_send(socket, PACELINE__CONTROL__BODY_HELLO, &h);
        desk_receive(d);
        assert_int_equal(d->registry.n_workers, i + 1);
    }
}

/* ---- leaving ---- */

static void leave_is_a_farewell(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    give_stage(d->registry.workers, 3);
    Paceline__Leave leave = PACELINE__LEAVE__INIT;
    peer_send(a, PACELINE__CONTROL__BODY_LEAVE, &leave);
    desk_receive(d);
    assert_int_equal(d->registry.n_workers, 0);
    assert_null(d->registry.workers);
    assert_true(d->registry.stage_lost);
    assert_string_equal(d->registry.lost_name, "desk");
    assert_int_equal(d->registry.lost_end, WORKER_LEFT);
}

/* Gone at once, with the step that it was at; words of a peer fit a line of the log. */
static void who_crashes_can_say_so(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    give_stage(d->registry.workers, 3);
    Paceline__Crashed crashed = PACELINE__CRASHED__INIT;
    crashed.epoch = 3;
    crashed.step = 77;
    crashed.fault = (char *)"Bus\nerror";
    peer_send(a, PACELINE__CONTROL__BODY_CRASHED, &crashed);
    desk_receive(d);
    assert_int_equal(d->registry.n_workers, 0);
    assert_true(d->registry.stage_lost);
    assert_int_equal(d->registry.lost_end, WORKER_CRASHED);
    assert_int_equal(d->registry.lost_epoch, 3);
    assert_int_equal(d->registry.lost_step, 77);
    assert_string_equal(d->registry.lost_fault, "Bus?error");
    Paceline__Leave leave = PACELINE__LEAVE__INIT;
    a = peer_join(d, "b", "desk", 2, "desk"); /* before anybody has looked: the crash tells more */
    give_stage(d->registry.workers, 4);
    peer_send(a, PACELINE__CONTROL__BODY_LEAVE, &leave);
    desk_receive(d);
    assert_int_equal(d->registry.lost_end, WORKER_CRASHED);
    assert_int_equal(d->registry.lost_step, 77);
    d->registry.stage_lost = false;
    a = peer_join(d, "c", "desk", 3, "desk"); /* later words are of another end */
    give_stage(d->registry.workers, 5);
    peer_send(a, PACELINE__CONTROL__BODY_LEAVE, &leave);
    desk_receive(d);
    assert_int_equal(d->registry.lost_end, WORKER_LEFT);
    assert_int_equal(d->registry.lost_step, 0);
}

static void a_restarted_worker_is_another_one(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    give_stage(d->registry.workers, 3);
    d->registry.joined = false;
    Paceline__Hello h = hello_of("desk", 2);
    peer_send(a, PACELINE__CONTROL__BODY_HELLO, &h);
    desk_receive(d);
    assert_int_equal(d->registry.n_workers, 1);
    assert_int_equal(d->registry.workers->incarnation, 2);
    assert_int_equal(d->registry.workers->stage, -1);
    assert_true(d->registry.stage_lost);
    assert_true(d->registry.joined);
}

/* By its name and where it is: ports change, and others have other names. */
static void who_is_lost_again_and_again_is_kept_out(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    Paceline__Hello h = hello_of("desk", 2);
    h.data_endpoint = (char *)"tcp://127.0.0.1:4001";
    peer_send(a, PACELINE__CONTROL__BODY_HELLO, &h); /* restarted: a loss */
    desk_receive(d);
    Paceline__Control *c = peer_receive(a);
    assert_int_equal(c->welcome->kept_out_ms, 0);
    assert_int_equal(d->registry.workers->n_losses, 0);
    paceline__control__free_unpacked(c, NULL);
    h.incarnation = 3;
    peer_send(a, PACELINE__CONTROL__BODY_HELLO, &h);
    desk_receive(d);
    c = peer_receive(a);
    assert_in_range(c->welcome->kept_out_ms, 4000, 5000);
    assert_int_equal(c->welcome->losses, 2);
    paceline__control__free_unpacked(c, NULL);
    assert_int_equal(d->registry.workers->n_losses, 2);
    peer_join(d, "b", "attic", 1, "attic");
    assert_int_equal(d->registry.workers->next->n_losses, 0);
    d->registry.joined = false;
    registry_keep_time(&d->registry);
    assert_int_equal(d->registry.workers->n_losses, 2);
    d->registry.workers->kept_out_until_ms = clock_now_ms(); /* time passes */
    registry_keep_time(&d->registry);
    assert_int_equal(d->registry.workers->n_losses, 0);
    assert_true(d->registry.joined); /* plans may use it */
}

static void wait_ms(int ms)
{
    zmq_poll(NULL, 0, ms);
}

static void silence_is_a_loss(void **state)
{
    struct desk *d = *state;
    d->registry.silence_ms = 200;
    void *quiet = peer_join(d, "a", "quiet", 1, "quiet");
    void *alive = peer_join(d, "b", "alive", 2, "alive");
    give_stage(d->registry.workers, 3);
    for (int64_t until = clock_now_ms() + 600; clock_now_ms() < until;) {
        peer_beat(alive, 0, 0);
        wait_ms(20);
        registry_receive(&d->registry);
        registry_keep_time(&d->registry);
    }
    assert_int_equal(d->registry.n_workers, 1);
    assert_string_equal(d->registry.workers->name, "alive");
    assert_true(d->registry.stage_lost);
    assert_string_equal(d->registry.lost_name, "quiet");
    Paceline__Control *c = peer_receive(alive); /* and it was told that we are here */
    assert_int_equal(c->body_case, PACELINE__CONTROL__BODY_HEARTBEAT);
    paceline__control__free_unpacked(c, NULL);
    peer_beat(quiet, 0, 0); /* a stranger now: it has to say hello */
    desk_receive(d);
    assert_int_equal(d->registry.n_workers, 1);
}

static void who_does_not_listen_hears_no_silence(void **state)
{
    struct desk *d = *state;
    d->registry.silence_ms = 700;
    peer_join(d, "a", "desk", 1, "desk");
    registry_keep_time(&d->registry);
    wait_ms(900); /* busy elsewhere; what was said meanwhile is not read yet */
    registry_keep_time(&d->registry);
    assert_int_equal(d->registry.n_workers, 0 + 1);
}

/* ---- stages ---- */

static void a_stage_becomes_ready(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    struct worker_entry *w = d->registry.workers;
    give_stage(w, 3);
    Paceline__Progress progress = PACELINE__PROGRESS__INIT;
    progress.epoch = 3;
    progress.bytes_done = 10;
    progress.bytes_total = 40;
    peer_send(a, PACELINE__CONTROL__BODY_PROGRESS, &progress);
    desk_receive(d);
    assert_int_equal(w->load_done, 10);
    assert_int_equal(w->load_total, 40);
    Paceline__Ready ready = PACELINE__READY__INIT;
    ready.memory_bytes = 77;
    ready.epoch = 2; /* of an older plan */
    ready.kernels = (char *)"q8: avx2\n";
    peer_send(a, PACELINE__CONTROL__BODY_READY, &ready);
    desk_receive(d);
    assert_int_equal(w->state, WORKER_LOADING);
    assert_false(d->registry.stage_ready);
    ready.epoch = 3;
    peer_send(a, PACELINE__CONTROL__BODY_READY, &ready);
    desk_receive(d);
    assert_int_equal(w->state, WORKER_SERVING);
    assert_true(d->registry.stage_ready);
    assert_int_equal(w->memory_claimed, 77);
    assert_string_equal(w->kernels, "q8: avx2?");
    assert_ptr_equal(registry_stage(&d->registry, 0), w);
    assert_null(registry_stage(&d->registry, 1));
}

/* Heartbeats say again what a message said that was lost with its connection. */
static void heartbeats_make_up_for_lost_messages(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    struct worker_entry *w = d->registry.workers;
    give_stage(w, 3);
    peer_beat(a, 3, 0);
    desk_receive(d);
    assert_int_equal(w->state, WORKER_LOADING);
    peer_beat(a, 3, 3);
    desk_receive(d);
    assert_int_equal(w->state, WORKER_SERVING);
    assert_true(d->registry.stage_ready);
    give_stage(w, 4);
    for (int i = 0; i < 20 && !d->registry.stage_lost; i++) {
        assert_true(i < 8);
        peer_beat(a, 3, 3); /* the Load of epoch 4 never came */
        desk_receive(d);
    }
    assert_true(d->registry.stage_lost);
    assert_int_equal(d->registry.n_workers, 1); /* it stays for the next plan */
}

static void a_stage_fails(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    struct worker_entry *w = d->registry.workers;
    give_stage(w, 3);
    Paceline__Failed failed = PACELINE__FAILED__INIT;
    failed.epoch = 2;
    failed.code = ERR_MEMORY;
    failed.reason = (char *)"no\nroom";
    peer_send(a, PACELINE__CONTROL__BODY_FAILED, &failed);
    desk_receive(d);
    assert_false(d->registry.stage_failed);
    failed.epoch = 3;
    peer_send(a, PACELINE__CONTROL__BODY_FAILED, &failed);
    desk_receive(d);
    assert_true(d->registry.stage_failed);
    assert_true(w->unfit);
    assert_int_equal(d->registry.failure.code, ERR_MEMORY);
    assert_string_equal(d->registry.failure.text, "worker desk: no?room");
    failed.code = 12345;
    peer_send(a, PACELINE__CONTROL__BODY_FAILED, &failed);
    desk_receive(d);
    assert_int_equal(d->registry.failure.code, ERR_INTERNAL);
}

/* ---- nonsense ---- */

static void nonsense_is_dropped(void **state)
{
    struct desk *d = *state;
    void *a = peer_join(d, "a", "desk", 1, "desk");
    char identity[101];
    memset(identity, 'x', 100);
    identity[100] = '\0';
    void *endless = peer_open(d, identity);
    Paceline__Hello h = hello_of("endless", 9);
    peer_send(endless, PACELINE__CONTROL__BODY_HELLO, &h);
    wait_ms(50);
    zmq_send(a, "", 0, 0);
    zmq_send(a, "\xff\xff\xff\xff", 4, 0);
    zmq_send(a, "\x0a\x05hello", 7, 0);
    zmq_send(a, "\x52\x00", 2, ZMQ_SNDMORE); /* a Leave that goes on */
    zmq_send(a, "two", 3, 0);
    Paceline__Welcome welcome = PACELINE__WELCOME__INIT;
    peer_send(a, PACELINE__CONTROL__BODY_WELCOME, &welcome);
    uint32_t random = 1;
    for (int i = 0; i < 300; i++) {
        unsigned char bytes[64];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (unsigned char)((random = random * 1664525u + 1013904223u) >> 24);
        zmq_send(a, bytes, (size_t)i % sizeof bytes, 0);
    }
    wait_ms(100);
    for (int i = 0; i < 10; i++)
        registry_receive(&d->registry);
    assert_int_equal(d->registry.n_workers, 1);
    assert_false(d->registry.stage_lost);
    peer_beat(a, 0, 0);
    desk_receive(d);
    assert_int_equal(d->registry.n_workers, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_open, desk_close)
    const struct CMUnitTest tests[] = {
        TEST(a_worker_joins),
        TEST(a_beat_that_is_answered_tells_the_clock),
        TEST(a_name_is_given_once),
        TEST(hello_may_come_twice),
        TEST(who_does_not_fit_is_refused_in_words),
        TEST(endpoints_of_every_kind_are_taken),
        TEST(leave_is_a_farewell),
        TEST(who_crashes_can_say_so),
        TEST(a_restarted_worker_is_another_one),
        TEST(who_is_lost_again_and_again_is_kept_out),
        TEST(silence_is_a_loss),
        TEST(who_does_not_listen_hears_no_silence),
        TEST(a_stage_becomes_ready),
        TEST(heartbeats_make_up_for_lost_messages),
        TEST(a_stage_fails),
        TEST(nonsense_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
