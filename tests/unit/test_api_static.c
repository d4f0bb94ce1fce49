/* Files that the program carries: who may have them, what a browser is told of them. */
#include "coordinator/static_files.h"
#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void ask_with(struct http_fixture *f, const char *path, const char *more,
                     struct http_answer *a)
{
    *a = (struct http_answer){0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "GET", path, more, NULL);
    http_fixture_receive(f, fd, a);
    close(fd);
}

static void check_bytes(const struct http_answer *a, const struct static_bytes *b)
{
    assert_int_equal(a->status, 200);
    assert_true(http_answer_has_header(a, "Vary: Accept-Encoding"));
    assert_int_equal(a->body.length, b->end - b->begin);
    assert_memory_equal(buf_text(&a->body), b->begin, a->body.length);
}

static void check_plain(const struct http_answer *a, const char *path)
{
    const struct static_file *file = static_files_find(path);
    assert_non_null(file);
    check_bytes(a, &file->plain);
    assert_null(strstr(buf_text(&a->head), "Content-Encoding"));
}

static void check_gzipped(const struct http_answer *a, const char *path)
{
    const struct static_file *file = static_files_find(path);
    assert_non_null(file);
    check_bytes(a, &file->gzipped);
    assert_true(http_answer_has_header(a, "Content-Encoding: gzip"));
    assert_memory_equal(file->gzipped.begin, "\x1f\x8b", 2); /* RFC 1952 */
    assert_true(file->gzipped.end - file->gzipped.begin < file->plain.end - file->plain.begin);
}

static void test_page_needs_no_key(void **state)
{
    static const char *const keys[] = {"secret"};
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.keys = keys, .n_keys = 1});
    http_fixture_ask(&f, "GET", "/", NULL, &a);
    check_plain(&a, "/");
    assert_true(http_answer_has_header(&a, "Content-Type: text/html; charset=utf-8"));
    assert_true(http_answer_has_header(
        &a, "Content-Security-Policy: default-src 'self'; object-src 'none'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"));
    assert_true(http_answer_has_header(&a, "X-Content-Type-Options: nosniff"));
    assert_true(http_answer_has_header(&a, "Referrer-Policy: no-referrer"));
    http_answer_clear(&a);
    http_fixture_ask(&f, "GET", "/page/main.js", NULL, &a);
    check_plain(&a, "/page/main.js");
    assert_true(http_answer_has_header(&a, "Content-Type: text/javascript; charset=utf-8"));
    http_answer_clear(&a);
    static const char *const closed[] = {"/v1/models", "/openapi.json"}; /* it opens nothing else */
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        http_fixture_ask(&f, "GET", closed[i], NULL, &a);
        assert_int_equal(a.status, 401);
        http_answer_clear(&a);
    }
    http_fixture_close(&f);
}

static void test_files_are_known(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    char tag[128] = "", more[200];
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "GET", "/page/page.css", NULL, &a);
    check_plain(&a, "/page/page.css");
    assert_true(http_answer_has_header(&a, "Cache-Control: no-cache"));
    const char *header = strstr(buf_text(&a.head), "ETag: ");
    assert_non_null(header);
    assert_int_equal(sscanf(header, "ETag: %100[^\r]", tag), 1);
    http_answer_clear(&a);

    snprintf(more, sizeof more, "If-None-Match: \"other\", W/%s\r\n", tag);
    ask_with(&f, "/page/page.css", more, &a);
    assert_int_equal(a.status, 304);
    assert_int_equal(a.body.length, 0);
    http_answer_clear(&a);
    ask_with(&f, "/page/main.js", more, &a); /* another file has another tag */
    check_plain(&a, "/page/main.js");
    http_answer_clear(&a);
    snprintf(more, sizeof more, "If-None-Match: %s\r\nAccept-Encoding: gzip\r\n", tag);
    ask_with(&f, "/page/page.css", more, &a); /* and so have the compressed bytes */
    check_gzipped(&a, "/page/page.css");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_files_are_compressed(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    static const char *const yes[] = {"gzip", "deflate, GZIP;q=0.5, br", "x-gzip"};
    static const char *const no[] = {"br", "gzip;q=0", "gzip ; q=0.000, br", "identity"};
    char more[80];
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        snprintf(more, sizeof more, "Accept-Encoding: %s\r\n", yes[i]);
        ask_with(&f, "/openapi.json", more, &a);
        check_gzipped(&a, "/openapi.json");
        assert_true(http_answer_has_header(&a, "Content-Type: application/json"));
        http_answer_clear(&a);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        snprintf(more, sizeof more, "Accept-Encoding: %s\r\n", no[i]);
        ask_with(&f, "/openapi.json", more, &a);
        check_plain(&a, "/openapi.json");
        http_answer_clear(&a);
    }
    http_fixture_close(&f);
}

static void test_there_are_no_other_files(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    static const char *const paths[] = {"/page/", "/page", "/page/nothing.js", "/page/../access.c",
                                        "/index.html"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        http_fixture_ask(&f, "GET", paths[i], NULL, &a);
        assert_int_equal(a.status, 404);
        http_answer_clear(&a);
    }
    http_fixture_ask(&f, "POST", "/", "{}", &a);
    assert_int_equal(a.status, 405);
    assert_true(http_answer_has_header(&a, "Allow: GET, HEAD"));
    http_answer_clear(&a);
    http_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_needs_no_key),
        cmocka_unit_test(test_files_are_known),
        cmocka_unit_test(test_files_are_compressed),
        cmocka_unit_test(test_there_are_no_other_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
