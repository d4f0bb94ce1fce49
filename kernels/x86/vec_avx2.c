/* vec_avx2.c - the slots of vec_kernels.h with AVX2, FMA and F16C: two vectors are the 16 lanes of
 * docs/numerics.md. */
#include "kernels/fmath_exp.h"
#include "kernels/kernels_fill.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* The first n of 8 lanes; all for n above 8. */
INLINE __m256i first_lanes(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8), lane);
}

/* The tree (l, l+8), (l, l+4), (l, l+2), (0, 1). */
INLINE float lanes_sum(__m256 low, __m256 high)
{
    __m256 a = _mm256_add_ps(low, high);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

INLINE __m256 power_of_two(__m256i exponent)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
}

/* fmath_exp(). max and min return their second operand when one is NaN. */
INLINE __m256 exp8(__m256 x)
{
    const __m256 round = _mm256_set1_ps(EXP_ROUND);
    x = _mm256_max_ps(_mm256_set1_ps(EXP_LOWEST), x);
    x = _mm256_min_ps(_mm256_set1_ps(EXP_HIGHEST), x);
    __m256 sum = _mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), round);
    __m256 n = _mm256_sub_ps(sum, round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
    __m256 q = _mm256_fmadd_ps(r, _mm256_set1_ps(EXP_C4), _mm256_set1_ps(EXP_C3));
    q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(EXP_C2));
    q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(EXP_C1));
    q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(EXP_C0));
    __m256 p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    __m256i exponent =
        _mm256_sub_epi32(_mm256_castps_si256(sum), _mm256_set1_epi32((int)EXP_ROUND_BITS));
    __m256i first = _mm256_srai_epi32(exponent, 1), second = _mm256_sub_epi32(exponent, first);
    return _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(first)), power_of_two(second));
}

static float avx2_sum_squares(const float *x, size_t n)
{
    __m256 lanes[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        lanes[0] = _mm256_fmadd_ps(a, a, lanes[0]);
        lanes[1] = _mm256_fmadd_ps(b, b, lanes[1]);
    }
    for (int part = 0; i < n; i += 8, part++) {
        __m256 a = _mm256_maskload_ps(x + i, first_lanes(n - i));
        lanes[part] = _mm256_fmadd_ps(a, a, lanes[part]);
    }
    return lanes_sum(lanes[0], lanes[1]);
}

static void avx2_scale(float *y, const float *x, const float *weight, float r, size_t n)
{
    __m256 by = _mm256_set1_ps(r);
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, m), by);
        v = _mm256_mul_ps(v, _mm256_maskload_ps(weight + i, m));
        _mm256_maskstore_ps(y + i, m, v);
    }
}

static void avx2_rotate(float *x, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i += 8) {
        __m256i m = first_lanes(half - i);
        __m256 a = _mm256_maskload_ps(x + i, m), b = _mm256_maskload_ps(x + half + i, m);
        __m256 c = _mm256_maskload_ps(cos + i, m), s = _mm256_maskload_ps(sin + i, m);
        _mm256_maskstore_ps(x + i, m, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_maskstore_ps(x + half + i, m, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

static void avx2_swiglu(float *y, const float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 v = _mm256_maskload_ps(gate + i, m);
        __m256 below = _mm256_add_ps(one, exp8(_mm256_xor_ps(v, sign)));
        v = _mm256_mul_ps(_mm256_div_ps(v, below), _mm256_maskload_ps(up + i, m));
        _mm256_maskstore_ps(y + i, m, v);
    }
}

static void avx2_add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 v = _mm256_maskload_ps(y + i, m);
        _mm256_maskstore_ps(y + i, m, _mm256_add_ps(v, _mm256_maskload_ps(x + i, m)));
    }
}

static void avx2_divide(float *y, const float *x, float by, size_t n)
{
    __m256 divisor = _mm256_set1_ps(by);
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        _mm256_maskstore_ps(y + i, m, _mm256_div_ps(_mm256_maskload_ps(x + i, m), divisor));
    }
}

INLINE float lanes_maximum(__m256 v)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

static bool avx2_maximum(const float *x, size_t n, float *ret_maximum, size_t *ret_index)
{
    __m256 most = _mm256_set1_ps(-INFINITY), unordered = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 v = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_maskload_ps(x + i, m),
                                    _mm256_castsi256_ps(m));
        unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        most = _mm256_max_ps(most, v);
    }
    if (_mm256_movemask_ps(unordered))
        return false;
    float value = lanes_maximum(most);
    size_t i = 0;
    while (n - i >= 8) {
        __m256 equal = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(value), _CMP_EQ_OQ);
        if (_mm256_movemask_ps(equal))
            break;
        i += 8;
    }
    while (x[i] != value)
        i++;
    *ret_maximum = x[i];
    *ret_index = i;
    return true;
}

/* exp(x - maximum) of the first n lanes, 0 in the others. */
INLINE __m256 exp_lanes(const float *x, __m256 maximum, __m256i m)
{
    __m256 e = exp8(_mm256_sub_ps(_mm256_maskload_ps(x, m), maximum));
    return _mm256_and_ps(e, _mm256_castsi256_ps(m));
}

static float avx2_exp_sum(float *y, const float *x, float maximum, size_t n)
{
    __m256 low = _mm256_setzero_ps(), high = low, most = _mm256_set1_ps(maximum);
    for (size_t i = 0; i < n; i += 16) {
        __m256i m = first_lanes(n - i), m2 = first_lanes(n - i > 8 ? n - i - 8 : 0);
        __m256 e = exp_lanes(x + i, most, m), e2 = exp_lanes(x + i + 8, most, m2);
        low = _mm256_add_ps(low, e);
        high = _mm256_add_ps(high, e2);
        if (y) {
            _mm256_maskstore_ps(y + i, m, e);
            _mm256_maskstore_ps(y + i + 8, m2, e2);
        }
    }
    return lanes_sum(low, high);
}

static void avx2_scale_logits(float *y, const float *x, double maximum, double factor, size_t n)
{
    __m256d most = _mm256_set1_pd(maximum), by = _mm256_set1_pd(factor);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x + i));
        v = _mm256_mul_pd(_mm256_sub_pd(v, most), by);
        _mm_storeu_ps(y + i, _mm256_cvtpd_ps(v));
    }
    for (; i < n; i++)
        y[i] = (float)(((double)x[i] - maximum) * factor);
}

static void avx2_f32_to_f16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_maskload_ps(from + i, first_lanes(n - i));
        __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (n - i >= 8)
            _mm_storeu_si128((__m128i *)(to + i), half);
        else
            memcpy(to + i, &half, (n - i) * sizeof *to);
    }
}

static void avx2_f16_to_f32(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i half = _mm_setzero_si128();
        if (n - i >= 8)
            half = _mm_loadu_si128((const __m128i *)(from + i));
        else
            memcpy(&half, from + i, (n - i) * sizeof *from);
        _mm256_maskstore_ps(to + i, first_lanes(n - i), _mm256_cvtph_ps(half));
    }
}

/* Elements [at, at + 8) of an f16 or f32 array. */
INLINE __m256 load8(const void *from, int at, bool f16)
{
    if (f16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)from + at)));
    return _mm256_loadu_ps((const float *)from + at);
}

#define TILE 4 /* queries: 4 × 2 sums, 2 vectors of the cache, in 16 registers */

/* sum[i][v] = Σ_j one[i · one_stride + j · one_step] · cache[j · stride + 8 v], j ascending: both
 * q · keys and w · values, with `count` and `vectors` constants once inlined. */
INLINE void tile_sum(__m256 sum[TILE][2], const float *one, int one_stride, const void *cache,
                     int at, int stride, int n, const int count, const int vectors, bool f16)
{
    for (int i = 0; i < count; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm256_setzero_ps();
    for (int j = 0; j < n; j++) {
        __m256 other[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            other[v] = load8(cache, at + j * stride + v * 8, f16);
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            __m256 x = _mm256_broadcast_ss(one + i * one_stride + j);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] = _mm256_fmadd_ps(x, other[v], sum[i][v]);
        }
    }
}

/* `count` queries against the 64 keys of a block, 16 at a time. */
INLINE void scores_rows(float *s, const float *q, const void *keys, int dim, float scale,
                        const int count, bool f16)
{
    for (int p = 0; p < VEC_BLOCK; p += 16) {
        __m256 sum[TILE][2];
        tile_sum(sum, q, dim, keys, p, VEC_BLOCK, dim, count, 2, f16);
        for (int i = 0; i < count; i++)
            for (int v = 0; v < 2; v++)
                _mm256_storeu_ps(s + i * VEC_BLOCK + p + v * 8,
                                 _mm256_mul_ps(sum[i][v], _mm256_set1_ps(scale)));
    }
}

/* All elements of the output of `count` queries: 16 at a time, then 8. */
INLINE void values_rows(float *o, const float *w, const void *values, int dim, int n,
                        const int count, bool f16)
{
    __m256 sum[TILE][2];
    int at = 0;
    for (; at + 16 <= dim; at += 16) {
        tile_sum(sum, w, VEC_BLOCK, values, at, dim, n, count, 2, f16);
        for (int i = 0; i < count; i++)
            for (int v = 0; v < 2; v++)
                _mm256_storeu_ps(o + i * dim + at + v * 8, sum[i][v]);
    }
    if (at < dim) {
        tile_sum(sum, w, VEC_BLOCK, values, at, dim, n, count, 1, f16);
        for (int i = 0; i < count; i++)
            _mm256_storeu_ps(o + i * dim + at, sum[i][0]);
    }
}

/* How many of n queries the next tile takes: tiles of about the same size. */
INLINE int tile_count(int n)
{
    int tiles = (n + TILE - 1) / TILE;
    return (n + tiles - 1) / tiles;
}

INLINE void scores(float *s, const float *q, const void *keys, int n_q, int dim, float scale,
                   bool f16)
{
    while (n_q > 0) {
        int count = tile_count(n_q);
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

static void avx2_scores_f16(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    scores(s, q, keys, n_q, dim, scale, true);
}

static void avx2_scores_f32(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    scores(s, q, keys, n_q, dim, scale, false);
}

static void avx2_weights(float *s, int n_q, int n, float *ret_maximum, float *ret_sum)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    for (int i = 0; i < n_q; i++, s += VEC_BLOCK) {
        __m256 most = lowest;
        for (int p = 0; p < n; p += 8) {
            __m256i m = first_lanes((size_t)(n - p));
            __m256 v = _mm256_maskload_ps(s + p, m);
            most = _mm256_max_ps(_mm256_blendv_ps(lowest, v, _mm256_castsi256_ps(m)), most);
        }
        ret_maximum[i] = lanes_maximum(most);
        ret_sum[i] = avx2_exp_sum(s, s, ret_maximum[i], (size_t)n);
    }
}

INLINE void values_sum(float *o, const float *w, const void *values, int n_q, int dim, int n,
                       bool f16)
{
    while (n_q > 0) {
        int count = tile_count(n_q);
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

static void avx2_values_f16(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    values_sum(o, w, values, n_q, dim, n, true);
}

static void avx2_values_f32(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    values_sum(o, w, values, n_q, dim, n, false);
}

static void avx2_merge(float *maximum, float *sum, float *o, const float *maximum2,
                       const float *sum2, const float *o2, int n_q, int dim)
{
    for (int i = 0; i < n_q; i += 8) {
        __m256i lanes = first_lanes((size_t)(n_q - i));
        __m256 m1 = _mm256_maskload_ps(maximum + i, lanes);
        __m256 m2 = _mm256_maskload_ps(maximum2 + i, lanes);
        __m256 m = _mm256_max_ps(m2, m1);
        __m256 a = exp8(_mm256_sub_ps(m1, m)), b = exp8(_mm256_sub_ps(m2, m));
        __m256 s = _mm256_mul_ps(_mm256_maskload_ps(sum2 + i, lanes), b);
        s = _mm256_fmadd_ps(_mm256_maskload_ps(sum + i, lanes), a, s);
        _mm256_maskstore_ps(maximum + i, lanes, m);
        _mm256_maskstore_ps(sum + i, lanes, s);
        float factor[2][8];
        _mm256_storeu_ps(factor[0], a);
        _mm256_storeu_ps(factor[1], b);
        for (int j = 0; j < 8 && i + j < n_q; j++) {
            __m256 va = _mm256_set1_ps(factor[0][j]), vb = _mm256_set1_ps(factor[1][j]);
            float *to = o + (i + j) * dim;
            const float *from = o2 + (i + j) * dim;
            for (int d = 0; d < dim; d += 8) {
                __m256 second = _mm256_mul_ps(_mm256_loadu_ps(from + d), vb);
                _mm256_storeu_ps(to + d, _mm256_fmadd_ps(_mm256_loadu_ps(to + d), va, second));
            }
        }
    }
}

void vec_avx2_fill(struct vec_kernels *k)
{
    *k = (struct vec_kernels){.sum_squares = avx2_sum_squares,
                              .scale = avx2_scale,
                              .rotate = avx2_rotate,
                              .swiglu = avx2_swiglu,
                              .add = avx2_add,
                              .divide = avx2_divide,
                              .maximum = avx2_maximum,
                              .exp_sum = avx2_exp_sum,
                              .scale_logits = avx2_scale_logits,
                              .f32_to_f16 = avx2_f32_to_f16,
                              .f16_to_f32 = avx2_f16_to_f32,
                              .scores_f16 = avx2_scores_f16,
                              .scores_f32 = avx2_scores_f32,
                              .weights = avx2_weights,
                              .values_f16 = avx2_values_f16,
                              .values_f32 = avx2_values_f32,
                              .merge = avx2_merge};
}
