#include "model/quant_mix.h"

#include "kernels/quant.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum quant_mix {
    MIX_F32,
    MIX_F16,
    MIX_BF16,
    MIX_Q8_0,
    MIX_Q6_K,
    MIX_Q5_1,
    MIX_Q5_K_M,
    MIX_Q5_0,
    MIX_Q5_K_S,
    MIX_Q4_1,
    MIX_Q4_K_M,
    MIX_Q4_K_S,
    MIX_Q4_0,
    MIX_IQ4_XS,
    MIX_Q3_K_L,
    MIX_Q3_K_M,
    MIX_Q3_K_S,
    MIX_Q2_K,
    QUANT_MIXES
};

static const struct {
    const char *name;
    enum tensor_type most; /* of its tensors */
} mixes[QUANT_MIXES] = {
    [MIX_F32] = {"F32", TENSOR_F32},        [MIX_F16] = {"F16", TENSOR_F16},
    [MIX_BF16] = {"BF16", TENSOR_BF16},     [MIX_Q8_0] = {"Q8_0", TENSOR_Q8_0},
    [MIX_Q6_K] = {"Q6_K", TENSOR_Q6_K},     [MIX_Q5_1] = {"Q5_1", TENSOR_Q5_1},
    [MIX_Q5_K_M] = {"Q5_K_M", TENSOR_Q5_K}, [MIX_Q5_0] = {"Q5_0", TENSOR_Q5_0},
    [MIX_Q5_K_S] = {"Q5_K_S", TENSOR_Q5_K}, [MIX_Q4_1] = {"Q4_1", TENSOR_Q4_1},
    [MIX_Q4_K_M] = {"Q4_K_M", TENSOR_Q4_K}, [MIX_Q4_K_S] = {"Q4_K_S", TENSOR_Q4_K},
    [MIX_Q4_0] = {"Q4_0", TENSOR_Q4_0},     [MIX_IQ4_XS] = {"IQ4_XS", TENSOR_IQ4_XS},
    [MIX_Q3_K_L] = {"Q3_K_L", TENSOR_Q3_K}, [MIX_Q3_K_M] = {"Q3_K_M", TENSOR_Q3_K},
    [MIX_Q3_K_S] = {"Q3_K_S", TENSOR_Q3_K}, [MIX_Q2_K] = {"Q2_K", TENSOR_Q2_K},
};

int quant_mix_find(const char *name, struct err *err)
{
    char names[200] = "";
    size_t used = 0;
    for (int i = 0; i < QUANT_MIXES; i++) {
        if (strcasecmp(name, mixes[i].name) == 0)
            return i;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 mixes[i].name);
    }
    return err_set(err, ERR_USAGE, "unknown quantization \"%.40s\"; known are %s", name, names);
}

const char *quant_mix_name(int number)
{
    return number >= 0 && number < QUANT_MIXES ? mixes[number].name : NULL;
}

/* The first and the last eighth of the layers, and every third between them. */
static bool quant_mix_is_favoured(int layer, int n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static enum tensor_type quant_mix_values(enum quant_mix mix, const struct model_config *c,
                                         int layer)
{
    bool is_shared = c->n_heads / c->n_kv_heads >= 4; /* by so many heads: few bytes, used often */
    enum tensor_type type = mixes[mix].most;
    if (mix == MIX_Q2_K)
        type = is_shared ? TENSOR_Q4_K : TENSOR_Q3_K;
    else if (mix == MIX_Q3_K_M)
        type = layer < 2 ? TENSOR_Q5_K : TENSOR_Q4_K;
    else if (mix == MIX_Q3_K_L)
        type = TENSOR_Q5_K;
    else if (mix == MIX_IQ4_XS && is_shared)
        type = TENSOR_Q5_K;
    else if ((mix == MIX_Q4_K_M || mix == MIX_Q5_K_M) && quant_mix_is_favoured(layer, c->n_layers))
        type = TENSOR_Q6_K;
    else if (mix == MIX_Q4_K_S && layer < 4)
        type = TENSOR_Q5_K;
    bool is_largest = c->n_layers == 80 && is_shared;
    return is_largest && (type == TENSOR_Q3_K || type == TENSOR_Q4_K) ? TENSOR_Q5_K : type;
}

static enum tensor_type quant_mix_down(enum quant_mix mix, int layer, int n)
{
    switch (mix) {
    case MIX_Q2_K:
        return TENSOR_Q3_K;
    case MIX_Q3_K_M:
        return layer < n / 16 ? TENSOR_Q5_K : TENSOR_Q4_K;
    case MIX_Q3_K_L:
        return TENSOR_Q5_K;
    case MIX_Q4_K_M:
    case MIX_Q5_K_M:
        return quant_mix_is_favoured(layer, n) ? TENSOR_Q6_K : mixes[mix].most;
    case MIX_Q4_K_S:
    case MIX_IQ4_XS:
        return layer < n / 8 ? TENSOR_Q5_K : mixes[mix].most;
    default:
        return mixes[mix].most;
    }
}

static enum tensor_type quant_mix_output(enum quant_mix mix)
{
    return mix == MIX_Q2_K     ? TENSOR_Q3_K
           : mix == MIX_Q3_K_M ? TENSOR_Q4_K
           : mix == MIX_Q3_K_L ? TENSOR_Q5_K
                               : mixes[mix].most;
}

/* Rows that 256 does not divide. */
static enum tensor_type quant_mix_narrow(enum tensor_type type)
{
    switch (type) {
    case TENSOR_Q2_K:
    case TENSOR_Q3_K:
    case TENSOR_IQ4_XS:
        return TENSOR_IQ4_NL;
    case TENSOR_Q4_K:
        return TENSOR_Q5_0;
    case TENSOR_Q5_K:
        return TENSOR_Q5_1;
    case TENSOR_Q6_K:
        return TENSOR_Q8_0;
    default:
        return type;
    }
}

int quant_mix_type(int number, const struct model_config *c, enum model_tensor kind, int layer)
{
    const enum quant_mix mix = (enum quant_mix)number;
    int64_t dims[2];
    bool is_vector;
    model_tensor_shape(c, kind, dims, &is_vector);
    if (is_vector)
        return TENSOR_F32;
    enum tensor_type type = mixes[mix].most;
    bool is_head = kind == MODEL_OUTPUT || (kind == MODEL_TOKEN_EMBEDDING && c->tied_head);
    if (is_head && mix > MIX_Q8_0)
        type = TENSOR_Q6_K;
    else if (kind == MODEL_V)
        type = quant_mix_values(mix, c, layer);
    else if (kind == MODEL_FFN_DOWN)
        type = quant_mix_down(mix, layer, c->n_layers);
    else if (kind == MODEL_ATTENTION_OUTPUT)
        type = quant_mix_output(mix);
    return dims[0] % 256 == 0 ? type : quant_mix_narrow(type);
}
