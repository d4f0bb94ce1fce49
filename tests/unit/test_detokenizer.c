/* Ids to text against golden cases of three vocabularies: whole, streamed, and invalid UTF-8. */
#include "coordinator/detokenizer.h"
#include "tests/support/json_lines.h"
#include "tests/support/tokenizer_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct vocabulary {
    const char *name, *pre;
    struct tokenizer *tokenizer;
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
    v->tokenizer = tokenizer_json_read(path, v->pre, NULL);
    return 0;
}

static int tear_down(void **state)
{
    struct vocabulary *v = *state;
    tokenizer_free(v->tokenizer);
    v->tokenizer = NULL;
    return 0;
}

/* Takes what out holds, compares, empties it. */
static void expect_text(struct buf *out, const char *text, size_t length)
{
    assert_non_null(text);
    assert_false(buf_failed(out));
    if (out->length != length || memcmp(buf_text(out), text, length) != 0)
        fail_msg("\"%s\" is not \"%s\"", buf_text(out), text);
    buf_reset(out);
}

static void push_all(const struct tokenizer *t, const json_t *ids, bool skip_control,
                     struct buf *out)
{
    struct detokenizer d;
    detokenizer_init(&d, t, skip_control);
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id) detokenizer_push(&d, (uint32_t)json_integer_value(id), out);
    detokenizer_finish(&d, out);
}

static void check_encoded(const struct vocabulary *v)
{
    json_t *lines = read_golden(v, "encode"), *line;
    struct buf out = {0};
    size_t i, length, skipped_length;
    assert_int_equal(json_array_size(lines), 447);
    json_array_foreach(lines, i, line)
    {
        const json_t *ids = json_object_get(line, "ids");
        const char *decoded = json_lines_text(line, "decoded", &length);
        if (!decoded)
            decoded = json_lines_text(line, "text", &length);
        push_all(v->tokenizer, ids, false, &out);
        expect_text(&out, decoded, length);
        const char *skipped = json_lines_text(line, "decoded_skip_special", &skipped_length);
        push_all(v->tokenizer, ids, true, &out);
        expect_text(&out, skipped ? skipped : decoded, skipped ? skipped_length : length);
    }
    buf_clear(&out);
    json_decref(lines);
}

static void check_streamed(const struct vocabulary *v)
{
    json_t *lines = read_golden(v, "stream"), *line;
    struct buf out = {0};
    size_t i, length;
    assert_int_equal(json_array_size(lines), 126);
    json_array_foreach(lines, i, line)
    {
        const json_t *ids = json_object_get(line, "ids"), *pieces = json_object_get(line, "pieces");
        struct detokenizer d;
        detokenizer_init(&d, v->tokenizer, false);
        assert_int_equal(json_array_size(ids), json_array_size(pieces));
        for (size_t k = 0; k < json_array_size(ids); k++) {
            const json_t *piece = json_array_get(pieces, k);
            detokenizer_push(&d, (uint32_t)json_integer_value(json_array_get(ids, k)), &out);
            expect_text(&out, json_string_value(piece), json_string_length(piece));
        }
        detokenizer_finish(&d, &out);
        const char *text = json_lines_text(line, "tail", &length);
        expect_text(&out, text, length);
        text = json_lines_text(line, "text", &length);
        push_all(v->tokenizer, ids, false, &out);
        expect_text(&out, text, length);
        text = json_lines_text(line, "text_skip_special", &length);
        push_all(v->tokenizer, ids, true, &out);
        expect_text(&out, text, length);
    }
    buf_clear(&out);
    json_decref(lines);
}

/* Tokens of one byte, so that any bytes can be spelled. */
static void find_byte_ids(const struct tokenizer *t, uint32_t byte_ids[256])
{
    int found = 0;
    for (uint32_t id = 0; id < tokenizer_size(t); id++) {
        size_t length;
        const char *piece = tokenizer_piece(t, id, &length);
        if (length == 1) {
            byte_ids[(unsigned char)piece[0]] = id;
            found++;
        }
    }
    assert_int_equal(found, 256);
}

static void check_invalid(const struct vocabulary *v)
{
    json_t *lines = read_golden(v, "invalid_utf8"), *line;
    uint32_t byte_ids[256];
    find_byte_ids(v->tokenizer, byte_ids);
    struct buf out = {0};
    size_t i, length;
    assert_int_equal(json_array_size(lines), 52);
    json_array_foreach(lines, i, line)
    {
        struct detokenizer d;
        detokenizer_init(&d, v->tokenizer, false);
        char *bytes = json_lines_bytes(line, "hex", &length);
        for (size_t k = 0; k < length; k++)
            detokenizer_push(&d, byte_ids[(unsigned char)bytes[k]], &out);
        detokenizer_finish(&d, &out);
        free(bytes);
        const char *replaced = json_lines_text(line, "replaced", &length);
        expect_text(&out, replaced, length);
    }
    buf_clear(&out);
    json_decref(lines);
}

static void test_vocabulary(void **state)
{
    check_encoded(*state);
    check_streamed(*state);
    check_invalid(*state);
}

static void test_id_beyond_the_vocabulary_has_no_text(void **state)
{
    struct vocabulary *v = *state;
    struct detokenizer d;
    struct buf out = {0};
    detokenizer_init(&d, v->tokenizer, false);
    detokenizer_push(&d, (uint32_t)tokenizer_size(v->tokenizer), &out);
    detokenizer_push(&d, UINT32_MAX, &out);
    detokenizer_finish(&d, &out);
    assert_int_equal(out.length, 0);
    buf_clear(&out);
}

int main(void)
{
    struct vocabulary v25 = {"qwen2.5", "qwen2", NULL}, v3 = {"qwen3", "qwen2", NULL},
                      v35 = {"qwen3.5", "qwen35", NULL};
    const struct CMUnitTest tests[] = {
        {"qwen2.5", test_vocabulary, set_up, tear_down, &v25},
        {"qwen3", test_vocabulary, set_up, tear_down, &v3},
        {"qwen3.5", test_vocabulary, set_up, tear_down, &v35},
        {"id beyond", test_id_beyond_the_vocabulary_has_no_text, set_up, tear_down, &v25},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
