/* vec_kernels.h - the slots of the table that norm.c, rope.c, swiglu.c, softmax.c, attention.c and
 * the sampler call: arithmetic on vectors, no threads, no allocation. The scalar functions of
 * vec.c define every result (docs/numerics.md, sections 5 to 8). Unless said otherwise y may be
 * one of the inputs, and no pointer need be aligned. */
#ifndef PACELINE_KERNELS_VEC_KERNELS_H
#define PACELINE_KERNELS_VEC_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VEC_BLOCK 64 /* positions of a block of keys and values: KV_BLOCK_TOKENS */

struct vec_kernels {
    /* Σ x², 16 lanes and their tree */
    float (*sum_squares)(const float *x, size_t n);
    /* y = (x · r) · weight */
    void (*scale)(float *y, const float *x, const float *weight, float r, size_t n);
    /* Pairs (x[i], x[i + half]) turn by the angle whose cos and sin are given. */
    void (*rotate)(float *x, const float *cos, const float *sin, size_t half);
    /* y = gate / (1 + exp(-gate)) · up */
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n);
    /* y += x */
    void (*add)(float *y, const float *x, size_t n);
    /* y = x / by */
    void (*divide)(float *y, const float *x, float by, size_t n);
    /* false: there is a NaN. n is at least 1; of equal ones (-0 and +0 are) the first. */
    bool (*maximum)(const float *x, size_t n, float *ret_maximum, size_t *ret_index);
    /* y = exp(x - maximum); returns Σ y, 16 lanes and their tree. y may be NULL. */
    float (*exp_sum)(float *y, const float *x, float maximum, size_t n);
    /* y = float((double(x) - maximum) · factor) */
    void (*scale_logits)(float *y, const float *x, double maximum, double factor, size_t n);
    /* IEEE half, nearest even, subnormals and infinities kept; not in place. */
    void (*f32_to_f16)(uint16_t *to, const float *from, size_t n);
    void (*f16_to_f32)(float *to, const uint16_t *from, size_t n);

    /* Attention over one block of 64 positions, for n_q queries that share it.
     * scores: s[n_q][64] = (Σ_d q[n_q][dim] · keys[dim][64]) · scale, all 64 of them, whatever
     * unwritten positions hold. dim: a multiple of 8, at most 256. */
    void (*scores_f16)(float *s, const float *q, const void *keys, int n_q, int dim, float scale);
    void (*scores_f32)(float *s, const float *q, const void *keys, int n_q, int dim, float scale);
    /* keys: signed bytes [dim][64], behind them their scales, halves [dim / 32][64]. */
    void (*scores_q8_0)(float *s, const float *q, const void *keys, int n_q, int dim, float scale);
    /* Of the first n positions of each query: maximum, w = exp(s - maximum) in place, and Σ w. */
    void (*weights)(float *s, int n_q, int n, float *ret_maximum, float *ret_sum);
    /* o[n_q][dim] = Σ_p w[n_q][64] · values[64][dim] over the first n positions, p ascending. */
    void (*values_f16)(float *o, const float *w, const void *values, int n_q, int dim, int n);
    void (*values_f32)(float *o, const float *w, const void *values, int n_q, int dim, int n);
    /* values: signed bytes [64][dim], behind them their scales, halves [64][dim / 32]. */
    void (*values_q8_0)(float *o, const float *w, const void *values, int n_q, int dim, int n);
    /* (maximum, sum, o) of n_q queries absorbs the next block's (maximum2, sum2, o2). */
    void (*merge)(float *maximum, float *sum, float *o, const float *maximum2, const float *sum2,
                  const float *o2, int n_q, int dim);
};

#endif
