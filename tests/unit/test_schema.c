/* JSON schemas against golden texts that a JSON Schema library accepts and rejects, and against
 * texts at the edges of what is kept; what is refused, and where. */
#include "coordinator/schema.h"
#include "tests/support/grammar_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- golden cases ---- */

/* The text without white space between its marks. */
static char *without_space(const char *text)
{
    char *out = strdup(text), *to = out;
    bool is_inside = false;
    for (const char *c = text; *c; c++) {
        if (*c == '"' && (c == text || c[-1] != '\\'))
            is_inside = !is_inside;
        if (is_inside || !strchr(" \t\r\n", *c))
            *to++ = *c;
    }
    *to = '\0';
    return out;
}

/* A generator may keep away from white space that JSON allows. */
static bool golden_accepts(const struct grammar *g, const char *text)
{
    size_t alive;
    char *bare = without_space(text);
    bool accepted = grammar_accepts(g, text, strlen(text), &alive) ||
                    grammar_accepts(g, bare, strlen(bare), &alive);
    free(bare);
    return accepted;
}

static void check_golden(const char *name, const json_t *schema, const json_t *golden)
{
    const struct constraint_source source = {.kind = CONSTRAINT_SCHEMA, .json = schema};
    struct grammar *g = grammar_of(&source);
    const json_t *text;
    size_t i, alive;
    json_array_foreach(json_object_get(golden, "accept"), i,
                       text) if (!golden_accepts(g, json_string_value(text)))
        fail_msg("%s: not accepted: %s", name, json_string_value(text));
    json_array_foreach(
        json_object_get(golden, "reject"), i,
        text) if (grammar_accepts(g, json_string_value(text), json_string_length(text), &alive))
        fail_msg("%s: accepted: %s", name, json_string_value(text));
    grammar_free(g);
}

static void test_golden(void **state)
{
    json_error_t error;
    json_t *all = json_load_file(TEST_DATA "/schema/cases.json", 0, &error), *any = json_true();
    const json_t *golden;
    size_t i;
    assert_non_null(all);
    json_array_foreach(json_object_get(all, "schemas"), i, golden)
        check_golden(json_string_value(json_object_get(golden, "name")),
                     json_object_get(golden, "schema"), golden);
    assert_int_equal(i, 47);
    check_golden("any JSON", any, json_object_get(all, "json_mode"));
    json_decref(all);
}

/* ---- edges ---- */

#define MOST 14

struct schema_case {
    const char *schema;
    const char *accept[MOST], *reject[MOST];
};

static void check_cases(const struct schema_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct grammar *g = grammar_of_schema(cases[i].schema);
        expect_texts(g, true, cases[i].accept);
        expect_texts(g, false, cases[i].reject);
        grammar_free(g);
    }
}

static void test_strings(void **state)
{
    static const struct schema_case cases[] = {
        {"{\"type\":\"string\"}",
         {"\"\\ud83d\\ude00\"", "\"\\uD7FF\\uE000\"", "\"\\/\\b\"", "\"\x7F\""},
         {"\"\\ud83d\"", "\"\\ude00\"", "\"\\ud83dx\"", "\"\x1F\"", "\"\xC3\"", "\"\xED\xA0\x80\"",
          "\"\xC0\x80\"", "\"\\u12\""}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\\n\\u0041é\"", "\"\\ud83d\\ude00a\""},
         {"\"\\ud83d\\ude00\"", "\"a\"", "\"abcd\""}},
        {"{\"type\":\"string\",\"minLength\":40}",
         {"\"0123456789012345678901234567890123456789\""},
         {"\"012345678901234567890123456789012345678\""}},
        {"{\"type\":\"string\",\"pattern\":\"b+\"}",
         {"\"abc\"", "\"b\"", "\"\\\"b\\n\""},
         {"\"ac\""}},
        {"{\"type\":\"string\",\"pattern\":\"^a.c\"}",
         {"\"abc\"", "\"a\\\"cd\""},
         {"\"a\\nc\"", "\"xabc\""}},
        {"{\"type\":\"string\",\"pattern\":\"^\\\\\\\\\\\"[\\\\x00-\\\\x1F]$\"}",
         {"\"\\\\\\\"\\n\"", "\"\\\\\\\"\\u001f\"", "\"\\\\\\\"\\u001F\"", "\"\\\\\\\"\\u0000\""},
         {"\"\\\\\\\"\"", "\"\\\\\\\"a\"", "\"\\\\\\\"\\u000a\""}},
        {"{\"type\":\"string\",\"pattern\":\"^[a-z]+$\",\"minLength\":2,\"maxLength\":4}",
         {"\"ab\"", "\"abcd\""},
         {"\"a\"", "\"abcde\"", "\"a1\""}},
        {"{\"allOf\":[{\"type\":\"string\",\"pattern\":\"^a\"},{\"pattern\":\"z$\"}]}",
         {"\"az\"", "\"abcz\""},
         {"\"a\"", "\"z\"", "\"bz\""}},
        {"{\"format\":\"date\",\"type\":\"string\"}",
         {"\"2024-02-29\"", "\"2000-02-29\"", "\"2023-02-28\"", "\"1999-12-31\""},
         {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"0000-01-01\"",
          "\"2024-00-01\""}},
        {"{\"format\":\"date-time\",\"type\":\"string\"}",
         {"\"2024-02-29T23:59:59Z\"", "\"2024-02-29T00:00:00.5+01:00\""},
         {"\"2024-02-29\"", "\"2024-02-29T24:00:00Z\"", "\"2024-02-29T00:00:00\""}},
        {"{\"format\":\"ipv4\",\"type\":\"string\"}",
         {"\"255.0.10.199\""},
         {"\"256.0.0.1\"", "\"01.1.1.1\""}},
        {"{\"format\":\"email\",\"type\":\"string\"}",
         {"\"a.b@c-d.org\""},
         {"\"a@\"", "\"a..b@c\"", "\"a@-c\""}},
        {"{\"format\":\"a word of ours\",\"type\":\"string\"}", {"\"\"", "\"x\""}, {"1"}},
        {"{\"enum\":[\"\\u0001\\\"\\\\/é\"]}",
         {"\"\\u0001\\\"\\\\/é\""},
         {"\"\\u0001\\\"\\\\\\/é\""}},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

static void test_numbers(void **state)
{
    static const struct schema_case cases[] = {
        {"{\"type\":\"integer\"}",
         {"-0", "999999999999999999"},
         {"1000000000000000000", "1.0", "-"}},
        {"{\"type\":\"number\"}",
         {"-0.0e-05", "1E+9"},
         {"1e100", "1.", "-.5", "0.123456789012345678"}},
        {"{\"type\":\"integer\",\"minimum\":-15,\"maximum\":7}",
         {"-15", "-9", "0", "7"},
         {"-16", "8", "-20", "-", "10", "00"}},
        {"{\"type\":\"integer\",\"minimum\":95}",
         {"95", "99", "100", "1000"},
         {"94", "9", "-95", "095"}},
        {"{\"type\":\"integer\",\"maximum\":-95}", {"-95", "-100", "-1000"}, {"-94", "95", "0"}},
        {"{\"type\":\"integer\",\"minimum\":1.5,\"maximum\":3.5}", {"2", "3"}, {"1", "4", "2.0"}},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":-1,\"exclusiveMaximum\":1}",
         {"0"},
         {"1", "-1"}},
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
         {"0", "1", "0.999", "1.000", "0.0"},
         {"1.001", "-0.1", "2", "1e0", "-1"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0.05}",
         {"0.051", "0.0500001", "0.06", "0.1", "1", "20.5"},
         {"0.05", "0.050", "0", "0.04", "0.0"}},
        {"{\"type\":\"number\",\"exclusiveMaximum\":0.05}",
         {"0.049", "0", "0.0", "-3", "0.00", "0.04999"},
         {"0.05", "0.0500", "0.051", "1"}},
        {"{\"type\":\"number\",\"minimum\":-2.5,\"maximum\":-0.25}",
         {"-2.5", "-0.25", "-1", "-2.49", "-0.250", "-0.3"},
         {"-2.51", "-0.249", "0", "-3", "1"}},
        {"{\"type\":\"number\",\"minimum\":1e-7,\"maximum\":1.5e3}",
         {"0.0000001", "1500", "1500.0", "1"},
         {"0.00000009", "1500.1", "0"}},
        {"{\"type\":\"number\",\"minimum\":-1e300}", {"-999999999999999999.5"}, {"x"}},
        {"{\"type\":\"integer\",\"minimum\":5,\"exclusiveMinimum\":5,\"maximum\":9,"
         "\"exclusiveMaximum\":9}",
         {"6", "8"},
         {"5", "9"}},
        {"{\"minimum\":5}", {"5", "\"a\"", "null", "[1]", "{}"}, {"4", "-5"}},
        {"{\"enum\":[1.5,0.1,1e21,-3]}", {"1.5", "0.1", "1e+21", "-3"}, {"1", "1.50"}},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

static void test_objects(void **state)
{
    static const struct schema_case cases[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":{\"type\":\"null\"}}"
         ","
         "\"required\":[\"b\"],\"additionalProperties\":{\"type\":\"boolean\"}}",
         {"{\"b\":null}", "{\"a\":null,\"b\":null,\"c\":true}", "{ \"b\": null, \"\": false }",
          "{\"b\":null,\"ab\":true,\"\\\"\":true}", "{\n  \"b\": null\n}"},
         {"{\"a\":null}", "{\"b\":null,\"a\":null}", "{\"b\":null,\"b\":true}", "{\"b\":null,}",
          "{\"b\":null,\"\\u0061\":true}", "{\"b\" :null}", "{  \"b\":null}", "{\"b\":null} "}},
        {"{\"properties\":{\"a\":{},\"ab\":{},\"b\":false},\"type\":\"object\"}",
         {"{}", "{\"a\":[1]}", "{\"ab\":{\"x\":1}}", "{\"a\":1,\"ab\":2,\"abc\":3,\"\":4}"},
         {"{\"b\":1}", "{\"ab\":1,\"a\":2}", "{\"x\":1,\"a\":1}"}},
        {"{\"type\":\"object\",\"required\":[\"x\",\"y\"]}",
         {"{\"x\":1,\"y\":2}", "{\"x\":1,\"y\":2,\"z\":[{}]}"},
         {"{\"x\":1}", "{}", "{\"y\":1,\"x\":2}"}},
        {"{\"type\":\"object\",\"required\":[\"x\"],\"properties\":{\"y\":{\"type\":\"integer\"}},"
         "\"additionalProperties\":{\"type\":\"string\"}}",
         {"{\"x\":\"a\"}", "{\"y\":1,\"x\":\"a\",\"z\":\"b\"}"},
         {"{\"x\":1}", "{\"y\":1}"}},
        {"{\"allOf\":[{\"properties\":{\"a\":{\"minimum\":3}},\"additionalProperties\":false},"
         "{\"type\":\"object\",\"properties\":{\"a\":{\"maximum\":5,\"type\":\"integer\"},\"b\":{}}"
         "}]}",
         {"{}", "{\"a\":4}"},
         {"{\"a\":2}", "{\"a\":6}", "{\"b\":1}", "{\"a\":4,\"b\":1}"}},
        {"{\"$ref\":\"#/$defs/x~1y/properties/%61\",\"$defs\":{\"x/y\":{\"properties\":{\"a\":"
         "{\"type\":\"boolean\"}}}}}",
         {"true"},
         {"1"}},
        {"{\"$ref\":\"#/definitions/d\",\"definitions\":{\"d\":{\"type\":\"array\",\"items\":"
         "{\"$ref\":\"#/definitions/d\"}}},\"maxItems\":1}",
         {"[]", "[[[],[]]]"},
         {"[[],[]]", "1"}},
        {"{\"type\":[\"object\",\"null\"],\"properties\":{\"n\":{\"$ref\":\"#\"}},"
         "\"additionalProperties\":false}",
         {"null", "{\"n\":{\"n\":null}}"},
         {"{\"n\":1}", "{\"m\":null}"}},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

static void test_arrays(void **state)
{
    static const struct schema_case cases[] = {
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":2}",
         {"[null]", "[null,null]", "[ null, null ]", "[\n\tnull,\n\tnull\n]"},
         {"[]", "[null,null,null]", "[null ,null]", "[null,]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"boolean\"}]}",
         {"[]", "[null]", "[null,true]", "[null,true,1,\"a\"]"},
         {"[true]", "[null,null]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"null\"},{\"type\":\"boolean\"}],"
         "\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":3}",
         {"[null]", "[null,true]", "[null,true,null]"},
         {"[]", "[null,true,true]", "[null,true,null,null]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{},{}],\"maxItems\":1}", {"[]", "[1]"}, {"[1,2]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{}],\"items\":false}", {"[]", "[1]"}, {"[1,2]"}},
        {"{\"type\":\"array\",\"items\":false}", {"[]", "[ ]"}, {"[1]", "[  ]"}},
        {"{\"type\":\"array\",\"items\":false,\"minItems\":0}", {"[]"}, {"[1]"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"enum\":[7]},\"minItems\":"
         "2},"
         "\"maxItems\":1}",
         {"[]", "[[7,7,7]]"},
         {"[[7]]", "[[7,7],[7,7]]"}},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
    struct grammar *g = grammar_of_schema(
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":500,\"maxItems\":600}");
    char text[1300] = "[1";
    size_t alive, length = 2;
    for (int n = 1; n <= 601; n++) {
        text[length] = ']';
        assert_int_equal(grammar_accepts(g, text, length + 1, &alive), n >= 500 && n <= 600);
        memcpy(text + length, ",1", 2);
        length += 2;
    }
    grammar_free(g);
}

static void test_alternatives(void **state)
{
    static const struct schema_case cases[] = {
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"number\",\"minimum\":0.5}]}",
         {"-3", "0.75", "7"},
         {"0.25", "-0.5"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"anyOf\":["
         "{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
         {"{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}"},
         {"{}", "{\"a\":\"x\"}", "{\"c\":1}"}},
        {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"}},\"required\":["
         "\"k\"]},"
         "{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[\"b\",\"c\"]}},\"required\":[\"k\"]"
         "},"
         "{\"type\":\"null\"}]}",
         {"{\"k\":\"a\"}", "{\"k\":\"c\",\"x\":1}", "null"},
         {"{\"k\":\"d\"}", "{}"}},
        {"{\"oneOf\":[{\"enum\":[1,2]},{\"enum\":[\"1\"]},{\"const\":3}]}",
         {"1", "\"1\"", "3"},
         {"4"}},
        {"{\"enum\":[1,\"a\",null,true],\"type\":[\"integer\",\"null\"]}",
         {"1", "null"},
         {"\"a\"", "true"}},
        {"{\"enum\":[1,2,3],\"allOf\":[{\"enum\":[2,3,4]},{\"const\":3}]}", {"3"}, {"2", "1", "4"}},
        {"{\"anyOf\":[false,{\"type\":\"null\"},true]}", {"null", "1", "{}"}, {""}},
        {"{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/b\"}],\"$defs\":{"
         "\"a\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}},\"b\":{\"const\":0}}}",
         {"0", "[0,[0]]"},
         {"1", "[1]"}},
        {"{\"description\":\"anything\",\"default\":3,\"x-own\":{\"not\":1}}",
         {"1", "{\"a\":[]}"},
         {""}},
        {"{\"allOf\":[{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]},"
         "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}]}]}",
         {"1"},
         {"\"a\"", "true"}},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *schema, *sentence;
    } cases[] = {
        {"{\"not\":{}}", "#/not: this keyword is not supported"},
        {"{\"properties\":{\"a/b~\":{\"uniqueItems\":true}}}",
         "#/properties/a~1b~0/uniqueItems: this keyword is not supported"},
        {"{\"items\":{\"anyOf\":[{},{\"multipleOf\":2}]}}",
         "#/items/anyOf/1/multipleOf: this keyword is not supported"},
        {"{\"type\":\"text\"}", "#/type: must be null, boolean, integer, number, string, object or "
                                "array, or a list of these"},
        {"{\"type\":[\"null\",3]}",
         "#/type: must be null, boolean, integer, number, string, object "
         "or array, or a list of these"},
        {"{\"properties\":{\"a\":7}}", "#/properties/a: must be a schema: an object or a boolean"},
        {"{\"properties\":[]}", "#/properties: must be an object"},
        {"{\"required\":\"a\"}", "#/required: must be an array"},
        {"{\"required\":[1]}", "#/required: must be an array of names"},
        {"{\"items\":[{}]}", "#/items: must be a schema; a list of them is 'prefixItems'"},
        {"{\"minLength\":-1,\"type\":\"string\"}", "#/minLength: must be an integer, 0 or more"},
        {"{\"maxItems\":1.5,\"type\":\"array\"}", "#/maxItems: must be an integer, 0 or more"},
        {"{\"maxItems\":1000001,\"type\":\"array\"}", "#/maxItems: is more than 1000000"},
        {"{\"minimum\":\"1\"}", "#/minimum: must be a number"},
        {"{\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"é(\"}}}",
         "#/properties/a/pattern: this '(' is never closed, at character 2"},
        {"{\"$ref\":\"other.json\"}",
         "#/$ref: only references inside the schema are supported, such as '#/$defs/name'"},
        {"{\"$ref\":\"#/$defs/x\"}", "#/$ref: there is no schema at '#/$defs/x'"},
        {"{\"$ref\":\"#/$defs/%zz\",\"$defs\":{}}", "#/$ref: there is no schema at '#/$defs/%zz'"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}",
         "#/oneOf: a value may satisfy branches 0 and 1: give them different types, or a required "
         "property with a 'const' of its own, or use 'anyOf'"},
        {"{\"enum\":[\"a\"],\"maxLength\":3}",
         "#/maxLength: this keyword is not supported together with 'enum' or 'const'"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "no text at all can match it"},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
         "no text at all can match it"},
        {"false", "no text at all can match it"},
        {"{\"enum\":[]}", "no text at all can match it"},
        {"{\"type\":\"string\",\"pattern\":\"a.{30}\",\"maxLength\":100}",
         "#: patterns and lengths together take too many states, or too long"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(grammar_refusal(CONSTRAINT_SCHEMA, cases[i].schema), cases[i].sentence);
}

/* Alternatives that multiply, references in circles. */
static void test_what_costs(void **state)
{
    struct buf b;
    buf_init(&b);
    buf_puts(&b, "{\"allOf\":[");
    for (int i = 0; i < 30; i++)
        buf_printf(&b, "%s{\"anyOf\":[{\"required\":[\"a%d\"]},{\"required\":[\"b%d\"]}]}",
                   i ? "," : "", i, i);
    buf_puts(&b, "]}");
    assert_string_equal(grammar_refusal(CONSTRAINT_SCHEMA, buf_text(&b)),
                        "#: it has more than 256 alternatives");
    buf_clear(&b);
    buf_puts(&b, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 2500; i++)
        buf_printf(&b, "%s\"p%d\":{}", i ? "," : "", i);
    buf_puts(&b, "}}");
    assert_string_equal(grammar_refusal(CONSTRAINT_SCHEMA, buf_text(&b)),
                        "#: an object has more than 2000 properties");
    buf_clear(&b);
    static const struct schema_case circles[] = {
        {"{\"$ref\":\"#\"}", {"1", "[]"}, {""}},
        {"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},"
         "\"b\":{\"$ref\":\"#/$defs/a\",\"type\":\"null\"}}}",
         {"null"},
         {"1"}},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", {"null"}, {""}},
        {"{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", {"null"}, {"1"}},
    };
    check_cases(circles, sizeof circles / sizeof circles[0]);
}

/* "first …, …, …, last": n times the text, whose %d is the number. */
static void write_many(struct buf *b, const char *first, const char *text, int n, int from,
                       const char *last)
{
    buf_puts(b, first);
    for (int i = 0; i < n; i++) {
        const char *number = strstr(text, "%d");
        buf_puts(b, i ? "," : "");
        buf_append(b, text, number ? (size_t)(number - text) : strlen(text));
        if (number)
            buf_printf(b, "%d%s", from + i, number + 2);
    }
    buf_puts(b, last);
}

static void expect_refusal(struct buf *b, const char *words)
{
    const char *sentence = grammar_refusal(CONSTRAINT_SCHEMA, buf_text(b));
    if (!strstr(sentence, words))
        fail_msg("%.60s…: %s", buf_text(b), sentence);
    buf_reset(b);
}

/* Each would take minutes, if what is looked at were not counted. */
static void test_many_values(void **state)
{
    enum { MANY = 200000 };
    static const char too_many[] = "there are too many alternatives, or values";
    struct buf b;
    buf_init(&b);
    write_many(&b, "{\"allOf\":[", "{}", MANY, 0, "]}");
    expect_refusal(&b, "#/allOf: more than 64 schemas would have to hold together");
    write_many(&b, "{\"anyOf\":[", "false", MANY, 0, "]}");
    expect_refusal(&b, too_many);
    write_many(&b, "{\"type\":\"object\",\"required\":[", "\"%d\"", MANY, 0, "]}");
    expect_refusal(&b, "an object has more than 2000 properties");
    write_many(&b, "{\"allOf\":[{\"enum\":[", "%d", MANY, 0, "]},");
    write_many(&b, "{\"enum\":[", "%d", MANY, MANY, "]}]}");
    expect_refusal(&b, too_many);
    write_many(&b, "{\"oneOf\":[{\"enum\":[", "%d", MANY, 0, "]},");
    write_many(&b, "{\"enum\":[", "%d", MANY, MANY, "]}]}");
    expect_refusal(&b, too_many);
    write_many(
        &b,
        "{\"oneOf\":[{\"required\":[\"a\"],\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[",
        "%d", MANY, 0, "]}}},");
    write_many(&b, "{\"required\":[\"a\"],\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[",
               "%d", MANY, MANY, "]}}}]}");
    expect_refusal(&b, too_many);
    write_many(&b, "{\"anyOf\":[", "{\"$ref\":\"#/a\"}", 20000, 0, "],\"a\":{\"enum\":[],");
    write_many(&b, "", "\"%d\":0", 20000, 0, "}}");
    expect_refusal(&b, too_many);
    write_many(&b, "{\"properties\":{", "\"%d\":{\"pattern\":\"^(a?){1200}$\",\"minLength\":1}",
               300, 0, "}}");
    expect_refusal(&b, "take too many states, or too long");
    buf_clear(&b);
}

/* Parameters in tags, each of which refers to what refers to itself: all have one budget. */
static void test_many_parameters_in_tags(void **state)
{
    enum { PARAMETERS = 200 };
    struct grammar_builder builder;
    struct err err = {0};
    struct buf b;
    uint32_t rule;
    buf_init(&b);
    grammar_builder_init(&builder);
    write_many(&b, "{\"type\":\"object\",\"properties\":{", "\"%d\":{\"$ref\":\"#/$defs/a\"}",
               PARAMETERS, 0, "},\"$defs\":{\"a\":{");
    write_many(&b, "\"allOf\":[", "{\"$ref\":\"#/$defs/a\"}", 60, 0, "]}}}");
    json_t *schema = json_loads(buf_text(&b), 0, NULL);
    assert_non_null(schema);
    assert_int_equal(schema_read_tags(&builder, schema, &rule, &err), ERR_INPUT);
    assert_non_null(strstr(err.text, "there are too many alternatives, or values"));
    assert_true(builder.n_values < 1000000);
    json_decref(schema);
    grammar_builder_clear(&builder);
    buf_clear(&b);
}

/* A reference costs what its length does. */
static void test_long_references(void **state)
{
    struct buf b;
    buf_init(&b);
    write_many(&b, "{\"$ref\":\"#", "/%d", 200000, 0, "\"}");
    expect_refusal(&b, "there are too many alternatives, or values");
    write_many(&b, "{\"$ref\":\"#", "/%d", 100, 0, "\"}");
    expect_refusal(&b, "there is no schema at");
    buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),          cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_objects),
        cmocka_unit_test(test_arrays),          cmocka_unit_test(test_alternatives),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_what_costs),
        cmocka_unit_test(test_many_values),     cmocka_unit_test(test_many_parameters_in_tags),
        cmocka_unit_test(test_long_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
