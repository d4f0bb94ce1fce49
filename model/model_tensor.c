#include "model/model_config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* What stands after "blk.N." for tensors of a layer, or the whole name. */
static const struct {
    const char *name;
    bool in_layer;
} names[MODEL_TENSOR_KINDS] = {
    [MODEL_TOKEN_EMBEDDING] = {"token_embd.weight", false},
    [MODEL_OUTPUT_NORM] = {"output_norm.weight", false},
    [MODEL_OUTPUT] = {"output.weight", false},
    [MODEL_ATTENTION_NORM] = {"attn_norm.weight", true},
    [MODEL_Q] = {"attn_q.weight", true},
    [MODEL_Q_BIAS] = {"attn_q.bias", true},
    [MODEL_K] = {"attn_k.weight", true},
    [MODEL_K_BIAS] = {"attn_k.bias", true},
    [MODEL_V] = {"attn_v.weight", true},
    [MODEL_V_BIAS] = {"attn_v.bias", true},
    [MODEL_Q_NORM] = {"attn_q_norm.weight", true},
    [MODEL_K_NORM] = {"attn_k_norm.weight", true},
    [MODEL_ATTENTION_OUTPUT] = {"attn_output.weight", true},
    [MODEL_FFN_NORM] = {"ffn_norm.weight", true},
    [MODEL_FFN_GATE] = {"ffn_gate.weight", true},
    [MODEL_FFN_UP] = {"ffn_up.weight", true},
    [MODEL_FFN_DOWN] = {"ffn_down.weight", true},
};

void model_tensor_name(enum model_tensor kind, int layer, char to[64])
{
    assert((int)kind >= 0 && kind < MODEL_TENSOR_KINDS);
    if (names[kind].in_layer)
        snprintf(to, 64, "blk.%d.%s", layer, names[kind].name);
    else
        snprintf(to, 64, "%s", names[kind].name);
}

bool model_tensor_exists(const struct model_config *c, enum model_tensor kind)
{
    switch (kind) {
    case MODEL_OUTPUT:
        return !c->tied_head;
    case MODEL_Q_BIAS:
    case MODEL_K_BIAS:
    case MODEL_V_BIAS:
        return c->qkv_bias;
    case MODEL_Q_NORM:
    case MODEL_K_NORM:
        return c->qk_norm;
    default:
        return true;
    }
}

bool model_tensor_is_in_layer(enum model_tensor kind)
{
    return names[kind].in_layer;
}

const struct tensor *model_tensor(const struct model_config *c, const struct weight_file *f,
                                  enum model_tensor kind, int layer)
{
    if (!model_tensor_exists(c, kind) ||
        (names[kind].in_layer && (layer < 0 || layer >= c->n_layers)))
        return NULL;
    char name[64];
    model_tensor_name(kind, layer, name);
    return weight_file_find(f, name);
}

/* "blk.12.attn_q.weight" → 12 and the rest; -1 if the name is of no layer. Leading zeros would
 * give one layer two names, so they are of none. */
static int layer_of(const char *name, const char **ret_rest)
{
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9')
        return -1;
    const char *digit = name + 4;
    if (digit[0] == '0' && digit[1] != '.')
        return -1;
    int layer = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        if (layer > 100000)
            return -1;
        layer = layer * 10 + (*digit - '0');
    }
    if (*digit != '.')
        return -1;
    *ret_rest = digit + 1;
    return layer;
}

int model_tensor_kind(const struct model_config *c, const char *name, int *ret_layer)
{
    const char *rest = name;
    int layer = layer_of(name, &rest);
    for (int kind = 0; kind < MODEL_TENSOR_KINDS; kind++) {
        if (names[kind].in_layer != (layer >= 0) || strcmp(names[kind].name, rest) != 0)
            continue;
        *ret_layer = layer;
        return model_tensor_exists(c, kind) && layer < c->n_layers ? kind : -1;
    }
    return -1;
}

bool model_tensor_is_in_stage(const struct model_config *c, const char *name, int first_layer,
                              int end_layer)
{
    int layer;
    int kind = model_tensor_kind(c, name, &layer);
    if (kind < 0 || first_layer >= end_layer)
        return false;
    bool has_last = end_layer == c->n_layers;
    switch (kind) {
    case MODEL_TOKEN_EMBEDDING: /* a tied head is the embedding */
        return first_layer == 0 || (has_last && c->tied_head);
    case MODEL_OUTPUT_NORM:
    case MODEL_OUTPUT:
        return has_last;
    default:
        return layer >= first_layer && layer < end_layer;
    }
}

void model_tensor_shape(const struct model_config *c, enum model_tensor kind, int64_t ret_dims[2],
                        bool *ret_is_vector)
{
    int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    int64_t hidden = c->hidden_size, inner = c->intermediate_size;
    const int64_t shapes[MODEL_TENSOR_KINDS][2] = {
        [MODEL_TOKEN_EMBEDDING] = {hidden, c->vocabulary_size},
        [MODEL_OUTPUT_NORM] = {hidden, 0},
        [MODEL_OUTPUT] = {hidden, c->vocabulary_size},
        [MODEL_ATTENTION_NORM] = {hidden, 0},
        [MODEL_Q] = {hidden, q},
        [MODEL_Q_BIAS] = {q, 0},
        [MODEL_K] = {hidden, kv},
        [MODEL_K_BIAS] = {kv, 0},
        [MODEL_V] = {hidden, kv},
        [MODEL_V_BIAS] = {kv, 0},
        [MODEL_Q_NORM] = {c->head_dim, 0},
        [MODEL_K_NORM] = {c->head_dim, 0},
        [MODEL_ATTENTION_OUTPUT] = {q, hidden},
        [MODEL_FFN_NORM] = {hidden, 0},
        [MODEL_FFN_GATE] = {hidden, inner},
        [MODEL_FFN_UP] = {hidden, inner},
        [MODEL_FFN_DOWN] = {inner, hidden},
    };
    *ret_is_vector = shapes[kind][1] == 0;
    ret_dims[0] = shapes[kind][0];
    ret_dims[1] = *ret_is_vector ? 1 : shapes[kind][1];
}
