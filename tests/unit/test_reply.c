/* Replies taken apart: the golden cases, whole and in pieces, and what models write besides. */
#include "coordinator/reply.h"
#include "tests/support/json_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* How much of the text comes at once: all, each byte, or lengths of a simple generator. */
enum cut { CUT_NONE, CUT_BYTES, CUT_RANDOM, N_CUTS = 12 };

static void read_reply(struct reply *r, const struct reply_rules *rules, const char *text, int cut)
{
    size_t length = strlen(text), step = 1;
    uint32_t state = (uint32_t)cut * 7919;
    reply_init(r, rules);
    for (size_t at = 0; at < length; at += step) {
        state = state * 1664525 + 1013904223;
        step = cut == CUT_NONE ? length : cut == CUT_BYTES ? 1 : 1 + (state >> 28);
        if (step > length - at)
            step = length - at;
        reply_push(r, text + at, step);
    }
    reply_finish(r);
    assert_false(reply_failed(r));
}

static json_t *call_json(const struct tool_call *call)
{
    json_t *arguments = json_loadb(buf_text(&call->arguments), call->arguments.length, 0, NULL);
    assert_true(json_is_object(arguments));
    return json_pack("{s:s, s:o}", "name", call->name, "arguments", arguments);
}

/* ---- golden cases ---- */

static const char *text_of(const json_t *line, const char *key)
{
    size_t length;
    return json_lines_text(line, key, &length);
}

static json_t *property(const json_t *type)
{
    return json_pack("{s:O}", "type", type);
}

/* {"tool": {"parameter": "type"}} to tools as a request has them. */
static json_t *tools_of(json_t *types)
{
    json_t *tools = json_array(), *parameters, *type;
    const char *name, *parameter;
    json_object_foreach(types, name, parameters)
    {
        json_t *properties = json_object();
        json_object_foreach(parameters, parameter, type)
        {
            json_object_set_new(properties, parameter, property(type));
        }
        json_array_append_new(tools,
                              json_pack("{s:s, s:{s:s, s:{s:o}}}", "type", "function", "function",
                                        "name", name, "parameters", "properties", properties));
    }
    return tools;
}

static void check_case(const json_t *line, int cut)
{
    bool is_xml = strcmp(text_of(line, "format"), "hermes") != 0;
    json_t *tools = tools_of(json_object_get(line, "param_types"));
    const json_t *calls = json_object_get(line, "tool_calls");
    struct reply_rules rules = {
        .thinks = true, .format = is_xml ? TOOL_FORMAT_XML : TOOL_FORMAT_HERMES, .tools = tools};
    const char *reasoning = text_of(line, "reasoning");
    struct reply r;
    read_reply(&r, &rules, text_of(line, "text"), cut);
    assert_string_equal(buf_text(&r.content), text_of(line, "content"));
    assert_int_equal(r.has_reasoning, reasoning != NULL);
    if (reasoning)
        assert_string_equal(buf_text(&r.reasoning), reasoning);
    assert_int_equal(r.n_calls, json_array_size(calls));
    for (size_t i = 0; i < r.n_calls; i++) {
        json_t *call = call_json(&r.calls[i]);
        if (!json_equal(call, json_array_get(calls, i)))
            fail_msg("%s: %s", r.calls[i].name, buf_text(&r.calls[i].arguments));
        json_decref(call);
    }
    reply_clear(&r);
    json_decref(tools);
}

static void test_golden(void **state)
{
    json_t *lines = json_lines_read(TEST_DATA "/chat/tool_parse.jsonl"), *line;
    size_t i;
    assert_int_equal(json_array_size(lines), 40);
    json_array_foreach(lines, i, line)
    {
        for (int cut = 0; cut < N_CUTS; cut++)
            check_case(line, cut);
    }
    json_decref(lines);
}

/* ---- what models write besides ---- */

struct sample {
    enum tool_format format;
    const char *text, *content;
    const char *calls; /* "name{arguments}" one after the other */
};

#define F TOOL_FORMAT_HERMES
#define X TOOL_FORMAT_XML
#define A "<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>"
#define B "<tool_call>{\"name\":\"b\",\"arguments\":{\"x\":1.50}}</tool_call>"

static const struct sample samples[] = {
    /* text behind calls, and between them, is not lost; white space is */
    {F, A "\nDone.", "\nDone.", "a{}"},
    {F, "x" A " y " B "\n", "x y ", "a{}b{\"x\":1.50}"},
    /* something broken does not take the calls around it along */
    {F, "<tool_call>{\"name\":</tool_call>" A, "<tool_call>{\"name\":</tool_call>", "a{}"},
    {F, A "<tool_call>no</tool_call>", "<tool_call>no</tool_call>", "a{}"},
    {F, "<tool_call>\n" A, "<tool_call>\n", "a{}"},
    {F, "<tool_call>{\"name\": \"</tool_call>" B, "<tool_call>{\"name\": \"</tool_call>",
     "b{\"x\":1.50}"},
    {F, "<tool_call>{\"a\": \"<tool_call>", "<tool_call>{\"a\": \"<tool_call>", ""},
    {F, "</tool_call> </think>", "</tool_call> </think>", ""},
    /* tags in a string are text, spelling is kept, a string may hold the object */
    {F, "<tool_call>{\"name\":\"a\",\"arguments\":{\"c\":\"\\\"</tool_call>\"}}</tool_call>", "",
     "a{\"c\":\"\\\"</tool_call>\"}"},
    {F, "<tool_call>{\"name\":\"a\",\"arguments\": {\"n\": 0.10, \"m\": [1, 2.0]} }</tool_call>",
     "", "a{\"n\": 0.10, \"m\": [1, 2.0]}"},
    {F, "<tool_call>{\"name\":\"a\",\"arguments\":\"{\\\"x\\\": 1}\"}</tool_call>", "",
     "a{\"x\": 1}"},
    {F, "<tool_call>{\"name\":\"a\",\"arguments\":{\"i\":99999999999999999999}}</tool_call>", "",
     "a{\"i\":99999999999999999999}"},
    {F, "<tool_call>{\"x\":{\"arguments\":{}},\"name\":\"a\",\"arguments\":{\"y\":2}}</tool_call>",
     "", "a{\"y\":2}"},
    {F, "<tool_call>{\"name\":\"now\"}</tool_call>", "", "now{}"},
    {F, "<tool_call>{\"name\":\"a\"}\n{\"name\":\"b\"}</tool_call>", "", "a{}b{}"},
    {F, "<tool_call>{\"name\":\"a\"} and</tool_call>",
     "<tool_call>{\"name\":\"a\"} and</tool_call>", ""},
    {X, "<tool_call><function=f></function>\n<function=g></function></tool_call>", "", "f{}g{}"},
    {F, "<tool_call>{\"name\":\"a\",\"arguments\":[1]}</tool_call>",
     "<tool_call>{\"name\":\"a\",\"arguments\":[1]}</tool_call>", ""},
    {F, "<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>",
     "<tool_call>{\"name\":\"\",\"arguments\":{}}</tool_call>", ""},
    /* the tag form: end tags in values, forgotten ones, other types */
    {X,
     "<tool_call>\n<function=f>\n<parameter=s>\n</tool_call></parameter> x\n</parameter>\n"
     "</function>\n</tool_call>",
     "", "f{\"s\": \"</tool_call></parameter> x\"}"},
    {X, "<tool_call><function=f><parameter=n>1</parameter></function>", "", "f{\"n\": 1}"},
    {X, "<tool_call><function=f><parameter=n>1</tool_call>",
     "<tool_call><function=f><parameter=n>1</tool_call>", ""},
    {X, "<tool_call><function=f></tool_call><tool_call><function=g></function></tool_call>",
     "<tool_call><function=f></tool_call>", "g{}"},
    {X,
     "<tool_call><function=f><parameter=b>True</parameter><parameter=u>None</parameter>"
     "<parameter=s>7</parameter></function></tool_call>",
     "", "f{\"b\": true, \"u\": null, \"s\": \"7\"}"},
    {X,
     "<tool_call><function=f><parameter=u>7</parameter><parameter=n>seven</parameter>"
     "<parameter=e>2</parameter></function></tool_call>",
     "", "f{\"u\": 7, \"n\": \"seven\", \"e\": 2}"},
    {X,
     "<tool_call><function=f><parameter=?>{\"a\": 1}</parameter><parameter=!>12</parameter>"
     "</function></tool_call>",
     "", "f{\"?\": {\"a\": 1}, \"!\": \"12\"}"},
    {X, "<tool_call><function=></function></tool_call>",
     "<tool_call><function=></function></tool_call>", ""},
};

static const char tools_text[] =
    "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{"
    "\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},"
    "\"u\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":[\"null\"]}]},\"e\":{\"enum\":[1,2]}}}}}]";

static void check_sample(const struct sample *s, const json_t *tools, int cut)
{
    struct reply_rules rules = {.format = s->format, .tools = tools};
    struct reply r;
    struct buf calls;
    buf_init(&calls);
    read_reply(&r, &rules, s->text, cut);
    for (size_t i = 0; i < r.n_calls; i++)
        buf_printf(&calls, "%s%s", r.calls[i].name, buf_text(&r.calls[i].arguments));
    if (strcmp(buf_text(&r.content), s->content) != 0 || strcmp(buf_text(&calls), s->calls) != 0)
        fail_msg("%s: \"%s\", %s", s->text, buf_text(&r.content), buf_text(&calls));
    buf_clear(&calls);
    reply_clear(&r);
}

static void test_samples(void **state)
{
    json_t *tools = json_loads(tools_text, 0, NULL);
    assert_non_null(tools);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        for (int cut = 0; cut < N_CUTS; cut++)
            check_sample(&samples[i], tools, cut);
    json_decref(tools);
}

static void test_thinking(void **state)
{
    static const struct {
        bool is_thinking;
        const char *text, *reasoning, *content;
    } cases[] = {
        {true, "a\n\nb\n</think>\n\nc", "a\n\nb", "c"},
        {true, "\n<think>\na</think>c", "a", "c"},
        {true, "a </thin", "a </thin", ""},
        {true, "", "", ""},
        {true, "a\n\n", "a", ""},
        {false, "a<think>b</think>c", NULL, "a<think>b</think>c"},
        {false, "<thin", NULL, "<thin"},
        {false, "\n <think>b</think>\n\n\nc\n", "b", "c\n"},
        {false, "<think></think>", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int cut = 0; cut < N_CUTS; cut++) {
            struct reply_rules rules = {.thinks = true, .is_thinking = cases[i].is_thinking};
            struct reply r;
            read_reply(&r, &rules, cases[i].text, cut);
            assert_string_equal(buf_text(&r.content), cases[i].content);
            assert_int_equal(r.has_reasoning, cases[i].reasoning != NULL);
            assert_string_equal(buf_text(&r.reasoning),
                                cases[i].reasoning ? cases[i].reasoning : "");
            reply_clear(&r);
        }
    /* A template that knows no reasoning: the tags are text. */
    struct reply r;
    read_reply(&r, &(struct reply_rules){0}, "<think>a</think>" A, CUT_BYTES);
    assert_string_equal(buf_text(&r.content), "<think>a</think>" A);
    reply_clear(&r);
}

/* What is certain is told at once. */
static void test_progress(void **state)
{
    struct reply_rules rules = {.thinks = true, .format = TOOL_FORMAT_HERMES};
    struct reply r;
    reply_init(&r, &rules);
    reply_push(&r, "<think>\nsome", 12);
    assert_string_equal(buf_text(&r.reasoning), "some");
    reply_push(&r, "</think>\n\nhere <to", 18);
    assert_string_equal(buf_text(&r.content), "here ");
    reply_push(&r, "ol_call>{\"name\":\"a\"}</tool_call", 31);
    assert_int_equal(r.n_calls, 0);
    reply_push(&r, ">", 1);
    assert_int_equal(r.n_calls, 1);
    assert_string_equal(buf_text(&r.content), "here ");
    reply_clear(&r);
}

static void test_single(void **state)
{
    struct reply_rules rules = {.format = TOOL_FORMAT_HERMES, .is_single = true};
    struct reply r;
    static const char *const texts[] = {A B " and more", "<tool_call>{\"name\":\"a\"}\nand more"};
    for (size_t i = 0; i < 2; i++) {
        read_reply(&r, &rules, texts[i], CUT_RANDOM);
        assert_int_equal(r.n_calls, 1);
        assert_string_equal(buf_text(&r.content), "");
        reply_clear(&r);
    }
}

/* Nobody can make the work grow faster than the text. */
static void test_many_tags(void **state)
{
    static const char *const parts[] = {
        "<tool_call>",
        "</tool_call>",
        "<tool_call>\"</tool_call>",
        "<tool_call>{\"",
        "<think>",
        "</function></tool_call>",
        "<tool_call><function=f><parameter=a></function></tool_call>"};
    for (int format = TOOL_FORMAT_HERMES; format <= TOOL_FORMAT_XML; format++)
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            struct reply_rules rules = {.thinks = true, .format = (enum tool_format)format};
            struct reply r;
            size_t length = strlen(parts[i]);
            reply_init(&r, &rules);
            for (int k = 0; k < 20000; k++)
                reply_push(&r, parts[i], length);
            reply_finish(&r);
            assert_int_equal(r.n_calls, 0);
            size_t shown = r.content.length + r.reasoning.length;
            assert_true(shown + strlen("<think>") >= 20000 * length);
            reply_clear(&r);
        }
}

static void test_begin(void **state)
{
    struct buf out;
    buf_init(&out);
    tool_calls_begin(TOOL_FORMAT_HERMES, NULL, &out);
    tool_calls_begin(TOOL_FORMAT_HERMES, "a\"b", &out);
    tool_calls_begin(TOOL_FORMAT_XML, NULL, &out);
    tool_calls_begin(TOOL_FORMAT_XML, "f", &out);
    assert_string_equal(buf_text(&out),
                        "<tool_call>\n{\"name\": \"<tool_call>\n{\"name\": \"a\\\"b\", "
                        "\"arguments\":<tool_call>\n<function=<tool_call>\n<function=f>\n");
    buf_clear(&out);
}

static void test_format_of_templates(void **state)
{
    static const struct {
        const char *text;
        enum tool_format format;
        bool thinks;
    } cases[] = {{"{{ messages }}", TOOL_FORMAT_NONE, false},
                 {"a '<tool_call>' b </think>", TOOL_FORMAT_HERMES, true},
                 {"<tool_call> <function=x>", TOOL_FORMAT_XML, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t length = strlen(cases[i].text);
        assert_int_equal(tool_calls_format(cases[i].text, length), cases[i].format);
        assert_int_equal(reply_thinks(cases[i].text, length), cases[i].thinks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),   cmocka_unit_test(test_samples),
        cmocka_unit_test(test_thinking), cmocka_unit_test(test_progress),
        cmocka_unit_test(test_single),   cmocka_unit_test(test_many_tags),
        cmocka_unit_test(test_begin),    cmocka_unit_test(test_format_of_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
