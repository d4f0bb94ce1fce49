/* Configurations of the tiny models against the model.json that describes them, and what a bent
 * copy must be refused for. PACELINE_ORACLE=DIR: all models of a full set instead. */
#include "base/buf.h"
#include "kernels/quant.h"
#include "model/model_config.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODELS TEST_DATA "/models/"

static struct weight_file *open_good(const char *path)
{
    struct weight_file *f = NULL;
    struct err err = {0};
    if (weight_file_open(&f, path, &err) != 0)
        fail_msg("%s", err.text);
    return f;
}

static struct weight_file *open_config(const char *path, struct model_config *ret_config)
{
    struct weight_file *f = open_good(path);
    struct err err = {0};
    if (model_config_read(ret_config, f, &err) != 0)
        fail_msg("%s", err.text);
    return f;
}

static int number(const json_t *config, const char *key, int initial)
{
    const json_t *value = json_object_get(config, key);
    return value ? (int)json_integer_value(value) : initial;
}

static void check_config(const struct model_config *c, const json_t *model)
{
    const json_t *config = json_object_get(model, "config");
    const json_t *eps = json_object_get(config, "rms_norm_eps");
    const char *name = json_string_value(json_object_get(model, "name"));
    bool is_qwen2 = strcmp(json_string_value(json_object_get(model, "arch")), "qwen2") == 0;
    int heads = number(config, "num_attention_heads", 0);
    int hidden = number(config, "hidden_size", 0);
    assert_string_equal(c->name, name);
    assert_int_equal(c->architecture, is_qwen2 ? MODEL_QWEN2 : MODEL_QWEN3);
    assert_int_equal(c->n_layers, number(config, "num_hidden_layers", 0));
    assert_int_equal(c->hidden_size, hidden);
    assert_int_equal(c->intermediate_size, number(config, "intermediate_size", 0));
    assert_int_equal(c->n_heads, heads);
    assert_int_equal(c->n_kv_heads, number(config, "num_key_value_heads", 0));
    assert_int_equal(c->head_dim, number(config, "head_dim", hidden / heads));
    assert_int_equal(c->rope_dim, c->head_dim);
    assert_int_equal(c->vocabulary_size, number(config, "vocab_size", 0));
    assert_int_equal(c->context_length, number(config, "max_position_embeddings", 1024));
    assert_true(c->rms_eps == (float)(eps ? json_real_value(eps) : 1e-6));
    assert_true(c->rope_base == (strncmp(name, "qwen15", 6) == 0 ? 1e4 : 1e6));
    assert_int_equal(c->qkv_bias, is_qwen2);
    assert_int_equal(c->qk_norm, !is_qwen2);
    assert_int_equal(c->tied_head, json_is_true(json_object_get(config, "tie_word_embeddings")));
    /* the two YaRN models: factor 4 of 64 positions, the rest by default */
    bool yarn = strstr(name, "yarn") != NULL;
    assert_true(c->yarn_factor == (yarn ? 4 : 0));
    assert_int_equal(c->yarn_original_context, yarn ? 64 : 0);
    assert_true(c->yarn_beta_fast == 0 && c->yarn_beta_slow == 0);
    assert_true(c->yarn_attention_factor == 0);
}

static bool types_are_supported(const json_t *file)
{
    size_t i;
    json_t *type;
    json_array_foreach(json_object_get(file, "types"), i, type)
    {
        bool known = false;
        for (int t = 0; t < 64; t++)
            known = known || (quant_type_is_supported(t) &&
                              strcmp(quant_type_name(t), json_string_value(type)) == 0);
        if (!known)
            return false;
    }
    return true;
}

/* Every GGUF of the model that is there. Returns how many were read. */
static int check_model(const char *folder, const char *name)
{
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/%s/model.json", folder, name);
    json_t *model = json_load_file(path, 0, &error), *file;
    if (!model)
        fail_msg("%s: %s", path, error.text);
    const char *arch = json_string_value(json_object_get(model, "arch"));
    bool dense = strcmp(arch, "qwen2") == 0 || strcmp(arch, "qwen3") == 0;
    size_t i;
    int n_read = 0;
    json_array_foreach(json_object_get(model, "gguf"), i, file)
    {
        struct weight_file *f = NULL;
        struct model_config config;
        struct err err = {0};
        snprintf(path, sizeof path, "%s/%s/%s", folder, name,
                 json_string_value(json_object_get(file, "file")));
        if (access(path, F_OK) < 0)
            continue; /* not in the selection */
        int rc = weight_file_open(&f, path, &err);
        if (rc == 0)
            rc = model_config_read(&config, f, &err);
        if (dense && types_are_supported(file)) {
            if (rc != 0)
                fail_msg("%s", err.text);
            check_config(&config, model);
            n_read++;
        } else {
            assert_int_equal(rc, ERR_MODEL);
            assert_non_null(strstr(err.text, dense ? "cannot compute with" : "not "));
        }
        weight_file_close(f);
    }
    json_decref(model);
    return n_read;
}

static void test_models(void **state)
{
    (void)state;
    const char *oracle = getenv("PACELINE_ORACLE");
    char folder[512];
    snprintf(folder, sizeof folder, "%s/models", oracle ? oracle : TEST_DATA);
    DIR *models = opendir(folder);
    assert_non_null(models);
    int n_read = 0;
    for (struct dirent *entry; (entry = readdir(models));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s/model.json", folder, entry->d_name);
        if (entry->d_name[0] != '.' && access(path, F_OK) == 0)
            n_read += check_model(folder, entry->d_name);
    }
    closedir(models);
    assert_true(n_read >= 15);
}

static void test_shards(void **state)
{
    (void)state;
    struct model_config split, single;
    struct weight_file *f = open_config(
        MODELS "qwen3-sharded/gguf/split/qwen3-sharded-Q8_0-00002-of-00003.gguf", &split);
    weight_file_close(f);
    f = open_config(MODELS "qwen3-sharded/gguf/qwen3-sharded-F32.gguf", &single);
    weight_file_close(f);
    assert_memory_equal(&split, &single, sizeof split);
}

static void test_names(void **state)
{
    (void)state;
    struct model_config c;
    struct weight_file *f = open_config(MODELS "qwen2-tied/gguf/qwen2-tied-Q8_0.gguf", &c);
    char name[64];
    int layer;
    model_tensor_name(MODEL_FFN_DOWN, 4, name);
    assert_string_equal(name, "blk.4.ffn_down.weight");
    model_tensor_name(MODEL_TOKEN_EMBEDDING, 4, name);
    assert_string_equal(name, "token_embd.weight");
    assert_non_null(model_tensor(&c, f, MODEL_Q_BIAS, 0));
    assert_null(model_tensor(&c, f, MODEL_Q_NORM, 0));
    assert_null(model_tensor(&c, f, MODEL_OUTPUT, 0));
    assert_null(model_tensor(&c, f, MODEL_Q, 5));
    assert_int_equal(model_tensor_kind(&c, "blk.3.attn_k.bias", &layer), MODEL_K_BIAS);
    assert_int_equal(layer, 3);
    assert_int_equal(model_tensor_kind(&c, "blk.5.attn_k.bias", &layer), -1);
    assert_int_equal(model_tensor_kind(&c, "blk.03.attn_k.bias", &layer), -1);
    assert_int_equal(model_tensor_kind(&c, "blk.99999999999.attn_k.bias", &layer), -1);
    assert_int_equal(model_tensor_kind(&c, "attn_k.bias", &layer), -1);
    assert_int_equal(model_tensor_kind(&c, "blk.", &layer), -1);
    weight_file_close(f);
}

/* Stages that cover the layers cover the tensors; only a tied embedding belongs to two. */
static void test_stages(void **state)
{
    (void)state;
    static const char *const files[] = {MODELS "qwen2-tied/gguf/qwen2-tied-Q8_0.gguf",
                                        MODELS "qwen2-gqa7/gguf/qwen2-gqa7-Q8_0.gguf"};
    for (int i = 0; i < 2; i++) {
        struct model_config c;
        struct weight_file *f = open_config(files[i], &c);
        for (int cut = 1; cut < c.n_layers; cut++)
            for (size_t t = 0; t < weight_file_tensor_count(f); t++) {
                const char *name = weight_file_tensor(f, t)->name;
                int n = model_tensor_is_in_stage(&c, name, 0, cut) +
                        model_tensor_is_in_stage(&c, name, cut, c.n_layers);
                bool shared = c.tied_head && strcmp(name, "token_embd.weight") == 0;
                assert_int_equal(n, shared ? 2 : 1);
            }
        assert_true(model_tensor_is_in_stage(&c, "blk.1.ffn_up.weight", 1, 2));
        assert_false(model_tensor_is_in_stage(&c, "blk.0.ffn_up.weight", 1, 2));
        assert_false(model_tensor_is_in_stage(&c, "blk.1.ffn_up.weight", 1, 1));
        assert_false(model_tensor_is_in_stage(&c, "no.such.tensor", 0, c.n_layers));
        weight_file_close(f);
    }
}

/* A copy of `source` in which `from`, which occurs once, became `to` of the same length; or whose
 * bytes after `from` (a key and its type) became `value`. */
static struct weight_file *open_bent(const char *source, const char *from, const char *to,
                                     const void *value, size_t value_bytes)
{
    char path[] = "/tmp/test_model_config.XXXXXX";
    struct buf bytes;
    buf_init(&bytes);
    FILE *file = fopen(source, "rb");
    assert_non_null(file);
    char block[4096];
    for (size_t n; (n = fread(block, 1, sizeof block, file)) > 0;)
        buf_append(&bytes, block, n);
    fclose(file);
    char *at = memmem(bytes.data, bytes.length, from, strlen(from));
    assert_non_null(at);
    if (to)
        memcpy(at, to, strlen(from));
    else
        memcpy(at + strlen(from) + 4, value, value_bytes);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.data, bytes.length), (ssize_t)bytes.length);
    close(fd);
    buf_clear(&bytes);
    struct weight_file *f = open_good(path);
    unlink(path);
    return f;
}

static void expect_refused(struct weight_file *f, const char *words)
{
    struct model_config config;
    struct err err = {0};
    assert_int_equal(model_config_read(&config, f, &err), ERR_MODEL);
    if (!strstr(err.text, words))
        fail_msg("expected '%s' in: %s", words, err.text);
    weight_file_close(f);
}

static void test_refusals(void **state)
{
    (void)state;
    const char *yarn = MODELS "qwen2-yarn/gguf/qwen2-yarn-BF16.gguf";
    const char *gqa = MODELS "qwen2-gqa7/gguf/qwen2-gqa7-Q8_0.gguf";
    const char *qwen3 = MODELS "qwen3-yarn/gguf/qwen3-yarn-BF16.gguf";
    float infinite = INFINITY, half = 0.5f, four = 4, zero = 0;
    uint32_t odd = 47, seven = 7, huge = 0xffffffff;
    expect_refused(open_bent(yarn, "qwen2.rope.scaling.factor", NULL, &half, 4), "would shrink");
    expect_refused(open_bent(yarn, "qwen2.rope.scaling.factor", NULL, &infinite, 4), "factor");
    expect_refused(open_bent(yarn, "qwen2.rope.freq_base", NULL, &zero, 4), "freq_base");
    expect_refused(open_bent(yarn, "qwen2.rope.scaling.type", NULL, "\4\0\0\0\0\0\0\0tarn", 12),
                   "RoPE scaling 'tarn' is not supported");
    expect_refused(open_bent(TEST_DATA "/malformed/ok.gguf", "general.architecture",
                             "general.architexture", NULL, 0),
                   "'general.architecture' is missing");
    expect_refused(open_bent(yarn, "qwen2.rope.scaling.type", "qwen2.rope.scaling.typo", NULL, 0),
                   "linear RoPE scaling (by 4)");
    expect_refused(open_bent(gqa, "qwen2.context_length", NULL, &huge, 4), "context_length");
    expect_refused(open_bent(gqa, "qwen2.attention.head_count_kv", NULL, &four, 4),
                   "head_count_kv");
    expect_refused(open_bent(gqa, "qwen2.feed_forward_length", NULL, &seven, 4), "ffn_gate.weight");
    expect_refused(open_bent(gqa, "blk.1.attn_q.bias", "blk.1.attn_q.bios", NULL, 0),
                   "'blk.1.attn_q.bias' is missing");
    expect_refused(open_bent(gqa, "output.weight", "output.waight", NULL, 0),
                   "'output.waight' is no part of a qwen2 model");
    expect_refused(open_bent(gqa, "qwen2.block_count", NULL, "\1\0\0\0", 4),
                   "is no part of a qwen2 model of 1 layers");
    expect_refused(open_bent(qwen3, "qwen3.attention.value_length", NULL, &odd, 4),
                   "keys of 48 and values of 47");
    expect_refused(open_bent(qwen3, "qwen3.attention.key_length", NULL, &odd, 4), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),   cmocka_unit_test(test_shards),
        cmocka_unit_test(test_names),    cmocka_unit_test(test_stages),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
