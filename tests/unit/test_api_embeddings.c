/* Embeddings and ranking over HTTP: what is asked, what comes back, many texts and a full queue. */
#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PATH "/v1/embeddings"

static int open_fixture(void **state)
{
    struct http_fixture *f = calloc(1, sizeof *f);
    http_fixture_open(f, &(struct http_fixture_spec){0});
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    http_fixture_close(*state);
    free(*state);
    return 0;
}

/* The vector of a text that ends in this token. */
static void check_vector(const json_t *vector, size_t token, size_t width)
{
    assert_int_equal(json_array_size(vector), width);
    for (size_t i = 0; i < width; i++) {
        double expected = i == token % 64 ? 0.6 : i == (token + 1) % 64 ? 0.8 : 0;
        double got = json_number_value(json_array_get(vector, i));
        assert_true(got > expected - 1e-6 && got < expected + 1e-6);
    }
}

static void test_forms_of_input(void **state)
{
    static const struct {
        const char *input;
        size_t n, tokens, prompt_tokens;
    } cases[] = {
        {"\"e\"", 1, 68, 1},
        {"[\"e\"]", 1, 68, 1},
        {"[68]", 1, 68, 1},
        {"[[9,68]]", 1, 68, 2},
        {"[\"e\",\"e\",\"e\"]", 3, 68, 3},
        {"[\"e\",[1,2,68]]", 2, 68, 4},
    };
    struct http_fixture *f = *state;
    struct http_answer a;
    char body[128];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(body, sizeof body, "{\"input\":%s}", cases[i].input);
        http_fixture_ask(f, "POST", PATH, body, &a);
        assert_int_equal(a.status, 200);
        assert_string_equal(http_fixture_string(a.json, "object"), "list");
        assert_string_equal(http_fixture_string(a.json, "model"), "tiny");
        const json_t *data = http_fixture_at(a.json, "data");
        assert_int_equal(json_array_size(data), cases[i].n);
        for (size_t k = 0; k < cases[i].n; k++) {
            const json_t *item = json_array_get(data, k);
            assert_string_equal(http_fixture_string(item, "object"), "embedding");
            assert_int_equal(json_integer_value(json_object_get(item, "index")), k);
            check_vector(json_object_get(item, "embedding"), cases[i].tokens, 64);
        }
        assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens")),
                         cases[i].prompt_tokens);
        assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.total_tokens")),
                         cases[i].prompt_tokens);
        http_answer_clear(&a);
    }
}

static void test_forms_of_answers(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    /* Token 4: elements 4 and 5; the first five of them have length 1 again. */
    http_fixture_ask(f, "POST", PATH, "{\"input\":[4],\"dimensions\":5}", &a);
    const json_t *vector = http_fixture_at(a.json, "data.0.embedding");
    assert_int_equal(json_array_size(vector), 5);
    assert_true(json_number_value(json_array_get(vector, 4)) == 1);
    http_answer_clear(&a);
    http_fixture_ask(f, "POST", PATH,
                     "{\"input\":[0],\"dimensions\":2,\"encoding_format\":\"base64\"}", &a);
    assert_int_equal(a.status, 500); /* all zero: it has no direction */
    assert_non_null(strstr(http_fixture_string(a.json, "error.message"), "no length"));
    http_answer_clear(&a);
    http_fixture_ask(f, "POST", PATH,
                     "{\"input\":[1],\"dimensions\":3,\"encoding_format\":\"base64\"}", &a);
    /* 0, 0.6 and 0.8 as little-endian float32: 00000000 9a99193f cdcc4c3f */
    assert_string_equal(http_fixture_string(a.json, "data.0.embedding"), "AAAAAJqZGT/NzEw/");
    http_answer_clear(&a);
}

/* More than may be under way, and more than the queue holds. */
static void test_many_texts(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    struct buf body;
    buf_init(&body);
    buf_puts(&body, "{\"input\":[");
    for (int i = 0; i < 200; i++)
        buf_printf(&body, "%s[%d]", i ? "," : "", i + 1);
    buf_puts(&body, "]}");
    for (int most = 1; most <= 100; most += 33) {
        http_fixture_open(&f, &(struct http_fixture_spec){.most_requests = most});
        http_fixture_ask(&f, "POST", PATH, buf_text(&body), &a);
        assert_int_equal(a.status, 200);
        for (size_t i = 0; i < 200; i++) {
            const json_t *item = json_array_get(http_fixture_at(a.json, "data"), i);
            check_vector(json_object_get(item, "embedding"), i + 1, 64);
        }
        http_answer_clear(&a);
        http_fixture_close(&f);
    }
    buf_clear(&body);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *param, *words;
    } cases[] = {
        {PATH, "{}", 400, "input", "absent"},
        {PATH, "{\"input\":[]}", 400, "input", "empty"},
        {PATH, "{\"input\":\"\"}", 400, NULL, "empty"},
        {PATH, "{\"input\":[\"e\",\"\"]}", 400, NULL, "empty"},
        {PATH, "{\"input\":5}", 400, "input", "an integer"},
        {PATH, "{\"input\":[\"e\",5]}", 400, "input", "an integer"},
        {PATH, "{\"input\":[5,\"e\"]}", 400, "input", "a string"},
        {PATH, "{\"input\":[[1],[99999]]}", 400, "input", "99999"},
        {PATH, "{\"input\":\"e\",\"model\":\"x\"}", 404, "model", "x"},
        {PATH, "{\"input\":\"e\",\"dimensions\":65}", 400, "dimensions", "64"},
        {PATH, "{\"input\":\"e\",\"encoding_format\":\"int8\"}", 400, "encoding_format", "base64"},
        {PATH, "{\"input\":\"e\",\"user\":1}", 400, "user", "an integer"},
        {PATH, "{\"input\":\"e\",\"priority\":\"x\"}", 400, "priority", "a string"},
        {"/v1/rerank", "{}", 400, "query", "missing"},
        {"/v1/rerank", "{\"query\":\"a\"}", 400, "documents", "array"},
        {"/v1/rerank", "{\"query\":\"a\",\"documents\":[1]}", 400, "documents", "Element 0"},
        {"/v1/rerank", "{\"query\":\"a\",\"documents\":[\"b\"],\"top_n\":0}", 400, "top_n", "1 to"},
        {"/v1/rerank", "{\"query\":\"a\",\"documents\":[\"b\"],\"instruction\":3}", 400,
         "instruction", "an integer"},
        {"/v1/rerank", "{\"query\":\"a\",\"documents\":[\"b\"]}", 400, NULL, "\"yes\" and \"no\""},
    };
    struct http_fixture *f = *state;
    struct http_answer a;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        http_fixture_ask(f, "POST", cases[i].path, cases[i].body, &a);
        if (a.status != cases[i].status ||
            !strstr(http_fixture_string(a.json, "error.message"), cases[i].words))
            fail_msg("%s: %d %s", cases[i].body, a.status, buf_text(&a.body));
        if (cases[i].param)
            assert_string_equal(http_fixture_string(a.json, "error.param"), cases[i].param);
        http_answer_clear(&a);
    }
    struct buf body;
    buf_init(&body);
    buf_puts(&body, "{\"input\":[1");
    for (int i = 0; i < 128; i++)
        buf_puts(&body, ",1");
    buf_puts(&body, "]}");
    http_fixture_ask(f, "POST", PATH, buf_text(&body), &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "context_length_exceeded");
    http_answer_clear(&a);
    buf_clear(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forms_of_input, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_forms_of_answers, open_fixture, close_fixture),
        cmocka_unit_test(test_many_texts),
        cmocka_unit_test_setup_teardown(test_mistakes, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
