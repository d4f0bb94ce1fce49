#include "model/layer_cost.h"

struct layer_cost layer_cost_of(const struct model_config *c, const struct weight_file *f,
                                int layer, enum kv_type kv_type)
{
    struct layer_cost cost = {0};
    for (int kind = MODEL_ATTENTION_NORM; kind < MODEL_TENSOR_KINDS; kind++) {
        const struct tensor *t = model_tensor(c, f, kind, layer);
        if (!t)
            continue;
        cost.weight_bytes += (int64_t)t->bytes;
        if (t->dims[1] > 1) /* a matrix: each element meets one activation */
            cost.multiply_adds_per_token += t->dims[0] * t->dims[1];
    }
    struct attention_shape shape = {c->n_heads, c->n_kv_heads, c->head_dim, kv_type, 0.0f};
    cost.kv_bytes_per_token = (int64_t)kv_block_bytes(&shape) / KV_BLOCK_TOKENS;
    return cost;
}

int64_t layer_cost_embedding_bytes(const struct model_config *c, const struct weight_file *f)
{
    const struct tensor *t = model_tensor(c, f, MODEL_TOKEN_EMBEDDING, 0);
    return t ? (int64_t)t->bytes / t->dims[1] : 0;
}

int64_t layer_cost_head_bytes(const struct model_config *c, const struct weight_file *f)
{
    const struct tensor *t =
        model_tensor(c, f, c->tied_head ? MODEL_TOKEN_EMBEDDING : MODEL_OUTPUT, 0);
    return t ? (int64_t)t->bytes : 0;
}

int64_t layer_cost_work(int64_t weight_bytes, int64_t multiply_adds)
{
    return weight_bytes + multiply_adds * 11 / 16;
}

int64_t layer_cost_head_work(const struct model_config *c, const struct weight_file *f)
{
    return layer_cost_work(layer_cost_head_bytes(c, f),
                           (int64_t)c->vocabulary_size * c->hidden_size);
}
