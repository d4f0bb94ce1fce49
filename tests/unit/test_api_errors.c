/* Bad input: each gets its status, its parameter and one sentence, and the server goes on. */
#include "coordinator/json_body.h"
#include "coordinator/tokenizer.h"
#include "tests/support/http_fixture.h"

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

struct bad {
    const char *path, *body;
    int status;
    const char *param, *words; /* param NULL: the error has none */
};

#define CHAT  "/v1/chat/completions"
#define TEXT  "/v1/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define ONCE  "\"prompt\":\"hi\""
#define TOOL  "{\"type\":\"function\",\"function\":{\"name\":\"a\"}}"

static const struct bad bad[] = {
    {CHAT, "", 400, NULL, "empty"},
    {CHAT, "  \n", 400, NULL, "empty"},
    {CHAT, "{\"messages\":\n [}", 400, NULL, "line 2, column 3"},
    {CHAT, "{" HELLO "} x", 400, NULL, "not valid JSON"},
    {CHAT, "[]", 400, NULL, "an array"},
    {CHAT, "{\"a\":1,\"a\":2}", 400, NULL, "duplicate"},
    {CHAT, "{\"a\":\"\xff\"}", 400, NULL, "not valid UTF-8"},
    {CHAT, "{\"a\":\"\\u0000\"}", 400, NULL, "U+0000"},
    {CHAT, "{\"a\":\"\\ud800\"}", 400, NULL, "not valid JSON"},
    {CHAT, "{\"a\":1e999}", 400, NULL, "not valid JSON"},
    {CHAT, "{\"a\":99999999999999999999}", 400, NULL, "not valid JSON"},

    {CHAT, "{}", 400, "messages", "missing"},
    {CHAT, "{\"messages\":[]}", 400, "messages", "empty"},
    {CHAT, "{\"messages\":\"hi\"}", 400, "messages", "a string"},
    {CHAT, "{\"messages\":[1]}", 400, "messages[0]", "an integer"},
    {CHAT, "{\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", 400, "messages[0].role",
     "king"},
    {CHAT, "{\"messages\":[{\"content\":\"x\"}]}", 400, "messages[0].role", "system"},
    {CHAT, "{\"messages\":[{\"role\":\"user\"}]}", 400, "messages[0].content", "absent"},
    {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":5}]}", 400, "messages[0].content",
     "an integer"},
    {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400,
     "messages[0].content[0]", "image_url"},
    {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", 400,
     "messages[0].content[0].text", "string"},
    {CHAT, "{" HELLO ",\"tools\":{}}", 400, "tools", "an object"},
    {CHAT, "{" HELLO ",\"tools\":[3]}", 400, "tools[0]", "an integer"},
    {CHAT, "{" HELLO ",\"tools\":[{\"type\":\"custom\"}]}", 400, "tools[0]", "function"},
    {CHAT, "{" HELLO ",\"tools\":[" TOOL ",{\"function\":{\"name\":\"\"}}]}", 400, "tools[1]",
     "function.name"},
    {CHAT, "{" HELLO ",\"tools\":[{\"function\":{\"name\":\"a<b\"}}]}", 400, "tools[0]",
     "function.name"},
    {CHAT, "{" HELLO ",\"tools\":[{\"function\":{\"name\":\"a\",\"parameters\":[]}}]}", 400,
     "tools[0]", "an array"},
    {CHAT, "{" HELLO ",\"tool_choice\":\"required\"}", 400, "tool_choice", "no 'tools'"},
    {CHAT, "{" HELLO ",\"tools\":[" TOOL "],\"tool_choice\":\"any\"}", 400, "tool_choice",
     "required"},
    {CHAT, "{" HELLO ",\"tools\":[" TOOL "],\"tool_choice\":{\"function\":{\"name\":\"b\"}}}", 400,
     "tool_choice", "'b'"},
    {CHAT, "{" HELLO ",\"tools\":[" TOOL "],\"parallel_tool_calls\":1}", 400, "parallel_tool_calls",
     "an integer"},
    {CHAT, "{" HELLO ",\"continue_final_message\":true}", 400, "continue_final_message",
     "not text of the assistant's"},
    {CHAT,
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}],"
     "\"continue_final_message\":true}",
     400, "messages", "nothing but"},
    {CHAT, "{" HELLO ",\"reasoning_effort\":\"huge\"}", 400, "reasoning_effort", "medium"},
    {CHAT, "{" HELLO ",\"functions\":[]}", 400, "functions", "tools"},
    {CHAT, "{" HELLO ",\"chat_template_kwargs\":3}", 400, "chat_template_kwargs", "an object"},
    {CHAT, "{" HELLO ",\"chat_template_kwargs\":{\"messages\":[]}}", 400, "chat_template_kwargs",
     "messages"},

    {CHAT, "{" HELLO ",\"model\":\"other\"}", 404, "model", "other"},
    {CHAT, "{" HELLO ",\"model\":7}", 400, "model", "an integer"},
    {CHAT, "{" HELLO ",\"temperature\":\"hot\"}", 400, "temperature", "from 0 to 2, not a string"},
    {CHAT, "{" HELLO ",\"temperature\":2.5}", 400, "temperature", "2.5"},
    {CHAT, "{" HELLO ",\"temperature\":-1}", 400, "temperature", "from 0 to 2"},
    {CHAT, "{" HELLO ",\"temperature\":true}", 400, "temperature", "a boolean"},
    {CHAT, "{" HELLO ",\"top_p\":1.01}", 400, "top_p", "from 0 to 1"},
    {CHAT, "{" HELLO ",\"min_p\":-0.1}", 400, "min_p", "from 0 to 1"},
    {CHAT, "{" HELLO ",\"top_k\":2.5}", 400, "top_k", "a number with a fraction"},
    {CHAT, "{" HELLO ",\"top_k\":-2}", 400, "top_k", "-2"},
    {CHAT, "{" HELLO ",\"presence_penalty\":3}", 400, "presence_penalty", "from -2 to 2"},
    {CHAT, "{" HELLO ",\"frequency_penalty\":[]}", 400, "frequency_penalty", "an array"},
    {CHAT, "{" HELLO ",\"repetition_penalty\":0}", 400, "repetition_penalty", "from 0.01 to 10"},
    {CHAT, "{" HELLO ",\"repeat_penalty\":\"1\"}", 400, "repeat_penalty", "a string"},
    {CHAT, "{" HELLO ",\"seed\":1.5}", 400, "seed", "an integer"},
    {CHAT, "{" HELLO ",\"max_tokens\":0}", 400, "max_tokens", "from 1 to"},
    {CHAT, "{" HELLO ",\"max_completion_tokens\":\"9\"}", 400, "max_completion_tokens", "a string"},
    {CHAT, "{" HELLO ",\"n\":17}", 400, "n", "from 1 to 16"},
    {CHAT, "{" HELLO ",\"n\":0}", 400, "n", "from 1 to 16"},
    {CHAT, "{" HELLO ",\"stop\":\"\"}", 400, "stop", "0 bytes"},
    {CHAT, "{" HELLO ",\"stop\":[1]}", 400, "stop", "an integer"},
    {CHAT, "{" HELLO ",\"stop\":{}}", 400, "stop", "an object"},
    {CHAT,
     "{" HELLO ",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\","
     "\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]}",
     400, "stop", "at most 16"},
    {CHAT, "{" HELLO ",\"logit_bias\":[]}", 400, "logit_bias", "an array"},
    {CHAT, "{" HELLO ",\"logit_bias\":{\"x\":1}}", 400, "logit_bias", "'x'"},
    {CHAT, "{" HELLO ",\"logit_bias\":{\"01\":1}}", 400, "logit_bias", "'01'"},
    {CHAT, "{" HELLO ",\"logit_bias\":{\"999999\":1}}", 400, "logit_bias", "999999"},
    {CHAT, "{" HELLO ",\"logit_bias\":{\"5\":101}}", 400, "logit_bias", "from -100 to 100"},
    {CHAT, "{" HELLO ",\"logit_bias\":{\"5\":\"1\"}}", 400, "logit_bias", "a string"},
    {CHAT, "{" HELLO ",\"logprobs\":3}", 400, "logprobs", "an integer"},
    {CHAT, "{" HELLO ",\"top_logprobs\":3}", 400, "top_logprobs", "needs 'logprobs'"},
    {CHAT, "{" HELLO ",\"logprobs\":true,\"top_logprobs\":21}", 400, "top_logprobs",
     "from 0 to 20"},
    {CHAT, "{" HELLO ",\"ignore_eos\":1}", 400, "ignore_eos", "true or false"},
    {CHAT, "{" HELLO ",\"stream\":\"yes\"}", 400, "stream", "a string"},
    {CHAT, "{" HELLO ",\"stream_options\":true}", 400, "stream_options", "a boolean"},
    {CHAT, "{" HELLO ",\"stream_options\":{\"include_usage\":1}}", 400, "include_usage",
     "an integer"},
    {CHAT, "{" HELLO ",\"stream_options\":{\"include_usage\":true}}", 400, "stream_options",
     "'stream'"},
    {CHAT, "{" HELLO ",\"user\":4}", 400, "user", "a string"},
    {CHAT, "{" HELLO ",\"response_format\":{\"type\":\"xml\"}}", 400, "response_format",
     "'text', 'json_object' or 'json_schema'"},
    {CHAT, "{" HELLO ",\"response_format\":\"json\"}", 400, "response_format", "a string"},
    {CHAT, "{" HELLO ",\"response_format\":{\"type\":\"json_schema\"}}", 400, "response_format",
     "a JSON schema, not nothing"},
    {CHAT,
     "{" HELLO ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":"
     "{\"properties\":{\"a\":{\"not\":{}}}}}}}",
     400, "response_format", "#/properties/a/not: this keyword is not supported."},
    {CHAT, "{" HELLO ",\"guided_json\":[]}", 400, "guided_json", "an array"},
    {CHAT, "{" HELLO ",\"guided_json\":\"{\"}", 400, "guided_json", "not valid JSON"},
    {CHAT, "{" HELLO ",\"guided_regex\":\"a(\"}", 400, "guided_regex",
     "'(' is never closed, at character 2."},
    {CHAT, "{" HELLO ",\"guided_regex\":4}", 400, "guided_regex",
     "must be a string, not an integer"},
    {CHAT, "{" HELLO ",\"guided_grammar\":\"root ::= x\"}", 400, "guided_grammar",
     "no rule of this name, at line 1, column 10."},
    {CHAT, "{" HELLO ",\"guided_choice\":[]}", 400, "guided_choice", "one text or more"},
    {CHAT, "{" HELLO ",\"guided_choice\":\"a\"}", 400, "guided_choice", "one text or more"},
    {CHAT, "{" HELLO ",\"guided_whitespace_pattern\":\" \"}", 400, "guided_whitespace_pattern",
     "not supported"},
    {CHAT, "{" HELLO ",\"structured_outputs\":{\"structural_tag\":{}}}", 400, "structural_tag",
     "not supported"},
    {CHAT, "{" HELLO ",\"structured_outputs\":[]}", 400, "structured_outputs", "an array"},
    {CHAT, "{" HELLO ",\"guided_regex\":\"a\",\"guided_choice\":[\"b\"]}", 400, "guided_choice",
     "one form too many"},
    {CHAT, "{" HELLO ",\"guided_regex\":\"a\",\"ignore_eos\":true}", 400, "ignore_eos",
     "ends when it is whole"},
    {TEXT, "{" ONCE ",\"guided_regex\":\"[z-a]\"}", 400, "guided_regex", "upside down"},
    {CHAT, "{" HELLO ",\"return_token_ids\":2}", 400, "return_token_ids", "an integer"},

    {TEXT, "{}", 400, "prompt", "missing"},
    {TEXT, "{\"prompt\":\"\"}", 400, "prompt", "empty"},
    {TEXT, "{\"prompt\":[]}", 400, "prompt", "empty"},
    {TEXT, "{\"prompt\":5}", 400, "prompt", "an integer"},
    {TEXT, "{\"prompt\":[1,\"x\"]}", 400, "prompt", "a string"},
    {TEXT, "{\"prompt\":[\"x\",1]}", 400, "prompt", "an integer"},
    {TEXT, "{\"prompt\":[1,-1]}", 400, "prompt", "-1"},
    {TEXT, "{\"prompt\":[[1],[999999]]}", 400, "prompt", "999999"},
    {TEXT, "{" ONCE ",\"logprobs\":21}", 400, "logprobs", "from 0 to 20"},
    {TEXT, "{" ONCE ",\"logprobs\":true}", 400, "logprobs", "a boolean"},
    {TEXT, "{" ONCE ",\"echo\":true,\"suffix\":\"x\"}", 400, "echo", "'suffix'"},
    {TEXT, "{" ONCE ",\"suffix\":7}", 400, "suffix", "an integer"},
    {TEXT, "{" ONCE ",\"best_of\":3}", 400, "best_of", "'n'"},
    {TEXT, "{\"n\":16,\"prompt\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}", 400, "prompt", "at most 4"},

    {"/v1/probe", "{}", 400, "tokens", "at least 2"},
    {"/v1/probe", "{\"tokens\":[1]}", 400, "tokens", "at least 2"},
    {"/v1/probe", "{\"tokens\":[1,2],\"output\":\"x\"}", 400, "output", "logprobs"},
    {"/v1/probe", "{\"tokens\":[1,true]}", 400, "tokens", "a boolean"},
    {"/tokenize", "{}", 400, "content", "missing"},
    {"/tokenize", "{\"content\":1}", 400, "content", "an integer"},
    {"/tokenize", "{\"content\":\"x\",\"model\":\"other\"}", 404, "model", "other"},
    {"/detokenize", "{\"tokens\":[1],\"model\":\"other\"}", 404, "model", "other"},
    {"/apply-template", "{" HELLO ",\"model\":\"other\"}", 404, "model", "other"},
    {"/detokenize", "{}", 400, "tokens", "missing"},
    {"/detokenize", "{\"tokens\":[1e3]}", 400, "tokens", "fraction"},
    {"/apply-template", "{\"messages\":3}", 400, "messages", "an integer"},
    {"/nowhere", "{}", 404, NULL, "/nowhere"},
    {"/v1/models", "{}", 405, NULL, "GET"},
};

static void check(struct http_fixture *f, const struct bad *b)
{
    struct http_answer a;
    http_fixture_ask(f, "POST", b->path, b->body, &a);
    const json_t *param = http_fixture_at(a.json, "error.param");
    const char *words = http_fixture_string(a.json, "error.message");
    bool param_is_right =
        b->param ? json_is_string(param) && strcmp(json_string_value(param), b->param) == 0
                 : json_is_null(param);
    if (a.status != b->status || !param_is_right || !strstr(words, b->words))
        fail_msg("%s %s: %d %s", b->path, b->body, a.status, buf_text(&a.body));
    assert_string_equal(http_fixture_string(a.json, "error.type"),
                        b->status == 404 ? "not_found_error" : "invalid_request_error");
    http_answer_clear(&a);
}

static void test_each_mistake_is_named(void **state)
{
    struct http_fixture f;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check(&f, &bad[i]);
    assert_null(fake_coordinator_last(f.coordinator));
    http_fixture_close(&f);
}

static void test_depth(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    struct buf body;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    for (int depth = 64; depth <= 65; depth++) {
        buf_init(&body);
        buf_puts(&body, "{\"messages\":");
        for (int i = 1; i < depth; i++)
            buf_putc(&body, '[');
        for (int i = 1; i < depth; i++)
            buf_putc(&body, ']');
        buf_puts(&body, ",\"x\":\"[[[[\"}");
        http_fixture_ask(&f, "POST", CHAT, body.data, &a);
        assert_int_equal(a.status, 400);
        bool too_deep = strstr(buf_text(&a.body), "deeper than 64") != NULL;
        assert_int_equal(too_deep, depth == 65);
        http_answer_clear(&a);
        buf_clear(&body);
    }
    http_fixture_close(&f);
}

/* An item n times, with commas between them, in a parameter that nobody knows. */
static int read_many(const char *item, int n, struct err *err)
{
    json_t *read = NULL;
    struct buf body;
    buf_init(&body);
    buf_puts(&body, "{\"text\":\"{[,\",\"x\":[");
    for (int i = 0; i < n; i++) {
        buf_puts(&body, i ? "," : "");
        buf_puts(&body, item);
    }
    buf_puts(&body, "]}");
    int rc = json_body_read(&read, buf_text(&body), body.length, err);
    json_decref(read);
    buf_clear(&body);
    return rc;
}

/* What values take is bounded, not only their text. The body and the list are two containers, and
 * the first comma stands before the list. */
static void test_many_values(void **state)
{
    static const struct {
        const char *item;
        int most;
        const char *words;
    } cases[] = {
        {"{}", 100000 - 2, "The body has more than 100000 objects and arrays at line 1, column "},
        {"[]", 100000 - 2, "The body has more than 100000 objects and arrays at line 1, column "},
        {"1", 2000000, "The body has more than 2000000 values at line 1, column "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};
        assert_int_equal(read_many(cases[i].item, cases[i].most, &err), 0);
        assert_int_equal(read_many(cases[i].item, cases[i].most + 1, &err), ERR_INPUT);
        assert_non_null(strstr(err.text, cases[i].words));
    }
}

static void test_context(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.context = 8});
    http_fixture_ask(&f, "POST", TEXT, "{\"prompt\":[1,2,3,4,5,6,7,8]}", &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "context_length_exceeded");
    assert_non_null(strstr(buf_text(&a.body), "8 tokens"));
    http_answer_clear(&a);
    /* One less leaves room for one token, whatever max_tokens says. */
    http_fixture_say(&f, "hello there");
    http_fixture_ask(&f, "POST", TEXT, "{\"prompt\":[1,2,3,4,5,6,7],\"max_tokens\":500}", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(fake_coordinator_last(f.coordinator)->max_tokens, 1);
    assert_string_equal(http_fixture_string(a.json, "choices.0.finish_reason"), "length");
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", "/v1/probe", "{\"tokens\":[1,2,3,4,5,6,7,8,9]}", &a);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "context_length_exceeded");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static char *body_of(const char *before, char filling, size_t count, const char *after)
{
    struct buf body;
    buf_init(&body);
    buf_puts(&body, before);
    for (size_t i = 0; i < count; i++)
        buf_putc(&body, filling);
    buf_puts(&body, after);
    assert_false(buf_failed(&body));
    return body.data;
}

/* Lengths that no text of that context has are refused by their bytes; one byte less is counted. */
static void test_texts_that_cannot_fit(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.context = 8, .max_body_bytes = 4 << 20});
    size_t most = 8 * tokenizer_longest_token(coordinator_tokenizer(f.coordinator));
    char bytes[64];
    snprintf(bytes, sizeof bytes, "never hold more than %zu bytes", most);
    for (size_t over = 0; over <= 1; over++) {
        char *body = body_of("{\"prompt\":\"", 'q', most + over, "\"}");
        http_fixture_ask(&f, "POST", TEXT, body, &a);
        assert_int_equal(a.status, 400);
        assert_string_equal(http_fixture_string(a.json, "error.code"), "context_length_exceeded");
        assert_int_equal(strstr(buf_text(&a.body), bytes) != NULL, over);
        http_answer_clear(&a);
        free(body);
    }
    char *body = body_of("{\"messages\":[{\"role\":\"user\",\"content\":\"", ' ', most, "\"}]}");
    http_fixture_ask(&f, "POST", CHAT, body, &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "context_length_exceeded");
    assert_non_null(strstr(buf_text(&a.body), bytes));
    http_answer_clear(&a);
    free(body);
    http_fixture_close(&f);
}

static void test_tokenize_is_bounded(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.max_body_bytes = 4 << 20});
    char *body = body_of("{\"content\":\"", ' ', (1 << 20) + 1, "\"}");
    http_fixture_ask(&f, "POST", "/tokenize", body, &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.param"), "content");
    assert_non_null(strstr(buf_text(&a.body), "at most 1048576"));
    http_answer_clear(&a);
    free(body);
    http_fixture_close(&f);
}

static void test_messages_are_counted(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    struct buf body;
    http_fixture_open(&f, &(struct http_fixture_spec){.max_body_bytes = 4 << 20});
    for (int count = 8192; count <= 8193; count++) {
        buf_init(&body);
        buf_puts(&body, "{\"messages\":[");
        for (int i = 0; i < count; i++)
            buf_printf(&body, "%s{\"role\":\"user\",\"content\":\"\"}", i ? "," : "");
        buf_puts(&body, "]}");
        http_fixture_ask(&f, "POST", "/apply-template", body.data, &a);
        assert_int_equal(a.status, count == 8192 ? 200 : 400);
        if (count == 8193)
            assert_non_null(strstr(buf_text(&a.body), "8193 messages; at most 8192"));
        http_answer_clear(&a);
        buf_clear(&body);
    }
    http_fixture_close(&f);
}

static void test_not_ready_and_full(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){.most_requests = 0});
    fake_coordinator_set_ready(f.coordinator, false);
    http_fixture_ask(&f, "POST", TEXT, "{" ONCE "}", &a);
    assert_int_equal(a.status, 503);
    assert_true(http_answer_has_header(&a, "Retry-After: 5"));
    assert_non_null(strstr(buf_text(&a.body), "1 of 2 workers"));
    http_answer_clear(&a);
    http_fixture_close(&f);

    http_fixture_open(&f, &(struct http_fixture_spec){.most_requests = 1});
    /* Two prompts, room for one: neither may go on. */
    http_fixture_ask(&f, "POST", TEXT, "{\"prompt\":[\"a\",\"b\"]}", &a);
    assert_int_equal(a.status, 429);
    assert_true(http_answer_has_header(&a, "Retry-After: 1"));
    assert_string_equal(http_fixture_string(a.json, "error.code"), "queue_full");
    assert_int_equal(fake_coordinator_open(f.coordinator), 0);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_failures(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    http_fixture_open(&f, &(struct http_fixture_spec){0});
    http_fixture_say(&f, "one two three four");
    fake_coordinator_fail_after(f.coordinator, 2);
    http_fixture_ask(&f, "POST", TEXT, "{" ONCE "}", &a);
    assert_int_equal(a.status, 500);
    assert_string_equal(http_fixture_string(a.json, "error.type"), "server_error");
    http_answer_clear(&a);
    http_fixture_ask(&f, "POST", CHAT, "{" HELLO ",\"stream\":true}", &a);
    assert_int_equal(a.status, 200);
    const char *event = strstr(buf_text(&a.body), "data: {\"error\":{");
    assert_non_null(event);
    assert_non_null(strstr(event, "as it was told"));
    assert_null(strstr(event, "[DONE]"));
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void ask_with(struct http_fixture *f, const char *path, const char *more, int status)
{
    struct http_answer a = {0};
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "GET", path, more, NULL);
    http_fixture_receive(f, fd, &a);
    if (a.status != status)
        fail_msg("%s %s: %d", path, more ? more : "", a.status);
    if (status == 401) {
        assert_true(http_answer_has_header(&a, "WWW-Authenticate: Bearer realm=\"paceline\""));
        assert_string_equal(http_fixture_string(a.json, "error.type"), "authentication_error");
    }
    http_answer_clear(&a);
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

static void test_keys(void **state)
{
    static const char *const keys[] = {"first-key", "second-key"};
    struct http_fixture f;
    http_fixture_open(&f, &(struct http_fixture_spec){.keys = keys, .n_keys = 2});
    ask_with(&f, "/v1/models", NULL, 401);
    ask_with(&f, "/nowhere", NULL, 401);
    ask_with(&f, "/health", NULL, 200);
    ask_with(&f, "/v1/models", "Authorization: Bearer first-key\r\n", 200);
    ask_with(&f, "/v1/models", "Authorization: bearer second-key\r\n", 200);
    ask_with(&f, "/v1/models", "X-Api-Key: second-key\r\n", 200);
    ask_with(&f, "/v1/models", "Authorization: Bearer first-ke\r\n", 401);
    ask_with(&f, "/v1/models", "Authorization: Bearer first-keyfirst-key\r\n", 401);
    ask_with(&f, "/v1/models", "Authorization: Basic first-key\r\n", 401);
    ask_with(&f, "/v1/models", "Authorization: Bearer\r\n", 401);
    http_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_mistake_is_named),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_many_values),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_texts_that_cannot_fit),
        cmocka_unit_test(test_tokenize_is_bounded),
        cmocka_unit_test(test_messages_are_counted),
        cmocka_unit_test(test_not_ready_and_full),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
