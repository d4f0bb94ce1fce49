/* vec_neon.c - the slots of vec_kernels.h with NEON: four vectors are the 16 lanes of
 * docs/numerics.md. There are no masked loads: what is left of an array goes through a buffer. */
#include "kernels/fmath_exp.h"
#include "kernels/kernels_fill.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* The first n of 4 floats, all for n above 4; zeros behind them. */
INLINE float32x4_t load_first(const float *x, size_t n)
{
    if (n >= 4)
        return vld1q_f32(x);
    float lanes[4] = {0};
    memcpy(lanes, x, n * sizeof *x);
    return vld1q_f32(lanes);
}

INLINE void store_first(float *y, size_t n, float32x4_t v)
{
    if (n >= 4) {
        vst1q_f32(y, v);
        return;
    }
    float lanes[4];
    vst1q_f32(lanes, v);
    memcpy(y, lanes, n * sizeof *y);
}

/* Lanes from n on become `rest`. */
INLINE float32x4_t fill_from(float32x4_t v, size_t n, float rest)
{
    static const uint32_t lane[4] = {0, 1, 2, 3};
    const uint32x4_t first = vcltq_u32(vld1q_u32(lane), vdupq_n_u32(n < 4 ? (uint32_t)n : 4));
    return vbslq_f32(first, v, vdupq_n_f32(rest));
}

/* The tree (l, l+8), (l, l+4), (l, l+2), (0, 1). */
INLINE float lanes_sum(const float32x4_t lanes[4])
{
    const float32x4_t low = vaddq_f32(lanes[0], lanes[2]), high = vaddq_f32(lanes[1], lanes[3]);
    const float32x4_t four = vaddq_f32(low, high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

INLINE float32x4_t power_of_two(int32x4_t exponent)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23));
}

/* fmath_exp(). FMAX and FMIN give NaN when an operand is one. */
INLINE float32x4_t exp4(float32x4_t x)
{
    const float32x4_t round = vdupq_n_f32(EXP_ROUND);
    x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(EXP_LOWEST)), vdupq_n_f32(EXP_HIGHEST));
    const float32x4_t sum = vfmaq_f32(round, x, vdupq_n_f32(EXP_LOG2E));
    const float32x4_t n = vsubq_f32(sum, round);
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(EXP_LN2_HIGH));
    r = vfmsq_f32(r, n, vdupq_n_f32(EXP_LN2_LOW));
    float32x4_t q = vfmaq_f32(vdupq_n_f32(EXP_C3), r, vdupq_n_f32(EXP_C4));
    q = vfmaq_f32(vdupq_n_f32(EXP_C2), r, q);
    q = vfmaq_f32(vdupq_n_f32(EXP_C1), r, q);
    q = vfmaq_f32(vdupq_n_f32(EXP_C0), r, q);
    float32x4_t p = vfmaq_f32(r, vmulq_f32(r, r), q);
    p = vaddq_f32(p, vdupq_n_f32(1.0f));
    const int32x4_t exponent =
        vsubq_s32(vreinterpretq_s32_f32(sum), vdupq_n_s32((int)EXP_ROUND_BITS));
    const int32x4_t first = vshrq_n_s32(exponent, 1), second = vsubq_s32(exponent, first);
    return vmulq_f32(vmulq_f32(p, power_of_two(first)), power_of_two(second));
}

static float neon_sum_squares(const float *x, size_t n)
{
    float32x4_t lanes[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) {
            const float32x4_t v = vld1q_f32(x + i + part * 4);
            lanes[part] = vfmaq_f32(lanes[part], v, v);
        }
    for (int part = 0; i < n; i += 4, part++) {
        const float32x4_t v = load_first(x + i, n - i);
        lanes[part] = vfmaq_f32(lanes[part], v, v);
    }
    return lanes_sum(lanes);
}

static void neon_scale(float *y, const float *x, const float *weight, float r, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = vmulq_n_f32(load_first(x + i, n - i), r);
        store_first(y + i, n - i, vmulq_f32(v, load_first(weight + i, n - i)));
    }
}

static void neon_rotate(float *x, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i += 4) {
        const size_t n = half - i;
        const float32x4_t a = load_first(x + i, n), b = load_first(x + half + i, n);
        const float32x4_t c = load_first(cos + i, n), s = load_first(sin + i, n);
        store_first(x + i, n, vfmaq_f32(vnegq_f32(vmulq_f32(b, s)), a, c));
        store_first(x + half + i, n, vfmaq_f32(vmulq_f32(a, s), b, c));
    }
}

static void neon_swiglu(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = load_first(gate + i, n - i);
        const float32x4_t below = vaddq_f32(vdupq_n_f32(1.0f), exp4(vnegq_f32(v)));
        store_first(y + i, n - i, vmulq_f32(vdivq_f32(v, below), load_first(up + i, n - i)));
    }
}

static void neon_add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store_first(y + i, n - i, vaddq_f32(load_first(y + i, n - i), load_first(x + i, n - i)));
}

static void neon_divide(float *y, const float *x, float by, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        store_first(y + i, n - i, vdivq_f32(load_first(x + i, n - i), vdupq_n_f32(by)));
}

static bool neon_maximum(const float *x, size_t n, float *ret_maximum, size_t *ret_index)
{
    float32x4_t most = vdupq_n_f32(-INFINITY);
    uint32x4_t ordered = vdupq_n_u32(~0u);
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = fill_from(load_first(x + i, n - i), n - i, -INFINITY);
        ordered = vandq_u32(ordered, vceqq_f32(v, v));
        most = vmaxq_f32(most, v);
    }
    if (vminvq_u32(ordered) == 0)
        return false;
    const float value = vmaxvq_f32(most);
    size_t i = 0;
    while (n - i >= 4 && vmaxvq_u32(vceqq_f32(vld1q_f32(x + i), vdupq_n_f32(value))) == 0)
        i += 4;
    while (x[i] != value)
        i++;
    *ret_maximum = x[i];
    *ret_index = i;
    return true;
}

static float neon_exp_sum(float *y, const float *x, float maximum, size_t n)
{
    const float32x4_t most = vdupq_n_f32(maximum);
    float32x4_t lanes[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) {
            const float32x4_t e = exp4(vsubq_f32(vld1q_f32(x + i + part * 4), most));
            lanes[part] = vaddq_f32(lanes[part], e);
            if (y)
                vst1q_f32(y + i + part * 4, e);
        }
    for (int part = 0; i < n; i += 4, part++) {
        const float32x4_t e = exp4(vsubq_f32(load_first(x + i, n - i), most));
        lanes[part] = vaddq_f32(lanes[part], fill_from(e, n - i, 0));
        if (y)
            store_first(y + i, n - i, e);
    }
    return lanes_sum(lanes);
}

static void neon_scale_logits(float *y, const float *x, double maximum, double factor, size_t n)
{
    const float64x2_t most = vdupq_n_f64(maximum), by = vdupq_n_f64(factor);
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t v = load_first(x + i, n - i);
        float64x2_t low = vcvt_f64_f32(vget_low_f32(v)), high = vcvt_high_f64_f32(v);
        low = vmulq_f64(vsubq_f64(low, most), by);
        high = vmulq_f64(vsubq_f64(high, most), by);
        store_first(y + i, n - i, vcvt_high_f32_f64(vcvt_f32_f64(low), high));
    }
}

static void neon_f32_to_f16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const uint16x4_t half = vreinterpret_u16_f16(vcvt_f16_f32(load_first(from + i, n - i)));
        if (n - i >= 4) {
            vst1_u16(to + i, half);
        } else {
            uint16_t rest[4];
            vst1_u16(rest, half);
            memcpy(to + i, rest, (n - i) * sizeof *to);
        }
    }
}

INLINE float32x4_t load_halves(const uint16_t *from)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
}

static void neon_f16_to_f32(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        uint16_t rest[4] = {0};
        const bool whole = n - i >= 4;
        if (!whole)
            memcpy(rest, from + i, (n - i) * sizeof *from);
        store_first(to + i, n - i, load_halves(whole ? from + i : rest));
    }
}

/* Elements [at, at + 4) of an f16 or f32 array. */
INLINE float32x4_t load4(const void *from, int at, bool f16)
{
    return f16 ? load_halves((const uint16_t *)from + at) : vld1q_f32((const float *)from + at);
}

enum { TILE = 4 }; /* queries: 4 × 4 sums, 4 vectors of the cache, in 32 registers */

/* sum[i][v] = Σ_j one[i · one_stride + j] · cache[at + j · stride + 4 v], j ascending: both
 * q · keys and w · values, with `count` and `vectors` constants once inlined. */
INLINE void tile_sum(float32x4_t sum[TILE][4], const float *one, int one_stride, const void *cache,
                     int at, int stride, int n, const int count, const int vectors, bool f16)
{
    for (int i = 0; i < count; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = vdupq_n_f32(0);
    for (int j = 0; j < n; j++) {
        float32x4_t other[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            other[v] = load4(cache, at + j * stride + v * 4, f16);
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            const float32x4_t x = vld1q_dup_f32(one + i * one_stride + j);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] = vfmaq_f32(sum[i][v], x, other[v]);
        }
    }
}

/* `count` queries against the 64 keys of a block, 16 at a time. */
INLINE void scores_rows(float *s, const float *q, const void *keys, int dim, float scale,
                        const int count, bool f16)
{
    for (int p = 0; p < VEC_BLOCK; p += 16) {
        float32x4_t sum[TILE][4];
        tile_sum(sum, q, dim, keys, p, VEC_BLOCK, dim, count, 4, f16);
        for (int i = 0; i < count; i++)
            for (int v = 0; v < 4; v++)
                vst1q_f32(s + i * VEC_BLOCK + p + v * 4, vmulq_n_f32(sum[i][v], scale));
    }
}

/* All elements of the output of `count` queries: 16 at a time, then 8. */
INLINE void values_rows(float *o, const float *w, const void *values, int dim, int n,
                        const int count, bool f16)
{
    float32x4_t sum[TILE][4];
    int at = 0;
    for (; at + 16 <= dim; at += 16) {
        tile_sum(sum, w, VEC_BLOCK, values, at, dim, n, count, 4, f16);
        for (int i = 0; i < count; i++)
            for (int v = 0; v < 4; v++)
                vst1q_f32(o + i * dim + at + v * 4, sum[i][v]);
    }
    if (at < dim) {
        tile_sum(sum, w, VEC_BLOCK, values, at, dim, n, count, 2, f16);
        for (int i = 0; i < count; i++)
            for (int v = 0; v < 2; v++)
                vst1q_f32(o + i * dim + at + v * 4, sum[i][v]);
    }
}

/* How many of n queries the next tile takes: tiles of about the same size. */
INLINE int tile_count(int n)
{
    const int tiles = (n + TILE - 1) / TILE;
    return (n + tiles - 1) / tiles;
}

INLINE void scores(float *s, const float *q, const void *keys, int n_q, int dim, float scale,
                   bool f16)
{
    while (n_q > 0) {
        const int count = tile_count(n_q);
        if (count == 1)
            scores_rows(s, q, keys, dim, scale, 1, f16);
        else if (count == 2)
            scores_rows(s, q, keys, dim, scale, 2, f16);
        else if (count == 3)
            scores_rows(s, q, keys, dim, scale, 3, f16);
        else
            scores_rows(s, q, keys, dim, scale, 4, f16);
        s += count * VEC_BLOCK;
        q += count * dim;
        n_q -= count;
    }
}

static void neon_scores_f16(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    scores(s, q, keys, n_q, dim, scale, true);
}

static void neon_scores_f32(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    scores(s, q, keys, n_q, dim, scale, false);
}

static void neon_weights(float *s, int n_q, int n, float *ret_maximum, float *ret_sum)
{
    for (int i = 0; i < n_q; i++, s += VEC_BLOCK) {
        float32x4_t most = vdupq_n_f32(-INFINITY);
        for (int p = 0; p < n; p += 4) {
            const size_t left = (size_t)(n - p);
            const float32x4_t v = fill_from(load_first(s + p, left), left, -INFINITY);
            most = vbslq_f32(vcgtq_f32(v, most), v, most); /* a NaN is never greater */
        }
        ret_maximum[i] = vmaxvq_f32(most);
        ret_sum[i] = neon_exp_sum(s, s, ret_maximum[i], (size_t)n);
    }
}

INLINE void values_sum(float *o, const float *w, const void *values, int n_q, int dim, int n,
                       bool f16)
{
    while (n_q > 0) {
        const int count = tile_count(n_q);
        if (count == 1)
            values_rows(o, w, values, dim, n, 1, f16);
        else if (count == 2)
            values_rows(o, w, values, dim, n, 2, f16);
        else if (count == 3)
            values_rows(o, w, values, dim, n, 3, f16);
        else
            values_rows(o, w, values, dim, n, 4, f16);
        o += count * dim;
        w += count * VEC_BLOCK;
        n_q -= count;
    }
}

static void neon_values_f16(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    values_sum(o, w, values, n_q, dim, n, true);
}

static void neon_values_f32(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    values_sum(o, w, values, n_q, dim, n, false);
}

static void neon_merge(float *maximum, float *sum, float *o, const float *maximum2,
                       const float *sum2, const float *o2, int n_q, int dim)
{
    for (int i = 0; i < n_q; i += 4) {
        const size_t left = (size_t)(n_q - i);
        const float32x4_t m1 = load_first(maximum + i, left), m2 = load_first(maximum2 + i, left);
        const float32x4_t m = vbslq_f32(vcgtq_f32(m2, m1), m2, m1);
        float32x4_t factor[2] = {exp4(vsubq_f32(m1, m)), exp4(vsubq_f32(m2, m))};
        const float32x4_t second = vmulq_f32(load_first(sum2 + i, left), factor[1]);
        store_first(sum + i, left, vfmaq_f32(second, load_first(sum + i, left), factor[0]));
        store_first(maximum + i, left, m);
        float a[4], b[4];
        vst1q_f32(a, factor[0]);
        vst1q_f32(b, factor[1]);
        for (int j = 0; j < 4 && i + j < n_q; j++) {
            float *to = o + (i + j) * dim;
            const float *from = o2 + (i + j) * dim;
            for (int d = 0; d < dim; d += 4) {
                const float32x4_t other = vmulq_n_f32(vld1q_f32(from + d), b[j]);
                vst1q_f32(to + d, vfmaq_n_f32(other, vld1q_f32(to + d), a[j]));
            }
        }
    }
}

void vec_neon_fill(struct vec_kernels *k)
{
    *k = (struct vec_kernels){.sum_squares = neon_sum_squares,
                              .scale = neon_scale,
                              .rotate = neon_rotate,
                              .swiglu = neon_swiglu,
                              .add = neon_add,
                              .divide = neon_divide,
                              .maximum = neon_maximum,
                              .exp_sum = neon_exp_sum,
                              .scale_logits = neon_scale_logits,
                              .f32_to_f16 = neon_f32_to_f16,
                              .f16_to_f32 = neon_f16_to_f32,
                              .scores_f16 = neon_scores_f16,
                              .scores_f32 = neon_scores_f32,
                              .scores_q8_0 = k->scores_q8_0,
                              .weights = neon_weights,
                              .values_f16 = neon_values_f16,
                              .values_f32 = neon_values_f32,
                              .values_q8_0 = k->values_q8_0,
                              .merge = neon_merge};
}
