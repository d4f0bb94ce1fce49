/* The GGUF reader against files that are valid, broken, cut and bent. What must be refused comes
 * from tests/data/malformed/index.json; no outcome but "accepted" or "one sentence" is allowed. */
#include "base/buf.h"
#include "model/gguf.h"
#include "model/model_config.h"
#include "model/weight_file.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MALFORMED TEST_DATA "/malformed/"
#define SHARDED   TEST_DATA "/models/qwen3-sharded/gguf/"

static void read_whole(const char *path, struct buf *to)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char block[4096];
    for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0;)
        buf_append(to, block, n);
    fclose(file);
    assert_false(buf_failed(to));
}

static void write_whole(const char *path, const char *data, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* A folder of our own for files that a test makes. */
static int make_folder(void **state)
{
    static char folder[64];
    strcpy(folder, "/tmp/test_weight_file.XXXXXX");
    *state = mkdtemp(folder);
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", (const char *)*state);
    return system(command);
}

static struct weight_file *open_good(const char *path)
{
    struct weight_file *f = NULL;
    struct err err = {0};
    if (weight_file_open(&f, path, &err) != 0)
        fail_msg("%s", err.text);
    return f;
}

static void expect_refused(const char *path, int code, const char *words)
{
    struct weight_file *f = NULL;
    struct err err = {0};
    assert_int_equal(weight_file_open(&f, path, &err), code);
    assert_null(f);
    assert_int_equal(err.code, code);
    if (!strstr(err.text, words))
        fail_msg("expected '%s' in: %s", words, err.text);
}

static void test_metadata(void **state)
{
    (void)state;
    struct weight_file *f = open_good(MALFORMED "ok.gguf");
    size_t length = 0;
    int64_t integer;
    double real;
    bool boolean;
    assert_string_equal(weight_file_path(f), MALFORMED "ok.gguf");
    assert_int_equal(weight_file_bytes(f), 5760);
    assert_string_equal(weight_file_string(f, "general.architecture", &length), "qwen2");
    assert_int_equal(length, 5);
    assert_true(weight_file_integer(f, "qwen2.context_length", &integer));
    assert_int_equal(integer, 64);
    assert_true(weight_file_real(f, "qwen2.rope.freq_base", &real));
    assert_true(real == 10000.0);
    assert_true(weight_file_real(f, "qwen2.context_length", &real));
    assert_true(real == 64.0);
    assert_true(weight_file_has(f, "tokenizer.ggml.merges"));
    assert_false(weight_file_has(f, "tokenizer.ggml.merge"));
    assert_int_equal(weight_file_array_count(f, "tokenizer.ggml.tokens"), 32);
    assert_string_equal(weight_file_array_string(f, "tokenizer.ggml.tokens", 2, &length), "c");
    assert_int_equal(length, 1);
    assert_true(weight_file_array_integer(f, "tokenizer.ggml.token_type", 31, &integer));
    assert_int_equal(weight_file_array_count(f, "tokenizer.ggml.merges"), 0);
    /* of another kind, out of range, absent */
    assert_null(weight_file_array_string(f, "tokenizer.ggml.tokens", 32, &length));
    assert_null(weight_file_array_string(f, "tokenizer.ggml.tokens", -1, &length));
    assert_null(weight_file_string(f, "qwen2.context_length", NULL));
    assert_null(weight_file_string(f, "tokenizer.ggml.tokens", NULL));
    assert_false(weight_file_integer(f, "general.architecture", &integer));
    assert_false(weight_file_integer(f, "qwen2.rope.freq_base", &integer));
    assert_false(weight_file_boolean(f, "qwen2.context_length", &boolean));
    assert_false(weight_file_array_real(f, "tokenizer.ggml.tokens", 0, &real));
    assert_int_equal(weight_file_array_count(f, "general.architecture"), -1);
    assert_int_equal(weight_file_array_count(f, "no.such.key"), -1);
    weight_file_close(f);
}

static void test_tensors(void **state)
{
    (void)state;
    struct weight_file *f = open_good(MALFORMED "ok.gguf");
    assert_int_equal(weight_file_tensor_count(f), 15);
    assert_string_equal(weight_file_tensor(f, 0)->name, "token_embd.weight");
    assert_null(weight_file_tensor(f, 15));
    assert_null(weight_file_find(f, "blk.0.attn_q"));
    const struct tensor *t = weight_file_find(f, "blk.0.attn_k.weight");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 8);
    assert_int_equal(t->dims[1], 4);
    assert_int_equal(t->dims[2], 1);
    assert_int_equal(t->bytes, 8 * 4 * 4);
    /* the data begins at byte 1984 of this file, this tensor 2400 bytes later */
    struct buf bytes;
    buf_init(&bytes);
    read_whole(MALFORMED "ok.gguf", &bytes);
    assert_memory_equal(t->data, bytes.data + 1984 + 2400, t->bytes);
    /* dropped pages come back with the same content */
    weight_file_release(f, t);
    weight_file_prefetch(f, t);
    assert_memory_equal(t->data, bytes.data + 1984 + 2400, t->bytes);
    buf_clear(&bytes);
    weight_file_close(f);
}

/* Opening and reading the configuration; 0 or the error, whose sentence must be one. */
static int open_and_read(const char *path, struct err *err)
{
    struct weight_file *f = NULL;
    struct model_config config;
    *err = (struct err){0};
    int rc = weight_file_open(&f, path, err);
    if (rc == 0)
        rc = model_config_read(&config, f, err);
    weight_file_close(f);
    if (rc != 0) {
        assert_true(rc < 0);
        assert_int_equal(err->code, rc);
        assert_true(strlen(err->text) > strlen(path) + 10);
        assert_int_equal(strncmp(err->text, path, strlen(path)), 0);
    }
    return rc;
}

static void test_malformed(void **state)
{
    (void)state;
    json_error_t error;
    json_t *index = json_load_file(MALFORMED "index.json", 0, &error), *one;
    assert_non_null(index);
    size_t i, n_refused = 0;
    json_array_foreach(json_object_get(index, "cases"), i, one)
    {
        if (strcmp(json_string_value(json_object_get(one, "kind")), "gguf") != 0)
            continue;
        char path[512];
        struct err err;
        snprintf(path, sizeof path, MALFORMED "%s",
                 json_string_value(json_object_get(one, "file")));
        int rc = open_and_read(path, &err);
        if (strcmp(json_string_value(json_object_get(one, "expect")), "refuse") != 0)
            continue;
        if (rc != ERR_MODEL)
            fail_msg("%s: %s: returned %d", path, json_string_value(json_object_get(one, "reason")),
                     rc);
        n_refused++;
    }
    assert_int_equal(n_refused, 64);
    json_decref(index);
}

/* The sentences say what is wrong, where, and what to do. */
static void test_sentences(void **state)
{
    (void)state;
    static const struct {
        const char *file, *words;
    } cases[] = {
        {"one_byte_short.gguf",
         "truncated: its tensors need 5760 bytes, the file has 5759; download"},
        {"zero_size.gguf", "the file is empty; download it again"},
        {"wrong_magic.gguf", "not a GGUF file"},
        {"big_endian.gguf", "big-endian"},
        {"version_99.gguf", "GGUF version 99; versions 2 and 3 are read"},
        {"dup_key.gguf", "'general.architecture' appears twice"},
        {"align_not_pow2.gguf", "general.alignment is 33; it must be a power of two"},
        {"type_bad.gguf", "type number 99, which GGUF does not define"},
        {"norm_integer_type.gguf", "of type I32, which this version cannot compute with"},
        {"norm_integer_type.gguf", "F32, F16, Q4_0"},
        {"dup_tensor.gguf", "is there twice"},
        {"offset_overlap.gguf", "share bytes"},
        {"array_nested_deep.gguf", "nests arrays more than"},
        {"huge_tensor_count.gguf", "announces 4611686018427387904 tensors"},
        {"arch_unknown.gguf", "'llamaqwen' is not supported; this version runs: qwen2, qwen3"},
        {"arch_wrong_type.gguf", "'general.architecture' is not a text"},
        {"blocks_huge.gguf", "'qwen2.block_count' is 4294967295; 1 to 1024"},
        {"missing_tensor.gguf", "'blk.0.attn_q.weight' is missing"},
        {"wrong_shape.gguf", "'blk.0.ffn_down.weight' is 4 x 8"},
        {"heads_not_multiple.gguf", "3 attention heads cannot share 2"},
        {"eps_nan.gguf", "layer_norm_rms_epsilon"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        struct err err;
        snprintf(path, sizeof path, MALFORMED "%s", cases[i].file);
        assert_int_equal(open_and_read(path, &err), ERR_MODEL);
        if (!strstr(err.text, cases[i].words))
            fail_msg("expected '%s' in: %s", cases[i].words, err.text);
    }
    expect_refused(TEST_DATA, ERR_MODEL, "a directory, not a file");
    expect_refused("/dev/null", ERR_MODEL, "a device or pipe");
    expect_refused(MALFORMED "nothing.gguf", ERR_IO, "cannot open the model file");
}

/* The reader on memory that ends with an unreadable byte (under ASAN), so no mapping's last page
 * hides a read past the end. */
static int parse_copy(const char *data, size_t length)
{
    unsigned char *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    memcpy(copy, data, length);
    struct gguf g;
    struct err err = {0};
    int rc = gguf_parse(&g, copy, length, "cut.gguf", &err);
    if (rc < 0)
        assert_true(err.code == rc && err.text[0] != '\0');
    gguf_clear(&g);
    free(copy);
    return rc;
}

static void test_every_length(void **state)
{
    (void)state;
    struct buf whole;
    buf_init(&whole);
    read_whole(MALFORMED "ok.gguf", &whole);
    for (size_t length = 0; length < whole.length; length++)
        if (parse_copy(whole.data, length) != ERR_MODEL)
            fail_msg("accepted when cut to %zu bytes", length);
    assert_int_equal(parse_copy(whole.data, whole.length), 0);
    buf_clear(&whole);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Flipped bytes in the header: any outcome but a crash; most must be noticed. */
static void test_flipped_bytes(void **state)
{
    const char *folder = *state;
    char path[128];
    struct buf whole;
    buf_init(&whole);
    read_whole(MALFORMED "ok.gguf", &whole);
    snprintf(path, sizeof path, "%s/bent.gguf", folder);
    uint32_t seed = 3;
    int n_refused = 0;
    for (int round = 0; round < 1500; round++) {
        char kept[4];
        size_t at[4];
        int n = 1 + (int)(next_random(&seed) % 4);
        for (int i = 0; i < n; i++) {
            at[i] = next_random(&seed) % 1984;
            kept[i] = whole.data[at[i]];
            whole.data[at[i]] = (char)next_random(&seed);
        }
        write_whole(path, whole.data, whole.length);
        struct err err;
        n_refused += open_and_read(path, &err) < 0;
        for (int i = n - 1; i >= 0; i--)
            whole.data[at[i]] = kept[i];
    }
    assert_true(n_refused > 500);
    buf_clear(&whole);
}

static void test_set(void **state)
{
    (void)state;
    for (int number = 1; number <= 3; number++) {
        char path[512];
        int64_t count;
        snprintf(path, sizeof path, SHARDED "split/qwen3-sharded-Q8_0-%05d-of-00003.gguf", number);
        struct weight_file *f = open_good(path);
        assert_string_equal(weight_file_path(f),
                            SHARDED "split/qwen3-sharded-Q8_0-00001-of-00003.gguf");
        assert_int_equal(weight_file_tensor_count(f), 36);
        assert_int_equal(weight_file_part_count(f), 3);
        assert_int_equal(weight_file_bytes(f), 156032 + 77728 + 75616);
        assert_string_equal(weight_file_tensor(f, 12)->name, "blk.0.attn_v.weight");
        assert_non_null(weight_file_find(f, "output_norm.weight"));
        assert_true(weight_file_integer(f, "qwen3.block_count", &count));
        assert_int_equal(count, 3);
        weight_file_close(f);
    }
}

static void copy_part(const char *folder, int from, const char *as)
{
    char path[512];
    struct buf bytes;
    buf_init(&bytes);
    snprintf(path, sizeof path, SHARDED "split/qwen3-sharded-Q8_0-%05d-of-00003.gguf", from);
    read_whole(path, &bytes);
    snprintf(path, sizeof path, "%s/%s", folder, as);
    write_whole(path, bytes.data, bytes.length);
    buf_clear(&bytes);
}

static void test_set_incomplete(void **state)
{
    const char *folder = *state;
    char path[256];
    copy_part(folder, 1, "m-00001-of-00003.gguf");
    copy_part(folder, 3, "m-00003-of-00003.gguf");
    snprintf(path, sizeof path, "%s/m-00003-of-00003.gguf", folder);
    expect_refused(path, ERR_MODEL, "part 2 of 3 is missing");
    copy_part(folder, 3, "m-00002-of-00003.gguf"); /* under another's name */
    expect_refused(path, ERR_MODEL, "named part 2 of 3, but inside it is part 3 of 3");
    copy_part(folder, 2, "m-00002-of-00003.gguf");
    weight_file_close(open_good(path));
    copy_part(folder, 1, "alone.gguf");
    snprintf(path, sizeof path, "%s/alone.gguf", folder);
    expect_refused(path, ERR_MODEL, "one of 3 parts, but its name does not end in");
    copy_part(folder, 1, "n-00001-of-00002.gguf");
    copy_part(folder, 2, "n-00002-of-00002.gguf");
    snprintf(path, sizeof path, "%s/n-00001-of-00002.gguf", folder);
    expect_refused(path, ERR_MODEL, "named part 1 of 2, but inside it is part 1 of 3");
}

static void test_shown_names(void **state)
{
    (void)state;
    char to[GGUF_SHOWN_BYTES], name[200];
    assert_string_equal(gguf_show("a\x1b[2Jb", 6, to), "a?[2Jb");
    assert_string_equal(gguf_show("sch\xc3\xb6n", 6, to), "sch\xc3\xb6n");
    assert_string_equal(gguf_show("\xff\x41", 2, to), "?A");
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = "\xc3\xb6"[(i + 1) % 2]; /* starts inside a character */
    gguf_show(name + 1, sizeof name - 1, to);
    assert_true(strlen(to) < sizeof to);
    assert_string_equal(to + strlen(to) - 3, "...");
}

struct hooked {
    int provided, released, closed;
};

static int hook_provide(void *context, size_t index, const void **ret_data, struct err *err)
{
    static const float rows[2][32];
    struct hooked *h = context;
    if (index == 1)
        return err_set(err, ERR_NETWORK, "it did not come");
    h->provided++;
    *ret_data = rows;
    return 0;
}

static void hook_release(void *context, size_t index)
{
    assert_int_equal(index, 0);
    ((struct hooked *)context)->released++;
}

static void hook_close(void *context)
{
    ((struct hooked *)context)->closed++;
}

/* One that is put together: tensors by name, bytes when they are asked for, no metadata. */
static void test_assembled(void **state)
{
    (void)state;
    struct hooked hooked = {0};
    const struct weight_hooks hooks = {hook_provide, hook_release, hook_close, &hooked};
    struct tensor tensors[] = {
        {.name = "b", .type = 0, .n_dims = 2, .dims = {32, 2, 1, 1}, .bytes = 256},
        {.name = "a", .type = 8, .n_dims = 1, .dims = {32, 1, 1, 1}, .bytes = 34}};
    struct weight_file *f = NULL;
    struct err err = {0};
    assert_int_equal(weight_file_assemble(&f, "shipped", tensors, 2, &hooks, &err), 0);
    assert_string_equal(weight_file_path(f), "shipped");
    assert_int_equal(weight_file_bytes(f), 290);
    assert_false(weight_file_has(f, "general.name"));
    const struct tensor *b = weight_file_find(f, "b"), *a = weight_file_find(f, "a");
    assert_true(b && a && !b->data && weight_file_tensor(f, 0) == b);
    assert_int_equal(weight_file_provide(f, b, &err), 0);
    assert_non_null(b->data);
    assert_int_equal(weight_file_provide(f, a, &err), ERR_NETWORK);
    assert_null(a->data);
    weight_file_release(f, b);
    weight_file_close(f);
    assert_true(hooked.provided == 1 && hooked.released == 1 && hooked.closed == 1);

    struct tensor bad[2];
    for (int i = 0; i < 6; i++) {
        memcpy(bad, tensors, sizeof bad);
        if (i == 0)
            bad[1].type = 24;
        if (i == 1)
            bad[0].bytes = 255;
        if (i == 2)
            bad[1].dims[0] = 16; /* half a block */
        if (i == 3)
            bad[0].dims[3] = (int64_t)1 << 62;
        if (i == 4)
            bad[0].dims[1] = 0;
        if (i == 5)
            bad[1].name = "b";
        assert_int_equal(weight_file_assemble(&f, "shipped", bad, 2, &hooks, &err), ERR_MODEL);
    }
    assert_int_equal(hooked.closed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test_setup_teardown(test_flipped_bytes, make_folder, remove_folder),
        cmocka_unit_test(test_set),
        cmocka_unit_test_setup_teardown(test_set_incomplete, make_folder, remove_folder),
        cmocka_unit_test(test_shown_names),
        cmocka_unit_test(test_assembled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
