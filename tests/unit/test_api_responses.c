/* /v1/responses: whole, streamed, in the background, asked for again, across a restart. */
#include "coordinator/journal.h"
#include "tests/support/fake_clock.h"
#include "tests/support/http_fixture.h"
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

#define PATH "/v1/responses"
#define SAID "Grüße, \"世界\"! one two three\n"
#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"name\":\"see\",\"description\":\"Looks.\","               \
    "\"parameters\":{\"properties\":{\"at\":{\"enum\":[\"Rom\"]}},\"required\":[\"at\"]},"         \
    "\"strict\":true}]"
#define CALL "<tool_call>\n{\"name\": \"see\", \"arguments\": {\"at\": \"Rom\"}}\n</tool_call>"

/* The journal's thread, slower than any that one could wait for. */
static bool nothing_settles;

uint64_t __real_journal_settled(const struct journal *j);
uint64_t __wrap_journal_settled(const struct journal *j);
uint64_t __wrap_journal_settled(const struct journal *j)
{
    static uint64_t settled;
    settled = nothing_settles ? settled : __real_journal_settled(j);
    return settled;
}

struct place {
    struct http_fixture fixture;
    char folder[64], journal[128];
};

static int open_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    snprintf(p->folder, sizeof p->folder, "/tmp/paceline-responses-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->journal, sizeof p->journal, "%s/j.db", p->folder);
    http_fixture_open(&p->fixture, &(struct http_fixture_spec){
                                       .journal = p->journal, .keep_s = 1000, .context = 1024});
    http_fixture_say(&p->fixture, SAID);
    *state = p;
    return 0;
}

static int close_place(void **state)
{
    struct place *p = *state;
    char command[128];
    http_fixture_close(&p->fixture);
    snprintf(command, sizeof command, "rm -r '%s'", p->folder);
    assert_int_equal(system(command), 0);
    free(p);
    return 0;
}

static const char *text_of(const json_t *response)
{
    return http_fixture_string(response, "output.0.content.0.text");
}

/* Asks, expects 200, and gives the id. */
static void ask(struct http_fixture *f, const char *body, struct http_answer *a, char id[64])
{
    http_fixture_ask(f, "POST", PATH, body, a);
    if (a->status != 200)
        fail_msg("%d %s", a->status, buf_text(&a->body));
    if (a->json)
        snprintf(id, 64, "%s", http_fixture_string(a->json, "id"));
}

static void get(struct http_fixture *f, const char *method, const char *id, const char *more,
                struct http_answer *a)
{
    char path[200];
    snprintf(path, sizeof path, PATH "/%s%s", id, more);
    http_fixture_ask(f, method, path, NULL, a);
}

static void wait_status(struct http_fixture *f, const char *id, const char *status)
{
    for (int i = 0; i < 3000; i++) {
        struct http_answer a;
        get(f, "GET", id, "", &a);
        assert_int_equal(a.status, 200);
        bool is_so = strcmp(http_fixture_string(a.json, "status"), status) == 0;
        http_answer_clear(&a);
        if (is_so)
            return;
    }
    fail_msg("%s is still not %s", id, status);
}

/* ---- whole ---- */

static void test_whole(void **state)
{
    struct place *p = *state;
    struct http_answer a, again;
    char id[64];
    ask(&p->fixture,
        "{\"input\":\"hi\",\"instructions\":\"Be brief.\",\"temperature\":0.5,\"top_p\":0.25,"
        "\"max_output_tokens\":200,\"metadata\":{\"a\":\"b\"},\"user\":\"me\",\"seed\":5}",
        &a, id);
    assert_memory_equal(id, "resp_", 5);
    assert_string_equal(http_fixture_string(a.json, "object"), "response");
    assert_string_equal(http_fixture_string(a.json, "status"), "completed");
    assert_string_equal(text_of(a.json), SAID);
    assert_string_equal(http_fixture_string(a.json, "output.0.role"), "assistant");
    assert_string_equal(http_fixture_string(a.json, "output.0.status"), "completed");
    assert_string_equal(http_fixture_string(a.json, "instructions"), "Be brief.");
    assert_string_equal(http_fixture_string(a.json, "metadata.a"), "b");
    assert_true(json_real_value(http_fixture_at(a.json, "temperature")) == 0.5);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "max_output_tokens")), 200);
    const struct request *r = fake_coordinator_last(p->fixture.coordinator);
    assert_true(r->sampling.temperature == 0.5f && r->sampling.top_p == 0.25f);
    assert_int_equal(r->max_tokens, 200);
    assert_int_equal(r->sampling.seed, 5);
    json_int_t input = json_integer_value(http_fixture_at(a.json, "usage.input_tokens"));
    json_int_t output = json_integer_value(http_fixture_at(a.json, "usage.output_tokens"));
    assert_int_equal(input, r->n_prompt);
    assert_true(output > 10);
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.total_tokens")),
                     input + output);
    get(&p->fixture, "GET", id, "", &again);
    assert_true(json_equal(a.json, again.json));
    http_answer_clear(&a);
    http_answer_clear(&again);
}

static void test_a_length_is_incomplete(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char id[64];
    ask(&p->fixture, "{\"input\":\"hi\",\"max_output_tokens\":3}", &a, id);
    assert_string_equal(http_fixture_string(a.json, "status"), "incomplete");
    assert_string_equal(http_fixture_string(a.json, "incomplete_details.reason"),
                        "max_output_tokens");
    assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.output_tokens")), 3);
    http_answer_clear(&a);
}

/* What the model reads is what chat completions would have it read. */
static void check_prompt_is(struct http_fixture *f, const char *body, const char *messages)
{
    struct http_answer a, chat;
    char id[64];
    ask(f, body, &a, id);
    int n = fake_coordinator_last(f->coordinator)->n_prompt;
    http_fixture_ask(f, "POST", "/v1/chat/completions", messages, &chat);
    assert_int_equal(chat.status, 200);
    assert_int_equal(n, fake_coordinator_last(f->coordinator)->n_prompt);
    http_answer_clear(&a);
    http_answer_clear(&chat);
}

static void test_inputs(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    check_prompt_is(f, "{\"input\":\"One?\"}",
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"One?\"}]}");
    check_prompt_is(f, "{\"input\":\"One?\",\"instructions\":\"Be brief.\"}",
                    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},"
                    "{\"role\":\"user\",\"content\":\"One?\"}]}");
    check_prompt_is(
        f,
        "{\"input\":[{\"role\":\"developer\",\"content\":\"Be very brief.\"},"
        "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
        "\"One\"},{\"type\":\"input_text\",\"text\":\" two?\"}]},{\"type\":\"reasoning\",\"id\":"
        "\"rs_1\",\"summary\":[]},{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\","
        "\"status\":\"completed\",\"content\":[{\"type\":\"output_text\",\"text\":\"Three.\","
        "\"annotations\":[]}]},{\"role\":\"user\",\"content\":\"Four?\"}]}",
        "{\"messages\":[{\"role\":\"system\",\"content\":\"Be very brief.\"},"
        "{\"role\":\"user\",\"content\":\"One two?\"},{\"role\":\"assistant\",\"content\":"
        "\"Three.\"},{\"role\":\"user\",\"content\":\"Four?\"}]}");
}

static void test_previous(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char first[64], second[64], body[200];
    ask(&p->fixture, "{\"input\":\"One?\",\"instructions\":\"Not carried over.\"}", &a, first);
    http_answer_clear(&a);
    snprintf(body, sizeof body, "{\"input\":\"Two?\",\"previous_response_id\":\"%s\"}", first);
    ask(&p->fixture, body, &a, second);
    assert_string_equal(http_fixture_string(a.json, "previous_response_id"), first);
    http_answer_clear(&a);
    snprintf(body, sizeof body, "{\"input\":\"Three?\",\"previous_response_id\":\"%s\"}", second);
    check_prompt_is(
        &p->fixture, body,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"One?\"},"
        "{\"role\":\"assistant\",\"content\":\"Grüße, \\\"世界\\\"! one two three\\n\"},"
        "{\"role\":\"user\",\"content\":\"Two?\"},"
        "{\"role\":\"assistant\",\"content\":\"Grüße, \\\"世界\\\"! one two three\\n\"},"
        "{\"role\":\"user\",\"content\":\"Three?\"}]}");
    get(&p->fixture, "DELETE", first, "", &a);
    http_answer_clear(&a);
    http_fixture_ask(&p->fixture, "POST", PATH, body, &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "previous_response_not_found");
    assert_string_equal(http_fixture_string(a.json, "error.param"), "previous_response_id");
    http_answer_clear(&a);
}

/* However many came before, their bodies are in memory one after the other. */
static void test_previous_are_large(void **state)
{
    enum { BEFORE = 12 };
    struct place *p = *state;
    struct http_answer a;
    struct buf body;
    char id[64] = "";
    int64_t one = 0, last = 0;
    buf_init(&body);
    for (int i = 0; i <= BEFORE; i++) {
        buf_reset(&body);
        buf_puts(&body, "{\"input\":\"x\",\"max_output_tokens\":1,\"unknown\":[{}");
        for (int j = 0; j < 5000; j++)
            buf_puts(&body, ",{}");
        buf_puts(&body, "]");
        if (i)
            buf_printf(&body, ",\"previous_response_id\":\"%s\"", id);
        buf_puts(&body, "}");
        json_memory_begin();
        ask(&p->fixture, buf_text(&body), &a, id);
        http_answer_clear(&a);
        last = json_memory_end();
        one = i ? one : last;
    }
    buf_clear(&body);
    assert_true(one > 5000 * 50);
    if (last >= 3 * one)
        fail_msg("%lld bytes, %lld without what came before", (long long)last, (long long)one);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *body, *param;
    } cases[] = {
        {"{}", "input"},
        {"{\"input\":[]}", "input"},
        {"{\"input\":7}", "input"},
        {"{\"input\":[7]}", "input[0]"},
        {"{\"input\":[{\"role\":\"user\"}]}", "input[0]"},
        {"{\"input\":[{\"role\":\"king\",\"content\":\"x\"}]}", "input[0]"},
        {"{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"function_call\"}]}",
         "input[1]"},
        {"{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":"
         "\"x\"}]}]}",
         "input[0]"},
        {"{\"input\":\"x\",\"tools\":[{\"type\":\"web_search\"}]}", "tools[0]"},
        {"{\"input\":\"x\",\"tools\":[{\"type\":\"function\"}]}", "tools[0]"},
        {"{\"input\":\"x\",\"tools\":7}", "tools"},
        {"{\"input\":\"x\",\"tool_choice\":\"required\"}", "tool_choice"},
        {"{\"input\":\"x\",\"tool_choice\":{\"type\":\"web_search\"}}", "tool_choice"},
        {"{\"input\":\"x\"," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"name\":\"b\"}}",
         "tool_choice"},
        {"{\"input\":[{\"type\":\"function_call\",\"name\":\"a\",\"arguments\":{}}]}", "input[0]"},
        {"{\"input\":[{\"type\":\"function_call_output\",\"output\":\"x\"}]}", "input[0]"},
        {"{\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"a\",\"output\":[{\"type\":"
         "\"input_image\"}]}]}",
         "input[0]"},
        {"{\"input\":\"x\",\"conversation\":\"c\"}", "conversation"},
        {"{\"input\":\"x\",\"truncation\":\"auto\"}", "truncation"},
        {"{\"input\":\"x\",\"store\":false,\"background\":true}", "background"},
        {"{\"input\":\"x\",\"max_output_tokens\":0}", "max_output_tokens"},
        {"{\"input\":\"x\",\"temperature\":3}", "temperature"},
        {"{\"input\":\"x\",\"metadata\":{\"a\":1}}", "metadata"},
        {"{\"input\":\"x\",\"metadata\":[]}", "metadata"},
        {"{\"input\":\"x\",\"top_logprobs\":21}", "top_logprobs"},
        {"{\"input\":\"x\",\"instructions\":[]}", "instructions"},
        {"{\"input\":\"x\",\"previous_response_id\":\"resp_0\"}", "previous_response_id"},
        {"{\"input\":\"x\",\"stream\":\"yes\"}", "stream"},
    };
    struct place *p = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_answer a;
        http_fixture_ask(&p->fixture, "POST", PATH, cases[i].body, &a);
        if (a.status != 400)
            fail_msg("%s: %d %s", cases[i].body, a.status, buf_text(&a.body));
        assert_string_equal(http_fixture_string(a.json, "error.param"), cases[i].param);
        assert_true(strlen(http_fixture_string(a.json, "error.message")) > 15);
        http_answer_clear(&a);
    }
    struct http_answer a;
    http_fixture_ask(&p->fixture, "POST", PATH, "{\"model\":\"gpt\",\"input\":\"x\"}", &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    assert_int_equal(fake_coordinator_open(p->fixture.coordinator), 0);
}

static void test_what_is_not_there(void **state)
{
    static const struct {
        const char *method, *path;
        int status;
        const char *allow;
    } cases[] = {
        {"GET", PATH "/resp_0", 404, NULL},
        {"DELETE", PATH "/resp_0", 404, NULL},
        {"POST", PATH "/resp_0/cancel", 404, NULL},
        {"GET", PATH "/", 404, NULL},
        {"PUT", PATH "/resp_0", 405, "GET, HEAD, DELETE"},
        {"POST", PATH "/resp_0", 405, "GET, HEAD, DELETE"},
        {"POST", PATH "/cancel", 405, "GET, HEAD, DELETE"},
        {"GET", PATH, 405, "POST"},
        {"PUT", "/cluster/plan", 405, "GET, HEAD, POST"},
    };
    struct place *p = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_answer a;
        http_fixture_ask(&p->fixture, cases[i].method, cases[i].path, NULL, &a);
        assert_int_equal(a.status, cases[i].status);
        if (cases[i].allow) {
            char line[64];
            snprintf(line, sizeof line, "Allow: %s", cases[i].allow);
            assert_true(http_answer_has_header(&a, line));
            assert_non_null(strstr(buf_text(&a.body), cases[i].allow));
        }
        http_answer_clear(&a);
    }
}

static void test_logprobs(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char id[64];
    ask(&p->fixture,
        "{\"input\":\"hi\",\"include\":[\"message.output_text.logprobs\"],\"top_logprobs\":2}", &a,
        id);
    const json_t *list = http_fixture_at(a.json, "output.0.content.0.logprobs");
    assert_true(json_array_size(list) > 10);
    assert_true(json_real_value(http_fixture_at(list, "0.logprob")) == -0.125);
    assert_int_equal(json_array_size(http_fixture_at(list, "0.top_logprobs")), 2);
    assert_true(json_array_size(http_fixture_at(list, "0.bytes")) > 0);
    http_answer_clear(&a);
}

static void test_a_failure(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char id[64];
    fake_coordinator_fail_after(p->fixture.coordinator, 3);
    http_fixture_ask(&p->fixture, "POST", PATH, "{\"input\":\"hi\"}", &a);
    assert_int_equal(a.status, 500);
    http_answer_clear(&a);
    ask(&p->fixture, "{\"input\":\"hi\",\"background\":true}", &a, id);
    http_answer_clear(&a);
    wait_status(&p->fixture, id, "failed");
    get(&p->fixture, "GET", id, "", &a);
    assert_string_equal(http_fixture_string(a.json, "error.code"), "server_error");
    assert_non_null(strstr(http_fixture_string(a.json, "error.message"), "as it was told to"));
    http_answer_clear(&a);
    get(&p->fixture, "GET", id, "?stream=true", &a);
    assert_non_null(strstr(buf_text(&a.body), "event: response.failed\n"));
    http_answer_clear(&a);
}

/* ---- tools ---- */

static void test_calls(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char id[64], body[400];
    http_fixture_say(&p->fixture, "Well.\n" CALL "\n" CALL "Done.");
    ask(&p->fixture, "{\"input\":\"hi\"," TOOLS "}", &a, id);
    const json_t *output = http_fixture_at(a.json, "output");
    assert_int_equal(json_array_size(output), 4);
    assert_string_equal(http_fixture_string(a.json, "status"), "completed");
    assert_string_equal(http_fixture_string(output, "0.content.0.text"), "Well.\n");
    assert_string_equal(http_fixture_string(output, "1.type"), "function_call");
    assert_string_equal(http_fixture_string(output, "1.name"), "see");
    assert_string_equal(http_fixture_string(output, "1.status"), "completed");
    assert_string_equal(http_fixture_string(output, "2.arguments"), "{\"at\": \"Rom\"}");
    assert_memory_equal(http_fixture_string(output, "2.id"), "fc_", 3);
    assert_memory_equal(http_fixture_string(output, "2.call_id"), "call_", 5);
    assert_string_not_equal(http_fixture_string(output, "1.call_id"),
                            http_fixture_string(output, "2.call_id"));
    assert_string_equal(http_fixture_string(output, "3.content.0.text"), "Done.");
    assert_string_not_equal(http_fixture_string(output, "0.id"),
                            http_fixture_string(output, "3.id"));
    http_answer_clear(&a);
    /* What was called, and what came of it, is part of the talk. */
    http_fixture_say(&p->fixture, SAID);
    snprintf(body, sizeof body,
             "{\"previous_response_id\":\"%s\",\"input\":[{\"type\":\"function_call_output\","
             "\"call_id\":\"x\",\"output\":\"rain\"}]}",
             id);
    check_prompt_is(&p->fixture, body,
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
                    "{\"role\":\"assistant\",\"content\":\"Well.\\nDone.\",\"tool_calls\":["
                    "{\"type\":\"function\",\"function\":{\"name\":\"see\",\"arguments\":"
                    "\"{\\\"at\\\": \\\"Rom\\\"}\"}},{\"type\":\"function\",\"function\":{"
                    "\"name\":\"see\",\"arguments\":\"{\\\"at\\\": \\\"Rom\\\"}\"}}]},"
                    "{\"role\":\"tool\",\"tool_call_id\":\"x\",\"content\":\"rain\"}]}");
    check_prompt_is(
        &p->fixture,
        "{\"input\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":"
        "\"Well.\"},{\"type\":\"function_call\",\"call_id\":\"x\",\"name\":\"see\",\"arguments\":"
        "\"{}\"},{\"type\":\"function_call\",\"call_id\":\"y\",\"name\":\"see\",\"arguments\":"
        "\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"x\",\"output\":[{\"type\":"
        "\"input_text\",\"text\":\"rain\"}]}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
        "{\"role\":\"assistant\",\"content\":\"Well.\",\"tool_calls\":[{\"type\":\"function\","
        "\"function\":{\"name\":\"see\",\"arguments\":\"{}\"}},{\"type\":\"function\","
        "\"function\":{\"name\":\"see\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"x\",\"content\":\"rain\"}]}");
}

static void test_choice_of_tools(void **state)
{
    static const char *const choices[] = {"\"required\"",
                                          "{\"type\":\"function\",\"name\":\"see\"}"};
    struct place *p = *state;
    struct http_answer a;
    char id[64], body[400];
    http_fixture_say(&p->fixture, " {\"at\": \"Rom\"}}\n</tool_call>");
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        snprintf(body, sizeof body, "{\"input\":\"hi\"," TOOLS ",\"tool_choice\":%s}", choices[i]);
        ask(&p->fixture, body, &a, id);
        assert_int_equal(json_array_size(http_fixture_at(a.json, "output")), 1);
        assert_string_equal(http_fixture_string(a.json, "output.0.arguments"), "{\"at\": \"Rom\"}");
        http_answer_clear(&a);
        get(&p->fixture, "GET", id, "", &a); /* from its tokens alone */
        assert_string_equal(http_fixture_string(a.json, "output.0.arguments"), "{\"at\": \"Rom\"}");
        http_answer_clear(&a);
        snprintf(body, sizeof body, "{\"previous_response_id\":\"%s\",\"input\":\"x\"}", id);
        check_prompt_is(
            &p->fixture, body,
            "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
            "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type\":"
            "\"function\",\"function\":{\"name\":\"see\",\"arguments\":"
            "\"{\\\"at\\\": \\\"Rom\\\"}\"}}]},{\"role\":\"user\",\"content\":\"x\"}]}");
    }
    http_fixture_say(&p->fixture, CALL);
    ask(&p->fixture, "{\"input\":\"hi\"," TOOLS ",\"tool_choice\":\"none\"}", &a, id);
    assert_string_equal(text_of(a.json), CALL);
    http_answer_clear(&a);
}

/* ---- events ---- */

/* Checks form, order and numbers; the deltas together. */
static void check_events(const struct buf *body, int first_number, struct buf *ret_text)
{
    int number = first_number;
    for (const char *at = buf_text(body), *end; (end = strstr(at, "\n\n"));
         at = end + 2, number++) {
        const char *data = strstr(at, "\ndata: ");
        assert_true(data && data < end && strncmp(at, "event: ", 7) == 0);
        json_t *v = json_loadb(data + 7, (size_t)(end - data - 7), 0, NULL);
        assert_non_null(v);
        const char *type = http_fixture_string(v, "type");
        assert_int_equal(strncmp(at + 7, type, strlen(type)), 0);
        assert_int_equal(json_integer_value(http_fixture_at(v, "sequence_number")), number);
        if (strcmp(type, "response.output_text.delta") == 0)
            buf_puts(ret_text, http_fixture_string(v, "delta"));
        json_decref(v);
    }
}

static void test_stream(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    struct buf text;
    static const char *const types[] = {"response.created",           "response.in_progress",
                                        "response.output_item.added", "response.content_part.added",
                                        "response.output_text.delta", "response.output_text.done",
                                        "response.content_part.done", "response.output_item.done",
                                        "response.completed"};
    buf_init(&text);
    http_fixture_ask(&p->fixture, "POST", PATH, "{\"input\":\"hi\",\"stream\":true}", &a);
    assert_int_equal(a.status, 200);
    assert_true(http_answer_has_header(&a, "Content-Type: text/event-stream; charset=utf-8"));
    check_events(&a.body, 0, &text);
    assert_string_equal(buf_text(&text), SAID);
    const char *at = buf_text(&a.body);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        at = strstr(at, types[i]);
        assert_non_null(at);
    }
    assert_null(strstr(buf_text(&a.body), "id: "));
    assert_null(strstr(buf_text(&a.body), "[DONE]"));
    buf_clear(&text);
    http_answer_clear(&a);
}

/* Told again from any event on, the rest is the same to the byte. */
static void check_tails(struct http_fixture *f, const char *id, const char *whole)
{
    const char *rest = whole;
    for (int after = -1; *rest; after++) {
        struct http_answer a;
        char query[80];
        snprintf(query, sizeof query, "?stream=true&starting_after=%d", after);
        if (after < 0)
            snprintf(query, sizeof query, "?stream=true");
        get(f, "GET", id, query, &a);
        assert_int_equal(a.status, 200);
        assert_string_equal(buf_text(&a.body), rest);
        http_answer_clear(&a);
        rest = strstr(rest, "\n\n") + 2;
    }
}

static void id_of_stream(const struct http_answer *a, char id[64])
{
    const char *at = strstr(buf_text(&a->body), "\"id\":\"resp_");
    assert_non_null(at);
    snprintf(id, 64, "%.*s", (int)strcspn(at + 6, "\""), at + 6);
}

static void test_stream_of_calls(void **state)
{
    static const char *const types[] = {"response.output_item.added",
                                        "response.output_text.delta",
                                        "response.output_text.done",
                                        "response.output_item.done",
                                        "response.output_item.added",
                                        "response.function_call_arguments.delta",
                                        "response.function_call_arguments.done",
                                        "response.output_item.done",
                                        "response.output_item.added",
                                        "response.completed"};
    struct place *p = *state;
    struct http_answer a;
    struct buf text;
    char id[64];
    buf_init(&text);
    http_fixture_say(&p->fixture, "Well.\n" CALL "\n" CALL);
    http_fixture_ask(
        &p->fixture, "POST", PATH,
        "{\"input\":\"hi\",\"stream\":true,\"include\":[\"message.output_text.logprobs\"]," TOOLS
        "}",
        &a);
    assert_int_equal(a.status, 200);
    check_events(&a.body, 0, &text);
    assert_string_equal(buf_text(&text), "Well.\n");
    const char *at = buf_text(&a.body);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        at = strstr(at, types[i]);
        assert_non_null(at);
        at++;
    }
    id_of_stream(&a, id);
    check_tails(&p->fixture, id, buf_text(&a.body));
    buf_clear(&text);
    http_answer_clear(&a);
}

static void test_stream_from_anywhere(void **state)
{
    struct place *p = *state;
    struct http_answer a, other;
    char id[64], more[100];
    http_fixture_ask(
        &p->fixture, "POST", PATH,
        "{\"input\":\"hi\",\"stream\":true,\"include\":[\"message.output_text.logprobs\"]}", &a);
    id_of_stream(&a, id);
    check_tails(&p->fixture, id, buf_text(&a.body));
    /* The same by Last-Event-ID, which is what an EventSource sends. */
    snprintf(more, sizeof more, "Last-Event-ID: %s:6\r\n", id);
    other = (struct http_answer){0};
    int fd = http_fixture_connect(&p->fixture);
    http_fixture_request(fd, "POST", PATH, more, "{}");
    http_fixture_receive(&p->fixture, fd, &other);
    assert_int_equal(other.status, 200);
    snprintf(more, sizeof more, "id: %s:7\nevent: ", id);
    assert_memory_equal(buf_text(&other.body), more, strlen(more));
    close(fd);
    http_answer_clear(&other);
    get(&p->fixture, "GET", id, "?stream=true&starting_after=x", &other);
    assert_int_equal(other.status, 400);
    http_answer_clear(&other);
    get(&p->fixture, "GET", id, "?stream=true&starting_after=100000", &other);
    assert_int_equal(other.status, 200);
    assert_int_equal(other.body.length, 0);
    http_answer_clear(&other);
    http_answer_clear(&a);
}

/* What a model thinks is an item of its own, and no part of the talk. */
static void test_reasoning(void **state)
{
    struct http_fixture f;
    struct http_answer a, stream;
    struct buf text;
    char id[64], body[200];
    static const char *const types[] = {"response.in_progress",
                                        "\"item\":{\"id\":\"rs_",
                                        "\"part\":{\"type\":\"reasoning_text\"",
                                        "response.reasoning_text.delta",
                                        "response.reasoning_text.done",
                                        "response.content_part.done",
                                        "response.output_item.done",
                                        "\"item\":{\"id\":\"msg_",
                                        "response.output_text.delta",
                                        "response.output_text.done",
                                        "response.completed"};
    (void)state;
    http_fixture_open(&f, &(struct http_fixture_spec){
                              .model = "qwen3-tied/gguf/qwen3-tied-Q4_0.gguf", .context = 1024});
    http_fixture_say(&f, "<think>\nLet me see.\n</think>\n\nHi there.");
    ask(&f, "{\"input\":\"hi\"}", &a, id);
    assert_string_equal(http_fixture_string(a.json, "output.0.type"), "reasoning");
    assert_string_equal(text_of(a.json), "Let me see.");
    assert_string_equal(http_fixture_string(a.json, "output.0.status"), "completed");
    assert_string_equal(http_fixture_string(a.json, "output.1.type"), "message");
    assert_string_equal(http_fixture_string(a.json, "output.1.content.0.text"), "Hi there.");
    json_int_t thought =
        json_integer_value(http_fixture_at(a.json, "usage.output_tokens_details.reasoning_tokens"));
    assert_true(thought > 3);
    assert_true(thought < json_integer_value(http_fixture_at(a.json, "usage.output_tokens")));
    http_answer_clear(&a);
    snprintf(body, sizeof body, "{\"input\":\"And?\",\"previous_response_id\":\"%s\"}", id);
    check_prompt_is(&f, body,
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
                    "{\"role\":\"assistant\",\"content\":\"Hi there.\"},"
                    "{\"role\":\"user\",\"content\":\"And?\"}]}");
    http_fixture_ask(&f, "POST", PATH,
                     "{\"input\":\"hi\",\"stream\":true,\"include\":[\"message.output_text."
                     "logprobs\"]}",
                     &stream);
    buf_init(&text);
    check_events(&stream.body, 0, &text);
    assert_string_equal(buf_text(&text), "Hi there.");
    const char *at = buf_text(&stream.body);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        at = strstr(at, types[i]);
        assert_non_null(at);
    }
    id_of_stream(&stream, id);
    check_tails(&f, id, buf_text(&stream.body));
    http_answer_clear(&stream);
    /* Cut off while it thinks, it has said nothing. */
    ask(&f, "{\"input\":\"hi\",\"max_output_tokens\":6}", &a, id);
    assert_int_equal(json_array_size(http_fixture_at(a.json, "output")), 1);
    assert_string_equal(http_fixture_string(a.json, "output.0.status"), "incomplete");
    http_answer_clear(&a);
    buf_clear(&text);
    http_fixture_close(&f);
}

/* ---- in the background ---- */

static void test_background(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    char id[64];
    fake_coordinator_hold(f->coordinator, true);
    ask(f, "{\"input\":\"hi\",\"background\":true}", &a, id);
    assert_string_equal(http_fixture_string(a.json, "status"), "queued");
    assert_true(json_is_true(http_fixture_at(a.json, "background")));
    http_answer_clear(&a);
    get(f, "GET", id, "", &a);
    assert_string_equal(http_fixture_string(a.json, "status"), "queued");
    assert_int_equal(json_array_size(http_fixture_at(a.json, "output")), 0);
    http_answer_clear(&a);
    assert_int_equal(fake_coordinator_open(f->coordinator), 1);
    fake_coordinator_hold(f->coordinator, false);
    wait_status(f, id, "completed");
    get(f, "GET", id, "", &a);
    assert_string_equal(text_of(a.json), SAID);
    http_answer_clear(&a);
}

static void test_cancel_and_delete(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    char id[64];
    fake_coordinator_hold(f->coordinator, true);
    ask(f, "{\"input\":\"hi\",\"background\":true}", &a, id);
    http_answer_clear(&a);
    fake_coordinator_hold(f->coordinator, false);
    fake_coordinator_step(f->coordinator);
    fake_coordinator_step(f->coordinator);
    fake_coordinator_hold(f->coordinator, true);
    for (int i = 0; i < 2; i++) {
        get(f, "POST", id, "/cancel", &a);
        assert_int_equal(a.status, 200);
        assert_string_equal(http_fixture_string(a.json, "status"), "cancelled");
        assert_int_equal(json_integer_value(http_fixture_at(a.json, "usage.output_tokens")), 2);
        http_answer_clear(&a);
    }
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    get(f, "DELETE", id, "", &a);
    assert_int_equal(a.status, 200);
    assert_true(json_is_true(http_fixture_at(a.json, "deleted")));
    http_answer_clear(&a);
    get(f, "GET", id, "", &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
}

/* Streams of a response that is cancelled or deleted end in order. */
static void test_deleted_under_a_stream(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a, stream = {0};
    char id[64], path[100];
    fake_coordinator_hold(f->coordinator, true);
    ask(f, "{\"input\":\"hi\",\"background\":true}", &a, id);
    http_answer_clear(&a);
    snprintf(path, sizeof path, PATH "/%s?stream=true", id);
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "GET", path, NULL, NULL);
    for (int i = 0; i < 10; i++)
        http_fixture_turn(f);
    get(f, "DELETE", id, "", &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    http_fixture_receive(f, fd, &stream);
    assert_non_null(strstr(buf_text(&stream.body), "event: response.incomplete\n"));
    assert_non_null(strstr(buf_text(&stream.body), "\"cancelled\""));
    http_answer_clear(&stream);
    close(fd);
    http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 0);
}

/* Who waits for the answer and goes away does not want it; who only looks may. */
static void test_clients_that_leave(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    char id[64], path[100];
    fake_coordinator_hold(f->coordinator, true);
    static const char *const bodies[] = {"{\"input\":\"hi\"}",
                                         "{\"input\":\"hi\",\"stream\":true}"};
    for (int i = 0; i < 2; i++) {
        int fd = http_fixture_connect(f);
        http_fixture_request(fd, "POST", PATH, NULL, bodies[i]);
        while (fake_coordinator_open(f->coordinator) == 0)
            http_fixture_turn(f);
        close(fd);
        for (int k = 0; k < 5; k++)
            http_fixture_turn(f);
        assert_int_equal(fake_coordinator_open(f->coordinator), 0);
    }
    ask(f, "{\"input\":\"hi\",\"background\":true}", &a, id);
    http_answer_clear(&a);
    snprintf(path, sizeof path, PATH "/%s?stream=true", id);
    int fd = http_fixture_connect(f);
    http_fixture_request(fd, "GET", path, NULL, NULL);
    for (int k = 0; k < 5; k++)
        http_fixture_turn(f);
    close(fd);
    for (int k = 0; k < 5; k++)
        http_fixture_turn(f);
    assert_int_equal(fake_coordinator_open(f->coordinator), 1);
    fake_coordinator_hold(f->coordinator, false);
    wait_status(f, id, "completed");
}

/* ---- what is kept ---- */

static void test_store_false(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char id[64];
    ask(&p->fixture, "{\"input\":\"hi\",\"store\":false}", &a, id);
    assert_string_equal(text_of(a.json), SAID);
    assert_true(json_is_false(http_fixture_at(a.json, "store")));
    http_answer_clear(&a);
    get(&p->fixture, "GET", id, "", &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
}

static void test_kept_for_a_while(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char id[64];
    ask(&p->fixture, "{\"input\":\"hi\"}", &a, id);
    http_answer_clear(&a);
    fake_clock_advance(990 * 1000);
    http_fixture_turn(&p->fixture);
    get(&p->fixture, "GET", id, "", &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
    fake_clock_advance(20 * 1000);
    http_fixture_turn(&p->fixture);
    get(&p->fixture, "GET", id, "", &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
}

static void test_kept_while_there_is_room(void **state)
{
    struct place *p = *state;
    struct http_answer a;
    char first[64], last[64];
    p->fixture.spec.store.most_bytes = 20 * 1024;
    http_server_close(p->fixture.server);
    http_fixture_reopen(&p->fixture);
    ask(&p->fixture, "{\"input\":\"hi\"}", &a, first);
    http_answer_clear(&a);
    for (int i = 0; i < 30; i++) {
        ask(&p->fixture, "{\"input\":\"hi\"}", &a, last);
        http_answer_clear(&a);
    }
    fake_clock_advance(300);
    http_fixture_turn(&p->fixture);
    get(&p->fixture, "GET", first, "", &a);
    assert_int_equal(a.status, 404);
    http_answer_clear(&a);
    get(&p->fixture, "GET", last, "", &a);
    assert_int_equal(a.status, 200);
    http_answer_clear(&a);
}

/* ---- another server ---- */

static void reopen(struct place *p)
{
    http_server_close(p->fixture.server);
    http_fixture_reopen(&p->fixture);
}

static void test_kept_across_a_restart(void **state)
{
    struct place *p = *state;
    struct http_answer a, stream, again;
    char id[64], streamed[64], gone[64];
    ask(&p->fixture, "{\"input\":\"hi\",\"metadata\":{\"a\":\"b\"}}", &a, id);
    http_fixture_ask(&p->fixture, "POST", PATH, "{\"input\":\"ho\",\"stream\":true}", &stream);
    id_of_stream(&stream, streamed);
    ask(&p->fixture, "{\"input\":\"hu\"}", &again, gone);
    http_answer_clear(&again);
    get(&p->fixture, "DELETE", gone, "", &again);
    http_answer_clear(&again);
    reopen(p);
    get(&p->fixture, "GET", id, "", &again);
    assert_true(json_equal(a.json, again.json));
    http_answer_clear(&again);
    check_tails(&p->fixture, streamed, buf_text(&stream.body));
    get(&p->fixture, "GET", gone, "", &again);
    assert_int_equal(again.status, 404);
    http_answer_clear(&again);
    http_answer_clear(&a);
    http_answer_clear(&stream);
}

static void test_finished_after_a_restart(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    struct buf text;
    char id[64], other[64];
    fake_coordinator_hold(f->coordinator, true);
    ask(f, "{\"input\":\"hi\",\"background\":true,\"stream\":false}", &a, id);
    http_answer_clear(&a);
    ask(f, "{\"input\":\"ho\",\"background\":true}", &a, other);
    http_answer_clear(&a);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 6; i++)
        fake_coordinator_step(f->coordinator);
    fake_coordinator_hold(f->coordinator, true);
    http_fixture_turn(f);
    fake_coordinator_set_ready(f->coordinator, false);
    reopen(p);
    /* Before the model serves again it waits, and can be looked at and cancelled. */
    get(f, "GET", id, "", &a);
    assert_string_equal(http_fixture_string(a.json, "status"), "queued");
    assert_true(strlen(text_of(a.json)) > 3);
    http_answer_clear(&a);
    get(f, "POST", other, "/cancel", &a);
    assert_string_equal(http_fixture_string(a.json, "status"), "cancelled");
    http_answer_clear(&a);
    fake_coordinator_set_ready(f->coordinator, true);
    fake_coordinator_hold(f->coordinator, false);
    for (int i = 0; i < 5; i++) {
        fake_clock_advance(300);
        http_fixture_turn(f);
    }
    wait_status(f, id, "completed");
    assert_int_equal(fake_coordinator_last(f->coordinator)->n_choices, 1);
    get(f, "GET", id, "?stream=true&starting_after=5", &a);
    buf_init(&text);
    check_events(&a.body, 6, &text);
    assert_int_equal(strcmp(SAID + strlen(SAID) - text.length, buf_text(&text)), 0);
    buf_clear(&text);
    http_answer_clear(&a);
}

/* Nobody is told of what the journal does not have yet. */
static void test_answers_wait_for_the_journal(void **state)
{
    struct place *p = *state;
    struct http_fixture *f = &p->fixture;
    struct http_answer a;
    char id[64], path[100];
    ask(f, "{\"input\":\"hi\",\"background\":true}", &a, id);
    http_answer_clear(&a);
    snprintf(path, sizeof path, PATH "/%s", id);
    const struct {
        const char *method, *path, *body, *first; /* of what is sent at last */
    } cases[] = {
        {"POST", PATH, "{\"input\":\"hi\",\"background\":true}", "{\"id\":"},
        {"POST", PATH, "{\"input\":\"hi\"}", "{\"id\":"},
        {"POST", PATH, "{\"input\":\"hi\",\"stream\":true}", "event: response.created"},
        {"POST", "/v1/completions", "{\"prompt\":\"hi\",\"stream\":true}", "data: {"},
        {"DELETE", path, NULL, "{\"id\":"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        a = (struct http_answer){0};
        nothing_settles = true;
        int fd = http_fixture_connect(f);
        http_fixture_request(fd, cases[i].method, cases[i].path, NULL, cases[i].body);
        for (int k = 0; k < 100; k++) {
            http_fixture_turn(f);
            http_fixture_poll(fd, &a);
        }
        assert_int_equal(fake_coordinator_open(f->coordinator), 0);
        assert_int_equal(a.body.length, 0);
        assert_false(a.is_complete);
        nothing_settles = false;
        http_fixture_receive(f, fd, &a);
        assert_int_equal(a.status, 200);
        assert_memory_equal(buf_text(&a.body), cases[i].first, strlen(cases[i].first));
        http_answer_clear(&a);
        close(fd);
        http_fixture_turn(f);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_place, close_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whole),
        TEST(test_a_length_is_incomplete),
        TEST(test_inputs),
        TEST(test_previous),
        TEST(test_previous_are_large),
        TEST(test_refusals),
        TEST(test_what_is_not_there),
        TEST(test_logprobs),
        TEST(test_a_failure),
        TEST(test_calls),
        TEST(test_choice_of_tools),
        TEST(test_stream),
        TEST(test_stream_of_calls),
        TEST(test_stream_from_anywhere),
        cmocka_unit_test(test_reasoning),
        TEST(test_background),
        TEST(test_cancel_and_delete),
        TEST(test_deleted_under_a_stream),
        TEST(test_clients_that_leave),
        TEST(test_store_false),
        TEST(test_kept_for_a_while),
        TEST(test_kept_while_there_is_room),
        TEST(test_kept_across_a_restart),
        TEST(test_finished_after_a_restart),
        TEST(test_answers_wait_for_the_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
