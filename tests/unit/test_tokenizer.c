/* Text to ids against golden cases of three vocabularies; splitting and normalising against
 * PCRE2's interpreter and utf8proc's own function; text that is made to be slow. */
#include "coordinator/bpe_normalize.h"
#include "coordinator/bpe_split.h"
#include "coordinator/tokenizer.h"
#include "tests/support/json_lines.h"
#include "tests/support/tokenizer_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include <cmocka.h>

struct vocabulary {
    const char *name, *pre;
    enum bpe_split_pattern pattern;
    struct tokenizer *tokenizer;
    double load_ms;
};

static json_t *read_golden(const struct vocabulary *v, const char *what)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tokenizer/%s.%s.jsonl", TEST_DATA, v->name, what);
    return json_lines_read(path);
}

static int set_up(void **state)
{
    struct vocabulary *v = *state;
    char path[512];
    snprintf(path, sizeof path, "%s/tokenizer/%s.tokenizer.json.xz", TEST_DATA, v->name);
    v->tokenizer = tokenizer_json_read(path, v->pre, &v->load_ms);
    return 0;
}

static int tear_down(void **state)
{
    struct vocabulary *v = *state;
    tokenizer_free(v->tokenizer);
    v->tokenizer = NULL;
    return 0;
}

/* ---- golden cases ---- */

static void expect_ids(const struct tokenizer *t, const char *text, size_t length, unsigned flags,
                       const json_t *expected)
{
    uint32_t *ids = NULL;
    size_t n = 0;
    struct err err = {0};
    if (tokenizer_encode(t, text, length, flags, &ids, &n, &err) != 0)
        fail_msg("\"%s\": %s", text, err.text);
    assert_true(tokenizer_fewest_tokens(t, text, length) <= n);
    bool same = n == json_array_size(expected);
    for (size_t i = 0; same && i < n; i++)
        same = ids[i] == (uint32_t)json_integer_value(json_array_get(expected, i));
    if (!same)
        fail_msg("\"%s\" gives other ids (flags %u)", text, flags);
    free(ids);
}

static void check_encoded(const struct vocabulary *v)
{
    json_t *lines = read_golden(v, "encode"), *line;
    size_t i, length;
    assert_int_equal(json_array_size(lines), 447);
    json_array_foreach(lines, i, line)
    {
        const json_t *ids = json_object_get(line, "ids");
        const json_t *as_text = json_object_get(line, "ids_special_as_text");
        char *text = json_lines_bytes(line, "hex", &length);
        expect_ids(v->tokenizer, text, length, 0, ids);
        expect_ids(v->tokenizer, text, length, TOKENIZER_SPECIALS_AS_TEXT, as_text ? as_text : ids);
        free(text);
    }
    json_decref(lines);
}

static void check_invalid(const struct vocabulary *v)
{
    json_t *lines = read_golden(v, "invalid_utf8"), *line;
    size_t i, length;
    assert_int_equal(json_array_size(lines), 52);
    json_array_foreach(lines, i, line)
    {
        char *bytes = json_lines_bytes(line, "hex", &length);
        uint32_t *ids = NULL;
        size_t n;
        struct err err = {0};
        int rc = tokenizer_encode(v->tokenizer, bytes, length, 0, &ids, &n, &err);
        free(ids);
        free(bytes);
        if (json_is_true(json_object_get(line, "valid"))) {
            assert_int_equal(rc, 0);
        } else {
            assert_int_equal(rc, ERR_INPUT);
            assert_non_null(strstr(err.text, "not valid UTF-8 at byte"));
        }
        const char *replaced = json_lines_text(line, "replaced", &length);
        expect_ids(v->tokenizer, replaced, length, 0, json_object_get(line, "ids_replaced"));
    }
    json_decref(lines);
}

static void test_golden(void **state)
{
    struct vocabulary *v = *state;
    check_encoded(v);
    check_invalid(v);
    print_message("%s: vocabulary read in %.0f ms\n", v->name, v->load_ms);
    assert_true(v->load_ms < 3000); /* 20 times what an ordinary machine takes */
}

static void test_says_where_text_is_invalid(void **state)
{
    struct vocabulary *v = *state;
    uint32_t *ids = NULL;
    size_t n;
    struct err err = {0};
    assert_int_equal(tokenizer_encode(v->tokenizer, "abc\xE4\xBD", 5, 0, &ids, &n, &err),
                     ERR_INPUT);
    assert_string_equal(err.text, "the text is not valid UTF-8 at byte 3 (0xE4)");
    assert_null(ids);
}

/* ---- splitting ---- */

static void compare_cuts(struct bpe_split_run *a, struct bpe_split_run *b, const char *text,
                         size_t length)
{
    struct err err = {0};
    for (size_t at = 0, end_a, end_b; at < length; at = end_a) {
        assert_int_equal(bpe_split_next(a, text, length, at, &end_a, &err), 0);
        assert_int_equal(bpe_split_next(b, text, length, at, &end_b, &err), 0);
        assert_int_equal(end_a, end_b);
    }
}

/* Where PCRE2 cannot make machine code its interpreter must cut alike. */
static void test_interpreter_cuts_like_machine_code(void **state)
{
    struct vocabulary *v = *state;
    struct bpe_split *split[2];
    struct bpe_split_run *run[2];
    struct err err = {0};
    for (int jit = 0; jit < 2; jit++) {
        assert_int_equal(bpe_split_new(&split[jit], v->pattern, jit, &err), 0);
        assert_int_equal(bpe_split_run_new(&run[jit], split[jit], &err), 0);
    }
    json_t *lines = read_golden(v, "encode"), *line;
    size_t i, length;
    json_array_foreach(lines, i, line)
    {
        char *text = json_lines_bytes(line, "hex", &length);
        compare_cuts(run[0], run[1], text, length);
        free(text);
    }
    json_decref(lines);
    for (int jit = 0; jit < 2; jit++) {
        bpe_split_run_free(run[jit]);
        bpe_split_free(split[jit]);
    }
}

/* ---- normalising ---- */

static uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Letters with marks of many classes, Hangul in parts, compatibility ideographs, exclusions. */
static size_t random_text(uint32_t *seed, char *out, size_t points)
{
    static const int32_t ranges[][2] = {{'a', 'z'},         {0x300, 0x36F},     {0xC0, 0x1FF},
                                        {0x1100, 0x11FF},   {0xAC00, 0xAC40},   {0x591, 0x5C7},
                                        {0xF900, 0xFA6D},   {0x1E00, 0x1FFF},   {0x900, 0xDFF},
                                        {0xFB1D, 0xFB4F},   {0x1D15E, 0x1D1C0}, {0x302A, 0x30FF},
                                        {0x11080, 0x110BF}, {0x2F800, 0x2FA1D}};
    size_t n = 0;
    for (size_t i = 0; i < points; i++) {
        const int32_t *range = ranges[random_next(seed) % (sizeof ranges / sizeof *ranges)];
        if (random_next(seed) % 2)
            range = ranges[1];
        int32_t point =
            range[0] + (int32_t)(random_next(seed) % (uint32_t)(range[1] - range[0] + 1));
        n += (size_t)utf8proc_encode_char(point, (utf8proc_uint8_t *)out + n);
    }
    return n;
}

static void test_normalises_like_utf8proc(void **state)
{
    uint32_t seed = 20240229;
    struct buf out = {0};
    struct err err = {0};
    for (int round = 0; round < 4000; round++) {
        char text[400];
        size_t n = random_text(&seed, text, 1 + random_next(&seed) % 90);
        utf8proc_uint8_t *expected;
        utf8proc_ssize_t length =
            utf8proc_map((utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, &expected,
                         (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        assert_true(length > 0);
        buf_reset(&out);
        assert_int_equal(bpe_normalize(text, n, &out, &err), 0);
        assert_int_equal(out.length, length);
        assert_memory_equal(out.data, expected, out.length);
        free(expected);
    }
    buf_clear(&out);
    assert_false(bpe_normalize_is_needed("abc\xCB\xBF", 5));
    assert_true(bpe_normalize_is_needed("abc\xCC\x80", 5));
}

/* ---- hostile text ---- */

/* Processor seconds to encode `times` repetitions of `unit`, whose tokens must spell it again. */
static double encode_repeated(const struct tokenizer *t, const char *unit, size_t times,
                              bool is_normal)
{
    struct buf text = {0}, again = {0};
    for (size_t i = 0; i < times; i++)
        buf_puts(&text, unit);
    assert_false(buf_failed(&text));
    uint32_t *ids = NULL;
    size_t n, length;
    struct err err = {0};
    clock_t start = clock();
    if (tokenizer_encode(t, text.data, text.length, 0, &ids, &n, &err) != 0)
        fail_msg("%s", err.text);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    for (size_t i = 0; i < n; i++) {
        const char *piece = tokenizer_piece(t, ids[i], &length);
        buf_append(&again, piece, length);
    }
    if (is_normal) {
        assert_int_equal(again.length, text.length);
        assert_memory_equal(again.data, text.data, text.length);
    }
    free(ids);
    buf_clear(&text);
    buf_clear(&again);
    return seconds;
}

static void test_no_text_is_slow(void **state)
{
    struct vocabulary *v = *state;
    static const struct {
        const char *unit;
        size_t times;
        bool is_normal;
    } cases[] = {
        {"a", 200000, true},
        {"abcdefghijklmnopqrstuvwxyzzyxwvutsrqponmlkjihgfedcba", 4000, true},
        {"\xE4\xBD\xA0\xE5\xA5\xBD", 40000, true},
        {" ", 1000000, true},
        {"\n", 1000000, true},
        {" \n", 500000, true},
        {"\t ", 500000, true},
        {"!", 200000, true},
        {"!\r\n", 200000, true},
        {"<", 200000, true},
        {"<|im_en", 50000, true},
        {"'", 200000, true},
        {"\xCD\x85\xCC\x80\xCC\x9B\xD6\xB0", 50000, false}, /* classes 240, 230, 216, 10 */
        {"\xE0\xA4\x95\xE0\xA4\xBC", 50000, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds =
            encode_repeated(v->tokenizer, cases[i].unit, cases[i].times, cases[i].is_normal);
        if (seconds > 2)
            fail_msg("%zu times \"%s\" takes %.2f s", cases[i].times, cases[i].unit, seconds);
    }
}

/* ---- special tokens ---- */

static void test_specials(void **state)
{
    struct vocabulary *v = *state;
    const struct tokenizer *t = v->tokenizer;
    const uint32_t *ends;
    size_t length;
    assert_int_equal(tokenizer_find(t, "<|endoftext|>"), 151643);
    assert_int_equal(tokenizer_find(t, "<|im_end|>"), 151645);
    assert_int_equal(tokenizer_find(t, "<tool_call>"), 151657);
    assert_int_equal(tokenizer_find(t, "the"), -1);
    assert_int_equal(tokenizer_find(t, ""), -1);
    assert_true(tokenizer_is_control(t, 151645));
    assert_false(tokenizer_is_control(t, 151657));
    assert_false(tokenizer_is_control(t, UINT32_MAX));
    assert_int_equal(tokenizer_size(t), 151665);
    assert_string_equal(tokenizer_piece(t, 151645, &length), "<|im_end|>");
    assert_int_equal(length, 10);
    assert_string_equal(tokenizer_piece(t, 151665, &length), "");
    assert_int_equal(tokenizer_end_ids(t, &ends), 5);
    assert_int_equal(ends[0], 151645);
    assert_int_equal(ends[1], 151643);
    assert_int_equal(ends[2], tokenizer_find(t, "<|fim_pad|>"));
}

/* ---- vocabularies made for the purpose ---- */

static const char *const letters[] = {"a",   "b",  "c",   "ab",     "bc",       "<x>", "<x><y>",
                                      "<y>", "cc", "[P]", "<0x0A>", "\xC4\xA0", "[P]"};
static const enum token_kind letter_kinds[] = {
    TOKEN_NORMAL,  TOKEN_NORMAL,  TOKEN_NORMAL,       TOKEN_NORMAL, TOKEN_NORMAL,
    TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_NORMAL, TOKEN_UNUSED,
    TOKEN_BYTE,    TOKEN_NORMAL,  TOKEN_UNUSED};
#define N_LETTERS (sizeof letters / sizeof *letters)
static const char *const letter_merges[] = {"b c", "a b", "c c"};

static struct tokenizer_source small_source(void)
{
    return (struct tokenizer_source){.n_tokens = N_LETTERS,
                                     .tokens = letters,
                                     .kinds = letter_kinds,
                                     .n_merges = 3,
                                     .merges = letter_merges,
                                     .end_of_text = 5,
                                     .begin_of_text = -1};
}

static void expect_small(const char *text, unsigned flags, const uint32_t *expected, size_t n)
{
    struct tokenizer_source s = small_source();
    struct tokenizer *t;
    struct err err = {0};
    uint32_t *ids;
    size_t count;
    assert_int_equal(tokenizer_new(&t, &s, &err), 0);
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &ids, &count, &err), 0);
    assert_int_equal(count, n);
    assert_memory_equal(ids, expected, n * sizeof *ids);
    free(ids);
    tokenizer_free(t);
}
#define EXPECT_SMALL(text, flags, ...)                                                             \
    expect_small(text, flags, (const uint32_t[]){__VA_ARGS__},                                     \
                 sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void test_small_vocabulary(void **state)
{
    EXPECT_SMALL("abc", 0, 0, 4);         /* the lower rank first, wherever it stands */
    EXPECT_SMALL("ccc", 0, 8, 2);         /* of equal ones the left first */
    EXPECT_SMALL("a<x><y>b", 0, 0, 6, 1); /* the longest */
    EXPECT_SMALL("a<x>b<y>", 0, 0, 5, 1, 7);
    EXPECT_SMALL("ab\n c", 0, 3, 10, 11, 2);
    EXPECT_SMALL("<y>", TOKENIZER_SPECIALS_AS_TEXT, 7);
    struct tokenizer_source s = small_source();
    struct tokenizer *t;
    struct err err = {0};
    uint32_t *ids = NULL;
    size_t n, length;
    assert_int_equal(tokenizer_new(&t, &s, &err), 0);
    assert_string_equal(tokenizer_piece(t, 9, &length), ""); /* unused: no text */
    assert_string_equal(tokenizer_piece(t, 10, &length), "\n");
    assert_int_equal(tokenizer_longest_token(t), 6); /* the unused one, and <0x0A>, are shorter */
    assert_int_equal(tokenizer_fewest_tokens(t, "", 0), 0);
    assert_int_equal(tokenizer_fewest_tokens(t, "cccccc", 6), 1);
    assert_int_equal(tokenizer_fewest_tokens(t, "ccccccc", 7), 2);
    /* Form C may compose a mark with what is before it. */
    assert_int_equal(tokenizer_fewest_tokens(t, "ccccccu\xCC\x88\xCC\x84", 11), 2);
    assert_int_equal(tokenizer_fewest_tokens(t, "cccccu\xCC\x88\xCC\x84", 10), 1);
    assert_int_equal(tokenizer_encode(t, "<x>", 3, TOKENIZER_SPECIALS_AS_TEXT, &ids, &n, &err),
                     ERR_INPUT);
    assert_string_equal(err.text, "the model's vocabulary has no token for the byte 0x3C");
    assert_null(ids);
    tokenizer_free(t);
}

static void expect_refused(const struct tokenizer_source *s, const char *param,
                           const char *sentence)
{
    struct tokenizer *t = NULL;
    struct err err = {0};
    assert_int_equal(tokenizer_new(&t, s, &err), ERR_MODEL);
    assert_null(t);
    assert_string_equal(err.param, param);
    if (!strstr(err.text, sentence))
        fail_msg("\"%s\" does not say \"%s\"", err.text, sentence);
}

static void refuse_merge(const char *merge, const char *sentence)
{
    const char *merges[] = {"b c", merge};
    struct tokenizer_source s = small_source();
    s.merges = merges;
    s.n_merges = 2;
    expect_refused(&s, "merges", sentence);
}

static void refuse_token(const char *token, enum token_kind kind, const char *sentence)
{
    const char *tokens[N_LETTERS];
    enum token_kind kinds[N_LETTERS];
    memcpy(tokens, letters, sizeof letters);
    memcpy(kinds, letter_kinds, sizeof letter_kinds);
    tokens[11] = token;
    kinds[11] = kind;
    struct tokenizer_source s = small_source();
    s.tokens = tokens;
    s.kinds = kinds;
    expect_refused(&s, "tokens", sentence);
}

static void test_refusals(void **state)
{
    refuse_merge("ab", "merge 1 (\"ab\") is not two tokens");
    refuse_merge("a b c", "is not two tokens");
    refuse_merge(" b", "is not two tokens");
    refuse_merge("a ", "is not two tokens");
    refuse_merge("", "is not two tokens");
    refuse_merge("zz b", "has a part that is not in the vocabulary");
    refuse_merge("a zz", "has a part that is not in the vocabulary");
    refuse_merge("a c", "the result of merge 1 (\"a c\") is not in the vocabulary");
    refuse_merge("b c", "merge 1 repeats merge 0");
    refuse_token("ab", TOKEN_NORMAL, "token 11 (\"ab\") repeats token 3");
    refuse_token("<x>", TOKEN_CONTROL, "repeats token 5");
    refuse_token("", TOKEN_NORMAL, "token 11 is empty");
    refuse_token("\xC3", TOKEN_CONTROL, "token 11 is not valid UTF-8");
    refuse_token("<0xZZ>", TOKEN_BYTE, "marked as a byte");
    struct tokenizer_source s = small_source();
    s.end_of_text = (int64_t)N_LETTERS;
    expect_refused(&s, "eos_token_id", "13 is not the id of one of the 13 tokens");
    s = small_source();
    s.begin_of_text = -2;
    expect_refused(&s, "bos_token_id", "-2 is not the id");
    s = small_source();
    s.pre = "llama-bpe";
    expect_refused(&s, "pre", "the pre-tokenizer \"llama-bpe\" is not known");
    s = small_source();
    s.n_tokens = 0;
    expect_refused(&s, "tokens", "cannot have 0 tokens");
}

int main(void)
{
    struct vocabulary v25 = {"qwen2.5", "qwen2", BPE_SPLIT_QWEN2, NULL, 0},
                      v3 = {"qwen3", "qwen2", BPE_SPLIT_QWEN2, NULL, 0},
                      v35 = {"qwen3.5", "qwen35", BPE_SPLIT_QWEN35, NULL, 0};
    const struct CMUnitTest tests[] = {
        {"golden qwen2.5", test_golden, set_up, tear_down, &v25},
        {"golden qwen3", test_golden, set_up, tear_down, &v3},
        {"golden qwen3.5", test_golden, set_up, tear_down, &v35},
        {"invalid text", test_says_where_text_is_invalid, set_up, tear_down, &v25},
        {"cuts of qwen2", test_interpreter_cuts_like_machine_code, NULL, NULL, &v25},
        {"cuts of qwen35", test_interpreter_cuts_like_machine_code, NULL, NULL, &v35},
        {"specials", test_specials, set_up, tear_down, &v25},
        {"no text is slow, qwen2", test_no_text_is_slow, set_up, tear_down, &v25},
        {"no text is slow, qwen35", test_no_text_is_slow, set_up, tear_down, &v35},
        cmocka_unit_test(test_normalises_like_utf8proc),
        cmocka_unit_test(test_small_vocabulary),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
