/* Answers of the model: whole and streamed, one choice and several, with all that can be asked. */
#include "coordinator/tokenizer.h"
#include "tests/support/http_events.h"
#include "tests/support/http_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CHAT  "/v1/chat/completions"
#define TEXT  "/v1/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

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

/* ---- whole answers ---- */

static void test_chat(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    const char *said = "Grüße, \"世界\"!\n";
    http_fixture_say(f, said);
    http_fixture_ask(f, "POST", CHAT, "{\"model\":\"tiny\"," HELLO ",\"seed\":42}", &a);
    assert_int_equal(a.status, 200);
    assert_true(http_answer_has_header(&a, "Content-Type: application/json"));
    assert_memory_equal(http_fixture_string(a.json, "id"), "chatcmpl-", 9);
    assert_string_equal(http_fixture_string(a.json, "object"), "chat.completion");
    assert_string_equal(http_fixture_string(a.json, "model"), "tiny");
    assert_string_equal(http_fixture_string(a.json, "system_fingerprint"), "fp_0123456789abcdef");
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.role"), "assistant");
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.content"), said);
    assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"), "stop");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "seed")), 42);
    json_int_t prompt = json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens"));
    json_int_t answer = json_integer_value(http_fixture_at(a.json, "usage.completion_tokens"));
    assert_int_equal(prompt, fake_coordinator_last(f->coordinator)->n_prompt);
    assert_true(answer > 5);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.total_tokens")),
                     prompt + answer);
    assert_int_equal(
        json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens_details.cached_tokens")),
        0);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "timings.predicted_n")), answer);
    assert_true(json_is_real(http_fixture_at(a.json, "timings.predicted_per_second")));
    http_answer_clear(&a);
}

static void test_parameters_arrive(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    http_fixture_say(f, "ok");
    http_fixture_ask(f, "POST", TEXT,
                     "{\"prompt\":[5,6,7],\"temperature\":0.5,\"top_p\":0.25,\"top_k\":40,"
                     "\"min_p\":0.125,\"seed\":-7,\"presence_penalty\":1,\"frequency_penalty\":-1,"
                     "\"repeat_penalty\":1.5,\"logit_bias\":{\"9\":-100,\"3\":2.5},\"logprobs\":4,"
                     "\"ignore_eos\":true,\"max_tokens\":6,\"n\":2,\"user\":\"me\",\"unknown\":{}}",
                     &a);
    assert_int_equal(a.status, 200);
    const struct request *r = fake_coordinator_last(f->coordinator);
    assert_int_equal(r->kind, REQUEST_GENERATE);
    assert_int_equal(r->n_prompt, 3);
    assert_int_equal(r->max_tokens, 6);
    assert_int_equal(r->n_choices, 2);
    assert_true(r->ignore_eos);
    assert_true(r->keep_records);
    assert_true(r->sampling.temperature == 0.5f && r->sampling.top_p == 0.25f);
    assert_true(r->sampling.min_p == 0.125f && r->sampling.top_k == 40);
    assert_true(r->sampling.presence_penalty == 1 && r->sampling.frequency_penalty == -1);
    assert_true(r->sampling.repetition_penalty == 1.5f);
    assert_true(r->sampling.seed == (uint64_t)-7);
    assert_int_equal(r->sampling.n_bias, 2);
    assert_true(r->sampling.logprobs && r->sampling.top_logprobs == 4);
    assert_string_equal(http_fixture_string(a.json, "choices.1.finish_reason"), "length");
    http_answer_clear(&a);

    http_fixture_ask(f, "POST", TEXT, "{\"prompt\":\"x\",\"max_tokens\":null}", &a);
    r = fake_coordinator_last(f->coordinator);
    assert_true(r->sampling.temperature == 1 && r->sampling.top_p == 1 && r->sampling.top_k == 0);
    assert_true(r->sampling.repetition_penalty == 1 && r->sampling.min_p == 0);
    assert_int_equal(r->max_tokens, 128 - r->n_prompt);
    assert_false(r->keep_records);
    /* A seed that nobody gave is drawn, told, and fits a double. */
    json_int_t seed = json_integer_value(http_fixture_at(a.json, "seed"));
    assert_true(seed > 0 && seed < (json_int_t)1 << 53 && r->sampling.seed == (uint64_t)seed);
    http_answer_clear(&a);
}

static void test_stop_and_choices(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    http_fixture_say(f, "one two three");
    http_fixture_ask(f, "POST", CHAT, "{" HELLO ",\"stop\":[\"zzz\",\" thr\"],\"n\":2}", &a);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "choices")), 2);
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.content"), "one two");
    assert_string_equal(http_fixture_string(a.json, "choices.1.message.content"), "one two");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "choices.1.index")), 1);
    http_answer_clear(&a);
}

static void test_several_prompts(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    http_fixture_say(f, " yes");
    http_fixture_ask(f, "POST", TEXT,
                     "{\"prompt\":[\"a\",\"bb\"],\"n\":2,\"echo\":true,\"return_tokens\":true}",
                     &a);
    assert_int_equal(a.status, 200);
    assert_memory_equal(http_fixture_string(a.json, "id"), "cmpl-", 5);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "choices")), 4);
    assert_string_equal(http_fixture_string(a.json, "choices.1.text"), "a yes");
    assert_string_equal(http_fixture_string(a.json, "choices.2.text"), "bb yes");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "choices.3.index")), 3);
    assert_true(json_array_size(http_fixture_at(a.json, "choices.3.token_ids")) > 0);
    assert_true(json_array_size(http_fixture_at(a.json, "choices.3.prompt_token_ids")) > 0);
    http_answer_clear(&a);
    http_fixture_ask(f, "POST", TEXT, "{\"prompt\":[[1,2],[3]]}", &a);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens")), 3);
    http_answer_clear(&a);
}

static void test_logprobs(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    const uint32_t tokens[] = {68, 69}; /* bytes 'e' and 'f' in the published vocabularies */
    fake_coordinator_answer(f->coordinator, tokens, 2);
    http_fixture_ask(f, "POST", CHAT, "{" HELLO ",\"logprobs\":true,\"top_logprobs\":2}", &a);
    const json_t *entry = http_fixture_at(a.json, "choices.0.logprobs.content.1");
    assert_string_equal(http_fixture_string(entry, "token"), "f");
    assert_true(json_real_value(http_fixture_at(entry, "logprob")) == -0.25);
    assert_int_equal(json_integer_value(http_fixture_at(entry, "bytes.0")), 'f');
    assert_int_equal(json_array_size(http_fixture_at(entry, "top_logprobs")), 2);
    assert_string_equal(http_fixture_string(entry, "top_logprobs.1.token"), "g");
    assert_true(json_real_value(http_fixture_at(entry, "top_logprobs.1.logprob")) == -0.375);
    http_answer_clear(&a);
    http_fixture_ask(f, "POST", TEXT, "{\"prompt\":\"x\",\"logprobs\":2}", &a);
    const json_t *logprobs = http_fixture_at(a.json, "choices.0.logprobs");
    assert_string_equal(http_fixture_string(logprobs, "tokens.0"), "e");
    assert_true(json_real_value(http_fixture_at(logprobs, "token_logprobs.1")) == -0.25);
    assert_true(json_real_value(http_fixture_at(logprobs, "top_logprobs.1.g")) == -0.375);
    assert_int_equal(json_integer_value(http_fixture_at(logprobs, "text_offset.1")), 1);
    http_answer_clear(&a);
    /* A byte that is no character has a name of its own. */
    const uint32_t byte[] = {255}; /* the last letter of the byte alphabet: 0xad */
    fake_coordinator_answer(f->coordinator, byte, 1);
    http_fixture_ask(f, "POST", TEXT, "{\"prompt\":\"x\",\"logprobs\":0}", &a);
    assert_memory_equal(http_fixture_string(a.json, "choices.0.logprobs.tokens.0"), "bytes:\\x", 8);
    assert_string_equal(http_fixture_string(a.json, "choices.0.text"), "\xef\xbf\xbd");
    http_answer_clear(&a);
}

static void check_echoed(const json_t *logprobs)
{
    static const double expected[] = {0, -0.1, -0.2, -0.125, -0.25};
    assert_int_equal(json_array_size(http_fixture_at(logprobs, "tokens")), 5);
    assert_string_equal(http_fixture_string(logprobs, "tokens.1"), "b");
    assert_string_equal(http_fixture_string(logprobs, "tokens.4"), "f");
    assert_true(json_is_null(http_fixture_at(logprobs, "token_logprobs.0")));
    assert_true(json_is_null(http_fixture_at(logprobs, "top_logprobs.0")));
    assert_int_equal(json_object_size(http_fixture_at(logprobs, "top_logprobs.1")), 3);
    for (size_t i = 1; i < 5; i++) {
        double got =
            json_real_value(json_array_get(http_fixture_at(logprobs, "token_logprobs"), i));
        assert_true(got > expected[i] - 1e-6 && got < expected[i] + 1e-6);
    }
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(
            json_integer_value(json_array_get(http_fixture_at(logprobs, "text_offset"), i)), i);
}

static void test_echo_with_logprobs(void **state)
{
    static const char body[] = "\"prompt\":[64,65,66],\"echo\":true,\"logprobs\":2";
    struct http_fixture *f = *state;
    struct http_answer a;
    struct buf ask;
    const uint32_t tokens[] = {68, 69}; /* "e", "f" */
    fake_coordinator_answer(f->coordinator, tokens, 2);
    buf_init(&ask);
    buf_printf(&ask, "{%s}", body);
    http_fixture_ask(f, "POST", TEXT, buf_text(&ask), &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.text"), "abcef");
    check_echoed(http_fixture_at(a.json, "choices.0.logprobs"));
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens")), 3);
    http_answer_clear(&a);
    /* Two prompts of two choices each: every one has its prompt's. */
    http_fixture_ask(f, "POST", TEXT,
                     "{\"prompt\":[[64,65,66],[80]],\"echo\":true,\"logprobs\":2,\"n\":2}", &a);
    check_echoed(http_fixture_at(a.json, "choices.1.logprobs"));
    assert_string_equal(http_fixture_string(a.json, "choices.3.text"), "qef");
    assert_string_equal(http_fixture_string(a.json, "choices.3.logprobs.tokens.0"), "q");
    assert_int_equal(json_array_size(http_fixture_at(a.json, "choices.3.logprobs.tokens")), 3);
    http_answer_clear(&a);
    /* The same in a stream, put together. */
    buf_reset(&ask);
    buf_printf(&ask, "{%s,\"stream\":true}", body);
    http_fixture_ask(f, "POST", TEXT, buf_text(&ask), &a);
    struct http_events e = http_events_read(&a);
    json_t *whole = json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs",
                              "top_logprobs", "text_offset"),
           *part;
    const char *key;
    for (int i = 0; i < e.n; i++)
        json_object_foreach((json_t *)http_fixture_at(e.list[i], "choices.0.logprobs"), key, part)
            json_array_extend(json_object_get(whole, key), part);
    check_echoed(whole);
    json_decref(whole);
    http_events_free(&e);
    http_answer_clear(&a);
    buf_clear(&ask);
}

/* A text to be filled in. */
static void test_suffix(void **state)
{
    struct http_fixture *f = *state;
    const struct tokenizer *t = coordinator_tokenizer(f->coordinator);
    struct http_answer a;
    http_fixture_say(f, "mid");
    http_fixture_ask(f, "POST", TEXT, "{\"prompt\":\"a\",\"suffix\":\"c\"}", &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.text"), "mid");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens")), 5);
    http_answer_clear(&a);
    int fd = http_fixture_connect(f); /* the newest request is looked at while it is there */
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(fd, "POST", TEXT, NULL, "{\"prompt\":[7,8],\"suffix\":\"c\"}");
    while (fake_coordinator_open(f->coordinator) == 0)
        http_fixture_turn(f);
    const struct request *r = fake_coordinator_last(f->coordinator);
    const uint32_t expected[] = {(uint32_t)tokenizer_find(t, "<|fim_prefix|>"),
                                 7,
                                 8,
                                 (uint32_t)tokenizer_find(t, "<|fim_suffix|>"),
                                 66,
                                 (uint32_t)tokenizer_find(t, "<|fim_middle|>")};
    assert_int_equal(r->n_prompt, 6);
    assert_memory_equal(r->prompt, expected, sizeof expected);
    fake_coordinator_hold(f->coordinator, false);
    a = (struct http_answer){0};
    http_fixture_receive(f, fd, &a);
    http_answer_clear(&a);
    close(fd);
    http_fixture_turn(f);
}

/* ---- streams ---- */

static void test_chat_stream(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    const char *said = "Tick \"tack\"\n\\ 世界\t😀 end", *finish;
    struct buf text;
    http_fixture_say(f, said);
    http_fixture_ask(f, "POST", CHAT,
                     "{" HELLO ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", &a);
    assert_int_equal(a.status, 200);
    assert_true(http_answer_has_header(&a, "Content-Type: text/event-stream; charset=utf-8"));
    assert_true(http_answer_has_header(&a, "Cache-Control: no-cache"));
    struct http_events e = http_events_read(&a);
    assert_true(e.is_done);
    assert_string_equal(http_fixture_string(e.list[0], "choices.0.delta.role"), "assistant");
    assert_string_equal(http_fixture_string(e.list[0], "object"), "chat.completion.chunk");
    assert_string_equal(http_fixture_string(e.list[1], "system_fingerprint"),
                        "fp_0123456789abcdef");
    assert_true(json_is_null(http_fixture_at(e.list[1], "usage")));
    assert_null(http_fixture_at(e.list[1], "choices.0.delta.role"));
    assert_true(e.n > 6);
    buf_init(&text);
    http_events_join(&e, 0, "choices.0.delta.content", &text, &finish);
    assert_string_equal(buf_text(&text), said);
    assert_string_equal(finish, "stop");
    /* The finish, then usage with no choice. */
    assert_int_equal(json_object_size(http_fixture_at(e.list[e.n - 2], "choices.0.delta")), 0);
    assert_non_null(http_fixture_at(e.list[e.n - 2], "choices.0.delta"));
    const json_t *last = e.list[e.n - 1];
    assert_int_equal(json_array_size(http_fixture_at(last, "choices")), 0);
    assert_true(json_is_array(http_fixture_at(last, "choices")));
    assert_true(json_integer_value(http_fixture_at(last, "usage.completion_tokens")) > 5);
    assert_non_null(http_fixture_at(last, "timings.prompt_ms"));
    buf_clear(&text);
    http_events_free(&e);
    http_answer_clear(&a);
}

static void test_stream_of_choices(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    const char *finish;
    http_fixture_say(f, " b c d");
    http_fixture_ask(f, "POST", TEXT,
                     "{\"prompt\":[\"a\",\"z\"],\"stream\":true,\"echo\":true,\"n\":2,"
                     "\"return_token_ids\":true,\"max_tokens\":3}",
                     &a);
    struct http_events e = http_events_read(&a);
    assert_true(e.is_done);
    for (int i = 0; i < 4; i++) {
        struct buf text;
        buf_init(&text);
        http_events_join(&e, i, "choices.0.text", &text, &finish);
        assert_string_equal(buf_text(&text), i < 2 ? "a b c d" : "z b c d");
        assert_string_equal(finish, "length");
        buf_clear(&text);
    }
    assert_non_null(http_fixture_at(e.list[0], "choices.0.prompt_token_ids"));
    assert_non_null(http_fixture_at(e.list[e.n - 1], "timings"));
    assert_non_null(http_fixture_at(e.list[e.n - 1], "seed"));
    assert_null(http_fixture_at(e.list[e.n - 2], "timings"));
    assert_null(http_fixture_at(e.list[0], "usage"));
    http_events_free(&e);
    http_answer_clear(&a);
}

static void test_stream_of_logprobs(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    const uint32_t tokens[] = {68, 69, 70};
    int n = 0;
    fake_coordinator_answer(f->coordinator, tokens, 3);
    http_fixture_ask(f, "POST", TEXT, "{\"prompt\":\"x\",\"logprobs\":1,\"stream\":true}", &a);
    struct http_events e = http_events_read(&a);
    for (int i = 0; i < e.n; i++) {
        const json_t *logprobs = http_fixture_at(e.list[i], "choices.0.logprobs");
        size_t count = json_array_size(http_fixture_at(logprobs, "tokens"));
        for (size_t k = 0; k < count; k++, n++)
            assert_int_equal(
                json_integer_value(json_array_get(http_fixture_at(logprobs, "text_offset"), k)), n);
    }
    assert_int_equal(n, 3);
    http_events_free(&e);
    http_answer_clear(&a);
}

/* ---- probes ---- */

static void test_probe_logprobs(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    http_fixture_ask(f, "POST", "/v1/probe", "{\"tokens\":[1,2,3],\"output\":\"logprobs\"}", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "logprobs")), 2);
    assert_non_null(strstr(buf_text(&a.body), "[-0.100000001,-0.200000003]"));
    double nll = json_real_value(http_fixture_at(a.json, "mean_nll"));
    assert_true(nll > 0.1499 && nll < 0.1501);
    http_answer_clear(&a);
}

static void test_probe_logits(void **state)
{
    struct http_fixture *f = *state;
    struct http_answer a;
    int vocabulary = coordinator_model(f->coordinator)->vocabulary_size;
    http_fixture_ask(f, "POST", "/v1/probe", "{\"tokens\":[1,2,3,4],\"output\":\"logits\"}", &a);
    assert_int_equal(a.status, 200);
    assert_true(http_answer_has_header(&a, "Content-Type: application/octet-stream"));
    assert_true(http_answer_has_header(&a, "X-Paceline-Rows: 4"));
    assert_int_equal(a.body.length, 4 * (size_t)vocabulary * sizeof(float));
    const float *row = (const float *)(const void *)a.body.data;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < vocabulary; k++)
            assert_true(row[i * vocabulary + k] == (float)i + (float)k / 1024);
    http_answer_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chat, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_parameters_arrive, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_stop_and_choices, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_several_prompts, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_logprobs, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_echo_with_logprobs, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_suffix, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_chat_stream, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_stream_of_choices, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_stream_of_logprobs, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_probe_logprobs, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_probe_logits, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
