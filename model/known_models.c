#include "model/known_models.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* The head is a tensor of its own, is the embedding, or is the embedding and yet written once more
 * by those who published the model's GGUF files. */
enum known_head { HEAD_OWN, HEAD_TIED, HEAD_COPIED };

struct known_model {
    const char *name;
    double parameters; /* published, a tied head counted once */
    int layers, hidden, inner, heads, kv_heads, head_dim, vocabulary, context;
    enum known_head head;
};

static const struct known_model known_models[] = {
    {"qwen1.5-0.5b", 0.62e9, 24, 1024, 2816, 16, 16, 64, 151936, 32768, HEAD_OWN},
    {"qwen1.5-1.8b", 1.84e9, 24, 2048, 5504, 16, 16, 128, 151936, 32768, HEAD_OWN},
    {"qwen1.5-4b", 3.95e9, 40, 2560, 6912, 20, 20, 128, 151936, 32768, HEAD_OWN},
    {"qwen1.5-7b", 7.72e9, 32, 4096, 11008, 32, 32, 128, 151936, 32768, HEAD_OWN},
    {"qwen1.5-14b", 14.2e9, 40, 5120, 13696, 40, 40, 128, 152064, 32768, HEAD_OWN},
    {"qwen1.5-32b", 32.5e9, 64, 5120, 27392, 40, 8, 128, 152064, 32768, HEAD_OWN},
    {"qwen1.5-72b", 72.3e9, 80, 8192, 24576, 64, 64, 128, 152064, 32768, HEAD_OWN},
    {"qwen1.5-110b", 111.2e9, 80, 8192, 49152, 64, 8, 128, 152064, 32768, HEAD_OWN},
    {"qwen2-0.5b", 0.49e9, 24, 896, 4864, 14, 2, 64, 151936, 32768, HEAD_TIED},
    {"qwen2-1.5b", 1.54e9, 28, 1536, 8960, 12, 2, 128, 151936, 32768, HEAD_TIED},
    {"qwen2-7b", 7.62e9, 28, 3584, 18944, 28, 4, 128, 152064, 32768, HEAD_OWN},
    {"qwen2-72b", 72.7e9, 80, 8192, 29568, 64, 8, 128, 152064, 32768, HEAD_OWN},
    {"qwen2.5-0.5b", 0.49e9, 24, 896, 4864, 14, 2, 64, 151936, 32768, HEAD_COPIED},
    {"qwen2.5-1.5b", 1.54e9, 28, 1536, 8960, 12, 2, 128, 151936, 32768, HEAD_COPIED},
    {"qwen2.5-3b", 3.09e9, 36, 2048, 11008, 16, 2, 128, 151936, 32768, HEAD_COPIED},
    {"qwen2.5-7b", 7.62e9, 28, 3584, 18944, 28, 4, 128, 152064, 32768, HEAD_OWN},
    {"qwen2.5-14b", 14.77e9, 48, 5120, 13824, 40, 8, 128, 152064, 32768, HEAD_OWN},
    {"qwen2.5-32b", 32.8e9, 64, 5120, 27648, 40, 8, 128, 152064, 32768, HEAD_OWN},
    {"qwen2.5-72b", 72.7e9, 80, 8192, 29568, 64, 8, 128, 152064, 32768, HEAD_OWN},
    {"qwq-32b", 32.8e9, 64, 5120, 27648, 40, 8, 128, 152064, 40960, HEAD_OWN},
    {"qwen3-0.6b", 0.6e9, 28, 1024, 3072, 16, 8, 128, 151936, 40960, HEAD_TIED},
    {"qwen3-1.7b", 1.72e9, 28, 2048, 6144, 16, 8, 128, 151936, 40960, HEAD_TIED},
    {"qwen3-4b", 4.02e9, 36, 2560, 9728, 32, 8, 128, 151936, 40960, HEAD_TIED},
    {"qwen3-8b", 8.19e9, 36, 4096, 12288, 32, 8, 128, 151936, 40960, HEAD_OWN},
    {"qwen3-14b", 14.77e9, 40, 5120, 17408, 40, 8, 128, 151936, 40960, HEAD_OWN},
    {"qwen3-32b", 32.8e9, 64, 5120, 25600, 64, 8, 128, 151936, 40960, HEAD_OWN},
};

enum { KNOWN_MODELS = sizeof known_models / sizeof *known_models };

/* Removes `word` wherever it stands. */
static void known_drop(char *name, const char *word)
{
    for (char *p; (p = strstr(name, word));)
        memmove(p, p + strlen(word), strlen(p + strlen(word)) + 1);
}

static const struct known_model *known_find(const char *name)
{
    char plain[96];
    const char *slash = strrchr(name, '/');
    size_t n = 0;
    for (const char *p = slash ? slash + 1 : name; *p && n < sizeof plain - 1; p++)
        plain[n++] = (char)tolower((unsigned char)*p);
    plain[n] = '\0';
    const char *const words[] = {"-instruct", "-chat", "-coder", "-math", "-base", "-gguf"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        known_drop(plain, words[i]);
    for (size_t i = 0; i < KNOWN_MODELS; i++)
        if (strcmp(plain, known_models[i].name) == 0)
            return &known_models[i];
    return NULL;
}

bool known_model_exists(const char *name)
{
    return known_find(name) != NULL;
}

static int known_refuse(const char *name, struct err *err)
{
    char names[400] = "";
    for (size_t i = 0, used = 0; i < KNOWN_MODELS && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 known_models[i].name);
    return err_set(err, ERR_USAGE, "there is no model \"%.60s\"; known by name are %s", name,
                   names);
}

int known_model(const char *name, struct model_config *ret_config, struct err *err)
{
    const struct known_model *k = known_find(name);
    if (!k)
        return known_refuse(name, err);
    bool is_qwen3 = strncmp(k->name, "qwen3", 5) == 0;
    *ret_config = (struct model_config){
        .architecture = is_qwen3 ? MODEL_QWEN3 : MODEL_QWEN2,
        .n_layers = k->layers,
        .hidden_size = k->hidden,
        .intermediate_size = k->inner,
        .n_heads = k->heads,
        .n_kv_heads = k->kv_heads,
        .head_dim = k->head_dim,
        .vocabulary_size = k->vocabulary,
        .context_length = k->context,
        .rms_eps = 1e-6f,
        .rope_base = 1e6,
        .rope_dim = k->head_dim,
        .qkv_bias = !is_qwen3,
        .qk_norm = is_qwen3,
        .tied_head = k->head == HEAD_TIED,
    };
    snprintf(ret_config->name, sizeof ret_config->name, "%s", k->name);
    return 0;
}

const char *known_model_name(size_t index, double *ret_parameters)
{
    if (index >= KNOWN_MODELS)
        return NULL;
    *ret_parameters = known_models[index].parameters;
    return known_models[index].name;
}
