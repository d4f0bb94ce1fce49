/* Which web pages may use the API (http_origin.h), and what they and their browsers are told. */
#include "coordinator/http_origin.h"
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

#define LIST "https://app.example, http://desk.example:3000"

static const struct {
    const char *allowed, *method, *origin, *host, *site, *mode, *dest;
    enum http_origin verdict;
} cases[] = {
    /* programs */
    {NULL, "POST", NULL, "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", NULL, NULL, NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", NULL, "", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    /* this server's page */
    {NULL, "POST", "http://localhost:8080", "localhost:8080", "same-origin", "cors", "empty",
     HTTP_ORIGIN_OWN},
    {NULL, "POST", "http://localhost:8080", "LOCALHOST:8080", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", "http://[::1]:8080", "[::1]:8080", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", "http://desk", "desk", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", "http://desk", "desk:80", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "GET", NULL, "localhost:8080", "same-origin", "no-cors", "image", HTTP_ORIGIN_OWN},
    {NULL, "GET", NULL, "localhost:8080", "none", "navigate", "document", HTTP_ORIGIN_OWN},
    /* … behind a proxy, which speaks TLS, or puts another name into Host */
    {NULL, "POST", "https://desk", "desk", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", "https://desk", "desk:443", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "POST", "https://chat.example", "127.0.0.1:8080", "same-origin", "cors", "empty",
     HTTP_ORIGIN_OWN},
    /* pages from elsewhere */
    {NULL, "POST", "https://evil.example", "127.0.0.1:8080", "cross-site", "cors", "empty",
     HTTP_ORIGIN_STRANGE},
    {NULL, "POST", "https://evil.example", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {NULL, "GET", "https://evil.example", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {NULL, "POST", "null", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {NULL, "POST", "", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {NULL, "POST", "http://127.0.0.1:3000", "127.0.0.1:8080", "same-site", "cors", "empty",
     HTTP_ORIGIN_STRANGE},
    {NULL, "POST", "http://localhost:8080.evil.example", "localhost:8080", NULL, NULL, NULL,
     HTTP_ORIGIN_STRANGE},
    {NULL, "POST", "http://localhost", "localhost:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {NULL, "POST", NULL, "localhost:8080", "cross-site", "navigate", "document",
     HTTP_ORIGIN_STRANGE},
    {NULL, "GET", NULL, "localhost:8080", "cross-site", "no-cors", "image", HTTP_ORIGIN_STRANGE},
    {NULL, "GET", NULL, "localhost:8080", "same-site", "no-cors", "script", HTTP_ORIGIN_STRANGE},
    {NULL, "GET", NULL, "localhost:8080", "cross-site", "navigate", "iframe", HTTP_ORIGIN_STRANGE},
    {NULL, "GET", NULL, "localhost:8080", "cross-site", NULL, NULL, HTTP_ORIGIN_STRANGE},
    /* … with a link to us */
    {NULL, "GET", NULL, "localhost:8080", "cross-site", "navigate", "document", HTTP_ORIGIN_OWN},
    /* pages that are allowed */
    {LIST, "POST", "https://app.example", "127.0.0.1:8080", "cross-site", "cors", "empty",
     HTTP_ORIGIN_ALLOWED},
    {LIST, "POST", "HTTP://desk.example:3000", "127.0.0.1", NULL, NULL, NULL, HTTP_ORIGIN_ALLOWED},
    {LIST, "POST", "http://app.example", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {LIST, "POST", "http://desk.example", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {LIST, "POST", "https://app.example.org", "127.0.0.1", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {LIST, "POST", "null", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_STRANGE},
    {"null", "POST", "null", "127.0.0.1:8080", NULL, NULL, NULL, HTTP_ORIGIN_ALLOWED},
    {"*", "POST", "null", "127.0.0.1:8080", "cross-site", "cors", "empty", HTTP_ORIGIN_ALLOWED},
    {"*", "GET", NULL, "any.example", "cross-site", "no-cors", "image", HTTP_ORIGIN_OWN},
    /* names that others can make mean this address */
    {NULL, "GET", NULL, "evil.example:8080", NULL, NULL, NULL, HTTP_ORIGIN_WRONG_HOST},
    {NULL, "POST", "http://evil.example", "evil.example", NULL, NULL, NULL, HTTP_ORIGIN_WRONG_HOST},
    {NULL, "GET", NULL, "127.0.0.1.evil.example", NULL, NULL, NULL, HTTP_ORIGIN_WRONG_HOST},
    {NULL, "GET", NULL, "evil.example:", "same-origin", "cors", "empty", HTTP_ORIGIN_WRONG_HOST},
    {LIST, "GET", NULL, "desk.example", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "GET", NULL, "host.docker.internal:8080", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "GET", NULL, "chat.localhost", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
    {NULL, "GET", NULL, "192.168.1.20:8080", NULL, NULL, NULL, HTTP_ORIGIN_OWN},
};

static void test_judge(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct http_origin_rules rules = {.allowed = cases[i].allowed, .checks_host = true};
        const struct http_origin_question q = {cases[i].method, cases[i].origin, cases[i].host,
                                               cases[i].site,   cases[i].mode,   cases[i].dest};
        if (http_origin_judge(&rules, &q) != cases[i].verdict)
            fail_msg("case %zu: %s of %s at %s", i, cases[i].method,
                     cases[i].origin ? cases[i].origin : "nobody",
                     cases[i].host ? cases[i].host : "nowhere");
    }
}

/* With a key, a page under a wrong name has none. */
static void test_host_with_keys(void **state)
{
    const struct http_origin_rules rules = {0};
    const struct http_origin_question q = {.method = "GET", .host = "chat.example"};
    assert_int_equal(http_origin_judge(&rules, &q), HTTP_ORIGIN_OWN);
}

static void test_lists(void **state)
{
    static const char *const good[] = {LIST,
                                       "*",
                                       "null",
                                       "http://[::1]:3000",
                                       "app://obsidian.md",
                                       "chrome-extension://abcdef,https://x"};
    static const char *const bad[] = {
        "",     " , ",         "example.org", "https://",    "https://a/",        "https://a/b",
        "://a", "https://a?b", "https://u@a", "https://:80", "https://a https//b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct err err = {0};
        if (http_origin_check(good[i], &err) != 0)
            fail_msg("%s: %s", good[i], err.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = {0};
        if (http_origin_check(bad[i], &err) != ERR_CONFIG || !err.text[0])
            fail_msg("'%s' is taken", bad[i]);
    }
}

/* ---- over HTTP ---- */

static void ask(struct http_fixture *f, const char *method, const char *path, const char *headers,
                const char *body, struct http_answer *a)
{
    int fd = http_fixture_connect(f);
    *a = (struct http_answer){0};
    http_fixture_request(fd, method, path, headers, body);
    http_fixture_receive(f, fd, a);
    close(fd);
}

/* Any page can send text/plain without being asked for leave. */
static void test_stranger(void **state)
{
    static const char *const headers[] = {"Origin: https://evil.example\r\n", "Origin: null\r\n",
                                          "Sec-Fetch-Site: cross-site\r\n",
                                          "Host: evil.example\r\n"};
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        int fd = http_fixture_connect(&f);
        char text[400];
        snprintf(
            text, sizeof text,
            "POST /cluster/drain HTTP/1.1\r\n%s%sContent-Type: text/plain\r\nContent-Length: 20"
            "\r\n\r\n{\"worker\":\"worker-1\"}",
            i == 3 ? "" : "Host: 127.0.0.1\r\n", headers[i]);
        a = (struct http_answer){0};
        http_fixture_send(fd, text, strlen(text));
        http_fixture_receive(&f, fd, &a);
        assert_int_equal(a.status, 403);
        assert_string_equal(http_fixture_string(a.json, "error.type"), "permission_error");
        assert_string_equal(http_fixture_string(a.json, "error.code"),
                            i == 3 ? "host_not_allowed" : "origin_not_allowed");
        assert_non_null(strstr(http_fixture_string(a.json, "error.message"), "--cors-origin"));
        assert_null(strcasestr(a.head.data, "Access-Control"));
        http_answer_clear(&a);
        close(fd);
    }
    http_fixture_close(&f);
}

static void test_own_page(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    ask(&f, "POST", "/tokenize", "Origin: http://test\r\nSec-Fetch-Site: same-origin\r\n",
        "{\"content\":\"x\"}", &a);
    assert_int_equal(a.status, 200);
    assert_null(strcasestr(a.head.data, "Access-Control"));
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static const char *const keys[] = {"secret"};

/* A browser asks without a key whether the page may ask with one. */
static void test_preflight(void **state)
{
    static const char question[] =
        "Origin: https://app.example\r\n"
        "Access-Control-Request-Method: POST\r\n"
        "Access-Control-Request-Headers: authorization,x-stainless-os\r\n"
        "Access-Control-Request-Private-Network: true\r\n";
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f,
                      &(struct http_fixture_spec){.keys = keys, .n_keys = 1, .cors_origins = LIST});
    ask(&f, "OPTIONS", "/v1/chat/completions", question, NULL, &a);
    assert_int_equal(a.status, 204);
    assert_true(http_answer_has_header(&a, "Access-Control-Allow-Origin: https://app.example"));
    assert_true(
        http_answer_has_header(&a, "Access-Control-Allow-Methods: GET, HEAD, POST, DELETE"));
    assert_true(
        http_answer_has_header(&a, "Access-Control-Allow-Headers: authorization,x-stainless-os"));
    assert_true(http_answer_has_header(&a, "Access-Control-Allow-Private-Network: true"));
    assert_true(http_answer_has_header(&a, "Vary: Origin"));
    http_answer_clear(&a);
    ask(&f, "OPTIONS", "/v1/chat/completions",
        "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n", NULL, &a);
    assert_int_equal(a.status, 403);
    assert_null(strcasestr(a.head.data, "Access-Control"));
    http_answer_clear(&a);
    ask(&f, "OPTIONS", "/v1/chat/completions", NULL, NULL, &a);
    assert_int_equal(a.status, 401); /* no preflight, so it needs the key as all do */
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* The page can read refusals too, and the id that it would report. */
static void test_allowed(void **state)
{
    static const char asked[] = "Origin: https://app.example\r\nAuthorization: Bearer secret\r\n"
                                "Sec-Fetch-Site: cross-site\r\n";
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f,
                      &(struct http_fixture_spec){.keys = keys, .n_keys = 1, .cors_origins = LIST});
    for (int i = 0; i < 3; i++) {
        ask(&f, "POST", i == 2 ? "/nothing" : "/tokenize",
            i == 0 ? "Origin: https://app.example\r\n" : asked, "{\"content\":\"x\"}", &a);
        assert_int_equal(a.status, i == 0 ? 401 : i == 1 ? 200 : 404);
        assert_true(http_answer_has_header(&a, "Access-Control-Allow-Origin: https://app.example"));
        const char *exposed = strcasestr(a.head.data, "Access-Control-Expose-Headers:");
        assert_non_null(exposed);
        assert_non_null(strstr(exposed, "X-Request-Id"));
        assert_null(strcasestr(a.head.data, "Access-Control-Allow-Methods"));
        http_answer_clear(&a);
    }
    http_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge),    cmocka_unit_test(test_host_with_keys),
        cmocka_unit_test(test_lists),    cmocka_unit_test(test_stranger),
        cmocka_unit_test(test_own_page), cmocka_unit_test(test_preflight),
        cmocka_unit_test(test_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
