/* The chat templates of Qwen's models against what transformers makes of them, the rules of jinja2
 * one by one, and templates that nobody should have written. */
#include "coordinator/chat_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const template_names[] = {"qwen1.5", "qwen2.5",     "qwen3",
                                             "qwq-32b", "qwen3-coder", "qwen3.5"};
enum { N_TEMPLATES = sizeof template_names / sizeof *template_names };

static char *read_template(const char *name, size_t *ret_length)
{
    char path[512];
    snprintf(path, sizeof path, "%s/chat/templates/%s.jinja", TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = malloc(64 * 1024);
    assert_non_null(text);
    *ret_length = fread(text, 1, 64 * 1024, f);
    assert_true(*ret_length > 0 && *ret_length < 64 * 1024);
    fclose(f);
    return text;
}

static struct chat_template *open_template(const char *name)
{
    size_t length;
    char *source = read_template(name, &length);
    struct chat_template *t = NULL;
    struct err err = {0};
    int rc = chat_template_new(&t, source, length, &err);
    if (rc != 0)
        fail_msg("%s: %s", name, err.text);
    free(source);
    return t;
}

static int render(const char *source, size_t length, const char *context, struct buf *out,
                  struct err *err)
{
    struct chat_template *t = NULL;
    json_t *json = json_loads(context ? context : "{}", 0, NULL);
    assert_non_null(json);
    int rc = chat_template_new(&t, source, length, err);
    if (rc == 0)
        rc = chat_template_render(t, json, out, err);
    chat_template_free(t);
    json_decref(json);
    return rc;
}

struct example {
    const char *source, *context, *result;
};

/* result: what the error's sentence must contain */
static void check_refused(const struct example *examples, size_t count, int code)
{
    for (size_t i = 0; i < count; i++) {
        struct buf out;
        struct err err = {0};
        buf_init(&out);
        const struct example *e = &examples[i];
        int rc = render(e->source, strlen(e->source), e->context, &out, &err);
        if (rc != code || err.code != code)
            fail_msg("%s: gives %d \"%s\" %s", e->source, rc, buf_text(&out), err.text);
        if (!strstr(err.text, e->result))
            fail_msg("%s: says \"%s\", not \"%s\"", e->source, err.text, e->result);
        assert_int_equal(out.length, 0);
        buf_clear(&out);
    }
}

#define CHECK_REFUSED(examples, code)                                                              \
    check_refused(examples, sizeof examples / sizeof *examples, code)

/* ---- golden cases ---- */

static json_t *context_of(const json_t *test)
{
    json_t *context = json_object();
    static const char *const keys[] = {"messages", "tools", "add_generation_prompt",
                                       "enable_thinking"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(test, keys[i]);
        if (value)
            json_object_set(context, keys[i], value);
    }
    return context;
}

/* "TemplateError: sentence" is the template's own; of other errors the sentence is ours to say. */
static void check_error(const json_t *test, int rc, const struct err *err)
{
    static const char own[] = "TemplateError: ";
    const char *expected = json_string_value(json_object_get(test, "error"));
    assert_int_equal(rc, ERR_INPUT);
    assert_int_equal(err->code, ERR_INPUT);
    if (strncmp(expected, own, strlen(own)) == 0)
        assert_string_equal(err->text, expected + strlen(own));
    else
        assert_non_null(strstr(err->text, strchr(expected, ' ') + 1));
}

static void check_case(struct chat_template *const *templates, const json_t *test)
{
    const char *name = json_string_value(json_object_get(test, "template"));
    size_t which = 0;
    while (which < N_TEMPLATES && strcmp(template_names[which], name) != 0)
        which++;
    assert_true(which < N_TEMPLATES);
    json_t *context = context_of(test), *expected = json_object_get(test, "rendered");
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    int rc = chat_template_render(templates[which], context, &out, &err);
    if (!expected) {
        check_error(test, rc, &err);
    } else {
        if (rc != 0)
            fail_msg("%s: %s", name, err.text);
        if (out.length != json_string_length(expected) ||
            memcmp(buf_text(&out), json_string_value(expected), out.length) != 0)
            fail_msg("case %d of %s:\n%s\n---- not\n%s",
                     (int)json_integer_value(json_object_get(test, "n")), name, buf_text(&out),
                     json_string_value(expected));
    }
    buf_clear(&out);
    json_decref(context);
}

static void golden_cases(void **state)
{
    struct chat_template *templates[N_TEMPLATES];
    for (size_t i = 0; i < N_TEMPLATES; i++)
        templates[i] = open_template(template_names[i]);
    FILE *f = fopen(TEST_DATA "/chat/cases.jsonl", "rb");
    assert_non_null(f);
    int count = 0;
    json_t *test;
    while ((test = json_loadf(f, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL))) {
        check_case(templates, test);
        json_decref(test);
        count++;
    }
    assert_int_equal(count, 250);
    fclose(f);
    for (size_t i = 0; i < N_TEMPLATES; i++)
        chat_template_free(templates[i]);
}

/* ---- jinja2's rules: what jinja2 3.1.6 makes of them, in transformers' environment ---- */

static void check_rule(const json_t *rule, const json_t *context)
{
    const json_t *source = json_object_get(rule, "source"), *expected;
    struct chat_template *t = NULL;
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    int rc = chat_template_new(&t, json_string_value(source), json_string_length(source), &err);
    if (rc != 0)
        fail_msg("%s: %s", json_string_value(source), err.text);
    rc = chat_template_render(t, context, &out, &err);
    expected = json_object_get(rule, "rendered");
    if (expected && rc != 0)
        fail_msg("%s: %s", json_string_value(source), err.text);
    if (!expected && rc != ERR_INPUT)
        fail_msg("%s: is not refused: %s", json_string_value(source), buf_text(&out));
    const char *error = json_string_value(json_object_get(rule, "error"));
    if (error && strncmp(error, "UndefinedError: '", 17) == 0 &&
        !strstr(err.text, strchr(error, ' ') + 1))
        fail_msg("%s: says \"%s\", not \"%s\"", json_string_value(source), err.text, error);
    if (expected && (out.length != json_string_length(expected) ||
                     memcmp(buf_text(&out), json_string_value(expected), out.length) != 0))
        fail_msg("%s: gives\n%s\n---- not\n%s", json_string_value(source), buf_text(&out),
                 json_string_value(expected));
    buf_clear(&out);
    chat_template_free(t);
}

static void rules(void **state)
{
    FILE *f = fopen(TEST_DATA "/chat/rules.jsonl", "rb");
    assert_non_null(f);
    json_t *first = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL), *rule;
    assert_non_null(first);
    int count = 0;
    while ((rule = json_loadf(f, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, NULL))) {
        check_rule(rule, json_object_get(first, "context"));
        json_decref(rule);
        count++;
    }
    assert_int_equal(count, 164);
    json_decref(first);
    fclose(f);
}

/* ---- what is refused, and where ---- */

static void unknown_constructs(void **state)
{
    static const struct example examples[] = {
        {"a\n\n{% include 'x' %}", NULL, "line 3: the tag 'include' is not supported"},
        {"{% raw %}{% endraw %}", NULL, "line 1: the tag 'raw'"},
        {"{% block b %}{% endblock %}", NULL, "tag 'block'"},
        {"{% endif %}", NULL, "line 1: the tag 'endif'"},
        {"\n{{ x | frobnicate }}", NULL, "line 2: there is no filter 'frobnicate'"},
        {"\n{{ x is frobbed }}", NULL, "line 2: there is no test 'frobbed'"},
        {"\n\n{{ frob(1) }}", NULL, "line 3: there is no function or macro 'frob'"},
        {"{{ x.frob(1) }}", NULL, "line 1: there is no method 'frob'"},
        {"{{ x.append(1) }}", NULL, "no method 'append'"},
        {"{{ 'a'.format(1) }}", NULL, "no method 'format'"},
        {"{{ x | map('frob') }}", NULL, "there is no filter 'frob'"},
        {"{{ x | select('frob') }}", NULL, "there is no test 'frob'"},
        {"{{ x | select(y) }}", NULL, "'select' needs a literal name"},
        {"{{ x | tojson(frob=1) }}", NULL, "the filter 'tojson' has no argument 'frob'"},
        {"{{ x | length(1) }}", NULL, "too many arguments for the filter 'length'"},
        {"{{ x | replace('a') }}", NULL, "the filter 'replace' needs the argument 'new'"},
        {"{% for x in y recursive %}{% endfor %}", NULL, "'recursive'"},
        {"{% macro m() %}{{ varargs }}{% endmacro %}", NULL, "'varargs' is not supported"},
        {"{{ f(*x) }}", NULL, "'*' arguments"},
        {"{{ (x)(1) }}{{ x[0](1) }}", NULL, "only names and methods can be called"},
        {"{% break %}", NULL, "'break' stands outside of a loop"},
        {"{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", NULL,
         "'continue' stands outside of a loop"},
        {"{% set x | upper %}{% endset %}", NULL, "a filter on a set block"},
    };
    CHECK_REFUSED(examples, ERR_MODEL);
}

static void broken_templates(void **state)
{
    static const struct example examples[] = {
        {"a\n{% if x %}\nb", NULL, "line 2: the tag that begins here has no end"},
        {"{% for x in y %}{% endif %}", NULL, "tag 'endif'"},
        {"\n{{ x", NULL, "line 2: the tag has no end"},
        {"\n{{ 'x }}", NULL, "line 2: the string has no end"},
        {"\n{# x", NULL, "line 2: the comment has no end"},
        {"{{ }}", NULL, "'}}' stands where a value should be"},
        {"{{ (1 }}", NULL, "unexpected '}'"},
        {"{{ 1 2 }}", NULL, "'2' stands where"},
        {"{{ x. }}", NULL, "an attribute's name"},
        {"{{ x | }}", NULL, "a filter's name"},
        {"{{ x is }}", NULL, "a test's name"},
        {"{{ x[] }}", NULL, "an index"},
        {"{{ a ? b }}", NULL, "unexpected character '?'"},
        {"{{ 99999999999999999999 }}", NULL, "the number 99999999999999999999"},
        {"{{ 0x10 }}", NULL, "number"},
        {"{{ '\\N{DASH}' }}", NULL, "an escape"},
        {"{{ '\\ud800' }}", NULL, "an escape"},
        {"{% set 1 = 2 %}", NULL, "a name"},
        {"{% set if = 2 %}", NULL, "a name"},
        {"{% %}", NULL, "the name of a tag"},
        {"{% macro m(a=1, b) %}{% endmacro %}", NULL, "without a default"},
        {"{{ range(a=1, 2) }}", NULL, "a positional argument"},
        {"\xff", NULL, "not valid UTF-8"},
        {"{{ '\xc3' }}", NULL, "not valid UTF-8"},
    };
    CHECK_REFUSED(examples, ERR_MODEL);
}

static void errors_name_the_line(void **state)
{
    static const struct example examples[] = {
        {"\n\n{{ x.y.z }}", "{\"x\": {}}", "line 3: 'dict object' has no attribute 'y'"},
        {"\n{{ x.y }}", NULL, "line 2: 'x' is undefined"},
        {"\n{{ 'a' + x }}", "{\"x\": null}",
         "line 2: '+' is not supported between 'str' and "
         "'NoneType'"},
        {"{{ x[3].y }}", "{\"x\": [1]}", "line 1: list object has no element 3"},
        {"{{ x | tojson }}", NULL, "Object of type Undefined is not JSON serializable"},
        {"{{ 9223372036854775807 + 1 }}", NULL, "does not fit into 64 bits"},
    };
    CHECK_REFUSED(examples, ERR_INPUT);
}

/* ---- hostile templates and messages ---- */

static char *repeated(const char *before, const char *what, int times, const char *after)
{
    size_t n = strlen(what);
    char *text = malloc(strlen(before) + n * (size_t)times + strlen(after) + 1);
    assert_non_null(text);
    char *to = stpcpy(text, before);
    for (int i = 0; i < times; i++)
        to = stpcpy(to, what);
    strcpy(to, after);
    return text;
}

static void deep_nesting(void **state)
{
    static const struct {
        const char *before, *what, *after;
    } shapes[] = {
        {"{{ ", "(", ""},
        {"{{ ", "[", ""},
        {"{{ ", "{1:", ""},
        {"{{ ", "not ", "x }}"},
        {"{{ ", "- ", "1 }}"},
        {"", "{% if x %}", ""},
        {"", "{% set x %}", ""},
        {"{{ x", ".a", " }}"},
        {"{{ x", "[0]", " }}"},
        {"{{ 1", " + 1", " }}"},
        {"{{ x", "|trim", " }}"},
        {"{{ x", " is defined", " }}"},
        {"{{ 1", " if 1", " }}"},
        {"{{ 1", " if 1 else 1", " }}"},
        {"{{ ", "x[", ""},
        {"{{ ", "range(", ""},
        {"{{ x", " or x", " }}"},
        {"{{ 1", " ** 1", " }}"},
        {"{{ ", "x if x else ", "x }}"},
        {"", "{% macro m() %}", ""},
        {"", "{% for x in y %}", ""},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char *source = repeated(shapes[i].before, shapes[i].what, 20000, shapes[i].after);
        struct buf out;
        struct err err = {0};
        buf_init(&out);
        int rc = render(source, strlen(source), NULL, &out, &err);
        if (rc != ERR_MODEL)
            fail_msg("%s: gives %d %s", shapes[i].what, rc, err.text);
        buf_clear(&out);
        free(source);
    }
}

/* Long, but flat: no reason to refuse it. */
static void long_templates(void **state)
{
    static const char *const parts[] = {"{{ x }}", "{% if x %}{% elif y %}{% endif %}", "text\n",
                                        "{# c #}"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *source = repeated("", parts[i], 20000, "");
        struct buf out;
        struct err err = {0};
        buf_init(&out);
        assert_int_equal(render(source, strlen(source), NULL, &out, &err), 0);
        buf_clear(&out);
        free(source);
    }
    char *source = repeated("{{ 'a'", " ~ 'b'", 20000, " }}");
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    assert_int_equal(render(source, strlen(source), NULL, &out, &err), 0);
    assert_int_equal(out.length, 20001);
    buf_clear(&out);
    free(source);
}

static void runaway_templates(void **state)
{
    static const struct example examples[] = {
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", NULL,
         "steps"},
        {"{% for a in range(100001) %}{% endfor %}", NULL, "range() has more than 100000"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", NULL, "nested too deeply"},
        {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
         NULL, "nested too deeply"},
        {"{% set n = namespace(s='aaaaaaaa') %}{% for a in range(99) %}{% set n.s = n.s + n.s %}"
         "{% endfor %}",
         NULL, "MiB"},
        {"{% set n = namespace(s='aaaaaaaa') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}"
         "{% endfor %}",
         NULL, "MiB"},
        {"{% for a in range(99) %}{{ 'a' * 9999999 }}{% endfor %}", NULL, "MiB"},
        {"{{ 'a' * 9223372036854775807 }}", NULL, "too long"},
        {"{{ [1] * 9999999999 }}", NULL, "too long"},
        {"{% set n = namespace(l=[1]) %}{% for a in range(60) %}{% set n.l = [n.l, n.l] %}"
         "{% endfor %}{{ n.l }}",
         NULL, "steps"},
        {"{% set n = namespace(l=[1]) %}{% for a in range(60) %}{% set n.l = [n.l, n.l] %}"
         "{% endfor %}{{ n.l | tojson }}",
         NULL, "steps"},
        {"{% set n = namespace(l=[1]) %}{% for a in range(9999) %}{% set n.l = [n.l] %}"
         "{% endfor %}{{ n.l }}",
         NULL, "nested too deeply"},
        {"{% set n = namespace(a=[1], b=[1]) %}{% for a in range(9999) %}{% set n.a = [n.a] %}"
         "{% set n.b = [n.b] %}{% endfor %}{{ n.a == n.b }}",
         NULL, "nested too deeply"},
        {"{% set n = namespace() %}{% set n.n = n %}{{ n.n.n.n }}", NULL, "cannot be printed"},
        {"{{ ('a' * 9999999).rsplit('a' * 4999999 ~ 'b') }}", NULL, "steps"},
        {"{{ ('a' * 9999999).strip('b' * 999999 ~ 'a') }}", NULL, "strip() with more than"},
        {"{% set a = 'a' * 9999999 %}{% set b = a ~ 'b' %}{% set c = a ~ 'c' %}"
         "{% for i in range(99999) %}{{ b == c }}{% endfor %}",
         NULL, "steps"},
        {"{% set a = 'a' * 9999999 %}{% set b = a ~ 'b' %}{% set c = a ~ 'c' %}"
         "{% for i in range(99999) %}{{ b < c }}{% endfor %}",
         NULL, "steps"},
        {"{% set a = 'a' * 9999999 %}{% set b = {a ~ 'b': 1} %}{% set c = a ~ 'c' %}"
         "{% for i in range(99999) %}{{ b[c] }}{% endfor %}",
         NULL, "steps"},
        {"{{ 2 ** 64 }}", NULL, "64 bits"},
        {"{{ (-9223372036854775807 - 1) // -1 }}", NULL, "64 bits"},
        {"{{ 'aaaaaaaaaaaaaaaa'.replace('', 'x' * 9999999) }}", NULL, "MiB"},
    };
    CHECK_REFUSED(examples, ERR_INPUT);
}

static void deep_messages(void **state)
{
    char *open = repeated("{\"x\": ", "[", 1900, ""), *json = repeated(open, "]", 1900, "}");
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    assert_int_equal(render("{{ x }}", 7, json, &out, &err), ERR_INPUT);
    assert_non_null(strstr(err.text, "nested too deeply"));
    buf_clear(&out);
    free(open);
    free(json);
}

static void nul_in_a_message(void **state)
{
    struct chat_template *t = NULL;
    struct err err = {0};
    struct buf out;
    buf_init(&out);
    json_t *context = json_pack("{s:s%}", "x", "a\0b", (size_t)3);
    assert_non_null(context);
    assert_int_equal(chat_template_new(&t, "{{ x }}{{ x|length }}{{ x|tojson }}", 35, &err), 0);
    assert_int_equal(chat_template_render(t, context, &out, &err), 0);
    assert_int_equal(out.length, 14);
    assert_memory_equal(out.data, "a\0b3\"a\\u0000b\"", 14);
    buf_clear(&out);
    json_decref(context);
    chat_template_free(t);
}

/* What is there already stays, on success and on failure. */
static void output_is_appended(void **state)
{
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    buf_puts(&out, "before ");
    assert_int_equal(render("x{{ 1 }}", 8, NULL, &out, &err), 0);
    assert_int_equal(render("y{{ raise_exception('no') }}", 28, NULL, &out, &err), ERR_INPUT);
    assert_string_equal(err.text, "no");
    assert_string_equal(err.param, "messages");
    assert_string_equal(buf_text(&out), "before x1");
    buf_clear(&out);
}

static void strftime_now(void **state)
{
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    assert_int_equal(render("{{ strftime_now('%Y') }}", 24, NULL, &out, &err), 0);
    assert_int_equal(out.length, 4);
    assert_true(strcmp(buf_text(&out), "2020") > 0);
    buf_clear(&out);
}

/* Every prefix, and templates with one byte changed: refused or not, but nothing else. */
static void mutilated_templates(void **state)
{
    json_t *context = json_loads("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, "
                                 "{\"role\": \"assistant\", \"content\": \"ho\", \"tool_calls\": "
                                 "[{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1}}}]}],"
                                 "\"tools\": [{\"function\": {\"name\": \"f\"}}]}",
                                 0, NULL);
    assert_non_null(context);
    static const char changes[] = "{}%-'\"(|. \n\\0";
    for (size_t i = 0; i < N_TEMPLATES; i++) {
        size_t length;
        char *source = read_template(template_names[i], &length);
        for (size_t n = 0; n < 2 * length; n += n < length ? 1 : 3) {
            bool prefix = n < length;
            size_t size = prefix ? n : length, at = prefix ? 0 : n - length;
            char *copy = malloc(size ? size : 1); /* its end is where reading must stop */
            assert_non_null(copy);
            memcpy(copy, source, size);
            if (!prefix)
                copy[at] = changes[at % strlen(changes)];
            struct chat_template *t = NULL;
            struct buf out;
            struct err err = {0};
            buf_init(&out);
            int rc = chat_template_new(&t, copy, size, &err);
            assert_true(rc == 0 || (rc == ERR_MODEL && err.text[0]));
            if (rc == 0)
                rc = chat_template_render(t, context, &out, &err);
            assert_true(rc == 0 || err.code == rc);
            chat_template_free(t);
            buf_clear(&out);
            free(copy);
        }
        free(source);
    }
    json_decref(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_cases),         cmocka_unit_test(rules),
        cmocka_unit_test(unknown_constructs),   cmocka_unit_test(broken_templates),
        cmocka_unit_test(errors_name_the_line), cmocka_unit_test(deep_nesting),
        cmocka_unit_test(long_templates),       cmocka_unit_test(runaway_templates),
        cmocka_unit_test(deep_messages),        cmocka_unit_test(nul_in_a_message),
        cmocka_unit_test(output_is_appended),   cmocka_unit_test(strftime_now),
        cmocka_unit_test(mutilated_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
