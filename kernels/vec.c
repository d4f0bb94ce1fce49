/* vec.c - the reference of every vector kernel. It is written for reading: what it computes is the
 * definition, and the files of the instruction sets must equal it to the bit. */
#include "kernels/fmath.h"
#include "kernels/kernels_fill.h"
#include "kernels/quant.h"

#include <math.h>

#define LANES 16

static float lanes_sum(float lane[LANES])
{
    for (int width = LANES / 2; width >= 1; width /= 2)
        for (int l = 0; l < width; l++)
            lane[l] += lane[l + width];
    return lane[0];
}

static float vec_sum_squares(const float *x, size_t n)
{
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
    return lanes_sum(lane);
}

static void vec_scale(float *y, const float *x, const float *weight, float r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] * r) * weight[i];
}

static void vec_rotate(float *x, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = fmaf(a, cos[i], -(b * sin[i]));
        x[i + half] = fmaf(b, cos[i], a * sin[i]);
    }
}

static void vec_swiglu(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] / (1.0f + fmath_exp(-gate[i])) * up[i];
}

static void vec_add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void vec_divide(float *y, const float *x, float by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / by;
}

static bool vec_maximum(const float *x, size_t n, float *ret_maximum, size_t *ret_index)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return false;
        if (x[i] > x[best])
            best = i;
    }
    *ret_maximum = x[best];
    *ret_index = best;
    return true;
}

static float vec_exp_sum(float *y, const float *x, float maximum, size_t n)
{
    float lane[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        float e = fmath_exp(x[i] - maximum);
        lane[i % LANES] += e;
        if (y)
            y[i] = e;
    }
    return lanes_sum(lane);
}

static void vec_scale_logits(float *y, const float *x, double maximum, double factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(((double)x[i] - maximum) * factor);
}

static void vec_f32_to_f16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = quant_f32_to_f16(from[i]);
}

static void vec_f16_to_f32(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = quant_f16_to_f32(from[i]);
}

/* s += q · keys: one more element d of every query, for all 64 positions. */
static void scores_add(float *s, const float *q, const float keys[VEC_BLOCK], int n_q, int dim)
{
    for (int i = 0; i < n_q; i++)
        for (int p = 0; p < VEC_BLOCK; p++)
            s[i * VEC_BLOCK + p] = fmaf(q[i * dim], keys[p], s[i * VEC_BLOCK + p]);
}

static void scores_clear(float *s, int n_q)
{
    for (int i = 0; i < n_q * VEC_BLOCK; i++)
        s[i] = 0.0f;
}

static void scores_scale(float *s, int n_q, float scale)
{
    for (int i = 0; i < n_q * VEC_BLOCK; i++)
        s[i] *= scale;
}

static void vec_scores_f16(float *s, const float *q, const void *keys, int n_q, int dim,
                           float scale)
{
    const uint16_t *k = keys;
    float row[VEC_BLOCK];
    scores_clear(s, n_q);
    for (int d = 0; d < dim; d++) {
        vec_f16_to_f32(row, k + d * VEC_BLOCK, VEC_BLOCK);
        scores_add(s, q + d, row, n_q, dim);
    }
    scores_scale(s, n_q, scale);
}

static void vec_scores_f32(float *s, const float *q, const void *keys, int n_q, int dim,
                           float scale)
{
    const float *k = keys;
    scores_clear(s, n_q);
    for (int d = 0; d < dim; d++)
        scores_add(s, q + d, k + d * VEC_BLOCK, n_q, dim);
    scores_scale(s, n_q, scale);
}

static void vec_scores_q8_0(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    const int8_t *codes = keys;
    const uint16_t *scales = (const uint16_t *)(codes + dim * VEC_BLOCK);
    float row[VEC_BLOCK];
    scores_clear(s, n_q);
    for (int d = 0; d < dim; d++) {
        for (int p = 0; p < VEC_BLOCK; p++)
            row[p] =
                quant_f16_to_f32(scales[d / 32 * VEC_BLOCK + p]) * (float)codes[d * VEC_BLOCK + p];
        scores_add(s, q + d, row, n_q, dim);
    }
    scores_scale(s, n_q, scale);
}

/* A score that is NaN does not become the maximum, but makes its own weight and the sum NaN. */
static void vec_weights(float *s, int n_q, int n, float *ret_maximum, float *ret_sum)
{
    for (int i = 0; i < n_q; i++, s += VEC_BLOCK) {
        float maximum = -INFINITY;
        for (int p = 0; p < n; p++)
            maximum = s[p] > maximum ? s[p] : maximum;
        ret_maximum[i] = maximum;
        ret_sum[i] = vec_exp_sum(s, s, maximum, (size_t)n);
    }
}

/* o += w · values: one more position of every query, for all elements. */
static void values_add(float *o, const float *w, const float *values, int n_q, int dim)
{
    for (int i = 0; i < n_q; i++)
        for (int d = 0; d < dim; d++)
            o[i * dim + d] = fmaf(w[i * VEC_BLOCK], values[d], o[i * dim + d]);
}

static void vec_values_f16(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    const uint16_t *v = values;
    float row[256];
    for (int i = 0; i < n_q * dim; i++)
        o[i] = 0.0f;
    for (int p = 0; p < n; p++) {
        vec_f16_to_f32(row, v + p * dim, (size_t)dim);
        values_add(o, w + p, row, n_q, dim);
    }
}

static void vec_values_f32(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    const float *v = values;
    for (int i = 0; i < n_q * dim; i++)
        o[i] = 0.0f;
    for (int p = 0; p < n; p++)
        values_add(o, w + p, v + p * dim, n_q, dim);
}

static void vec_values_q8_0(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    const int8_t *codes = values;
    const uint16_t *scales = (const uint16_t *)(codes + dim * VEC_BLOCK);
    float row[256];
    for (int i = 0; i < n_q * dim; i++)
        o[i] = 0.0f;
    for (int p = 0; p < n; p++) {
        for (int d = 0; d < dim; d++)
            row[d] = quant_f16_to_f32(scales[p * (dim / 32) + d / 32]) * (float)codes[p * dim + d];
        values_add(o, w + p, row, n_q, dim);
    }
}

static void vec_merge(float *maximum, float *sum, float *o, const float *maximum2,
                      const float *sum2, const float *o2, int n_q, int dim)
{
    for (int i = 0; i < n_q; i++) {
        float m = maximum2[i] > maximum[i] ? maximum2[i] : maximum[i];
        float a = fmath_exp(maximum[i] - m), b = fmath_exp(maximum2[i] - m);
        maximum[i] = m;
        sum[i] = fmaf(sum[i], a, sum2[i] * b);
        for (int d = 0; d < dim; d++)
            o[i * dim + d] = fmaf(o[i * dim + d], a, o2[i * dim + d] * b);
    }
}

void vec_fill(struct vec_kernels *k)
{
    *k = (struct vec_kernels){.sum_squares = vec_sum_squares,
                              .scale = vec_scale,
                              .rotate = vec_rotate,
                              .swiglu = vec_swiglu,
                              .add = vec_add,
                              .divide = vec_divide,
                              .maximum = vec_maximum,
                              .exp_sum = vec_exp_sum,
                              .scale_logits = vec_scale_logits,
                              .f32_to_f16 = vec_f32_to_f16,
                              .f16_to_f32 = vec_f16_to_f32,
                              .scores_f16 = vec_scores_f16,
                              .scores_f32 = vec_scores_f32,
                              .scores_q8_0 = vec_scores_q8_0,
                              .weights = vec_weights,
                              .values_f16 = vec_values_f16,
                              .values_f32 = vec_values_f32,
                              .values_q8_0 = vec_values_q8_0,
                              .merge = vec_merge};
}
