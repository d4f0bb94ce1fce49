/* Anthropic's API: its questions as the model reads them, its answers, its events, its errors. */
#include "coordinator/tokenizer.h"
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

#define MESSAGES "/v1/messages"
#define COUNT    "/v1/messages/count_tokens"
#define HELLO    "\"max_tokens\":200,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOLS    "\"tools\":[{\"name\":\"clock\",\"input_schema\":{\"type\":\"object\"}}]"
#define CALL     "<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"at\": 1.50}}\n</tool_call>"
#define QWEN3    "qwen3-tied/gguf/qwen3-tied-Q4_0.gguf"

static void open_model(struct http_fixture *f, const char *model)
{
    http_fixture_open(f, &(struct http_fixture_spec){.model = model, .context = 2048});
}

/* The text that the model reads. */
static void ask_prompt(struct http_fixture *f, const char *body, struct buf *out)
{
    const struct tokenizer *t = coordinator_tokenizer(f->coordinator);
    struct http_answer a = {0};
    int fd = http_fixture_connect(f);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_request(fd, "POST", MESSAGES, NULL, body);
    for (int i = 0; i < 10000 && fake_coordinator_open(f->coordinator) == 0; i++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 1);
    const struct request *r = fake_coordinator_last(f->coordinator);
    buf_reset(out);
    for (int i = 0; i < r->n_prompt; i++) {
        size_t length;
        const char *piece = tokenizer_piece(t, r->prompt[i], &length);
        buf_append(out, piece, length);
    }
    fake_coordinator_hold(f->coordinator, false);
    http_fixture_receive(f, fd, &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    close(fd);
    http_fixture_turn(f);
}

/* ---- answers ---- */

static void test_message(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, NULL);
    http_fixture_say(&f, "one two three");
    http_fixture_ask(&f, "POST", MESSAGES, "{\"model\":\"tiny\"," HELLO "}", &a);
    assert_int_equal(a.status, 200);
    assert_memory_equal(http_fixture_string(a.json, "id"), "msg_", 4);
    assert_string_equal(http_fixture_string(a.json, "type"), "message");
    assert_string_equal(http_fixture_string(a.json, "role"), "assistant");
    assert_string_equal(http_fixture_string(a.json, "model"), "tiny");
    assert_string_equal(http_fixture_string(a.json, "content.0.type"), "text");
    assert_string_equal(http_fixture_string(a.json, "content.0.text"), "one two three");
    assert_string_equal(http_fixture_string(a.json, "stop_reason"), "end_turn");
    assert_true(json_is_null(http_fixture_at(a.json, "stop_sequence")));
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.input_tokens")),
                     fake_coordinator_last(f.coordinator)->n_prompt);
    assert_true(json_integer_value(http_fixture_at(a.json, "usage.output_tokens")) > 3);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_reasons_to_stop(void **state)
{
    static const struct {
        const char *more, *text, *reason, *sequence;
    } cases[] = {
        {"\"max_tokens\":200,\"stop_sequences\":[\"zz\",\" tw\"]", "one", "stop_sequence", " tw"},
        {"\"max_tokens\":1", "o", "max_tokens", NULL},
        {"\"max_tokens\":9999", "", "model_context_window_exceeded", NULL},
    };
    struct http_fixture f;
    struct http_answer a;
    char body[512];
    open_model(&f, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t many[3000];
        for (size_t k = 0; k < 3000; k++)
            many[k] = 68;
        if (*cases[i].text)
            http_fixture_say(&f, "one two");
        else
            fake_coordinator_answer(f.coordinator, many, 3000);
        snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],%s}",
                 cases[i].more);
        http_fixture_ask(&f, "POST", MESSAGES, body, &a);
        assert_memory_equal(http_fixture_string(a.json, "content.0.text"), cases[i].text,
                            strlen(cases[i].text));
        assert_string_equal(http_fixture_string(a.json, "stop_reason"), cases[i].reason);
        if (cases[i].sequence)
            assert_string_equal(http_fixture_string(a.json, "stop_sequence"), cases[i].sequence);
        else
            assert_true(json_is_null(http_fixture_at(a.json, "stop_sequence")));
        http_answer_clear(&a);
    }
    http_fixture_close(&f);
}

static void test_blocks(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, QWEN3);
    http_fixture_say(&f, "<think>\nhm\n</think>\n\nSee." CALL);
    http_fixture_ask(&f, "POST", MESSAGES,
                     "{" HELLO "," TOOLS ",\"thinking\":{\"type\":\"enabled\"}}", &a);
    assert_string_equal(http_fixture_string(a.json, "content.0.type"), "thinking");
    assert_string_equal(http_fixture_string(a.json, "content.0.thinking"), "hm");
    assert_string_equal(http_fixture_string(a.json, "content.1.text"), "See.");
    assert_string_equal(http_fixture_string(a.json, "content.2.type"), "tool_use");
    assert_string_equal(http_fixture_string(a.json, "content.2.name"), "clock");
    assert_memory_equal(http_fixture_string(a.json, "content.2.id"), "toolu_", 6);
    assert_true(json_real_value(http_fixture_at(a.json, "content.2.input.at")) == 1.5);
    assert_string_equal(http_fixture_string(a.json, "stop_reason"), "tool_use");
    assert_true(json_integer_value(
                    http_fixture_at(a.json, "usage.output_tokens_details.thinking_tokens")) > 3);
    http_answer_clear(&a);
    /* Nothing at all is an empty text. */
    http_fixture_say(&f, "");
    http_fixture_ask(&f, "POST", MESSAGES, "{" HELLO "}", &a);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "content")), 1);
    assert_string_equal(http_fixture_string(a.json, "content.0.text"), "");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* ---- events ---- */

/* "type index delta-type text" of each event, one a line. */
static void list_events(const struct http_answer *a, struct buf *out)
{
    const char *at = buf_text(&a->body);
    while (*at) {
        const char *end = strstr(at, "\n\n"), *data = strstr(at, "\ndata: ");
        assert_non_null(end);
        assert_memory_equal(at, "event: ", 7);
        assert_true(data && data < end);
        json_t *event = json_loadb(data + 7, (size_t)(end - data - 7), 0, NULL);
        assert_non_null(event);
        const char *type = http_fixture_string(event, "type");
        assert_memory_equal(at + 7, type, strlen(type));
        buf_puts(out, type);
        if (json_object_get(event, "index"))
            buf_printf(out, " %d", (int)json_integer_value(json_object_get(event, "index")));
        static const char *const shown[] = {
            "content_block.type", "delta.type",        "delta.thinking", "delta.text",
            "delta.partial_json", "delta.stop_reason", "error.type"};
        for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
            if (http_fixture_at(event, shown[i]))
                buf_printf(out, " %s", http_fixture_string(event, shown[i]));
        buf_puts(out, "\n");
        json_decref(event);
        at = end + 2;
    }
}

static void check_events(struct http_fixture *f, const char *body, const char *expected)
{
    struct http_answer a;
    struct buf events;
    buf_init(&events);
    http_fixture_ask(f, "POST", MESSAGES, body, &a);
    assert_true(http_answer_has_header(&a, "Content-Type: text/event-stream; charset=utf-8"));
    list_events(&a, &events);
    assert_string_equal(buf_text(&events), expected);
    buf_clear(&events);
    http_answer_clear(&a);
}

static void test_stream(void **state)
{
    struct http_fixture f;
    open_model(&f, QWEN3);
    http_fixture_say(&f, "<think>\nh5\n</think>\n\ng" CALL CALL);
    check_events(&f, "{" HELLO "," TOOLS ",\"stream\":true}",
                 "message_start\n"
                 "content_block_start 0 thinking\n"
                 "content_block_delta 0 thinking_delta h\n"
                 "content_block_delta 0 thinking_delta 5\n"
                 "content_block_stop 0\n"
                 "content_block_start 1 text\n"
                 "content_block_delta 1 text_delta g\n"
                 "content_block_stop 1\n"
                 "content_block_start 2 tool_use\n"
                 "content_block_delta 2 input_json_delta {\"at\": 1.50}\n"
                 "content_block_stop 2\n"
                 "content_block_start 3 tool_use\n"
                 "content_block_delta 3 input_json_delta {\"at\": 1.50}\n"
                 "content_block_stop 3\n"
                 "message_delta tool_use\n"
                 "message_stop\n");
    http_fixture_say(&f, "");
    check_events(&f, "{" HELLO ",\"stream\":true}",
                 "message_start\n"
                 "content_block_start 0 text\n"
                 "content_block_stop 0\n"
                 "message_delta end_turn\n"
                 "message_stop\n");
    http_fixture_say(&f, "gg");
    fake_coordinator_fail_after(f.coordinator, 1);
    check_events(&f, "{" HELLO ",\"stream\":true}", "message_start\nerror api_error\n");
    fake_coordinator_fail_after(f.coordinator, -1);
    http_fixture_close(&f);
}

/* ---- questions ---- */

static void test_conversation(void **state)
{
    struct http_fixture f;
    struct buf prompt;
    buf_init(&prompt);
    open_model(&f, QWEN3);
    ask_prompt(
        &f,
        "{\"max_tokens\":5,\"system\":[{\"type\":\"text\",\"text\":\"be \","
        "\"cache_control\":{\"type\":\"ephemeral\"}},{\"type\":\"text\",\"text\":\"kind\"}],"
        "\"messages\":[{\"role\":\"user\",\"content\":\"time?\"},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\","
        "\"signature\":\"\"},{\"type\":\"text\",\"text\":\"I look.\"},"
        "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"clock\",\"input\":{\"at\":1}},"
        "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"clock\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"so:\"},"
        "{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"noon\"},"
        "{\"type\":\"tool_result\",\"tool_use_id\":\"t2\",\"content\":"
        "[{\"type\":\"text\",\"text\":\"late\"}]},{\"type\":\"text\",\"text\":\"well?\"}]}]," TOOLS
        "}",
        &prompt);
    static const char *const parts[] = {
        "<|im_start|>system\nbe kind\n\n# Tools",
        "\n{\"type\": \"function\", \"function\": {\"name\": \"clock\", \"parameters\": {\"type\": "
        "\"object\"}}}\n</tools>",
        "<|im_start|>user\ntime?<|im_end|>\n<|im_start|>assistant\nI "
        "look.\n<tool_call>\n{\"name\": "
        "\"clock\", \"arguments\": {\"at\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"clock\", "
        "\"arguments\": {}}\n</tool_call><|im_end|>\n",
        "<|im_start|>user\nso:<|im_end|>\n<|im_start|>user\n<tool_response>\nnoon\n</"
        "tool_response>\n<tool_response>\nlate\n"
        "</tool_response><|im_end|>\n<|im_start|>user\nwell?<|im_end|>\n",
        /* nobody asked for thinking */
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"};
    const char *at = prompt.data;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        at = strstr(at, parts[i]);
        if (!at)
            fail_msg("%s\nis not in\n%s", parts[i], prompt.data);
    }
    buf_clear(&prompt);
    http_fixture_close(&f);
}

static void test_ends_of_prompts(void **state)
{
    static const struct {
        const char *body, *end;
    } cases[] = {
        {"{" HELLO ",\"thinking\":{\"type\":\"adaptive\"}}", "<|im_start|>assistant\n"},
        {"{" HELLO ",\"thinking\":{\"type\":\"disabled\"}}", "</think>\n\n"},
        {"{" HELLO "," TOOLS ",\"tool_choice\":{\"type\":\"auto\"}}", "</think>\n\n"},
        {"{" HELLO "," TOOLS ",\"tool_choice\":{\"type\":\"any\"}}",
         "{\"name\": \"clock\", \"arguments\":"},
        {"{" HELLO "," TOOLS ",\"thinking\":{\"type\":\"enabled\"},\"tool_choice\":"
         "{\"type\":\"tool\",\"name\":\"clock\"}}",
         "</think>\n\n<tool_call>\n{\"name\": \"clock\", \"arguments\":"},
        {"{\"max_tokens\":4,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
         "{\"role\":\"assistant\",\"content\":\"I say: \"}]}",
         "<|im_start|>assistant\n<think>\n\n</think>\n\nI say: "},
    };
    struct http_fixture f;
    struct buf prompt;
    buf_init(&prompt);
    open_model(&f, QWEN3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool is_call = strstr(cases[i].end, "clock") != NULL;
        http_fixture_say(&f, is_call ? " {}}\n</tool_call>" : "ok");
        ask_prompt(&f, cases[i].body, &prompt);
        size_t length = strlen(cases[i].end);
        assert_true(prompt.length > length);
        assert_string_equal(prompt.data + prompt.length - length, cases[i].end);
    }
    buf_clear(&prompt);
    http_fixture_close(&f);
}

static void test_count(void **state)
{
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, NULL);
    http_fixture_ask(&f, "POST", MESSAGES, "{" HELLO "," TOOLS "}", &a);
    http_answer_clear(&a);
    int n_prompt = fake_coordinator_last(f.coordinator)->n_prompt;
    http_fixture_ask(&f, "POST", COUNT,
                     "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," TOOLS "}", &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "input_tokens")), n_prompt);
    http_answer_clear(&a);
    http_fixture_close(&f);
}

/* ---- what is wrong ---- */

static void test_errors(void **state)
{
#define TURN(content)                                                                              \
    "{\"max_tokens\":3,\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
    static const struct {
        const char *method, *path, *body;
        int status;
        const char *type, *words;
    } cases[] = {
        {"POST", MESSAGES, "{", 400, "invalid_request_error", "not valid JSON"},
        {"POST", MESSAGES, "{}", 400, "invalid_request_error", "'max_tokens'"},
        {"POST", MESSAGES, "{\"max_tokens\":3}", 400, "invalid_request_error", "'messages'"},
        {"POST", MESSAGES, "{\"max_tokens\":0,\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}",
         400, "invalid_request_error", "'max_tokens'"},
        {"POST", MESSAGES, "{\"model\":\"other\"," HELLO "}", 404, "not_found_error", "other"},
        {"POST", MESSAGES, TURN("7"), 400, "invalid_request_error", "messages[0]"},
        {"POST", MESSAGES, TURN("[{\"type\":\"image\"}]"), 400, "invalid_request_error",
         "'messages[0].content[0]' has the type 'image'"},
        {"POST", MESSAGES, TURN("[{\"type\":\"text\"}]"), 400, "invalid_request_error", "text"},
        {"POST", MESSAGES, TURN("[{\"type\":\"tool_result\"}]"), 400, "invalid_request_error",
         "tool_use_id"},
        {"POST", MESSAGES, "{\"max_tokens\":3,\"messages\":[{\"role\":\"king\"}]}", 400,
         "invalid_request_error", "king"},
        {"POST", MESSAGES,
         "{\"max_tokens\":3,\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":"
         "\"tool_use\",\"id\":\"a\",\"name\":\"b\",\"input\":[]}]}]}",
         400, "invalid_request_error", "input"},
        {"POST", MESSAGES,
         "{\"max_tokens\":3,\"messages\":[{\"role\":\"user\",\"content\":\"x\"},"
         "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"b\","
         "\"input\":{}}]}]}",
         400, "invalid_request_error", "tool_result must follow"},
        {"POST", MESSAGES, "{" HELLO ",\"system\":5}", 400, "invalid_request_error", "'system'"},
        {"POST", MESSAGES, "{" HELLO ",\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}]}",
         400, "invalid_request_error", "bash_20250124"},
        {"POST", MESSAGES, "{" HELLO ",\"tools\":[{\"name\":\"a\"}]}", 400, "invalid_request_error",
         "input_schema"},
        {"POST", MESSAGES, "{" HELLO "," TOOLS ",\"tool_choice\":{\"type\":\"x\"}}", 400,
         "invalid_request_error", "'tool_choice'"},
        {"POST", MESSAGES, "{" HELLO ",\"tool_choice\":{\"type\":\"any\"}}", 400,
         "invalid_request_error", "'tools'"},
        {"POST", MESSAGES, "{" HELLO ",\"thinking\":{\"type\":\"x\"}}", 400,
         "invalid_request_error", "'thinking'"},
        {"POST", MESSAGES, "{" HELLO ",\"temperature\":9}", 400, "invalid_request_error",
         "temperature"},
        {"GET", MESSAGES, NULL, 405, "invalid_request_error", "POST"},
        {"POST", COUNT, "{}", 400, "invalid_request_error", "'messages'"},
    };
    struct http_fixture f;
    struct http_answer a;
    open_model(&f, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        http_fixture_ask(&f, cases[i].method, cases[i].path, cases[i].body, &a);
        if (a.status != cases[i].status ||
            !strstr(http_fixture_string(a.json, "error.message"), cases[i].words))
            fail_msg("%s: %d %s", cases[i].body, a.status, buf_text(&a.body));
        assert_string_equal(http_fixture_string(a.json, "type"), "error");
        assert_string_equal(http_fixture_string(a.json, "error.type"), cases[i].type);
        assert_true(strlen(http_fixture_string(a.json, "request_id")) > 20);
        http_answer_clear(&a);
    }
    fake_coordinator_set_ready(f.coordinator, false);
    http_fixture_ask(&f, "POST", MESSAGES, "{" HELLO "}", &a);
    assert_int_equal(a.status, 503);
    assert_string_equal(http_fixture_string(a.json, "error.type"), "overloaded_error");
    http_answer_clear(&a);
    http_fixture_close(&f);
}

static void test_keys(void **state)
{
    const char *const keys[] = {"secret"};
    struct http_fixture f;
    http_fixture_open(&f, &(struct http_fixture_spec){.keys = keys, .n_keys = 1});
    http_fixture_say(&f, "e");
    static const struct {
        const char *header;
        int status;
    } cases[] = {{"X-Api-Key: secret\r\n", 200},
                 {"Authorization: Bearer secret\r\n", 200},
                 {"X-Api-Key: wrong\r\n", 401},
                 {"", 401}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_answer a = {0};
        int fd = http_fixture_connect(&f);
        http_fixture_request(
            fd, "POST", MESSAGES, cases[i].header,
            "{\"max_tokens\":3,\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}");
        http_fixture_receive(&f, fd, &a);
        assert_int_equal(a.status, cases[i].status);
        if (a.status == 401)
            assert_string_equal(http_fixture_string(a.json, "error.type"), "authentication_error");
        http_answer_clear(&a);
        close(fd);
        http_fixture_turn(&f);
    }
    http_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message),      cmocka_unit_test(test_reasons_to_stop),
        cmocka_unit_test(test_blocks),       cmocka_unit_test(test_stream),
        cmocka_unit_test(test_conversation), cmocka_unit_test(test_ends_of_prompts),
        cmocka_unit_test(test_count),        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
