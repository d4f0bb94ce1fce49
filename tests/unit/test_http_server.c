/* Behaviour of connections: kept alive, pipelined, several at once, slow, vanished, too long. */
#include "base/clock.h"
#include "tests/support/fake_clock.h"
#include "tests/support/http_fixture.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define CHAT         "/v1/chat/completions"
#define TEXT         "/v1/completions"
#define HELLO        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define HELLO_STREAM "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static int open_fixture(void **state)
{
    struct http_fixture *f = calloc(1, sizeof *f);
    http_fixture_open(f, &(struct http_fixture_spec){.most_requests = 16});
    http_fixture_say(f, "one two three");
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    http_fixture_close(*state);
    free(*state);
    return 0;
}

static void turns(struct http_fixture *f, int n)
{
    for (int i = 0; i < n; i++)
        http_fixture_turn(f);
}

static void test_keep_alive(void **state)
{
    struct http_fixture *f = *state;
    int fd = http_fixture_connect(f);
    for (int i = 0; i < 4; i++) {
        struct http_answer a = {0};
        http_fixture_request(fd, "POST", CHAT, NULL, i % 2 ? HELLO_STREAM : HELLO);
        http_fixture_receive(f, fd, &a);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.raw.length, 0);
        assert_false(a.is_closed);
        http_answer_clear(&a);
    }
    close(fd);
}

static void test_pipelined(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a = {0}, b = {0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", CHAT, "X-Request-Id: one\r\n", HELLO);
    http_fixture_request(fd, "GET", "/health", "X-Request-Id: two\r\n", NULL);
    http_fixture_receive(f, fd, &a);
    assert_true(http_answer_has_header(&a, "X-Request-Id: one"));
    buf_append(&b.raw, a.raw.data, a.raw.length);
    http_fixture_receive(f, fd, &b);
    assert_true(http_answer_has_header(&b, "X-Request-Id: two"));
    http_answer_clear(&a);
    http_answer_clear(&b);
    close(fd);
}

static void test_two_at_once(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a[2] = {0};
    int fd[2];
    fake_coordinator_hold(f->coordinator, true);
    for (int i = 0; i < 2; i++) {
        fd[i] = http_fixture_connect(f);
        http_fixture_request(fd[i], "POST", CHAT, NULL, i ? HELLO_STREAM : HELLO);
    }
    while (fake_coordinator_open(f->coordinator) < 2)
        http_fixture_turn(f);
    /* While they wait, others are served. */
    struct http_answer health;
    http_fixture_ask(f, "GET", "/health", NULL, &health);
    assert_int_equal(json_integer_value(http_fixture_at(health.json, "running")), 2);
    http_answer_clear(&health);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 2; i++) {
        http_fixture_receive(f, fd[i], &a[i]);
        assert_non_null(strstr(buf_text(&a[i].body), i ? "data: [DONE]" : "one two three"));
        http_answer_clear(&a[i]);
        close(fd[i]);
    }
}

/* Each token leaves at once: neither we nor the kernel wait for more to fill a packet. */
static void test_stream_is_prompt(void **state)
{
    struct http_fixture *f = *state;
    char piece[4096];
    int fd = http_fixture_connect(f);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(fd, "POST", CHAT, NULL, HELLO_STREAM);
    turns(f, 20);
    assert_true(recv(fd, piece, sizeof piece, MSG_DONTWAIT) > 0);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 4; i++) {
        fake_coordinator_step(f->coordinator);
        http_server_run(f->server);
        struct pollfd there = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&there, 1, 20), 1);
        ssize_t got = recv(fd, piece, sizeof piece - 1, MSG_DONTWAIT);
        assert_true(got > 0);
        piece[got] = '\0';
        assert_non_null(strstr(piece, "\"content\":\""));
        assert_non_null(strstr(piece, "}\n\n"));
    }
    close(fd);
    turns(f, 3);
}

static void test_request_id(void **state)
{
    struct http_fixture *f = *state;
    char more[300], bad[200];
    for (int i = 0; i < 3; i++) {
        struct http_answer a = {0};
        int fd = http_fixture_connect(f);
        memset(bad, 'x', sizeof bad);
        bad[129] = '\0';
        snprintf(more, sizeof more, "X-Request-Id: %s\r\n",
                 i == 0   ? "trace-1/2"
                 : i == 1 ? bad
                          : "with space");
        http_fixture_request(fd, "GET", "/health", more, NULL);
        http_fixture_receive(f, fd, &a);
        more[strlen(more) - 2] = '\0';
        assert_int_equal(http_answer_has_header(&a, more), i == 0);
        assert_non_null(strcasestr(buf_text(&a.head), "\r\nX-Request-Id: "));
        http_answer_clear(&a);
        close(fd);
    }
}

static void test_traceparent(void **state)
{
    struct http_fixture *f = *state;
    static const char trace[] = "0af7651916cd43dd8448eb211c80319c";
    for (int is_sound = 0; is_sound < 2; is_sound++) {
        struct http_answer a = {0};
        char more[200];
        int fd = http_fixture_connect(f);
        snprintf(more, sizeof more,
                 "X-Request-Id: mine\r\ntraceparent: 00-%s-b7ad6b716920333%s-01\r\n", trace,
                 is_sound ? "1" : "X");
        http_fixture_request(fd, "POST", CHAT, more, HELLO);
        http_fixture_receive(f, fd, &a);
        const char *told = strcasestr(buf_text(&a.head), "\r\ntraceresponse: 00-");
        assert_int_equal(told != NULL, is_sound);
        if (told) {
            told += strlen("\r\ntraceresponse: 00-");
            assert_memory_equal(told, trace, 32);
            assert_memory_not_equal(told + 33, "b7ad6b7169203331", 16); /* a span of our own */
            assert_memory_equal(told + 49, "-01\r\n", 5);
        }
        assert_string_equal(fake_coordinator_last(f->coordinator)->request_id, "mine");
        http_answer_clear(&a);
        close(fd);
    }
}

/* The request ends in the very turn in which the server can know of it. */
static void vanish(struct http_fixture *f, const char *path, const char *body, int after_turns,
                   bool is_reset)
{
    struct http_answer a = {0};
    int before = fake_coordinator_cancelled(f->coordinator);
    int fd = http_fixture_connect(f);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(fd, "POST", path, NULL, body);
    while (fake_coordinator_open(f->coordinator) == 0)
        http_fixture_turn(f);
    fake_coordinator_hold(f->coordinator, false);
    turns(f, after_turns);
    fake_coordinator_hold(f->coordinator, true);
    turns(f, 3);
    http_fixture_poll(fd, &a);
    assert_int_equal(fake_coordinator_cancelled(f->coordinator), before);
    if (is_reset) {
        struct linger hard = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    close(fd);
    struct pollfd wake = {.fd = http_server_fd(f->server), .events = POLLIN};
    assert_int_equal(poll(&wake, 1, 5000), 1);
    http_server_run(f->server);
    assert_int_equal(fake_coordinator_cancelled(f->coordinator), before + 1);
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    turns(f, 3);
    assert_true(http_server_is_idle(f->server));
    fake_coordinator_hold(f->coordinator, false);
    http_answer_clear(&a);
}

static void test_vanished(void **state)
{
    struct http_fixture *f = *state;
    for (int is_reset = 0; is_reset < 2; is_reset++) {
        vanish(f, CHAT, HELLO, 0, is_reset);
        vanish(f, CHAT, HELLO_STREAM, 0, is_reset);
        vanish(f, CHAT, HELLO, 1, is_reset);
        vanish(f, CHAT, HELLO_STREAM, 1, is_reset);
        vanish(f, "/v1/probe", "{\"tokens\":[1,2,3,4],\"output\":\"logits\"}", 1, is_reset);
    }
    struct http_answer a;
    http_fixture_ask(f, "POST", CHAT, HELLO, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
}

static void test_body_limit(void **state)
{
    struct http_fixture *f = *state;
    struct buf body;
    buf_init(&body);
    buf_printf(&body, "{\"content\":\"%0*d\"}", 64 * 1024, 0);
    for (int i = 0; i < 3; i++) {
        struct http_answer a = {0};
        int fd = http_fixture_connect(f);
        if (i == 0) { /* announced and sent: read to its end, so that the connection lives on */
            http_fixture_request(fd, "POST", "/tokenize", NULL, body.data);
        } else if (i == 1) { /* announced, and the client waits for our word */
            static const char head[] = "POST /tokenize HTTP/1.1\r\nHost: t\r\nContent-Length: "
                                       "70000\r\nExpect: 100-continue\r\n\r\n";
            http_fixture_send(fd, head, sizeof head - 1);
        } else { /* not announced */
            static const char head[] =
                "POST /tokenize HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
            char chunk[32];
            http_fixture_send(fd, head, sizeof head - 1);
            http_fixture_send(fd, chunk,
                              (size_t)snprintf(chunk, sizeof chunk, "%zx\r\n", body.length));
            http_fixture_send(fd, body.data, body.length);
            http_fixture_send(fd, "\r\n0\r\n\r\n", 7);
        }
        http_fixture_receive(f, fd, &a);
        assert_int_equal(a.status, 413);
        assert_string_equal(http_fixture_string(a.json, "error.code"), "request_too_large");
        http_answer_clear(&a);
        close(fd);
    }
    buf_clear(&body);
}

static void test_methods(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    http_fixture_ask(f, "GET", CHAT, NULL, &a);
    assert_int_equal(a.status, 405);
    assert_true(http_answer_has_header(&a, "Allow: POST"));
    http_answer_clear(&a);
    http_fixture_ask(f, "DELETE", "/health", NULL, &a);
    assert_int_equal(a.status, 405);
    assert_true(http_answer_has_header(&a, "Allow: GET, HEAD"));
    http_answer_clear(&a);
}

static void test_ping(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a = {0};
    int fd = http_fixture_connect(f);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(fd, "POST", CHAT, NULL, HELLO_STREAM);
    for (int round = 0; round < 3; round++) {
        turns(f, 8);
        assert_true(http_server_wait_ms(f->server) <= 15000);
        fake_clock_advance(15000);
    }
    turns(f, 8);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, fd, &a);
    int pings = 0;
    for (const char *p = buf_text(&a.body); (p = strstr(p, ": ping\n\n")); p++)
        pings++;
    assert_int_equal(pings, 3);
    assert_non_null(strstr(buf_text(&a.body), "data: [DONE]\n\n"));
    http_answer_clear(&a);
    close(fd);
}

/* A sender who takes for ever is cut off, a reader who waits is not. */
static void test_deadline(void **state)
{
    static const char *const pieces[] = {"GET /hea", "POST /tokenize HTTP/1.1\r\nHost: t\r\n"
                                                     "Content-Length: 100\r\n\r\n{\"con"};
    struct http_fixture *f = *state;
    struct http_answer slow[2] = {0}, waiting = {0};
    int fd[2], reader = http_fixture_connect(f);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(reader, "POST", CHAT, NULL, HELLO);
    for (int i = 0; i < 2; i++) {
        fd[i] = http_fixture_connect(f);
        http_fixture_send(fd[i], pieces[i], strlen(pieces[i]));
    }
    turns(f, 10);
    for (int dribble = 0; dribble < 5; dribble++) {
        fake_clock_advance(11000);
        http_fixture_send(fd[0], "l", 1);
        http_fixture_send(fd[1], "t", 1);
        turns(f, 5);
        assert_false(http_fixture_poll(fd[0], &slow[0]) || slow[0].is_closed);
    }
    fake_clock_advance(11000);
    turns(f, 10);
    for (int i = 0; i < 2; i++) {
        http_fixture_poll(fd[i], &slow[i]);
        assert_true(slow[i].is_closed);
        http_answer_clear(&slow[i]);
        close(fd[i]);
    }
    fake_clock_advance(3600 * 1000);
    turns(f, 5);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, reader, &waiting);
    assert_int_equal(waiting.status, 200);
    http_answer_clear(&waiting);
    close(reader);
}

static void test_drain(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a = {0}, b;
    int fd = http_fixture_connect(f);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(fd, "POST", CHAT, NULL, HELLO_STREAM);
    while (fake_coordinator_open(f->coordinator) == 0)
        http_fixture_turn(f);
    http_server_drain(f->server);
    assert_false(http_server_is_idle(f->server));
    http_fixture_ask(f, "POST", CHAT, HELLO, &b);
    assert_int_equal(b.status, 503);
    assert_true(http_answer_has_header(&b, "Retry-After: 5"));
    http_answer_clear(&b);
    http_fixture_ask(f, "GET", "/health", NULL, &b);
    assert_int_equal(b.status, 503);
    http_answer_clear(&b);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, fd, &a);
    assert_non_null(strstr(buf_text(&a.body), "[DONE]"));
    turns(f, 2);
    assert_true(http_server_is_idle(f->server));
    http_answer_clear(&a);
    close(fd);
}

/* Closing with clients in every state leaves nothing behind (the fixture asserts it). */
static void test_close_while_busy(void **state)
{
    struct http_fixture *f = *state;
    int fd[4];
    fake_coordinator_hold(f->coordinator, true);
    for (int i = 0; i < 4; i++)
        fd[i] = http_fixture_connect(f);
    http_fixture_request(fd[0], "POST", CHAT, NULL, HELLO);
    http_fixture_request(fd[1], "POST", CHAT, NULL, HELLO_STREAM);
    http_fixture_send(fd[2], "POST ", 5);
    turns(f, 10);
    assert_int_equal(fake_coordinator_open(f->coordinator), 2);
    http_fixture_close(f);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    http_fixture_open(f, &(struct http_fixture_spec){0});
}

/* A reader who stops reading: what is computed waits, and comes whole once it reads again. */
static void test_slow_reader(void **state)
{
    struct http_fixture f;
    struct http_answer a = {0};
    struct buf body;
    int n = 8000;
    http_fixture_open(&f, &(struct http_fixture_spec){.context = n});
    size_t bytes =
        (size_t)n * (size_t)coordinator_model(f.coordinator)->vocabulary_size * sizeof(float);
    assert_true(bytes > 12 << 20); /* more than two sockets hold */
    int fd = http_fixture_connect(&f);
    buf_init(&body);
    buf_puts(&body, "{\"output\":\"logits\",\"tokens\":[1");
    for (int i = 1; i < n; i++)
        buf_puts(&body, ",2");
    buf_puts(&body, "]}");
    http_fixture_request(fd, "POST", "/v1/probe", NULL, body.data);
    while (fake_coordinator_open(f.coordinator) == 0)
        http_server_run(f.server);
    while (fake_coordinator_open(f.coordinator) > 0) {
        fake_coordinator_step(f.coordinator);
        http_server_run(f.server);
    }
    turns(&f, 20);
    assert_false(http_server_is_idle(f.server)); /* it is far from sent */
    http_fixture_receive(&f, fd, &a);
    assert_int_equal(a.body.length, bytes);
    float last;
    memcpy(&last, a.body.data + bytes - sizeof last, sizeof last);
    assert_true(last >= (float)(n - 1));
    http_answer_clear(&a);
    buf_clear(&body);
    close(fd);
    http_fixture_close(&f);
}

static void test_port_in_use(void **state)
{
    struct http_fixture *f = *state;
    struct http_server *second = NULL;
    struct err err = {0};
    struct http_server_spec spec = {.host = "127.0.0.1",
                                    .port = http_server_port(f->server),
                                    .max_body_bytes = 1000,
                                    .max_connections = 2,
                                    .coordinator = f->coordinator};
    assert_int_equal(http_server_open(&second, &spec, &err), ERR_NETWORK);
    assert_non_null(strstr(err.text, "in use"));
    spec.port = 0;
    spec.host = "192.0.2.1"; /* reserved for documentation (RFC 5737) */
    assert_int_equal(http_server_open(&second, &spec, &err), ERR_NETWORK);
    assert_non_null(strstr(err.text, "not an address of this machine"));
    spec.host = "no.such.host";
    assert_int_equal(http_server_open(&second, &spec, &err), ERR_NETWORK);
    assert_null(second);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_keep_alive),       WITH_FIXTURE(test_pipelined),
        WITH_FIXTURE(test_two_at_once),      WITH_FIXTURE(test_stream_is_prompt),
        WITH_FIXTURE(test_request_id),       WITH_FIXTURE(test_traceparent),
        WITH_FIXTURE(test_vanished),         WITH_FIXTURE(test_body_limit),
        WITH_FIXTURE(test_methods),          WITH_FIXTURE(test_ping),
        WITH_FIXTURE(test_deadline),         WITH_FIXTURE(test_drain),
        WITH_FIXTURE(test_close_while_busy), cmocka_unit_test(test_slow_reader),
        WITH_FIXTURE(test_port_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
