/* model_shape.h - which tensors a model has, of what type: all that planning needs to know, whether
 * there is a file of it or only a name. */
#ifndef PACELINE_MODEL_MODEL_SHAPE_H
#define PACELINE_MODEL_MODEL_SHAPE_H

#include "base/err.h"
#include "model/model_config.h"

#include <stdint.h>

struct model_shape {
    struct model_config config;
    unsigned char *types; /* [n_layers][MODEL_TENSOR_KINDS], enum tensor_type; owned */
};

/* What the file holds. model_shape_clear() after success and failure alike. */
int model_shape_of_file(struct model_shape *ret_shape, const struct model_config *c,
                        const struct weight_file *f, struct err *err);
/* A model of the Qwen family as converters write it in this mix of types (quant_mix.h). ERR_USAGE
 * lists what is known. */
int model_shape_of_name(struct model_shape *ret_shape, const char *name, const char *mix,
                        struct err *err);
void model_shape_clear(struct model_shape *s);

/* enum tensor_type, or -1 where this model has no such tensor. layer counts for tensors of a layer
 * only. */
int model_shape_type(const struct model_shape *s, enum model_tensor kind, int layer);
/* Bytes in a file, without its metadata; elements, a head that is the embedding not counted. */
int64_t model_shape_tensor_bytes(const struct model_shape *s, enum model_tensor kind, int layer);
int64_t model_shape_bytes(const struct model_shape *s);
int64_t model_shape_parameters(const struct model_shape *s);

/* The matrices of a layer: q, k, v, output, gate, up, down. Layers whose matrices have the same
 * types are of one kind. */
#define MODEL_SHAPE_MATRICES 7
extern const enum model_tensor model_shape_matrices[MODEL_SHAPE_MATRICES];
/* ret_types: [most]; of a kind beyond `most` there is none, and its layers count as of the last.
 * ret_kind: [n_layers], or NULL. Returns how many there are. */
int model_shape_kinds(const struct model_shape *s, int most,
                      unsigned char (*ret_types)[MODEL_SHAPE_MATRICES], unsigned char *ret_kind);

#endif
