/* What a client may ask of a connection: time, room for headers, a place. */
#include "tests/support/fake_clock.h"
#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PLACES 4

static int open_fixture(void **state)
{
    struct http_fixture *f = calloc(1, sizeof *f);
    http_fixture_open(f, &(struct http_fixture_spec){.max_connections = PLACES});
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

/* Until the server has closed it. */
static void read_to_end(struct http_fixture *f, int fd, struct http_answer *a)
{
    for (int i = 0; i < 5000 && !a->is_closed; i++) {
        http_fixture_turn(f);
        http_fixture_poll(fd, a);
    }
    assert_true(a->is_closed);
    close(fd);
}

/* Headers, or a body, that never end: told so. Whoever idles is not. */
static void test_time(void **state)
{
    static const char *const begun[] = {
        "GET /heal", "POST /tokenize HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{\"con", ""};
    struct http_fixture *f = *state;
    int fd[3];
    for (int i = 0; i < 3; i++) {
        fd[i] = http_fixture_connect(f);
        if (i == 2) { /* after a request that was served */
            struct http_answer a = {0};
            http_fixture_request(fd[i], "GET", "/health", NULL, NULL);
            http_fixture_receive(f, fd[i], &a);
            http_answer_clear(&a);
        }
        http_fixture_send(fd[i], begun[i], strlen(begun[i]));
    }
    turns(f, 10);
    fake_clock_advance(61 * 1000);
    for (int i = 0; i < 3; i++) {
        struct http_answer a = {0};
        read_to_end(f, fd[i], &a);
        assert_int_equal(a.status, i < 2 ? 408 : 0);
        if (i < 2) {
            assert_string_equal(http_fixture_string(a.json, "error.code"), "request_timeout");
            assert_non_null(strstr(http_fixture_string(a.json, "error.message"), "60 s"));
        }
        http_answer_clear(&a);
    }
}

static void ask_with_header(struct http_fixture *f, size_t bytes, struct http_answer *a)
{
    char *header = malloc(bytes + 16);
    int fd = http_fixture_connect(f);
    *a = (struct http_answer){0};
    sprintf(header, "X-Filler: %0*d\r\n", (int)bytes, 0);
    http_fixture_request(fd, "GET", "/health", header, NULL);
    http_fixture_receive(f, fd, a);
    close(fd);
    free(header);
}

static void test_headers(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    ask_with_header(f, 32 * 1024 - 100, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    ask_with_header(f, 32 * 1024, &a);
    assert_int_equal(a.status, 431);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "headers_too_large");
    assert_non_null(strstr(http_fixture_string(a.json, "error.message"), "32768"));
    http_answer_clear(&a);
    ask_with_header(f, 200 * 1024, &a); /* libmicrohttpd's own, in HTML */
    assert_int_equal(a.status, 431);
    http_answer_clear(&a);
}

/* Also what is refused before anybody looks at the key is told as the path's clients know it. */
static void test_form_of_early_refusals(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a = {0};
    char header[40 * 1024];
    int fd[PLACES];
    snprintf(header, sizeof header, "X-Filler: %0*d\r\n", 33 * 1024, 0);
    fd[0] = http_fixture_connect(f);
    http_fixture_request(fd[0], "POST", "/v1/messages", header, "{}");
    http_fixture_receive(f, fd[0], &a);
    assert_int_equal(a.status, 431);
    assert_string_equal(http_fixture_string(a.json, "type"), "error");
    http_answer_clear(&a);
    close(fd[0]);
    turns(f, 10);
    for (int i = 0; i < PLACES; i++) {
        fd[i] = http_fixture_connect(f);
        http_fixture_send(fd[i], "GET ", 4);
    }
    turns(f, 10);
    http_fixture_ask(f, "POST", "/v1/messages", "{}", &a);
    assert_int_equal(a.status, 503);
    assert_string_equal(http_fixture_string(a.json, "type"), "error");
    assert_string_equal(http_fixture_string(a.json, "error.type"), "overloaded_error");
    http_answer_clear(&a);
    for (int i = 0; i < PLACES; i++)
        close(fd[i]);
}

/* Many small ones fill the memory that they are told apart in. */
static void test_many_headers(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a = {0};
    struct buf text;
    buf_init(&text);
    for (int i = 0; i < 6000; i++)
        buf_puts(&text, "a:\r\n");
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "GET", "/health", text.data, NULL);
    http_fixture_receive(f, fd, &a);
    assert_int_equal(a.status, 431);
    http_answer_clear(&a);
    buf_clear(&text);
    close(fd);
}

static int served(struct http_fixture *f)
{
    struct http_answer a = {0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "GET", "/health", NULL, NULL);
    http_fixture_receive(f, fd, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    return fd;
}

/* Places that are all in use: a refusal in words, until one is free. */
static void test_places(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    int fd[PLACES];
    for (int i = 0; i < PLACES; i++) {
        fd[i] = http_fixture_connect(f);
        http_fixture_send(fd[i], "GET ", 4);
    }
    turns(f, 10);
    for (int i = 0; i < 2 * PLACES; i++) {
        http_fixture_ask(f, "GET", "/health", NULL, &a);
        assert_int_equal(a.status, 503);
        assert_string_equal(http_fixture_string(a.json, "error.code"), "too_many_connections");
        assert_true(http_answer_has_header(&a, "Connection: close"));
        assert_non_null(strcasestr(a.head.data, "\r\nRetry-After: "));
        http_answer_clear(&a);
    }
    close(fd[0]);
    turns(f, 10);
    http_fixture_ask(f, "GET", "/health", NULL, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    for (int i = 1; i < PLACES; i++)
        close(fd[i]);
}

/* … but whoever idles between two requests gives way, the one first that has idled longest. */
static void test_idle_places(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer first = {0}, a[PLACES] = {0};
    int fd[PLACES], more[2];
    for (int i = 0; i < PLACES; i++) {
        fd[i] = served(f);
        fake_clock_advance(10);
    }
    http_fixture_request(fd[0], "GET", "/health", NULL, NULL); /* the oldest, but not the idlest */
    http_fixture_receive(f, fd[0], &first);
    assert_false(first.is_closed);
    http_answer_clear(&first);
    fake_clock_advance(1500);
    for (int i = 0; i < 2; i++)
        more[i] = served(f);
    turns(f, 10);
    for (int i = 0; i < PLACES; i++) {
        http_fixture_poll(fd[i], &a[i]);
        assert_int_equal(a[i].is_closed, i == 1 || i == 2);
        http_answer_clear(&a[i]);
    }
    for (int i = 0; i < PLACES; i++)
        close(fd[i]);
    for (int i = 0; i < 2; i++)
        close(more[i]);
}

/* … for a newcomer whom that helps: those who are only refused have no place. */
static void test_surplus_takes_no_place(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a[PLACES] = {0};
    int fd[PLACES], more[2 * PLACES];
    for (int i = 0; i < PLACES; i++)
        fd[i] = served(f);
    for (int i = 0; i < 2 * PLACES; i++) /* before anybody may give way */
        more[i] = http_fixture_connect(f);
    turns(f, 10);
    fake_clock_advance(1500);
    int last = served(f);
    turns(f, 10);
    int n_closed = 0;
    for (int i = 0; i < PLACES; i++) {
        http_fixture_poll(fd[i], &a[i]);
        n_closed += a[i].is_closed;
        http_answer_clear(&a[i]);
        close(fd[i]);
    }
    assert_int_equal(n_closed, 1);
    for (int i = 0; i < 2 * PLACES; i++)
        close(more[i]);
    close(last);
}

static int count_pings(const int *fd, struct http_answer *a, int n)
{
    int pings = 0;
    for (int i = 0; i < n; i++) {
        http_fixture_poll(fd[i], &a[i]);
        for (const char *p = buf_text(&a[i].body); (p = strstr(p, ": ping\n\n")); p++)
            pings++;
    }
    return pings;
}

/* Many that wait since the same moment do not hold up a turn all together. */
static void test_pings(void **state)
{
    enum { STREAMS = 20 };
    struct http_fixture f;
    struct http_answer a[STREAMS] = {0};
    int fd[STREAMS];
    http_fixture_open(&f, &(struct http_fixture_spec){.most_requests = STREAMS});
    fake_coordinator_hold(f.coordinator, true);
    for (int i = 0; i < STREAMS; i++) {
        fd[i] = http_fixture_connect(&f);
        http_fixture_request(fd[i], "POST", "/v1/completions", NULL,
                             "{\"stream\":true,\"prompt\":\"x\"}");
    }
    while (fake_coordinator_open(f.coordinator) < STREAMS)
        http_fixture_turn(&f);
    turns(&f, 3);
    assert_int_equal(count_pings(fd, a, STREAMS), 0);
    fake_clock_advance(15000);
    http_server_run(f.server);
    assert_int_equal(count_pings(fd, a, STREAMS), 8);
    assert_true(http_server_wait_ms(f.server) <= 1);
    for (int i = 0; i < 20; i++) {
        fake_clock_advance(1);
        http_fixture_turn(&f);
    }
    assert_int_equal(count_pings(fd, a, STREAMS), STREAMS);
    for (int i = 0; i < STREAMS; i++) {
        http_answer_clear(&a[i]);
        close(fd[i]);
    }
    turns(&f, 5);
    fake_coordinator_hold(f.coordinator, false);
    http_fixture_close(&f);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_time),
        WITH_FIXTURE(test_headers),
        WITH_FIXTURE(test_many_headers),
        WITH_FIXTURE(test_form_of_early_refusals),
        WITH_FIXTURE(test_places),
        WITH_FIXTURE(test_idle_places),
        WITH_FIXTURE(test_surplus_takes_no_place),
        cmocka_unit_test(test_pings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
