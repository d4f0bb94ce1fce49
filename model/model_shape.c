#include "model/model_shape.h"

#include "kernels/quant.h"
#include "model/known_models.h"
#include "model/quant_mix.h"

#include <stdlib.h>
#include <string.h>

const enum model_tensor model_shape_matrices[MODEL_SHAPE_MATRICES] = {
    MODEL_Q,        MODEL_K,      MODEL_V,       MODEL_ATTENTION_OUTPUT,
    MODEL_FFN_GATE, MODEL_FFN_UP, MODEL_FFN_DOWN};

static int model_shape_claim(struct model_shape *s, const struct model_config *c, struct err *err)
{
    *s = (struct model_shape){.config = *c};
    s->types = calloc((size_t)c->n_layers + 1, MODEL_TENSOR_KINDS);
    return s->types ? 0
                    : err_set(err, ERR_MEMORY, "no memory for the types of %d layers", c->n_layers);
}

int model_shape_of_file(struct model_shape *ret_shape, const struct model_config *c,
                        const struct weight_file *f, struct err *err)
{
    int rc = model_shape_claim(ret_shape, c, err);
    for (int layer = 0; rc == 0 && layer < c->n_layers; layer++) {
        for (int kind = 0; kind < MODEL_TENSOR_KINDS; kind++) {
            const struct tensor *t = model_tensor(c, f, kind, layer);
            ret_shape->types[layer * MODEL_TENSOR_KINDS + kind] = t ? (unsigned char)t->type : 0;
        }
    }
    return rc;
}

int model_shape_of_name(struct model_shape *ret_shape, const char *name, const char *mix,
                        struct err *err)
{
    *ret_shape = (struct model_shape){0};
    struct model_config c;
    int number = quant_mix_find(mix, err);
    int rc = number < 0 ? number : known_model(name, &c, err);
    if (rc == 0)
        rc = model_shape_claim(ret_shape, &c, err);
    for (int layer = 0; rc == 0 && layer < c.n_layers; layer++)
        for (int kind = 0; kind < MODEL_TENSOR_KINDS; kind++)
            if (model_tensor_exists(&c, kind))
                ret_shape->types[layer * MODEL_TENSOR_KINDS + kind] =
                    (unsigned char)quant_mix_type(number, &c, kind, layer);
    return rc;
}

void model_shape_clear(struct model_shape *s)
{
    free(s->types);
    *s = (struct model_shape){0};
}

int model_shape_type(const struct model_shape *s, enum model_tensor kind, int layer)
{
    if (!model_tensor_exists(&s->config, kind))
        return -1;
    return s->types[(model_tensor_is_in_layer(kind) ? layer : 0) * MODEL_TENSOR_KINDS + (int)kind];
}

int64_t model_shape_tensor_bytes(const struct model_shape *s, enum model_tensor kind, int layer)
{
    int64_t dims[2];
    bool is_vector;
    int type = model_shape_type(s, kind, layer);
    if (type < 0)
        return 0;
    model_tensor_shape(&s->config, kind, dims, &is_vector);
    return dims[1] * (int64_t)quant_row_bytes(type, dims[0]);
}

int64_t model_shape_bytes(const struct model_shape *s)
{
    int64_t bytes = 0;
    for (int kind = 0; kind < MODEL_TENSOR_KINDS; kind++) {
        int n = model_tensor_is_in_layer(kind) ? s->config.n_layers : 1;
        for (int layer = 0; layer < n; layer++)
            bytes += model_shape_tensor_bytes(s, kind, layer);
    }
    return bytes;
}

int64_t model_shape_parameters(const struct model_shape *s)
{
    int64_t count = 0;
    for (int kind = 0; kind < MODEL_TENSOR_KINDS; kind++) {
        int64_t dims[2];
        bool is_vector;
        if (!model_tensor_exists(&s->config, kind))
            continue;
        model_tensor_shape(&s->config, kind, dims, &is_vector);
        count += dims[0] * dims[1] * (model_tensor_is_in_layer(kind) ? s->config.n_layers : 1);
    }
    return count;
}

int model_shape_kinds(const struct model_shape *s, int most,
                      unsigned char (*ret_types)[MODEL_SHAPE_MATRICES], unsigned char *ret_kind)
{
    int n = 0;
    for (int layer = 0; layer < s->config.n_layers; layer++) {
        unsigned char types[MODEL_SHAPE_MATRICES];
        for (int i = 0; i < MODEL_SHAPE_MATRICES; i++)
            types[i] = (unsigned char)model_shape_type(s, model_shape_matrices[i], layer);
        int kind = 0;
        while (kind < n && memcmp(ret_types[kind], types, sizeof types) != 0)
            kind++;
        if (kind == n && n < most)
            memcpy(ret_types[n++], types, sizeof types);
        if (ret_kind)
            ret_kind[layer] = (unsigned char)(kind < n ? kind : n - 1);
    }
    return n;
}
