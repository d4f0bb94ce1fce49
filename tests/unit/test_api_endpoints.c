/* What the server says of itself, and text to ids and back. */
#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_health(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "GET", "/health", NULL, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(http_fixture_string(a.json, "status"), "ok");
    /* Workers and the coordinator know each other's messages by it, and no key is asked for here.
     */
    assert_null(http_fixture_at(a.json, "epoch"));
    http_answer_clear(&a);
    fake_coordinator_set_ready(f.coordinator, false);
    http_fixture_ask(&f, "GET", "/v1/health", NULL, &a);
    assert_int_equal(a.status, 503);
    assert_string_equal(http_fixture_string(a.json, "status"), "loading");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "error.code")), 503);
    assert_string_equal(http_fixture_string(a.json, "error.message"), "1 of 2 workers joined.");
    assert_string_equal(http_fixture_string(a.json, "error.type"), "unavailable_error");
    assert_null(http_fixture_at(a.json, "missing"));
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 2}", &a);
    assert_int_equal(a.status, 503);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* What is missing is told, and requests are taken. */
static void test_degraded(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    fake_coordinator_degrade(f.coordinator);
    http_fixture_ask(&f, "GET", "/health", NULL, &a);
    assert_int_equal(a.status, 503);
    assert_string_equal(http_fixture_string(a.json, "status"), "degraded");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "missing.workers")), 1);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "missing.memory_bytes")), 1000);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "error.code")), 503);
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 2}", &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_ready(void **state)
{
    static const char *const keys[] = {"secret"};
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.keys = keys, .n_keys = 1});
    http_fixture_ask(&f, "GET", "/ready", NULL, &a); /* no key is asked for */
    assert_int_equal(a.status, 200);
    assert_string_equal(http_fixture_string(a.json, "status"), "ready");
    http_answer_clear(&a);
    http_server_drain(f.server);
    http_fixture_ask(&f, "GET", "/ready", NULL, &a);
    assert_int_equal(a.status, 503);
    assert_true(http_answer_has_header(&a, "Retry-After: 5"));
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void check_metric(const struct http_answer *a, const char *line)
{
    char whole[256];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    if (!strstr(buf_text(&a->body), whole))
        fail_msg("%s is missing", line);
}

static void test_metrics(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.alias = "a \"name\""});
    http_fixture_ask(&f, "GET", "/nothing", NULL, &a);
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", "/v1/completions", "{\"prompt\":1.5}", &a);
    http_answer_clear(&a);
    http_fixture_say(&f, "one two three");
    http_fixture_ask(&f, "POST", "/v1/completions", "{\"stream\":true,\"prompt\":\"x\"}", &a);
    http_answer_clear(&a);
    http_fixture_ask(&f, "GET", "/metrics", NULL, &a);
    assert_int_equal(a.status, 200);
    assert_true(
        http_answer_has_header(&a, "Content-Type: text/plain; version=0.0.4; charset=utf-8"));
    check_metric(&a, "vllm:num_requests_running{model_name=\"a \\\"name\\\"\",engine=\"0\"} 0");
    check_metric(&a, "paceline_ready 1");
    check_metric(&a, "paceline_worker_layers{worker=\"desk0\xef\xbf\xbd\"} 2");
    check_metric(&a, "paceline_http_responses_total{status=\"404\"} 1");
    check_metric(&a, "paceline_http_responses_total{path=\"/v1/completions\",status=\"400\"} 1");
    const char *deliveries = strstr(buf_text(&a.body), "\npaceline_delivery_seconds_count ");
    assert_non_null(deliveries);
    assert_true(atoi(strchr(deliveries, ' ')) >= 3); /* a token each */
    http_answer_clear(&a);
    fake_coordinator_set_ready(f.coordinator, false);
    http_fixture_ask(&f, "GET", "/metrics", NULL, &a);
    check_metric(&a, "paceline_ready 0");
    check_metric(&a, "paceline_http_responses_total{path=\"/metrics\",status=\"200\"} 1");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_models(void **state)
{
    static const char *const known[] = {"/v1/models/tiny", "/v1/models/qwen2-tied-Q4_0.gguf",
                                        "/v1/models/qwen2-tied-Q4_0", "/v1/models/t%69ny"};
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "GET", "/v1/models", NULL, &a);
    assert_string_equal(http_fixture_string(a.json, "object"), "list");
    assert_string_equal(http_fixture_string(a.json, "data.0.id"), "tiny");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "data.0.meta.n_ctx")), 128);
    http_answer_clear(&a);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        http_fixture_ask(&f, "GET", known[i], NULL, &a);
        assert_int_equal(a.status, 200);
        assert_string_equal(http_fixture_string(a.json, "id"), "tiny");
        http_answer_clear(&a);
    }
    /* What comes back from a path is valid JSON, whatever its bytes. */
    http_fixture_ask(&f, "GET", "/v1/models/%ff%22%0a", NULL, &a);
    assert_int_equal(a.status, 404);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "model_not_found");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_beginnings_of_the_alias(void **state)
{
    static const struct {
        const char *name;
        int status;
    } cases[] = {{"qwen2.5-coder-0.5b-instruct-q4_k_m", 200},
                 {"qwen2.5-coder-0.5b-instruct", 200},
                 {"qwen2.5-coder-0.5b", 200},
                 {"qwen2.5", 200},
                 {"qwen2.5-coder-0.5", 404},
                 {"qwen2.5-coder-0.5b-", 404},
                 {"coder-0.5b", 404},
                 {"qwen2.5-coder-0.5b-instruct-q4_k_m-x", 404},
                 {"", 404}};
    struct http_fixture f;
    struct http_answer a;
    char body[160];
    http_fixture_open(&f, &(struct http_fixture_spec){.alias = cases[0].name});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"e\",\"max_tokens\":1}",
                 cases[i].name);
        http_fixture_ask(&f, "POST", "/v1/completions", body, &a);
        if (a.status != cases[i].status)
            fail_msg("%s: %d", cases[i].name, a.status);
        if (a.status == 200)
            assert_string_equal(http_fixture_string(a.json, "model"), cases[0].name);
        http_answer_clear(&a);
    }
    http_fixture_close(&f);
}

static void test_cluster(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "GET", "/cluster", NULL, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "epoch")), 7);
    assert_string_equal(http_fixture_string(a.json, "workers.0.name"), "desk0\xef\xbf\xbd");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "workers.0.layers.1")), 2);
    assert_true(json_is_null(http_fixture_at(a.json, "workers.1.layers")));
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_trace(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "GET", "/cluster/trace", NULL, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "next")), 300);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "steps")), 0);
    assert_string_equal(http_fixture_string(a.json, "stages.0.worker"), "desk0\xef\xbf\xbd");
    http_answer_clear(&a);
    http_fixture_ask(&f, "GET", "/cluster/trace?after=0", NULL, &a);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "steps")), 256);
    assert_true(json_is_true(http_fixture_at(a.json, "more")));
    assert_true(json_is_null(http_fixture_at(a.json, "steps.0.stages.0.0")));
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "steps.1.stages.0.0")), 20);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "next")), 256);
    http_answer_clear(&a);
    http_fixture_ask(&f, "GET", "/cluster/trace?after=256", NULL, &a);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "steps")), 44);
    assert_false(json_is_true(http_fixture_at(a.json, "more")));
    http_answer_clear(&a);
    http_fixture_ask(&f, "GET", "/cluster/trace?after=1e3", NULL, &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.param"), "after");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_tokens(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "POST", "/tokenize", "{\"content\":\"e<|im_end|>\"}", &a);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "tokens")), 2);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "tokens.0")), 68);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "count")), 2);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "max_model_len")), 128);
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", "/tokenize",
                     "{\"prompt\":\"e<|im_end|>\",\"parse_special\":false,\"with_pieces\":true}",
                     &a);
    assert_true(json_array_size(http_fixture_at(a.json, "tokens")) > 2);
    assert_string_equal(http_fixture_string(a.json, "tokens.0.piece"), "e");
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", "/detokenize", "{\"tokens\":[68,69,255]}", &a);
    assert_string_equal(http_fixture_string(a.json, "content"), "ef\xef\xbf\xbd");
    assert_string_equal(http_fixture_string(a.json, "prompt"), "ef\xef\xbf\xbd");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_apply_template(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_ask(&f, "POST", "/apply-template",
                     "{\"messages\":[{\"role\":\"developer\",\"content\":\"be kind\"},"
                     "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                     "{\"type\":\"text\",\"text\":\"b\"}]}]}",
                     &a);
    assert_int_equal(a.status, 200);
    const char *prompt = http_fixture_string(a.json, "prompt");
    assert_non_null(strstr(prompt, "<|im_start|>system\nbe kind"));
    assert_non_null(strstr(prompt, "<|im_start|>user\nab<|im_end|>\n"));
    assert_string_equal(strrchr(prompt, '>'), ">assistant\n");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health),  cmocka_unit_test(test_degraded),
        cmocka_unit_test(test_ready),   cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_models),  cmocka_unit_test(test_beginnings_of_the_alias),
        cmocka_unit_test(test_cluster), cmocka_unit_test(test_trace),
        cmocka_unit_test(test_tokens),  cmocka_unit_test(test_apply_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
