/* vec_avx512.c - the slots of vec_kernels.h with AVX-512: a vector is the 16 lanes of
 * docs/numerics.md. */
#include "kernels/fmath_exp.h"
#include "kernels/kernels_fill.h"

#include <immintrin.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

/* The first n of 16 lanes; all for n above 16. */
INLINE __mmask16 first_lanes(size_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1u);
}

/* The tree (l, l+8), (l, l+4), (l, l+2), (0, 1). */
INLINE float lanes_sum(__m512 lanes)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* fmath_exp(); scalef rounds p · 2^n once, as the two steps there do. max and min return their
 * second operand when one is NaN. */
INLINE __m512 exp16(__m512 x)
{
    const __m512 round = _mm512_set1_ps(EXP_ROUND);
    x = _mm512_max_ps(_mm512_set1_ps(EXP_LOWEST), x);
    x = _mm512_min_ps(_mm512_set1_ps(EXP_HIGHEST), x);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(EXP_LOG2E), round), round);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_LOW), r);
    __m512 q = _mm512_fmadd_ps(r, _mm512_set1_ps(EXP_C4), _mm512_set1_ps(EXP_C3));
    q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(EXP_C2));
    q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(EXP_C1));
    q = _mm512_fmadd_ps(r, q, _mm512_set1_ps(EXP_C0));
    __m512 p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

static float avx512_sum_squares(const float *x, size_t n)
{
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        lanes = _mm512_mask3_fmadd_ps(v, v, lanes, m);
    }
    return lanes_sum(lanes);
}

static void avx512_scale(float *y, const float *x, const float *weight, float r, size_t n)
{
    __m512 by = _mm512_set1_ps(r);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), by);
        v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, weight + i));
        _mm512_mask_storeu_ps(y + i, m, v);
    }
}

static void avx512_rotate(float *x, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i += 16) {
        __mmask16 m = first_lanes(half - i);
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + half + i);
        __m512 c = _mm512_maskz_loadu_ps(m, cos + i), s = _mm512_maskz_loadu_ps(m, sin + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, m, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

static void avx512_swiglu(float *y, const float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, gate + i);
        __m512 below = _mm512_add_ps(one, exp16(_mm512_xor_ps(v, sign)));
        v = _mm512_mul_ps(_mm512_div_ps(v, below), _mm512_maskz_loadu_ps(m, up + i));
        _mm512_mask_storeu_ps(y + i, m, v);
    }
}

static void avx512_add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, y + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, x + i)));
    }
}

static void avx512_divide(float *y, const float *x, float by, size_t n)
{
    __m512 divisor = _mm512_set1_ps(by);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_div_ps(_mm512_maskz_loadu_ps(m, x + i), divisor));
    }
}

static bool avx512_maximum(const float *x, size_t n, float *ret_maximum, size_t *ret_index)
{
    __m512 most = _mm512_set1_ps(-INFINITY);
    unsigned unordered = 0;
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_mask_loadu_ps(most, first_lanes(n - i), x + i);
        unordered |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        most = _mm512_max_ps(most, v);
    }
    if (unordered)
        return false;
    __m512 value = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        m = _mm512_mask_cmp_ps_mask(m, _mm512_maskz_loadu_ps(m, x + i), value, _CMP_EQ_OQ);
        if (m) {
            *ret_index = i + (size_t)__builtin_ctz(m);
            *ret_maximum = x[*ret_index];
            break;
        }
    }
    return true;
}

static float avx512_exp_sum(float *y, const float *x, float maximum, size_t n)
{
    __m512 lanes = _mm512_setzero_ps(), most = _mm512_set1_ps(maximum);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), most));
        lanes = _mm512_mask_add_ps(lanes, m, lanes, e);
        if (y)
            _mm512_mask_storeu_ps(y + i, m, e);
    }
    return lanes_sum(lanes);
}

static void avx512_scale_logits(float *y, const float *x, double maximum, double factor, size_t n)
{
    __m512d most = _mm512_set1_pd(maximum), by = _mm512_set1_pd(factor);
    for (size_t i = 0; i < n; i += 8) {
        __mmask8 m = (__mmask8)first_lanes(n - i);
        __m512d v = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, x + i));
        v = _mm512_mul_pd(_mm512_sub_pd(v, most), by);
        _mm256_mask_storeu_ps(y + i, m, _mm512_cvtpd_ps(v));
    }
}

static void avx512_f32_to_f16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        __m256i half = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, from + i),
                                       _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(to + i, m, half);
    }
}

static void avx512_f16_to_f32(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = first_lanes(n - i);
        _mm512_mask_storeu_ps(to + i, m, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, from + i)));
    }
}

/* Elements [at, at + 16) of an f16 or f32 array. */
INLINE __m512 load16(const void *from, size_t at, __mmask16 m, bool f16)
{
    if (f16)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)from + at));
    return _mm512_maskz_loadu_ps(m, (const float *)from + at);
}

#define TILE 6 /* queries: 6 × 4 sums, 4 vectors of the cache, in 32 registers */

/* `count` (a constant once inlined) queries against the 64 keys of a block. */
INLINE void scores_tile(float *s, const float *q, const void *keys, int dim, float scale,
                        const int count, bool f16)
{
    __m512 sum[TILE][4];
    for (int i = 0; i < count; i++)
        for (int v = 0; v < 4; v++)
            sum[i][v] = _mm512_setzero_ps();
    for (int d = 0; d < dim; d++) {
        __m512 key[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            key[v] = load16(keys, (size_t)(d * VEC_BLOCK + v * 16), 0xffff, f16);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            __m512 one = _mm512_set1_ps(q[i * dim + d]);
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++)
                sum[i][v] = _mm512_fmadd_ps(one, key[v], sum[i][v]);
        }
    }
    for (int i = 0; i < count; i++)
        for (int v = 0; v < 4; v++)
            _mm512_storeu_ps(s + i * VEC_BLOCK + v * 16,
                             _mm512_mul_ps(sum[i][v], _mm512_set1_ps(scale)));
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
        switch (count) {
        case 1:
            scores_tile(s, q, keys, dim, scale, 1, f16);
            break;
        case 2:
            scores_tile(s, q, keys, dim, scale, 2, f16);
            break;
        case 3:
            scores_tile(s, q, keys, dim, scale, 3, f16);
            break;
        case 4:
            scores_tile(s, q, keys, dim, scale, 4, f16);
            break;
        case 5:
            scores_tile(s, q, keys, dim, scale, 5, f16);
            break;
        default:
            scores_tile(s, q, keys, dim, scale, 6, f16);
        }
        s += count * VEC_BLOCK;
        q += count * dim;
        n_q -= count;
    }
}

static void avx512_scores_f16(float *s, const float *q, const void *keys, int n_q, int dim,
                              float scale)
{
    scores(s, q, keys, n_q, dim, scale, true);
}

static void avx512_scores_f32(float *s, const float *q, const void *keys, int n_q, int dim,
                              float scale)
{
    scores(s, q, keys, n_q, dim, scale, false);
}

static void avx512_weights(float *s, int n_q, int n, float *ret_maximum, float *ret_sum)
{
    for (int i = 0; i < n_q; i++, s += VEC_BLOCK) {
        __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
        for (int p = 0; p < n; p += 16) {
            __mmask16 m = first_lanes((size_t)(n - p));
            most = _mm512_mask_max_ps(most, m, _mm512_maskz_loadu_ps(m, s + p), most);
        }
        ret_maximum[i] = _mm512_reduce_max_ps(most);
        most = _mm512_set1_ps(ret_maximum[i]);
        for (int p = 0; p < n; p += 16) {
            __mmask16 m = first_lanes((size_t)(n - p));
            __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, s + p), most));
            sum = _mm512_mask_add_ps(sum, m, sum, e);
            _mm512_mask_storeu_ps(s + p, m, e);
        }
        ret_sum[i] = lanes_sum(sum);
    }
}

/* Elements [at, at + 16 · vectors) of the output of `count` queries; `lanes` of the last vector. */
INLINE void values_tile(float *o, const float *w, const void *values, int dim, int n, size_t at,
                        const int count, const int vectors, __mmask16 lanes, bool f16)
{
    __m512 sum[TILE][4];
    for (int i = 0; i < count; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm512_setzero_ps();
    for (int p = 0; p < n; p++) {
        __m512 value[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            value[v] = load16(values, (size_t)(p * dim + v * 16) + at, lanes, f16);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            __m512 one = _mm512_set1_ps(w[i * VEC_BLOCK + p]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i][v] = _mm512_fmadd_ps(one, value[v], sum[i][v]);
        }
    }
    for (int i = 0; i < count; i++)
        for (int v = 0; v < vectors; v++)
            _mm512_mask_storeu_ps(o + i * dim + v * 16 + at, lanes, sum[i][v]);
}

/* All elements for `count` queries: 64 at a time, then 16, then what is left. */
INLINE void values_rows(float *o, const float *w, const void *values, int dim, int n,
                        const int count, bool f16)
{
    int at = 0;
    for (; at + 64 <= dim; at += 64)
        values_tile(o, w, values, dim, n, (size_t)at, count, 4, 0xffff, f16);
    for (; at < dim; at += 16)
        values_tile(o, w, values, dim, n, (size_t)at, count, 1, first_lanes((size_t)(dim - at)),
                    f16);
}

INLINE void values_sum(float *o, const float *w, const void *values, int n_q, int dim, int n,
                       bool f16)
{
    while (n_q > 0) {
        int count = tile_count(n_q);
        switch (count) {
        case 1:
            values_rows(o, w, values, dim, n, 1, f16);
            break;
        case 2:
            values_rows(o, w, values, dim, n, 2, f16);
            break;
        case 3:
            values_rows(o, w, values, dim, n, 3, f16);
            break;
        case 4:
            values_rows(o, w, values, dim, n, 4, f16);
            break;
        case 5:
            values_rows(o, w, values, dim, n, 5, f16);
            break;
        default:
            values_rows(o, w, values, dim, n, 6, f16);
        }
        o += count * dim;
        w += count * VEC_BLOCK;
        n_q -= count;
    }
}

static void avx512_values_f16(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    values_sum(o, w, values, n_q, dim, n, true);
}

static void avx512_values_f32(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    values_sum(o, w, values, n_q, dim, n, false);
}

/* o = fma(o, a, o2 · b) */
INLINE void merge_output(float *o, const float *o2, float a, float b, int dim)
{
    __m512 va = _mm512_set1_ps(a), vb = _mm512_set1_ps(b);
    for (int d = 0; d < dim; d += 16) {
        __mmask16 m = first_lanes((size_t)(dim - d));
        __m512 second = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, o2 + d), vb);
        second = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, o + d), va, second);
        _mm512_mask_storeu_ps(o + d, m, second);
    }
}

static void avx512_merge(float *maximum, float *sum, float *o, const float *maximum2,
                         const float *sum2, const float *o2, int n_q, int dim)
{
    for (int i = 0; i < n_q; i += 16) {
        __mmask16 lanes = first_lanes((size_t)(n_q - i));
        __m512 m1 = _mm512_maskz_loadu_ps(lanes, maximum + i);
        __m512 m2 = _mm512_maskz_loadu_ps(lanes, maximum2 + i);
        __m512 m = _mm512_max_ps(m2, m1);
        __m512 a = exp16(_mm512_sub_ps(m1, m)), b = exp16(_mm512_sub_ps(m2, m));
        __m512 s = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, sum2 + i), b);
        s = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, sum + i), a, s);
        _mm512_mask_storeu_ps(maximum + i, lanes, m);
        _mm512_mask_storeu_ps(sum + i, lanes, s);
        float factor[2][16];
        _mm512_storeu_ps(factor[0], a);
        _mm512_storeu_ps(factor[1], b);
        for (int j = 0; j < 16 && i + j < n_q; j++)
            merge_output(o + (i + j) * dim, o2 + (i + j) * dim, factor[0][j], factor[1][j], dim);
    }
}

void vec_avx512_fill(struct vec_kernels *k)
{
    *k = (struct vec_kernels){.sum_squares = avx512_sum_squares,
                              .scale = avx512_scale,
                              .rotate = avx512_rotate,
                              .swiglu = avx512_swiglu,
                              .add = avx512_add,
                              .divide = avx512_divide,
                              .maximum = avx512_maximum,
                              .exp_sum = avx512_exp_sum,
                              .scale_logits = avx512_scale_logits,
                              .f32_to_f16 = avx512_f32_to_f16,
                              .f16_to_f32 = avx512_f16_to_f32,
                              .scores_f16 = avx512_scores_f16,
                              .scores_f32 = avx512_scores_f32,
                              .scores_q8_0 = k->scores_q8_0,
                              .weights = avx512_weights,
                              .values_f16 = avx512_values_f16,
                              .values_f32 = avx512_values_f32,
                              .values_q8_0 = k->values_q8_0,
                              .merge = avx512_merge};
}
