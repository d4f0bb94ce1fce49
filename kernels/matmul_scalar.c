/* matmul_scalar.c - the reference: docs/numerics.md, sections 3 and 4, as plain loops. */
#include "kernels/codebook.h"
#include "kernels/kernels_fill.h"
#include "kernels/matmul_layout.h"

#include <math.h>
#include <string.h>

/* One block of a group, taken out of the planes. */
struct scalar_block {
    int columns, sub_columns;
    int weights[MATMUL_GROUP][256]; /* centred */
    int scales[MATMUL_GROUP][16], minima[MATMUL_GROUP][16];
    float scale[MATMUL_GROUP], minimum[MATMUL_GROUP];
};

static int plane_field(struct matmul_layout l, struct matmul_plane p, const uint8_t *block, int row,
                       int k)
{
    if (p.bits == 0)
        return 0;
    const uint8_t *vector = block + p.offset + matmul_plane_vector(l, p, k / 4) * 64;
    return vector[row * 4 + k % 4] >> matmul_plane_shift(l, p, k / 4) & ((1 << p.bits) - 1);
}

static float read_scale(int type, const uint8_t *from)
{
    return quant_scale_to_f32(type, (uint16_t)(from[0] | from[1] << 8));
}

static void scalar_unpack_row(int type, const uint8_t *block, const uint8_t *halves, int row,
                              struct scalar_block *b)
{
    const struct matmul_layout l = matmul_layout(type);
    const struct quant_format *f = quant_format(type);
    for (int k = 0; k < l.elements; k++) {
        const int high = plane_field(l, l.high, block, row, k);
        const int code = plane_field(l, l.low, block, row, k) | high << l.low.bits;
        b->weights[row][k] = quant_centred(f, code);
    }
    for (int j = 0; j < b->columns / b->sub_columns && f->sub_elements; j++) {
        const int at = j / 2 * 32 + row * 2 + j % 2;
        b->scales[row][j] = (int8_t)block[l.scales + at];
        b->minima[row][j] = l.minima ? block[l.minima + at] : 0;
        if (f->has_minimum && !l.minima) {
            b->minima[row][j] = block[l.scales + at] >> 4;
            b->scales[row][j] = block[l.scales + at] & 15;
        }
    }
    b->scale[row] = read_scale(type, halves + row * 2);
    b->minimum[row] = f->has_minimum ? read_scale(type, halves + 32 + row * 2) : 0;
}

static int dot(const int *w, const int8_t *x, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += w[i] * x[i];
    return sum;
}

static int sum_of(const int8_t *x, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* 32-wide formats: one scale for the block; the minimum is added. */
static float scalar_add_32(const struct scalar_block *b, bool has_minimum, int row, const int8_t *x,
                           float x_scale, float acc)
{
    acc = fmaf(b->scale[row] * x_scale, (float)dot(b->weights[row], x, 32), acc);
    if (has_minimum)
        acc = fmaf(b->minimum[row] * x_scale, (float)sum_of(x, 32), acc);
    return acc;
}

/* Super-blocks: scales and minima of sub-blocks stay integers; the minimum is subtracted. */
static float scalar_add_256(const struct scalar_block *b, bool has_minimum, int row,
                            const int8_t *x, float x_scale, float acc)
{
    int products = 0, minima = 0;
    for (int j = 0; j < 256 / b->sub_columns; j++) {
        const int first = j * b->sub_columns;
        products += b->scales[row][j] * dot(b->weights[row] + first, x + first, b->sub_columns);
        minima += b->minima[row][j] * sum_of(x + first, b->sub_columns);
    }
    acc = fmaf(b->scale[row] * x_scale, (float)products, acc);
    if (has_minimum)
        acc = fmaf(-(b->minimum[row] * x_scale), (float)minima, acc);
    return acc;
}

static void scalar_group(int type, const struct matmul_tile *t, const uint8_t *group, float *y)
{
    const struct matmul_layout l = matmul_layout(type);
    const struct quant_format *f = quant_format(type);
    const int blocks = t->cols / l.elements;
    const uint8_t *halves = group + (size_t)blocks * (size_t)l.block_bytes;
    struct scalar_block b = {.columns = l.elements,
                             .sub_columns = f->sub_elements ? f->sub_elements : l.elements};
    for (int r = 0; r < t->rows; r++)
        memset(y + (size_t)r * t->y_stride, 0, MATMUL_GROUP * sizeof *y);
    for (int i = 0; i < blocks; i++) {
        for (int o = 0; o < MATMUL_GROUP; o++)
            scalar_unpack_row(type, group, halves, o, &b);
        for (int r = 0; r < t->rows; r++) {
            const int8_t *x = t->codes.codes + (size_t)r * t->codes.stride + i * l.elements;
            const float x_scale = t->codes.scales[(size_t)r * t->codes.scale_stride + (size_t)i];
            float *to = y + (size_t)r * t->y_stride;
            for (int o = 0; o < MATMUL_GROUP; o++)
                to[o] = f->sub_elements ? scalar_add_256(&b, f->has_minimum, o, x, x_scale, to[o])
                                        : scalar_add_32(&b, f->has_minimum, o, x, x_scale, to[o]);
        }
        group += l.block_bytes;
        halves += l.halves * 32;
    }
}

static void scalar_product(int type, const struct matmul_tile *t)
{
    for (int g = 0; g < t->groups; g++)
        scalar_group(type, t, t->weights + (size_t)g * t->group_bytes, t->y + g * MATMUL_GROUP);
}

static void scalar_plain(int type, const struct matmul_tile *t)
{
    const int bytes = quant_block_bytes(type);
    for (int g = 0; g < t->groups; g++) {
        for (int r = 0; r < t->rows; r++) {
            const uint8_t *from = t->weights + (size_t)g * t->group_bytes;
            const float *x = t->x + (size_t)r * t->x_stride;
            float acc[MATMUL_GROUP] = {0};
            for (int k = 0; k < t->cols; k++, from += MATMUL_GROUP * bytes) {
                float w[MATMUL_GROUP];
                quant_unpack_row(type, from, w, MATMUL_GROUP);
                for (int o = 0; o < MATMUL_GROUP; o++)
                    acc[o] = fmaf(w[o], x[k], acc[o]);
            }
            memcpy(t->y + (size_t)r * t->y_stride + g * MATMUL_GROUP, acc, sizeof acc);
        }
    }
}

static void product_f32(const struct matmul_tile *t)
{
    scalar_plain(TENSOR_F32, t);
}

static void product_f16(const struct matmul_tile *t)
{
    scalar_plain(TENSOR_F16, t);
}

static void product_bf16(const struct matmul_tile *t)
{
    scalar_plain(TENSOR_BF16, t);
}

static void product_q4_0(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q4_0, t);
}

static void product_q4_1(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q4_1, t);
}

static void product_q5_0(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q5_0, t);
}

static void product_q5_1(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q5_1, t);
}

static void product_q8_0(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q8_0, t);
}

static void product_q2_k(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q2_K, t);
}

static void product_q3_k(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q3_K, t);
}

static void product_q4_k(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q4_K, t);
}

static void product_q5_k(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q5_K, t);
}

static void product_q6_k(const struct matmul_tile *t)
{
    scalar_product(TENSOR_Q6_K, t);
}

static void product_iq4_nl(const struct matmul_tile *t)
{
    scalar_product(TENSOR_IQ4_NL, t);
}

static void product_iq4_xs(const struct matmul_tile *t)
{
    scalar_product(TENSOR_IQ4_XS, t);
}

static void product_mxfp4(const struct matmul_tile *t)
{
    scalar_product(TENSOR_MXFP4, t);
}

static void split(int type, const uint8_t *from, struct codebook_block *to)
{
    for (int o = 0; o < MATMUL_GROUP; o++)
        codebook_split(type, from + o * quant_block_bytes(type), to + o);
}

static void codebook(const struct codebook_block *blocks, const struct matmul_codes *x, int rows,
                     float *y, size_t y_stride)
{
    for (int r = 0; r < rows; r++) {
        const int8_t *codes = x->codes + (size_t)r * x->stride;
        const float x_scale = x->scales[(size_t)r * x->scale_stride];
        float *to = y + (size_t)r * y_stride;
        for (int o = 0; o < MATMUL_GROUP; o++) {
            int sum = 0;
            for (int i = 0; i < 256; i++)
                sum += blocks[o].scales[i / 16] * blocks[o].weights[i] * codes[i];
            to[o] = fmaf(blocks[o].scale * x_scale, (float)sum, to[o]);
        }
    }
}

/* The scale of a group; *ret_factor is what x is multiplied by before rounding. */
static float group_scale(const float *x, int n, float *ret_factor)
{
    uint32_t largest = 0; /* bits of |x| are ordered as the values are, NaN above infinity */
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    float amax;
    memcpy(&amax, &largest, sizeof amax);
    *ret_factor = 0;
    if (largest >= 0x7f800000)
        return NAN;
    if (amax < 0x1p-100f)
        return 0;
    *ret_factor = 127.0f / amax;
    return amax / 127.0f;
}

static void quantise(const float *x, int cols, int group, const struct matmul_codes *to)
{
    for (int g = 0; g < cols / group; g++) {
        const float *from = x + g * group;
        int8_t *codes = to->codes + g * group;
        float factor;
        to->scales[g] = group_scale(from, group, &factor);
        for (int i = 0; i < group; i++) {
            const float code = factor == 0 ? 0 : rintf(from[i] * factor);
            codes[i] = (int8_t)(code > 127 ? 127 : code < -127 ? -127 : code);
        }
    }
    for (int j = 0; j < cols / 32; j++)
        to->sums32[j] = (int16_t)sum_of(to->codes + j * 32, 32);
    for (int j = 0; j < cols / 16 && group == 256; j++)
        to->sums16[j] = (int16_t)sum_of(to->codes + j * 16, 16);
}

void matmul_scalar_fill(struct matmul_kernels *k)
{
    k->product[TENSOR_F32] = product_f32;
    k->product[TENSOR_F16] = product_f16;
    k->product[TENSOR_BF16] = product_bf16;
    k->product[TENSOR_Q4_0] = product_q4_0;
    k->product[TENSOR_Q4_1] = product_q4_1;
    k->product[TENSOR_Q5_0] = product_q5_0;
    k->product[TENSOR_Q5_1] = product_q5_1;
    k->product[TENSOR_Q8_0] = product_q8_0;
    k->product[TENSOR_Q2_K] = product_q2_k;
    k->product[TENSOR_Q3_K] = product_q3_k;
    k->product[TENSOR_Q4_K] = product_q4_k;
    k->product[TENSOR_Q5_K] = product_q5_k;
    k->product[TENSOR_Q6_K] = product_q6_k;
    k->product[TENSOR_IQ4_NL] = product_iq4_nl;
    k->product[TENSOR_IQ4_XS] = product_iq4_xs;
    k->product[TENSOR_MXFP4] = product_mxfp4;
    codebook_fill(k);
    k->codebook_split = split;
    k->codebook = codebook;
    k->quantise = quantise;
    k->quantise_isa = "scalar";
}
