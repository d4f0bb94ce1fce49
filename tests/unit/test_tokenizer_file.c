/* Tokenizers from the metadata of model files: small models, broken ones and, where it has been
 * fetched, a published one. */
#include "coordinator/tokenizer.h"
#include "model/weight_file.h"
#include "tests/support/json_lines.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int read_file(const char *path, struct tokenizer **ret_tokenizer, struct err *err)
{
    struct weight_file *f = NULL;
    if (weight_file_open(&f, path, err) != 0)
        fail_msg("%s", err->text);
    int rc = tokenizer_from_file(ret_tokenizer, f, err);
    weight_file_close(f);
    return rc;
}

static void expect_refused(const char *name, const char *sentence)
{
    char path[512], expected[1024];
    snprintf(path, sizeof path, "%s/malformed/%s", TEST_DATA, name);
    snprintf(expected, sizeof expected, "%s: %s", path, sentence);
    struct tokenizer *t = NULL;
    struct err err = {0};
    assert_int_equal(read_file(path, &t, &err), ERR_MODEL);
    assert_null(t);
    assert_string_equal(err.text, expected);
}

static void test_broken_files(void **state)
{
    expect_refused("merges_bad.gguf", "tokenizer.ggml.merges: merge 0 (\"ab\") is not two tokens "
                                      "with a space between them");
    expect_refused("tokens_duplicate.gguf",
                   "tokenizer.ggml.tokens: token 1 (\"a\") repeats token 0");
    expect_refused("tokens_fewer_than_rows.gguf",
                   "tokenizer.ggml.tokens has 16 tokens, but token_embd.weight has 32 rows");
    expect_refused("eos_out_of_range.gguf",
                   "tokenizer.ggml.eos_token_id: 1000000000 is not the id of one of the 32 tokens");
}

static void test_the_valid_file_they_were_made_from(void **state)
{
    struct tokenizer *t = NULL;
    struct err err = {0};
    if (read_file(TEST_DATA "/malformed/ok.gguf", &t, &err) != 0)
        fail_msg("%s", err.text);
    const uint32_t *ends;
    assert_int_equal(tokenizer_size(t), 32);
    assert_int_equal(tokenizer_end_ids(t, &ends), 1);
    assert_int_equal(ends[0], 31);
    tokenizer_free(t);
}

/* The tokenizer of a small model is the beginning of the published vocabulary. */
static void test_small_models(void **state)
{
    glob_t found;
    assert_int_equal(glob(TEST_DATA "/models/*/gguf/*.gguf", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct tokenizer *t = NULL;
        struct err err = {0};
        if (read_file(found.gl_pathv[i], &t, &err) != 0)
            fail_msg("%s", err.text);
        static const char text[] = "Hello, world! caf\xC3\xA9 \xE4\xBD\xA0\n<|im_end|>";
        uint32_t *ids;
        size_t n, length, at = 0;
        assert_int_equal(tokenizer_encode(t, text, strlen(text), 0, &ids, &n, &err), 0);
        assert_int_equal(ids[n - 1], tokenizer_find(t, "<|im_end|>"));
        assert_true(n < strlen(text) - strlen("<|im_end|>"));
        for (size_t k = 0; k < n; k++) {
            const char *piece = tokenizer_piece(t, ids[k], &length);
            assert_memory_equal(text + at, piece, length);
            at += length;
        }
        assert_int_equal(at, strlen(text));
        free(ids);
        /* Rows without a token have no text. */
        assert_string_equal(tokenizer_piece(t, (uint32_t)tokenizer_size(t) - 1, &length), "");
        tokenizer_free(t);
    }
    globfree(&found);
}

static void check_prompt(const struct tokenizer *t, const json_t *prompt)
{
    const char *text = json_string_value(json_object_get(prompt, "prompt"));
    const json_t *expected = json_object_get(prompt, "ids");
    uint32_t *ids;
    size_t n;
    struct err err = {0};
    if (tokenizer_encode(t, text, strlen(text), 0, &ids, &n, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(n, json_array_size(expected));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(ids[i], json_integer_value(json_array_get(expected, i)));
    free(ids);
}

static void test_published_model(void **state)
{
    static const char name[] = "models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
    char path[1024];
    const char *home = getenv("PACELINE_HOME");
    if (home)
        snprintf(path, sizeof path, "%s/%s", home, name);
    else
        snprintf(path, sizeof path, "%s/.cache/paceline/%s", getenv("HOME"), name);
    FILE *there = fopen(path, "rb");
    if (!there)
        skip();
    fclose(there);
    json_error_t error;
    json_t *golden = json_load_file(TEST_DATA "/real/qwen2.5-coder-0.5b.json", 0, &error);
    assert_non_null(golden);
    struct tokenizer *t = NULL;
    struct err err = {0};
    if (read_file(path, &t, &err) != 0)
        fail_msg("%s", err.text);
    size_t i;
    json_t *prompt;
    assert_true(json_array_size(json_object_get(golden, "prompts")) > 0);
    json_array_foreach(json_object_get(golden, "prompts"), i, prompt) check_prompt(t, prompt);
    tokenizer_free(t);
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_the_valid_file_they_were_made_from),
        cmocka_unit_test(test_small_models),
        cmocka_unit_test(test_published_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
