/* model_config.h - what a Qwen model is: one checked struct, read by planner and stage alike. */
#ifndef PACELINE_MODEL_MODEL_CONFIG_H
#define PACELINE_MODEL_MODEL_CONFIG_H

#include "base/err.h"
#include "model/weight_file.h"

#include <stdbool.h>
#include <stdint.h>

enum model_architecture { MODEL_QWEN2, MODEL_QWEN3 };

struct model_config {
    enum model_architecture architecture;
    char name[128]; /* general.name, or the file's name without .gguf */
    int n_layers;
    int hidden_size;
    int intermediate_size;
    int n_heads, n_kv_heads;
    int head_dim;
    int vocabulary_size; /* rows of token_embd, which may exceed the tokenizer's */
    int context_length;  /* of training, after YaRN scaling */
    float rms_eps;
    double rope_base;
    int rope_dim;
    double yarn_factor; /* 0: none */
    int yarn_original_context;
    double yarn_beta_fast, yarn_beta_slow, yarn_attention_factor; /* 0: default */
    bool qkv_bias;                                                /* Qwen1.5, 2, 2.5 */
    bool qk_norm;                                                 /* Qwen3 */
    bool tied_head; /* no output.weight: the embedding is the head */
};

/* Reads and checks; every tensor that the architecture needs must be there with the right shape
 * and a supported type, so that a worker's load cannot fail for the file's sake. */
int model_config_read(struct model_config *ret_config, const struct weight_file *f,
                      struct err *err);

/* Of one that came from elsewhere: the bounds that model_config_read() keeps. ERR_MODEL. */
int model_config_check(const struct model_config *c, struct err *err);

/* Names of tensors, as GGUF has them; `layer` where the name has one. */
enum model_tensor {
    MODEL_TOKEN_EMBEDDING, /* token_embd.weight     [hidden, vocabulary] */
    MODEL_OUTPUT_NORM,     /* output_norm.weight    [hidden] */
    MODEL_OUTPUT,          /* output.weight         [hidden, vocabulary]; absent when tied */
    MODEL_ATTENTION_NORM,  /* blk.N.attn_norm.weight */
    MODEL_Q,
    MODEL_Q_BIAS,
    MODEL_K,
    MODEL_K_BIAS,
    MODEL_V,
    MODEL_V_BIAS,
    MODEL_Q_NORM,
    MODEL_K_NORM, /* [head_dim], Qwen3 */
    MODEL_ATTENTION_OUTPUT,
    MODEL_FFN_NORM,
    MODEL_FFN_GATE,
    MODEL_FFN_UP,
    MODEL_FFN_DOWN,
    MODEL_TENSOR_KINDS
};
/* NULL when this model has no such tensor (a bias in Qwen3, say). */
const struct tensor *model_tensor(const struct model_config *c, const struct weight_file *f,
                                  enum model_tensor kind, int layer);
/* Whether this model has such tensors, and whether each layer has one. */
bool model_tensor_exists(const struct model_config *c, enum model_tensor kind);
bool model_tensor_is_in_layer(enum model_tensor kind);
void model_tensor_name(enum model_tensor kind, int layer, char to[64]);
/* The reverse: a kind that this model has, and its layer (-1 where it has none); or -1. */
int model_tensor_kind(const struct model_config *c, const char *name, int *ret_layer);
/* [row elements, rows] that this model needs; a norm or bias is a vector, and its rows are 1. */
void model_tensor_shape(const struct model_config *c, enum model_tensor kind, int64_t ret_dims[2],
                        bool *ret_is_vector);
/* true if the tensor belongs to layers [first, end), or to the ends of the model that come with
 * them: the embedding with layer 0, output norm and head with the last one. */
bool model_tensor_is_in_stage(const struct model_config *c, const char *name, int first_layer,
                              int end_layer);

#endif
