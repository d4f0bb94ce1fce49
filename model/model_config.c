#include "model/model_config.h"

#include "kernels/fmath.h"
#include "kernels/quant.h"
#include "model/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Bounds that no Qwen model comes near, and that keep products of two of them far from wrapping. */
enum {
    MAX_LAYERS = 1024,
    MAX_HIDDEN = 1 << 18,
    MAX_INTERMEDIATE = 1 << 20,
    MAX_HEADS = 4096,
    MAX_HEAD_DIM = 1024,
    MAX_VOCABULARY = 1 << 23,
    MAX_CONTEXT = 1 << 27
};

static const struct {
    const char *name;
    enum model_architecture architecture;
} architectures[] = {{"qwen2", MODEL_QWEN2}, {"qwen3", MODEL_QWEN3}};

/* Keys carry the architecture's name in front. */
struct keys {
    const struct weight_file *file;
    const char *prefix;
    struct err *err;
};

struct key {
    char text[96];
};

static struct key key_of(const struct keys *k, const char *name)
{
    struct key key;
    snprintf(key.text, sizeof key.text, "%s.%s", k->prefix, name);
    return key;
}

static bool has(const struct keys *k, const char *name)
{
    struct key key = key_of(k, name);
    return weight_file_has(k->file, key.text);
}

/* An integer in [min, max]; `initial` where the key is absent, which < 0 forbids. */
static int read_count(const struct keys *k, const char *name, int64_t min, int64_t max,
                      int64_t initial, int *ret_value)
{
    struct key key = key_of(k, name);
    const char *path = weight_file_path(k->file);
    int64_t value = initial;
    if (weight_file_has(k->file, key.text)) {
        if (!weight_file_integer(k->file, key.text, &value))
            return err_set(k->err, ERR_MODEL, "%s: metadata key '%s' is not one integer", path,
                           key.text);
    } else if (initial < 0) {
        return err_set(k->err, ERR_MODEL,
                       "%s: metadata key '%s' is missing: not a complete model file", path,
                       key.text);
    }
    if (value < min || value > max)
        return err_set(k->err, ERR_MODEL,
                       "%s: metadata key '%s' is %lld; %lld to %lld are possible", path, key.text,
                       (long long)value, (long long)min, (long long)max);
    *ret_value = (int)value;
    return 0;
}

/* A finite number in (0, max]; `initial` where the key is absent, which < 0 forbids. */
static int read_real(const struct keys *k, const char *name, double max, double initial,
                     double *ret_value)
{
    struct key key = key_of(k, name);
    const char *path = weight_file_path(k->file);
    if (!weight_file_has(k->file, key.text)) {
        if (initial < 0)
            return err_set(k->err, ERR_MODEL,
                           "%s: metadata key '%s' is missing: not a complete model file", path,
                           key.text);
        *ret_value = initial;
        return 0;
    }
    double value;
    if (!weight_file_real(k->file, key.text, &value))
        return err_set(k->err, ERR_MODEL, "%s: metadata key '%s' is not one number", path,
                       key.text);
    if (!isfinite(value) || value <= 0 || value > max)
        return err_set(k->err, ERR_MODEL,
                       "%s: metadata key '%s' is %g; it must be above 0 and at most %g", path,
                       key.text, value, max);
    *ret_value = value;
    return 0;
}

static int read_architecture(struct model_config *c, struct keys *k)
{
    const char *path = weight_file_path(k->file);
    const char *name = weight_file_string(k->file, "general.architecture", NULL);
    if (!name)
        return err_set(
            k->err, ERR_MODEL,
            "%s: metadata key 'general.architecture' %s: not a complete model file", path,
            weight_file_has(k->file, "general.architecture") ? "is not a text" : "is missing");
    char list[64] = "";
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        if (strcmp(name, architectures[i].name) == 0) {
            k->prefix = architectures[i].name;
            c->architecture = architectures[i].architecture;
            return 0;
        }
        size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "", architectures[i].name);
    }
    char shown[GGUF_SHOWN_BYTES];
    return err_set(k->err, ERR_MODEL,
                   "%s: architecture '%s' is not supported; this version runs: %s", path,
                   gguf_show(name, strlen(name), shown), list);
}

/* general.name, or the file's name without .gguf; no control characters, whole characters only. */
static void read_name(struct model_config *c, const struct weight_file *f)
{
    const char *path = weight_file_path(f), *slash = strrchr(path, '/');
    const char *name = weight_file_string(f, "general.name", NULL);
    size_t length = name ? strlen(name) : 0;
    if (length == 0) {
        name = slash ? slash + 1 : path;
        length = strlen(name);
        if (length > 5 && strcmp(name + length - 5, ".gguf") == 0)
            length -= 5;
    }
    if (length >= sizeof c->name) {
        length = sizeof c->name - 1;
        while (length > 0 && (name[length] & 0xC0) == 0x80)
            length--;
    }
    for (size_t i = 0; i < length; i++)
        c->name[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7F ? '?' : name[i];
    c->name[length] = '\0';
}

static int read_sizes(struct model_config *c, const struct keys *k)
{
    const char *path = weight_file_path(k->file);
    int rc = read_count(k, "block_count", 1, MAX_LAYERS, -1, &c->n_layers);
    if (rc == 0)
        rc = read_count(k, "embedding_length", 1, MAX_HIDDEN, -1, &c->hidden_size);
    if (rc == 0)
        rc = read_count(k, "feed_forward_length", 1, MAX_INTERMEDIATE, -1, &c->intermediate_size);
    if (rc == 0)
        rc = read_count(k, "attention.head_count", 1, MAX_HEADS, -1, &c->n_heads);
    if (rc == 0)
        rc = read_count(k, "attention.head_count_kv", 1, MAX_HEADS, c->n_heads, &c->n_kv_heads);
    if (rc == 0)
        rc = read_count(k, "context_length", 1, MAX_CONTEXT, -1, &c->context_length);
    if (rc != 0)
        return rc;
    if (c->n_heads % c->n_kv_heads != 0)
        return err_set(k->err, ERR_MODEL,
                       "%s: %d attention heads cannot share %d key-value heads evenly: damaged "
                       "metadata",
                       path, c->n_heads, c->n_kv_heads);
    if (!has(k, "attention.key_length") && c->hidden_size % c->n_heads != 0)
        return err_set(
            k->err, ERR_MODEL,
            "%s: embedding_length %d is not a multiple of head_count %d: damaged metadata", path,
            c->hidden_size, c->n_heads);
    int value_dim;
    rc = read_count(k, "attention.key_length", 2, MAX_HEAD_DIM, c->hidden_size / c->n_heads,
                    &c->head_dim);
    if (rc == 0)
        rc = read_count(k, "attention.value_length", 2, MAX_HEAD_DIM, c->head_dim, &value_dim);
    if (rc != 0)
        return rc;
    if (c->head_dim > 256)
        return err_set(k->err, ERR_MODEL,
                       "%s: attention heads of %d elements are not supported, up to 256 are", path,
                       c->head_dim);
    if (value_dim != c->head_dim)
        return err_set(k->err, ERR_MODEL,
                       "%s: heads with keys of %d and values of %d elements are not supported",
                       path, c->head_dim, value_dim);
    return 0;
}

/* A window that the context never fills changes nothing; any other needs attention that sees less,
 * which this version does not have. */
static int check_window(const struct model_config *c, const struct keys *k)
{
    int64_t window = 0;
    struct key key = key_of(k, "attention.sliding_window");
    if (weight_file_has(k->file, key.text) && !weight_file_integer(k->file, key.text, &window))
        window = 1; /* one for each layer, say */
    if (window > 0 && window < c->context_length)
        return err_set(k->err, ERR_MODEL,
                       "%s: uses sliding-window attention (metadata key '%s'), which is not "
                       "supported",
                       weight_file_path(k->file), key.text);
    return 0;
}

/* rope.scaling.attn_factor multiplies YaRN's own 0.1 ln(factor) + 1 (so do the programs that write
 * the key). 0 stays "YaRN's own". */
static int read_yarn(struct model_config *c, const struct keys *k)
{
    double attention = 1, more = 1;
    int rc = read_real(k, "rope.scaling.factor", 1024, -1, &c->yarn_factor);
    if (rc == 0)
        rc = read_count(k, "rope.scaling.original_context_length", 1, MAX_CONTEXT,
                        c->context_length, &c->yarn_original_context);
    if (rc == 0)
        rc = read_real(k, "rope.scaling.yarn_beta_fast", 1e6, 0, &c->yarn_beta_fast);
    if (rc == 0)
        rc = read_real(k, "rope.scaling.yarn_beta_slow", 1e6, 0, &c->yarn_beta_slow);
    if (rc == 0)
        rc = read_real(k, "rope.scaling.attn_factor", 1e3, 1, &attention);
    if (rc == 0)
        rc = read_real(k, "rope.scaling.yarn_attn_factor", 1e3, 1, &more);
    if (rc != 0)
        return rc;
    if (c->yarn_factor < 1)
        return err_set(k->err, ERR_MODEL, "%s: YaRN factor %g would shrink the context",
                       weight_file_path(k->file), c->yarn_factor);
    double beta_fast = c->yarn_beta_fast > 0 ? c->yarn_beta_fast : 32;
    double beta_slow = c->yarn_beta_slow > 0 ? c->yarn_beta_slow : 1;
    if (beta_fast < beta_slow)
        return err_set(k->err, ERR_MODEL, "%s: YaRN's beta_fast %g is below its beta_slow %g",
                       weight_file_path(k->file), beta_fast, beta_slow);
    attention *= more;
    if (attention != 1)
        c->yarn_attention_factor = attention * (0.1 * fmath_log(c->yarn_factor) + 1);
    /* Some converters keep the length before scaling here, some the one after. */
    double scaled = c->yarn_factor * c->yarn_original_context;
    if (scaled > c->context_length)
        c->context_length = scaled < MAX_CONTEXT ? (int)scaled : MAX_CONTEXT;
    return 0;
}

static int read_rope(struct model_config *c, const struct keys *k)
{
    const char *path = weight_file_path(k->file);
    int rc = read_real(k, "rope.freq_base", 1e15, 10000, &c->rope_base);
    if (rc == 0)
        rc = read_count(k, "rope.dimension_count", 2, c->head_dim, c->head_dim, &c->rope_dim);
    if (rc != 0)
        return rc;
    if (c->rope_dim % 2 != 0)
        return err_set(k->err, ERR_MODEL,
                       "%s: RoPE over %d elements, an odd number: damaged metadata", path,
                       c->rope_dim);
    struct key key = key_of(k, "rope.scaling.type");
    const char *type = weight_file_string(k->file, key.text, NULL);
    if (!type && weight_file_has(k->file, key.text))
        return err_set(k->err, ERR_MODEL, "%s: metadata key '%s' is not a text", path, key.text);
    if (type && strcmp(type, "yarn") == 0)
        return read_yarn(c, k);
    if (type && strcmp(type, "none") == 0)
        return 0;
    char shown[GGUF_SHOWN_BYTES];
    if (type && strcmp(type, "linear") != 0)
        return err_set(k->err, ERR_MODEL,
                       "%s: RoPE scaling '%s' is not supported; 'yarn' and 'none' are", path,
                       gguf_show(type, strlen(type), shown));
    /* linear, or no type: writers say so of unscaled models too, with factor 0 or 1 */
    double factor = 1;
    struct key factor_key = key_of(k, "rope.scaling.factor");
    weight_file_real(k->file, factor_key.text, &factor);
    if (factor != 0 && factor != 1)
        return err_set(k->err, ERR_MODEL,
                       "%s: linear RoPE scaling (by %g) is not supported; 'yarn' and 'none' are",
                       path, factor);
    return 0;
}

static bool is_float(int type)
{
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

static int check_tensor(const struct model_config *c, const struct weight_file *f,
                        enum model_tensor kind, const struct tensor *t, struct err *err)
{
    int64_t dims[2];
    bool is_vector;
    model_tensor_shape(c, kind, dims, &is_vector);
    if (t->dims[0] != dims[0] || t->dims[1] != dims[1] || t->dims[2] != 1 || t->dims[3] != 1)
        return err_set(
            err, ERR_MODEL,
            "%s: tensor '%s' is %lld x %lld x %lld, the model's metadata asks for %lld x "
            "%lld: the file is damaged",
            weight_file_path(f), t->name, (long long)t->dims[0], (long long)t->dims[1],
            (long long)(t->dims[2] * t->dims[3]), (long long)dims[0], (long long)dims[1]);
    if (is_vector && !is_float(t->type))
        return err_set(err, ERR_MODEL,
                       "%s: tensor '%s' is of type %s; norms and biases must be F32, F16 or BF16",
                       weight_file_path(f), t->name, quant_type_name(t->type));
    return 0;
}

/* All that the architecture needs, and nothing else: a tensor that we would leave out could change
 * the result, so a file that has one is not the model that it says it is. */
static int check_tensors(const struct model_config *c, const struct weight_file *f, struct err *err)
{
    const char *path = weight_file_path(f);
    size_t n_needed = 0;
    for (int kind = 0; kind < MODEL_TENSOR_KINDS; kind++) {
        char name[64];
        model_tensor_name(kind, 0, name);
        bool in_layer = strncmp(name, "blk.", 4) == 0;
        int layer_of_kind;
        if (model_tensor_kind(c, name, &layer_of_kind) < 0)
            continue; /* this model has none */
        for (int layer = 0; layer < (in_layer ? c->n_layers : 1); layer++) {
            const struct tensor *t = model_tensor(c, f, kind, layer);
            model_tensor_name(kind, layer, name);
            if (!t)
                return err_set(err, ERR_MODEL,
                               "%s: tensor '%s' is missing: not a complete model file", path, name);
            int rc = check_tensor(c, f, kind, t, err);
            if (rc != 0)
                return rc;
            n_needed++;
        }
    }
    for (size_t i = 0; i < weight_file_tensor_count(f) && n_needed < weight_file_tensor_count(f);
         i++) {
        const char *name = weight_file_tensor(f, i)->name;
        char shown[GGUF_SHOWN_BYTES];
        int layer;
        if (model_tensor_kind(c, name, &layer) < 0)
            return err_set(err, ERR_MODEL,
                           "%s: tensor '%s' is no part of a %s model of %d layers; leaving it out "
                           "would give other results",
                           path, gguf_show(name, strlen(name), shown),
                           architectures[c->architecture].name, c->n_layers);
    }
    return 0;
}

/* The embedding's rows are the vocabulary; the tokenizer may know fewer tokens, never more. */
static int read_vocabulary(struct model_config *c, const struct keys *k)
{
    const char *path = weight_file_path(k->file);
    const struct tensor *embedding = weight_file_find(k->file, "token_embd.weight");
    if (!embedding)
        return err_set(k->err, ERR_MODEL,
                       "%s: tensor 'token_embd.weight' is missing: not a complete model file",
                       path);
    if (embedding->dims[1] > MAX_VOCABULARY)
        return err_set(k->err, ERR_MODEL, "%s: an embedding of %lld rows; at most %d are possible",
                       path, (long long)embedding->dims[1], (int)MAX_VOCABULARY);
    c->vocabulary_size = (int)embedding->dims[1];
    int stated;
    int rc = read_count(k, "vocab_size", 1, MAX_VOCABULARY, c->vocabulary_size, &stated);
    if (rc != 0)
        return rc;
    int64_t tokens = weight_file_array_count(k->file, "tokenizer.ggml.tokens");
    if (stated != c->vocabulary_size || tokens > c->vocabulary_size)
        return err_set(k->err, ERR_MODEL,
                       "%s: a vocabulary of %lld tokens, but an embedding of %d rows: the file is "
                       "damaged",
                       path, stated != c->vocabulary_size ? (long long)stated : (long long)tokens,
                       c->vocabulary_size);
    return 0;
}

int model_config_read(struct model_config *ret_config, const struct weight_file *f, struct err *err)
{
    struct model_config c = {0};
    struct keys k = {.file = f, .err = err};
    double eps = 0;
    int rc = read_architecture(&c, &k);
    if (rc == 0)
        rc = read_sizes(&c, &k);
    if (rc == 0)
        rc = read_real(&k, "attention.layer_norm_rms_epsilon", 1, -1, &eps);
    if (rc == 0)
        rc = read_rope(&c, &k);
    if (rc == 0)
        rc = check_window(&c, &k);
    if (rc == 0)
        rc = read_vocabulary(&c, &k);
    if (rc != 0)
        return rc;
    read_name(&c, f);
    c.rms_eps = (float)eps;
    if (!(c.rms_eps > 0))
        return err_set(err, ERR_MODEL, "%s: an RMS epsilon of %g is 0 in float32",
                       weight_file_path(f), eps);
    c.qkv_bias = c.architecture == MODEL_QWEN2;
    c.qk_norm = c.architecture == MODEL_QWEN3;
    c.tied_head = !weight_file_find(f, "output.weight");
    rc = check_tensors(&c, f, err);
    if (rc == 0)
        *ret_config = c;
    return rc;
}

static bool is_within(double value, double min, double max)
{
    return value >= min && value <= max; /* false for a NaN */
}

static bool sizes_are_sound(const struct model_config *c)
{
    return is_within(c->n_layers, 1, MAX_LAYERS) && is_within(c->hidden_size, 1, MAX_HIDDEN) &&
           is_within(c->intermediate_size, 1, MAX_INTERMEDIATE) &&
           is_within(c->n_heads, 1, MAX_HEADS) && is_within(c->n_kv_heads, 1, c->n_heads) &&
           c->n_heads % c->n_kv_heads == 0 && is_within(c->head_dim, 2, 256) &&
           is_within(c->vocabulary_size, 1, MAX_VOCABULARY) &&
           is_within(c->context_length, 1, MAX_CONTEXT);
}

int model_config_check(const struct model_config *c, struct err *err)
{
    bool yarn = c->yarn_factor != 0;
    if ((c->architecture == MODEL_QWEN2 || c->architecture == MODEL_QWEN3) && sizes_are_sound(c) &&
        c->rms_eps > 0 && c->rms_eps <= 1 && is_within(c->rope_base, 1e-300, 1e15) &&
        is_within(c->rope_dim, 2, c->head_dim) && c->rope_dim % 2 == 0 &&
        (!yarn || (is_within(c->yarn_factor, 1, 1024) &&
                   is_within(c->yarn_original_context, 1, MAX_CONTEXT))) &&
        is_within(c->yarn_beta_fast, 0, 1e6) && is_within(c->yarn_beta_slow, 0, 1e6) &&
        is_within(c->yarn_attention_factor, 0, 1e8))
        return 0;
    return err_set(err, ERR_MODEL, "the model's configuration is not one of a Qwen model");
}
