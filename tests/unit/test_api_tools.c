/* Chat with tools and with reasoning: what the model is told, and what becomes of its words. */
#include "coordinator/tokenizer.h"
#include "tests/support/http_events.h"
#include "tests/support/json_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CHAT    "/v1/chat/completions"
#define HELLO   "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define WEATHER "{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{}}}"
#define CLOCK   "{\"type\":\"function\",\"function\":{\"name\":\"clock\"}}"
#define TOOLS   "\"tools\":[" WEATHER "," CLOCK "]"
#define CALL_A                                                                                     \
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"at\": \"Rom\"}}\n</tool_call>"
#define CALL_B "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>"
#define QWEN3  "qwen3-tied/gguf/qwen3-tied-Q4_0.gguf"

static void open_model(struct http_fixture *f, const char *model)
{
    http_fixture_open(f, &(struct http_fixture_spec){.model = model, .context = 1024});
}

/* The text of the newest prompt. */
static void read_prompt(struct http_fixture *f, const struct request *r, struct buf *out)
{
    const struct tokenizer *t = coordinator_tokenizer(f->coordinator);
    size_t length;
    for (int i = 0; i < r->n_prompt; i++) {
        const char *piece = tokenizer_piece(t, r->prompt[i], &length);
        buf_append(out, piece, length);
    }
}

/* The prompt of a request whose answer is "ok". */
static void ask_prompt(struct http_fixture *f, const char *more, struct buf *out)
{
    struct http_answer a = {0};
    char body[1024];
    snprintf(body, sizeof body, "{" HELLO "%s}", more);
    fake_coordinator_hold(f->coordinator, true);
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "POST", CHAT, NULL, body);
    const struct request *before = NULL;
    while (fake_coordinator_open(f->coordinator) == 0)
        http_fixture_turn(f);
    before = fake_coordinator_last(f->coordinator);
    buf_reset(out);
    read_prompt(f, before, out);
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, fd, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    close(fd);
    http_fixture_turn(f);
}

/* ---- tools ---- */

static void test_calls(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, NULL);
    http_fixture_say(&f, "Let me see.\n" CALL_A "\n" CALL_B);
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS "}", &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"), "tool_calls");
    const json_t *message = http_fixture_at(a.json, "choices.0.message");
    assert_string_equal(http_fixture_string(message, "content"), "Let me see.\n");
    assert_int_equal(json_array_size(json_object_get(message, "tool_calls")), 2);
    assert_string_equal(http_fixture_string(message, "tool_calls.0.type"), "function");
    assert_string_equal(http_fixture_string(message, "tool_calls.0.function.name"), "weather");
    assert_string_equal(http_fixture_string(message, "tool_calls.0.function.arguments"),
                        "{\"at\": \"Rom\"}");
    assert_string_equal(http_fixture_string(message, "tool_calls.1.function.name"), "clock");
    assert_memory_equal(http_fixture_string(message, "tool_calls.0.id"), "call_", 5);
    assert_string_not_equal(http_fixture_string(message, "tool_calls.0.id"),
                            http_fixture_string(message, "tool_calls.1.id"));
    assert_null(http_fixture_at(message, "tool_calls.0.index"));
    http_answer_clear(&a);
    /* Nothing but calls: the content is null. */
    http_fixture_say(&f, CALL_A);
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS "}", &a);
    assert_true(json_is_null(http_fixture_at(a.json, "choices.0.message.content")));
    http_answer_clear(&a);
    /* One at a time. */
    http_fixture_say(&f, CALL_A "\n" CALL_B);
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS ",\"parallel_tool_calls\":false}", &a);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "choices.0.message.tool_calls")), 1);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* Without tools, told of none, broken, or cut: text. */
static void test_no_calls(void **state)
{
    static const struct {
        const char *said, *more, *finish;
    } cases[] = {
        {CALL_A, "", "stop"},
        {CALL_A, "," TOOLS ",\"tool_choice\":\"none\"", "stop"},
        {"<tool_call>\n{\"name\": }\n</tool_call>", "," TOOLS, "stop"},
        {CALL_A, "," TOOLS ",\"max_tokens\":20", "length"},
    };
    struct http_fixture f;
    struct http_answer a;
    char body[1024];
    open_model(&f, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        http_fixture_say(&f, cases[i].said);
        snprintf(body, sizeof body, "{" HELLO "%s}", cases[i].more);
        http_fixture_ask(&f, "POST", CHAT, body, &a);
        const char *content = http_fixture_string(a.json, "choices.0.message.content");
        assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"),
                            cases[i].finish);
        assert_null(http_fixture_at(a.json, "choices.0.message.tool_calls"));
        assert_memory_equal(content, cases[i].said, strlen(content));
        assert_true(strlen(content) > 11);
        if (strcmp(cases[i].finish, "stop") == 0)
            assert_string_equal(content, cases[i].said);
        http_answer_clear(&a);
    }
    http_fixture_close(&f);
}

static void test_stream_of_calls(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    struct buf text, arguments;
    const char *finish;
    open_model(&f, NULL);
    http_fixture_say(&f, "First\n" CALL_A CALL_B);
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS ",\"stream\":true,\"n\":2}", &a);
    struct http_events e = http_events_read(&a);
    assert_true(e.is_done);
    for (int index = 0; index < 2; index++) {
        int n_calls = 0;
        buf_init(&text);
        buf_init(&arguments);
        http_events_join(&e, index, "choices.0.delta.content", &text, &finish);
        assert_string_equal(buf_text(&text), "First\n");
        assert_string_equal(finish, "tool_calls");
        http_events_join(&e, index, "choices.0.delta.tool_calls.0.function.arguments", &arguments,
                         &finish);
        assert_string_equal(buf_text(&arguments), "{\"at\": \"Rom\"}{}");
        for (int i = 0; i < e.n; i++) {
            const json_t *call = http_fixture_at(e.list[i], "choices.0.delta.tool_calls.0");
            if (call && json_integer_value(http_fixture_at(e.list[i], "choices.0.index")) == index)
                assert_int_equal(json_integer_value(http_fixture_at(call, "index")), n_calls++);
        }
        assert_int_equal(n_calls, 2);
        buf_clear(&text);
        buf_clear(&arguments);
    }
    http_events_free(&e);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

#define NAMED(name) ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define REQUIRED    ",\"tool_choice\":\"required\""

/* The model is told of the tools, and has to call when it must. */
static void test_choice_of_tools(void **state)
{
    static const char any[] = "clock\", \"arguments\": {}}\n</tool_call>";
    static const char rest[] = " {}}\n</tool_call>";
    static const struct {
        const char *more, *said, *end;
        bool is_told;
    } cases[] = {
        {"," TOOLS, "ok", "assistant\n", true},
        {"," TOOLS ",\"tool_choice\":\"auto\"", "ok", "assistant\n", true},
        {"," TOOLS ",\"tool_choice\":\"none\"", "ok", "assistant\n", false},
        {"," TOOLS REQUIRED, any, "assistant\n<tool_call>\n{\"name\": \"", true},
        {",\"tools\":[" CLOCK "]" REQUIRED, rest,
         "assistant\n<tool_call>\n{\"name\": \"clock\", \"arguments\":", true},
        {"," TOOLS NAMED("weather"), rest,
         "assistant\n<tool_call>\n{\"name\": \"weather\", \"arguments\":", true},
    };
    struct http_fixture f;
    struct buf prompt;
    buf_init(&prompt);
    open_model(&f, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length = strlen(cases[i].end);
        http_fixture_say(&f, cases[i].said);
        ask_prompt(&f, cases[i].more, &prompt);
        assert_true(prompt.length > length);
        assert_string_equal(prompt.data + prompt.length - length, cases[i].end);
        assert_int_equal(strstr(prompt.data, "<tools>") != NULL, cases[i].is_told);
    }
    buf_clear(&prompt);
    http_fixture_close(&f);
}

static void test_forced_call(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, NULL);
    http_fixture_say(&f, " {\"zone\": 1}}\n</tool_call>");
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS NAMED("clock") "}", &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"), "tool_calls");
    assert_string_equal(
        http_fixture_string(a.json, "choices.0.message.tool_calls.0.function.arguments"),
        "{\"zone\": 1}");
    http_answer_clear(&a);
    /* Cut, it is text, and what it was made to begin with is part of that. */
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS NAMED("clock") ",\"max_tokens\":2}", &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"), "length");
    assert_memory_equal(http_fixture_string(a.json, "choices.0.message.content"),
                        "<tool_call>\n{\"name\": \"clock\", \"arguments\": {", 44);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

#define TOOL(name, more)                                                                           \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"parameters\":" more "}}"
#define STRICT "},\"strict\":true"
#define DAYS   "{\"properties\":{\"days\":{\"type\":\"integer\"}},\"required\":[\"days\"]"
#define SHARED                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"d\":{\"$ref\":\"#/$defs/d\"}},\"required\":[\"d\"],"   \
    "\"$defs\":{\"d\":{\"type\":\"boolean\"}}"
#define STRANGE "{\"type\":\"object\",\"minProperties\":1"
#define CALL(name, arguments)                                                                      \
    "<tool_call>\n{\"name\": \"" name "\", \"arguments\": " arguments "}\n</tool_call>"

/* What the fake says is not chosen from what is allowed: if it is not, that is a failure, 500. */
static void check_calls(const char *tools, const char *more, const char *said, int status)
{
    struct http_fixture f;
    struct http_answer a;
    char body[1024];
    open_model(&f, NULL);
    http_fixture_say(&f, said);
    snprintf(body, sizeof body, "{" HELLO ",\"tools\":[%s]%s}", tools, more);
    http_fixture_ask(&f, "POST", CHAT, body, &a);
    if (a.status != status)
        fail_msg("%s %s: %s", body, said, buf_text(&a.body));
    if (status == 200 && strstr(more, "required"))
        assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"), "tool_calls");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_required_calls_are_bound(void **state)
{
    static const char both[] = TOOL("a", DAYS "}") "," TOOL("b", SHARED "}");
    static const char one[] = TOOL("a", DAYS "}");
    static const char a[] = "a\", \"arguments\": {\"days\": 3}}\n</tool_call>";
    check_calls(one, REQUIRED, " {\"days\": 3}}\n</tool_call>", 200);
    check_calls(one, NAMED("a"), " {\"days\": 3}}\n</tool_call>", 200);
    check_calls(both, NAMED("a"), " {\"days\": 3}}\n</tool_call>", 200);
    check_calls(both, NAMED("a"), " {\"d\": true}}\n</tool_call>", 500);
    check_calls(one, REQUIRED, " {\"days\": \"3\"}}\n</tool_call>", 500);
    check_calls(one, REQUIRED, " {}}\n</tool_call>", 500);
    check_calls(one, REQUIRED, "ok", 500);
    check_calls(TOOL("a", SHARED "}"), REQUIRED, " {\"d\": true}}\n</tool_call>", 200);
    check_calls(TOOL("a", SHARED "}"), REQUIRED, " {\"d\": 1}}\n</tool_call>", 500);
    check_calls(both, REQUIRED, a, 200);
    check_calls(both, REQUIRED, "b\", \"arguments\": {\"days\": 3}}\n</tool_call>", 500);
    check_calls(both, REQUIRED, "b\", \"arguments\": {\"d\": false}}\n</tool_call>", 200);
    check_calls(both, REQUIRED, "c\", \"arguments\": {}}\n</tool_call>", 500);
    /* One more, unless only one may be. */
    check_calls(one, REQUIRED, " {\"days\": 3}}\n</tool_call>\n" CALL("a", "{\"days\": 4}"), 200);
    check_calls(one, REQUIRED, " {\"days\": 3}}\n</tool_call>\n" CALL("a", "{}"), 500);
    check_calls(one, REQUIRED, " {\"days\": 3}}\n</tool_call> and so on", 500);
    /* Words of a schema that are not kept: any object. */
    check_calls(TOOL("a", STRANGE "}"), REQUIRED, " {\"x\": [1]}}\n</tool_call>", 200);
    check_calls(TOOL("a", STRANGE "}"), REQUIRED, " 1}\n</tool_call>", 500);
    check_calls(CLOCK, REQUIRED, " {\"x\": [1]}}\n</tool_call>", 200);
    check_calls(one, REQUIRED ",\"ignore_eos\":true", " {\"days\": 3}}\n</tool_call>", 400);
}

static void test_strict_calls_are_bound(void **state)
{
    static const char strict[] = TOOL("a", DAYS STRICT), free[] = TOOL("b", DAYS "}");
    static const char good[] = "Well: " CALL("a", "{\"days\": 3}") " and so on";
    static const char bad[] = "Well: " CALL("a", "{\"days\": true}");
    static const char both[] = TOOL("a", DAYS STRICT) "," TOOL("b", DAYS "}");
    check_calls(strict, "", good, 200);
    check_calls(strict, "", bad, 500);
    check_calls(strict, "", "Well: " CALL("b", "{\"days\": 3}"), 500);
    check_calls(strict, "", "Well, <tool_ca", 200);
    check_calls(free, "", CALL("b", "{\"days\": true}"), 200);
    check_calls(both, "", CALL("b", "{\"days\": true}"), 200);
    check_calls(both, "", CALL("b", "1"), 500);
    check_calls(both, ",\"tool_choice\":\"none\"", bad, 200);
    check_calls(strict, ",\"parallel_tool_calls\":false", good, 200); /* it is over */
    check_calls(strict, ",\"response_format\":{\"type\":\"json_object\"}", "{}", 200);
    check_calls(strict, ",\"response_format\":{\"type\":\"json_object\"}",
                CALL("a", "{\"days\": 3}"), 200);
    check_calls(strict, ",\"response_format\":{\"type\":\"json_object\"}", CALL("a", "{}"), 500);
    check_calls(strict, ",\"response_format\":{\"type\":\"json_object\"}", "Well", 500);
    check_calls(TOOL("a", STRANGE STRICT), "", "ok", 400);
    check_calls(TOOL("a", STRANGE STRICT), REQUIRED, "ok", 400);
    check_calls(TOOL("a", "{\"type\":\"string\"" STRICT), "", "ok", 400);
    check_calls(TOOL("a", "{},\"strict\":1"), "", "ok", 400);
}

static void test_template_without_tools(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, "qwen15-mha/gguf/qwen15-mha-F16.gguf");
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS "}", &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.param"), "tools");
    http_answer_clear(&a);
    http_fixture_say(&f, "fine");
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "," TOOLS ",\"tool_choice\":\"none\"}", &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* The answer's beginning is given, and is not part of what comes back. */
static void test_continued(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, NULL);
    http_fixture_say(&f, " three");
    http_fixture_ask(&f, "POST", CHAT,
                     "{\"continue_final_message\":true,\"messages\":[{\"role\":\"user\","
                     "\"content\":\"count\"},{\"role\":\"assistant\",\"content\":\"one two\"}]}",
                     &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.content"), " three");
    json_int_t n_prompt = json_integer_value(http_fixture_at(a.json, "usage.prompt_tokens"));
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", CHAT "/input_tokens",
                     "{\"messages\":[{\"role\":\"user\",\"content\":\"count\"}]}", &a);
    json_int_t n_plain = json_integer_value(http_fixture_at(a.json, "input_tokens"));
    assert_true(n_plain > 3 && n_plain < n_prompt && n_prompt < n_plain + 10);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* ---- reasoning ---- */

static void test_reasoning(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, QWEN3);
    http_fixture_say(&f, "<think>\ne e\n</think>\n\nf");
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO ",\"return_token_ids\":true}", &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.reasoning_content"), "e e");
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.content"), "f");
    json_int_t reasoning = json_integer_value(
        http_fixture_at(a.json, "usage.completion_tokens_details.reasoning_tokens"));
    const json_t *ids = http_fixture_at(a.json, "choices.0.token_ids");
    assert_int_equal(json_integer_value(json_array_get(ids, (size_t)reasoning - 1)),
                     tokenizer_find(coordinator_tokenizer(f.coordinator), "</think>"));
    http_answer_clear(&a);
    /* Cut while it thinks: everything is reasoning. */
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO ",\"max_tokens\":3}", &a);
    assert_string_equal(http_fixture_string(a.json, "choices.0.message.content"), "");
    assert_int_equal(json_integer_value(http_fixture_at(
                         a.json, "usage.completion_tokens_details.reasoning_tokens")),
                     3);
    http_answer_clear(&a);
    http_fixture_say(&f, "f");
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO "}", &a);
    assert_null(http_fixture_at(a.json, "choices.0.message.reasoning_content"));
    assert_int_equal(json_integer_value(http_fixture_at(
                         a.json, "usage.completion_tokens_details.reasoning_tokens")),
                     0);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_stream_of_reasoning(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    struct buf reasoning, text;
    const char *finish;
    open_model(&f, QWEN3);
    http_fixture_say(&f, "<think>\nee ff\n</think>\n\ngg");
    http_fixture_ask(&f, "POST", CHAT,
                     "{" HELLO ",\"stream\":true,\"logprobs\":true,"
                     "\"stream_options\":{\"include_usage\":true}}",
                     &a);
    struct http_events e = http_events_read(&a);
    size_t n_logprobs = 0;
    buf_init(&reasoning);
    buf_init(&text);
    http_events_join(&e, 0, "choices.0.delta.reasoning_content", &reasoning, &finish);
    http_events_join(&e, 0, "choices.0.delta.content", &text, &finish);
    assert_string_equal(buf_text(&reasoning), "ee ff");
    assert_string_equal(buf_text(&text), "gg");
    assert_string_equal(finish, "stop");
    for (int i = 0; i < e.n; i++)
        n_logprobs += json_array_size(http_fixture_at(e.list[i], "choices.0.logprobs.content"));
    /* Each token has its own, those of the tags too; the end of the text has none. */
    assert_int_equal(n_logprobs + 1, json_integer_value(http_fixture_at(
                                         e.list[e.n - 1], "usage.completion_tokens")));
    assert_true(json_integer_value(http_fixture_at(
                    e.list[e.n - 1], "usage.completion_tokens_details.reasoning_tokens")) > 3);
    buf_clear(&reasoning);
    buf_clear(&text);
    http_events_free(&e);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_thinking_is_switched(void **state)
{
    static const struct {
        const char *more;
        bool is_off;
    } cases[] = {
        {"", false},
        {",\"reasoning_effort\":\"high\"", false},
        {",\"reasoning_effort\":\"none\"", true},
        {",\"reasoning_effort\":\"minimal\"", true},
        {",\"chat_template_kwargs\":{\"enable_thinking\":false}", true},
        {",\"reasoning_effort\":\"none\",\"chat_template_kwargs\":{\"enable_thinking\":true}",
         false},
        {"," TOOLS ",\"tool_choice\":\"required\"", true},
    };
    struct http_fixture f;
    struct buf prompt;
    buf_init(&prompt);
    open_model(&f, QWEN3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool is_required = strstr(cases[i].more, "required") != NULL;
        http_fixture_say(&f, is_required ? "clock\", \"arguments\": {}}\n</tool_call>" : "ok");
        ask_prompt(&f, cases[i].more, &prompt);
        assert_int_equal(strstr(prompt.data, "<think>\n\n</think>\n\n") != NULL, cases[i].is_off);
    }
    buf_clear(&prompt);
    http_fixture_close(&f);
}

/* In pieces, for sockets have not room for all. */
static void ask_long(struct http_fixture *f, const char *path, const struct buf *body,
                     struct http_answer *a)
{
    char head[200];
    int fd = http_fixture_connect(f);
    int length =
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %zu\r\n\r\n",
                 path, body->length);
    *a = (struct http_answer){0};
    http_fixture_send(fd, head, (size_t)length);
    for (size_t at = 0, n; at < body->length; at += n) {
        n = body->length - at < 8192 ? body->length - at : 8192;
        http_fixture_send(fd, body->data + at, n);
        http_fixture_turn(f);
    }
    http_fixture_receive(f, fd, a);
    close(fd);
}

/* Most JSON values that n calls, each with arguments of many values, take. */
static int64_t measure_calls(struct http_fixture *f, int n)
{
    struct http_answer a;
    struct buf body;
    buf_init(&body);
    buf_puts(&body, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},"
                    "{\"role\":\"assistant\",\"tool_calls\":[");
    for (int i = 0; i < n; i++) {
        buf_puts(&body, i ? "," : "");
        buf_puts(&body, "{\"function\":{\"name\":\"see\",\"arguments\":\"{\\\"at\\\":[[]");
        for (int j = 0; j < 30000; j++)
            buf_puts(&body, ",[]");
        buf_puts(&body, "]}\"}}");
    }
    buf_puts(&body, "]}]}");
    json_memory_begin();
    ask_long(f, "/apply-template", &body, &a);
    int64_t bytes = json_memory_end();
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    buf_clear(&body);
    return bytes;
}

/* Three are read; the others would be more than a body may hold, and stay texts. */
static void test_many_arguments(void **state)
{
    struct http_fixture f;
    http_fixture_open(&f, &(struct http_fixture_spec){.max_body_bytes = 1 << 20});
    int64_t one = measure_calls(&f, 1), ten = measure_calls(&f, 10);
    assert_true(one > 30000 * 50);
    if (ten >= 5 * one)
        fail_msg("%lld bytes of ten, %lld of one", (long long)ten, (long long)one);
    http_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_no_calls),
        cmocka_unit_test(test_many_arguments),
        cmocka_unit_test(test_stream_of_calls),
        cmocka_unit_test(test_choice_of_tools),
        cmocka_unit_test(test_forced_call),
        cmocka_unit_test(test_required_calls_are_bound),
        cmocka_unit_test(test_strict_calls_are_bound),
        cmocka_unit_test(test_template_without_tools),
        cmocka_unit_test(test_continued),
        cmocka_unit_test(test_reasoning),
        cmocka_unit_test(test_stream_of_reasoning),
        cmocka_unit_test(test_thinking_is_switched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
