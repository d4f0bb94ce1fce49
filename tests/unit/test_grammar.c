/* Regular expressions and EBNF against texts that they match and others; what is refused, and
 * where; that no source takes long. */
#include "coordinator/grammar_matcher.h"
#include "tests/support/grammar_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST 12

struct pattern_case {
    const char *pattern;
    const char *accept[MOST], *reject[MOST];
};

static void check_cases(enum constraint_kind kind, const struct pattern_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct grammar *g = grammar_of_text(kind, cases[i].pattern);
        expect_texts(g, true, cases[i].accept);
        expect_texts(g, false, cases[i].reject);
        grammar_free(g);
    }
}

/* ---- regular expressions ---- */

static const struct pattern_case regex_cases[] = {
    {"", {""}, {"a"}},
    {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
    {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
    {"^(a|bc)+d?$", {"a", "bcad", "aabc"}, {"d", "ab", "", "add"}},
    {"a*b+c?", {"b", "aabbc", "bc"}, {"a", "ac", "bcc"}},
    {"a{2}", {"aa"}, {"a", "aaa"}},
    {"a{2,}", {"aa", "aaaaa"}, {"a", ""}},
    {"a{1,3}?", {"a", "aaa"}, {"", "aaaa"}},
    {"a{0}b", {"b"}, {"ab"}},
    {"a{,3}", {"a{,3}"}, {"aa"}},
    {"x{y}", {"x{y}"}, {"x"}},
    {"(?:ab)*", {"", "abab"}, {"a", "aba"}},
    {"(?<year>[0-9]{4})-(?P<m>\\d\\d)", {"2024-02"}, {"2024-2", "24-02"}},
    {"[a-cx]+", {"abcx"}, {"d", ""}},
    {"[^a-z\\n]", {"A", "é", "你", "😀"}, {"a", "\n", ""}},
    {"[\\]\\-a]+", {"]-a"}, {"b"}},
    {"[a-]+", {"a-"}, {"b"}},
    {"\\w+\\s\\W", {"ab_9 -", "a\t."}, {"ab", "é -", "a b"}},
    {"\\S+", {"你好", "a!"}, {"a b", "\xC2\xA0"}},
    {"\\D", {"a", "é"}, {"1"}},
    {".", {"a", "你", "\t"}, {"\n", "\r", "", "ab"}},
    {"\\.\\*\\\\", {".*\\"}, {"a*\\"}},
    {"\\x41\\u00e9\\u{1F600}\\uD83D\\uDE00", {"Aé😀😀"}, {"A"}},
    {"\\n\\t\\r\\f\\v\\0?", {"\n\t\r\f\v"}, {"n"}},
    {"[α-ω]{2}", {"αω"}, {"α", "ab"}},
    {"(a|b)*abb", {"abb", "ababb", "aababb"}, {"ab", "abba"}},
    {"(a|ab)(c|bcd)(d*)", {"abcd", "ac", "abcdd"}, {"ab", "abd"}},
    {"(a*)*b", {"b", "aaab"}, {"a"}},
    {"^a$|^b$", {"a", "b"}, {"ab", "^a$"}},
    {"(^a|b)c", {"ac", "bc"}, {"c"}},
    {"\\Aab\\Z", {"ab"}, {"abc"}},
    {"(.{1,40}\\n){2}", {"a\nb\n", "0123456789\n你好\n"}, {"a\n", "\nb\n", "a\nb\nc\n"}},
    {"[a-z]{1,1000}[0-9]", {"abc1", "z9"}, {"1", "a", "a11"}},
    {"(ab?){100,}c", {NULL}, {"abababc", "c"}},
};

static void test_regex(void **state)
{
    check_cases(CONSTRAINT_REGEX, regex_cases, sizeof regex_cases / sizeof regex_cases[0]);
}

/* Repetitions that are counted, at their bounds. */
static void test_counts(void **state)
{
    static const struct {
        const char *pattern, *item;
        size_t min, max;
    } cases[] = {
        {"[a-z]{3,300}", "q", 3, 300},
        {".{150,200}", "你", 150, 200},
        {"(ab|c){100,200}", "ab", 100, 200},
        {"(a?b?){0,150}", "ab", 0, 150},
        {"(x[0-9]{1,200}){2,129}", "x1", 2, 129},
        {"([a-z]{2,3};){90,100}", "abc;", 90, 100},
        {"([a-z]{2,3}){90,100}", "q", 180, 300},
        {"é{200,}", "é", 200, 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct grammar *g = grammar_of_text(CONSTRAINT_REGEX, cases[i].pattern);
        struct buf text;
        size_t alive;
        buf_init(&text);
        for (size_t n = 0; n <= cases[i].max + 1; n++) {
            bool is_open = cases[i].pattern[strlen(cases[i].pattern) - 2] == ',';
            bool expected = n >= cases[i].min && (n <= cases[i].max || is_open);
            if (grammar_accepts(g, buf_text(&text), text.length, &alive) != expected)
                fail_msg("%s: %zu times '%s'", cases[i].pattern, n, cases[i].item);
            buf_puts(&text, cases[i].item);
        }
        buf_clear(&text);
        grammar_free(g);
    }
}

/* Two counts of which one ends where the other begins: both readings are followed. */
static void test_counts_overlap(void **state)
{
    struct grammar *g = grammar_of_text(CONSTRAINT_REGEX, "[a-z]{100,200}[a-m]{100,200}x");
    char text[500];
    size_t alive;
    for (int n = 198; n <= 402; n++) {
        memset(text, 'b', sizeof text);
        text[n] = 'x';
        assert_int_equal(grammar_accepts(g, text, (size_t)n + 1, &alive), n >= 200 && n <= 400);
    }
    memset(text, 'z', sizeof text);
    memset(text + 150, 'b', 150);
    text[300] = 'x';
    assert_true(grammar_accepts(g, text, 301, &alive));
    text[202] = 'z'; /* the first count cannot reach it, the second does not take it */
    assert_false(grammar_accepts(g, text, 301, &alive));
    assert_int_equal(alive, 202);
    grammar_free(g);
}

static void test_regex_is_refused(void **state)
{
    static const struct {
        const char *pattern, *sentence;
    } cases[] = {
        {"a(", "this '(' is never closed, at character 2"},
        {"a)", "this ')' was never opened, at character 2"},
        {"é[a", "this '[' is never closed, at character 2"},
        {"*a", "there is nothing to repeat, at character 1"},
        {"a**", "a repetition cannot be repeated without a group, at character 2"},
        {"a\\", "a backslash stands at the end, at character 2"},
        {"(?=a)", "look-around is not supported, at character 1"},
        {"a(?!b)", "look-around is not supported, at character 2"},
        {"(?<=a)b", "look-around is not supported, at character 1"},
        {"(?i)a", "a group of a kind that is not supported, at character 1"},
        {"(a)\\1", "back references are not supported, at character 4"},
        {"\\bword", "word boundaries are not supported, at character 1"},
        {"\\p{L}", "Unicode properties are not supported, at character 1"},
        {"\\q", "an escape that is not supported, at character 1"},
        {"\\xZ1", "hexadecimal digits are missing, at character 3"},
        {"\\uD83D", "half a surrogate pair is no character, at character 1"},
        {"[z-a]", "this range is upside down, or one of its ends is a class, at character 2"},
        {"[a-\\d]", "this range is upside down, or one of its ends is a class, at character 2"},
        {"a{3,2}", "bounds of a repetition that are too large, or upside down, at character 2"},
        {"a{9999999}", "bounds of a repetition that are too large, or upside down, at character 2"},
        {"a^b", "'^' and '$' are supported only where a match begins or ends"},
        {"(a$)*b", "'^' and '$' are supported only where a match begins or ends"},
        {"^*", "an anchor cannot be repeated, at character 2"},
        {"[]", "this set has no characters, at character 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(grammar_refusal(CONSTRAINT_REGEX, cases[i].pattern), cases[i].sentence);
}

/* ---- EBNF ---- */

static const struct pattern_case ebnf_cases[] = {
    {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "y", "yesno"}},
    {"root ::= greeting (\", \" [a-z]+){0,2} \"!\"? # comment ::= \"x\"\n"
     "greeting ::= 'hello' |\n  \"good day\"",
     {"hello", "good day, abc, d!", "hello!"},
     {"hello, a, b, c", "hello,a", "good"}},
    {"a ::= \"x\" b\nroot ::= a\nb ::= \"y\"", {"xy"}, {"x"}},
    {"root ::= \"\\n\\t\\\"\\\\\\x41\\u00e9\\U0001F600\" [\\]a-z]", {"\n\t\"\\Aé😀]"}, {"\n"}},
    {"root ::= \"\" | [0-9] root", {"", "1", "123"}, {"a", "1a"}},
    {"root ::= root \"+\" term | term\nterm ::= term \"*\" [0-9] | [0-9]",
     {"1", "1+2*3", "1*2*3+4"},
     {"", "1+", "+1", "1**2"}},
    {"root ::= \"(\" root \")\" root | \"\"", {"", "()", "(())()"}, {"(", ")", "(()"}},
    {"root ::= root root | \"a\"", {"a", "aaaa"}, {"", "b"}},
    {"root ::= a? b* c+ d{2,3}\na ::= \"a\"\nb ::= \"b\"\nc ::= \"c\"\nd ::= \"d\"",
     {"cdd", "abbccddd"},
     {"cd", "abc", "aacdd"}},
    {"root ::= list\nlist ::= item (\",\" list)?\nitem ::= [a-z]+ | \"[\" list \"]\"",
     {"a", "ab,c,d", "[a,[b,c]],d"},
     {"a,", "[a", "[]"}},
    {"root ::= e e e \"x\"\ne ::= \"\" | \"y\" e2\ne2 ::= e", {"x", "yyyyx"}, {"", "y"}},
    {"root ::= . \"b\"", {"\nb", "你b"}, {"b", "ab\n"}},
    {"root ::= rule-name_2 {2}\nrule-name_2 ::= \"x\"", {"xx"}, {"x"}},
    {"root ::= \"a\" {,2} \"b\"", {"b", "aab"}, {"aaab"}},
    {"root ::= x | y\nx ::= \"a\" x \"b\" | \"ab\"\ny ::= \"a\" y \"bb\" | \"abb\"",
     {"ab", "aabb", "aaabbb", "abb", "aabbbb"},
     {"aab", "aabbb"}},
};

static void test_ebnf(void **state)
{
    check_cases(CONSTRAINT_GRAMMAR, ebnf_cases, sizeof ebnf_cases / sizeof ebnf_cases[0]);
}

static void test_ebnf_is_refused(void **state)
{
    static const struct {
        const char *grammar, *sentence;
    } cases[] = {
        {"", "there is no rule 'root ::= …', where the text begins"},
        {"start ::= \"a\"", "there is no rule 'root ::= …', where the text begins"},
        {"root ::= foo", "there is no rule of this name, at line 1, column 10"},
        {"root ::= \"a\"\n\n  \"é\" )",
         "a rule should begin here: name ::= …, at line 3, column 7"},
        {"root ::= (\"a\"", "this '(' is never closed, at line 1, column 10"},
        {"root ::= \"a", "this text has no closing quote, at line 1, column 10"},
        {"root ::= [a", "this '[' is never closed, at line 1, column 10"},
        {"root ::= [b-a]", "this set is not written as one, at line 1, column 10"},
        {"root ::= \"\\q\"", "an escape that is not known, at line 1, column 11"},
        {"root ::= \"\\xq\"",
         "hexadecimal digits of a character are missing, at line 1, column 11"},
        {"root ::= \"a\"{3,1}",
         "bounds of a repetition that are too large, or upside down, at line 1, column 13"},
        {"root ::= \"a\"{x}", "bounds are written {n}, {n,}, {,m} or {n,m}, at line 1, column 13"},
        {"root ::= \"a\"\nroot ::= \"b\"", "this rule is there twice, at line 2, column 1"},
        {"root ::= = \"a\"",
         "a text, a set, a group or the name of a rule should stand here, at line 1, column 10"},
        {"root ::= \"a\" root", "no text at all can match it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(grammar_refusal(CONSTRAINT_GRAMMAR, cases[i].grammar),
                            cases[i].sentence);
}

/* A text takes no more room than it has. */
static void test_many_texts(void **state)
{
    enum { TEXTS = 12000 };
    struct buf b;
    size_t alive;
    buf_init(&b);
    buf_puts(&b, "root ::=");
    for (int i = 0; i < TEXTS; i++)
        buf_puts(&b, " 'a'");
    struct grammar *g = grammar_of_text(CONSTRAINT_GRAMMAR, buf_text(&b));
    buf_reset(&b);
    for (int i = 0; i < TEXTS; i++)
        buf_putc(&b, 'a');
    assert_true(grammar_accepts(g, b.data, b.length, &alive));
    assert_false(grammar_accepts(g, b.data, b.length - 1, &alive));
    grammar_free(g);
    buf_clear(&b);
}

/* ---- choices, calls, manner ---- */

static void test_choices(void **state)
{
    static const struct pattern_case cases[] = {
        {"[\"a\", \"ab\", \"é\\n\"]", {"a", "ab", "é\n"}, {"", "b", "abab", "é"}}};
    check_cases(CONSTRAINT_CHOICES, cases, 1);
    assert_string_equal(grammar_refusal(CONSTRAINT_CHOICES, "[]"),
                        "must be an array of one text or more");
    assert_string_equal(grammar_refusal(CONSTRAINT_CHOICES, "[\"a\", 1]"),
                        "must be an array of texts, but element 1 is none");
}

static void expect_calls(enum constraint_kind kind, const struct constraint_calls *calls,
                         const char *const *accept, const char *const *reject)
{
    const struct constraint_source source = {.kind = kind, .calls = calls};
    struct grammar *g = grammar_of(&source);
    expect_texts(g, true, accept);
    expect_texts(g, false, reject);
    grammar_free(g);
}

/* Two tools whose names begin alike; each schema has references of its own. */
static void test_calls(void **state)
{
    struct constraint_calls calls = {
        .tools = json_pack("[{s:s, s:{s:s, s:{s:{s:[i]}}}}, {s:s, s:{s:s, s:{s:{s:[b]}}}}]",
                           "begin", "<c>see ", "schema", "$ref", "#/d/x", "d", "x", "enum", 1,
                           "begin", "<c>seek ", "schema", "$ref", "#/d/x", "d", "x", "enum", 1),
        .mark = "<c>",
        .end = "</c>"};
    static const char *const whole[] = {"<c>see 1</c>", "<c>seek true</c>",
                                        "<c>see 1</c>\n<c>see 1</c>", NULL};
    static const char *const broken[] = {"",
                                         "1",
                                         "<c>see 1",
                                         "<c>see true</c>",
                                         "<c>s 1</c>",
                                         "<c>see 1</c><c>see 1</c>",
                                         "<c>see 1</c>\n",
                                         NULL};
    static const char *const begun[] = {" 1</c>", "k true</c>\n<c>see 1</c>", NULL};
    static const char *const begun_twice[] = {"<c>see 1</c>", " 1</c>\n 1</c>", NULL};
    static const char *const single[] = {"<c>see 1</c>", NULL};
    static const char *const several[] = {"<c>see 1</c>\n<c>see 1</c>", NULL};
    static const char *const talk[] = {"", "<", "a <c <c>see 1</c> b<c>seek true</c><c>see 1</c>",
                                       NULL};
    static const char *const bad_talk[] = {"<c>", "a <c>see 2</c>", "<c>see 1</c> <c>b", NULL};
    static const char *const one_talk[] = {"", "a", "a <c>see 1</c>", NULL};
    static const char *const more_talk[] = {"<c>see 1</c> b", NULL};
    assert_non_null(calls.tools);
    expect_calls(CONSTRAINT_CALLS, &calls, whole, broken);
    expect_calls(CONSTRAINT_TALK, &calls, talk, bad_talk);
    calls.is_single = true;
    expect_calls(CONSTRAINT_CALLS, &calls, single, several);
    expect_calls(CONSTRAINT_TALK, &calls, one_talk, more_talk);
    calls.is_single = false;
    calls.n_begun = strlen("<c>see");
    expect_calls(CONSTRAINT_CALLS, &calls, begun, begun_twice);
    json_decref(calls.tools);
}

/* Arguments in tags. Texts: of the only call, behind its beginning and before its end. */
static void expect_tags(const char *schema, const char *const *accept, const char *const *reject)
{
    json_error_t error;
    struct constraint_calls calls = {
        .mark = "<", .end = "</f>", .in_tags = true, .is_single = true};
    json_t *arguments = json_loads(schema, 0, &error);
    calls.tools = json_pack("[{s:s, s:o}]", "begin", "<f>", "schema", arguments);
    assert_non_null(calls.tools);
    const struct constraint_source source = {.kind = CONSTRAINT_CALLS, .calls = &calls};
    struct grammar *g = grammar_of(&source);
    for (int is_wrong = 0; is_wrong < 2; is_wrong++)
        for (const char *const *t = is_wrong ? reject : accept; *t; t++) {
            char text[400];
            size_t alive;
            snprintf(text, sizeof text, "<f>%s</f>", *t);
            if (grammar_accepts(g, text, strlen(text), &alive) == is_wrong)
                fail_msg("%s: %s", schema, text);
        }
    grammar_free(g);
    json_decref(calls.tools);
}

#define P(name, value) "<parameter=" name ">\n" value "\n</parameter>\n"

static void test_calls_in_tags(void **state)
{
    expect_tags("{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\"},"
                "\"n\":{\"type\":\"integer\",\"minimum\":0},\"b\":{\"type\":\"boolean\"},"
                "\"o\":{\"type\":\"object\"}},\"required\":[\"n\"]}",
                (const char *const[]){P("n", "3"), P("s", "a\n\"b\"") P("n", "0"),
                                      P("s", "") P("n", "0") P("b", "true"),
                                      P("s", "12") P("n", "1"), P("s", "a </ b") P("n", "1"),
                                      P("n", "1") P("o", "{\"a\": \"\\u003c\"}"), NULL},
                (const char *const[]){"", P("s", "x"), P("n", "-1"), P("n", "\"3\""),
                                      P("n", "1") P("s", "x"), P("n", "1") P("b", "1"),
                                      P("n", "1") P("o", "{\"a\": \"<\"}"), P("n", "1") P("z", "1"),
                                      P("s", "</parameter>") P("n", "1"),
                                      P("s", "</tool_call>") P("n", "1"), NULL});
    /* What is read as a number is one that is accepted. */
    expect_tags(
        "{\"properties\":{\"v\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},"
        "{\"$ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},\"$defs\":{\"n\":{\"type\":"
        "\"integer\",\"maximum\":9,\"minimum\":0}}}",
        (const char *const[]){"", P("v", "7"), P("v", "a12"), P("v", "null"), P("v", "nil"), NULL},
        (const char *const[]){P("v", "10"), P("v", "1a"), P("v", " 12"), P("v", "abcd"), NULL});
    expect_tags(
        "{\"properties\":{\"v\":{\"enum\":[\"a\",\"1\",2,\"true\",null,\"</parameter>\"]}}}",
        (const char *const[]){P("v", "a"), P("v", "2"), P("v", "true"), P("v", "null"), NULL},
        (const char *const[]){P("v", "1"), P("v", "\"a\""), P("v", "b"), NULL});
    expect_tags(
        "{\"properties\":{\"v\":{\"type\":\"string\",\"pattern\":\"^[a-c]+$\",\"minLength\":2}}}",
        (const char *const[]){P("v", "abc"), NULL},
        (const char *const[]){P("v", "a"), P("v", "abd"), P("v", "\"ab\""), NULL});
    expect_tags("{\"properties\":{\"v\":{}}}",
                (const char *const[]){P("v", "{\"a\": 1}"), P("v", "x 1"), NULL},
                (const char *const[]){P("v", "{a"), NULL});
#define AGAIN  "{\"$ref\":\"#/a\"},"
#define AGAIN8 AGAIN AGAIN AGAIN AGAIN AGAIN AGAIN AGAIN AGAIN
    expect_tags(
        "{\"properties\":{\"v\":{\"$ref\":\"#/a\"}},\"a\":{\"anyOf\":[" AGAIN8 AGAIN8 AGAIN8 AGAIN8
        "{\"type\":\"null\"}]}}", /* in circles, and always more of them */
        (const char *const[]){P("v", "null"), NULL}, (const char *const[]){P("v", "x"), NULL});
    expect_tags("{\"type\":\"object\"}",
                (const char *const[]){"", P("a", "x"), P("a", "x") P("b", "{"), NULL},
                (const char *const[]){P("", "x"), P("a<", "x"), "x", NULL});
    expect_tags("{\"type\":\"object\",\"additionalProperties\":false}",
                (const char *const[]){"", NULL}, (const char *const[]){P("a", "x"), NULL});
}

/* A thought of any words, but without its end, before the answer, or none; calls instead of it. */
static void test_manner(void **state)
{
    static const char text[] = "[0-9]+";
    struct constraint_source source = {
        .kind = CONSTRAINT_REGEX,
        .text = text,
        .length = strlen(text),
        .manner = {.think_begin = "<think>", .think_end = "</think>"}};
    struct grammar *g = grammar_of(&source);
    static const char *const accept[] = {"12", "<think>\nwell, </thin\n</think>\n\n12",
                                         "<think></think>7", NULL};
    static const char *const reject[] = {"",
                                         "well 12",
                                         "<think>12",
                                         "<think>a</think>",
                                         "<think>a</think>b</think>12",
                                         "a</think>12",
                                         NULL};
    expect_texts(g, true, accept);
    expect_texts(g, false, reject);
    grammar_free(g);
    source.manner.thinks_at_once = true;
    g = grammar_of(&source);
    static const char *const accept_inside[] = {"well\n</think>\n\n12", "</think>1", NULL};
    static const char *const reject_inside[] = {"12", "a</think>b</think>12", NULL};
    expect_texts(g, true, accept_inside);
    expect_texts(g, false, reject_inside);
    grammar_free(g);
    source.manner.thinks_at_once = false;
    source.manner.call_begin = "<call>";
    source.manner.call_end = "</call>";
    g = grammar_of(&source);
    static const char *const accept_calls[] = {
        "12", "<call>f</call>", "<think>a</think>\n<call>\nf\n</call>\n<call></call>", NULL};
    static const char *const reject_calls[] = {"<call>f", "12<call>f</call>", "<call>f</call>12",
                                               NULL};
    expect_texts(g, true, accept_calls);
    expect_texts(g, false, reject_calls);
    grammar_free(g);
}

/* ---- limits ---- */

/* Names of rules, with the number behind. */
static void add_rules(struct buf *b, const char *format, int n)
{
    for (int i = 0; i < n; i++) {
        buf_printf(b, format, i, i + 1, i + 1);
        buf_putc(b, '\n');
    }
}

static void test_long_chains(void **state)
{
    struct buf b;
    size_t alive;
    buf_init(&b);
    buf_puts(&b, "root ::= r0\n");
    add_rules(&b, "r%d ::= r%d", 5000);
    buf_puts(&b, "r5000 ::= \"x\"\n");
    struct grammar *g = grammar_of_text(CONSTRAINT_GRAMMAR, buf_text(&b));
    assert_true(grammar_accepts(g, "x", 1, &alive));
    grammar_free(g);
    buf_clear(&b);
    buf_puts(&b, "root ::= r0\n");
    add_rules(&b, "r%d ::= \"a\" r%d \"b\" | r%d", 25);
    buf_puts(&b, "r25 ::= \"x\" root | \"\"\n");
    g = grammar_of_text(CONSTRAINT_GRAMMAR, buf_text(&b));
    assert_true(grammar_accepts(g, "aaxabb", 6, &alive) == false && alive == 6);
    assert_true(grammar_accepts(g, "aaxabbb", 7, &alive));
    grammar_free(g);
    buf_clear(&b);
}

static void test_what_is_too_large(void **state)
{
    struct buf b;
    buf_init(&b);
    for (int i = 0; i < 150; i++)
        buf_putc(&b, '(');
    buf_putc(&b, 'a');
    for (int i = 0; i < 150; i++)
        buf_putc(&b, ')');
    assert_string_equal(grammar_refusal(CONSTRAINT_REGEX, buf_text(&b)),
                        "groups are nested too deeply, at character 101");
    buf_clear(&b);
    /* Its automaton remembers which of the last 18 characters were an a. */
    assert_non_null(strstr(grammar_refusal(CONSTRAINT_REGEX, "(a|b)*a(a|b){17}"),
                           "it is too large: its automaton has more than 60000 states"));
    for (int i = 0; i < 9000; i++)
        buf_printf(&b, "%s%dabcdefghijklmnopqrstuvwxyz", i ? "|" : "", i * 7919);
    assert_non_null(strstr(grammar_refusal(CONSTRAINT_REGEX, buf_text(&b)), "it is too large"));
    buf_clear(&b);
    buf_puts(&b, "root ::= r0\n");
    add_rules(&b, "r%d ::= \"a\" r%d | \"b\" r%d", 30000);
    buf_puts(&b, "r30000 ::= \"x\"\n");
    assert_non_null(strstr(grammar_refusal(CONSTRAINT_GRAMMAR, buf_text(&b)), "it is too large"));
    buf_clear(&b);
}

/* Lists that call themselves behind or before keep no calls open, nor do calls that have ended;
 * brackets keep those that are open. */
static void test_memory_of_long_texts(void **state)
{
    static const struct {
        const char *grammar, *item;
        bool is_nested;
    } cases[] = {
        {"root ::= [a-z]+ \",\" root | \"end\"", "abc,", false},
        {"root ::= list \"end\"\nlist ::= list item | item\nitem ::= [a-z]+ \",\"", "abc,", false},
        {"root ::= (pair \",\")* \"end\"\npair ::= \"(\" pair \")\" | [a-z]+", "((a)),b,", false},
        {"root ::= \"(\" root \")\" | \"end\"", "(", true},
    };
    for (size_t i = 0; i < 4; i++) {
        struct grammar *g = grammar_of_text(CONSTRAINT_GRAMMAR, cases[i].grammar);
        struct grammar_matcher m;
        assert_true(grammar_matcher_init(&m, g));
        for (int n = 0; n < 20000; n++)
            for (const char *c = cases[i].item; *c; c++) {
                assert_true(grammar_matcher_push(&m, (unsigned char)*c));
                grammar_matcher_commit(&m);
            }
        if (cases[i].is_nested)
            assert_true(m.n_calls >= 20000);
        else
            assert_true(m.n_calls + m.n_links < 1000);
        for (int n = 0; cases[i].is_nested && n < 3; n++)
            assert_true(grammar_matcher_push(&m, (unsigned char)"end"[n]));
        for (int n = 0; cases[i].is_nested && n < 20000; n++) {
            assert_false(grammar_matcher_now(&m)->is_end);
            assert_true(grammar_matcher_push(&m, ')'));
            grammar_matcher_commit(&m);
        }
        assert_int_equal(grammar_matcher_now(&m)->is_end, cases[i].is_nested);
        grammar_matcher_clear(&m);
        grammar_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regex),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_counts_overlap),
        cmocka_unit_test(test_regex_is_refused),
        cmocka_unit_test(test_ebnf),
        cmocka_unit_test(test_ebnf_is_refused),
        cmocka_unit_test(test_many_texts),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_calls_in_tags),
        cmocka_unit_test(test_manner),
        cmocka_unit_test(test_long_chains),
        cmocka_unit_test(test_what_is_too_large),
        cmocka_unit_test(test_memory_of_long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
