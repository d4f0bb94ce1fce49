/* attention_avx2.c - the attention slots of vec_kernels.h with AVX2, FMA and F16C.
 *
 * Both products of a block, q · keys and w · values, are the same loop: 16 columns (positions or
 * elements) at a time, 6 queries by 2 vectors of sums in registers. Few queries convert the
 * columns as they go; for more of them, and for codes with scales, the 16 columns are first
 * converted to float32, once for all queries, in a strip of at most 16 KiB. */
#include "kernels/kernels_fill.h"
#include "kernels/x86/vec_avx2.h"

#include <stdint.h>

#define STRIP    16  /* columns that are taken together */
#define TILE     6   /* queries: 6 x 2 sums, 2 vectors of the cache, 1 of the query: 15 registers */
#define FEW      8   /* queries that do not pay for a strip */
#define MAX_ROWS 256 /* of a strip: elements of a key, or positions */

enum stored { STORED_F32, STORED_F16 };

/* Elements [at, at + 8) of an f16 or f32 array. */
INLINE __m256 load8(const void *from, int at, enum stored stored)
{
    if (stored == STORED_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)from + at)));
    return _mm256_loadu_ps((const float *)from + at);
}

/* Columns of a block, and what they are multiplied by:
 * to[i][8 v …] = (Σ_j one[i · one_stride + j] · cache[at + j · stride + 8 v …]) · scale, j
 * ascending. */
struct product {
    float *to;
    int to_stride;
    const float *one;
    int one_stride;
    const void *cache;
    int at, stride, n;
};

/* `count` and `vectors` are constants once inlined. */
INLINE void product_tile(const struct product *p, const int count, const int vectors,
                         enum stored stored, bool scaled, float scale)
{
    __m256 sum[TILE][2];
#pragma GCC unroll 6
    for (int i = 0; i < count; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[i][v] = _mm256_setzero_ps();
    for (int j = 0; j < p->n; j++) {
        __m256 other[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            other[v] = load8(p->cache, p->at + j * p->stride + v * 8, stored);
#pragma GCC unroll 6
        for (int i = 0; i < count; i++) {
            __m256 x = _mm256_broadcast_ss(p->one + i * p->one_stride + j);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                sum[i][v] = _mm256_fmadd_ps(x, other[v], sum[i][v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            if (scaled)
                sum[i][v] = _mm256_mul_ps(sum[i][v], _mm256_set1_ps(scale));
            _mm256_storeu_ps(p->to + i * p->to_stride + v * 8, sum[i][v]);
        }
}

/* All queries, in tiles of about the same size. */
INLINE void product_columns(struct product p, int n_q, const int vectors, enum stored stored,
                            bool scaled, float scale)
{
    while (n_q > 0) {
        int tiles = (n_q + TILE - 1) / TILE, count = (n_q + tiles - 1) / tiles;
        if (count == 6)
            product_tile(&p, 6, vectors, stored, scaled, scale);
        else if (count == 5)
            product_tile(&p, 5, vectors, stored, scaled, scale);
        else if (count == 4)
            product_tile(&p, 4, vectors, stored, scaled, scale);
        else if (count == 3)
            product_tile(&p, 3, vectors, stored, scaled, scale);
        else if (count == 2)
            product_tile(&p, 2, vectors, stored, scaled, scale);
        else
            product_tile(&p, 1, vectors, stored, scaled, scale);
        p.to += count * p.to_stride;
        p.one += count * p.one_stride;
        n_q -= count;
    }
}

/* strip[j][16] = the 16 (or, of the last columns, 8) halves at from + j · stride. */
INLINE void strip_halves(float *strip, const uint16_t *from, int stride, int n, const int vectors)
{
    for (int j = 0; j < n; j++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            _mm256_store_ps(strip + j * STRIP + v * 8, load8(from, j * stride + v * 8, STORED_F16));
}

/* strip[d][16] of 16 keys, scale · code, which is exact. */
INLINE void strip_keys_q8_0(float *strip, const int8_t *codes, const uint16_t *scales, int dim)
{
    for (int first = 0; first < dim; first += 32, scales += VEC_BLOCK) {
        __m256 low = load8(scales, 0, STORED_F16), high = load8(scales, 8, STORED_F16);
        for (int d = first; d < first + 32; d++) {
            __m128i code = _mm_loadu_si128((const __m128i *)(codes + d * VEC_BLOCK));
            __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(code));
            __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(code, 8)));
            _mm256_store_ps(strip + d * STRIP, _mm256_mul_ps(a, low));
            _mm256_store_ps(strip + d * STRIP + 8, _mm256_mul_ps(b, high));
        }
    }
}

/* strip[p][16] of 16 elements of n values, which are of one group. */
INLINE void strip_values_q8_0(float *strip, const int8_t *codes, const uint16_t *scales, int dim,
                              int n)
{
    for (int p = 0; p < n; p++) {
        __m256 scale = _mm256_set1_ps(_cvtsh_ss(scales[p * (dim / 32)]));
        __m128i code = _mm_loadu_si128((const __m128i *)(codes + p * dim));
        __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(code));
        __m256 b = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(code, 8)));
        _mm256_store_ps(strip + p * STRIP, _mm256_mul_ps(a, scale));
        _mm256_store_ps(strip + p * STRIP + 8, _mm256_mul_ps(b, scale));
    }
}

/* 16 columns from `at` on of an f16 or f32 array. */
INLINE void columns(struct product p, int n_q, const int vectors, enum stored stored, bool scaled,
                    float scale)
{
    if (stored == STORED_F16 && n_q > FEW) {
        _Alignas(32) float strip[MAX_ROWS * STRIP];
        strip_halves(strip, (const uint16_t *)p.cache + p.at, p.stride, p.n, vectors);
        p.cache = strip;
        p.at = 0;
        p.stride = STRIP;
        product_columns(p, n_q, vectors, STORED_F32, scaled, scale);
    } else {
        product_columns(p, n_q, vectors, stored, scaled, scale);
    }
}

INLINE void scores(float *s, const float *q, const void *keys, int n_q, int dim, float scale,
                   enum stored stored)
{
    for (int at = 0; at < VEC_BLOCK; at += STRIP) {
        struct product p = {s + at, VEC_BLOCK, q, dim, keys, at, VEC_BLOCK, dim};
        columns(p, n_q, 2, stored, true, scale);
    }
}

static void avx2_scores_f16(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    scores(s, q, keys, n_q, dim, scale, STORED_F16);
}

static void avx2_scores_f32(float *s, const float *q, const void *keys, int n_q, int dim,
                            float scale)
{
    scores(s, q, keys, n_q, dim, scale, STORED_F32);
}

static void avx2_scores_q8_0(float *s, const float *q, const void *keys, int n_q, int dim,
                             float scale)
{
    const int8_t *codes = keys;
    const uint16_t *scales = (const uint16_t *)(codes + dim * VEC_BLOCK);
    _Alignas(32) float strip[MAX_ROWS * STRIP];
    for (int at = 0; at < VEC_BLOCK; at += STRIP) {
        struct product p = {s + at, VEC_BLOCK, q, dim, strip, 0, STRIP, dim};
        strip_keys_q8_0(strip, codes + at, scales + at, dim);
        product_columns(p, n_q, 2, STORED_F32, true, scale);
    }
}

INLINE void values(float *o, const float *w, const void *of_block, int n_q, int dim, int n,
                   enum stored stored)
{
    for (int at = 0; at < dim; at += STRIP) {
        struct product p = {o + at, dim, w, VEC_BLOCK, of_block, at, dim, n};
        if (at + STRIP <= dim)
            columns(p, n_q, 2, stored, false, 0.0f);
        else
            columns(p, n_q, 1, stored, false, 0.0f);
    }
}

static void avx2_values_f16(float *o, const float *w, const void *of_block, int n_q, int dim, int n)
{
    values(o, w, of_block, n_q, dim, n, STORED_F16);
}

static void avx2_values_f32(float *o, const float *w, const void *of_block, int n_q, int dim, int n)
{
    values(o, w, of_block, n_q, dim, n, STORED_F32);
}

static void avx2_values_q8_0(float *o, const float *w, const void *of_block, int n_q, int dim,
                             int n)
{
    const int8_t *codes = of_block;
    const uint16_t *scales = (const uint16_t *)(codes + dim * VEC_BLOCK);
    _Alignas(32) float strip[VEC_BLOCK * STRIP];
    for (int at = 0; at < dim; at += STRIP) {
        struct product p = {o + at, dim, w, VEC_BLOCK, strip, 0, STRIP, n};
        strip_values_q8_0(strip, codes + at, scales + at / 32, dim, n);
        product_columns(p, n_q, 2, STORED_F32, false, 0.0f);
    }
}

/* Lanes are p mod 16, in ascending p. NaN differences fail the comparison. */
INLINE float weights_exp(float *s, __m256 most)
{
    __m256 v[8], low = _mm256_setzero_ps(), high = low;
    __m256 near = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        v[i] = _mm256_sub_ps(_mm256_loadu_ps(s + 8 * i), most);
        near =
            _mm256_and_ps(near, _mm256_cmp_ps(v[i], _mm256_set1_ps(EXP8_NEAR_LOWEST), _CMP_GE_OQ));
    }
    const bool all_near = _mm256_movemask_ps(near) == 0xff;
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        __m256 e = all_near ? exp8_near(v[i]) : exp8(v[i]);
        __m256 e2 = all_near ? exp8_near(v[i + 1]) : exp8(v[i + 1]);
        low = _mm256_add_ps(low, e);
        high = _mm256_add_ps(high, e2);
        _mm256_storeu_ps(s + 8 * i, e);
        _mm256_storeu_ps(s + 8 * i + 8, e2);
    }
    return lanes_sum(low, high);
}

/* The first n positions of each query. What stands behind them counts as -inf, whose weight is 0.
 * All maxima come first, so that exponentials of one query don't wait for the next one's. */
static void avx2_weights(float *s, int n_q, int n, float *ret_maximum, float *ret_sum)
{
    for (int i = 0; i < n_q; i++) {
        float *of_query = s + i * VEC_BLOCK;
        for (int p = n; p < VEC_BLOCK; p++)
            of_query[p] = -INFINITY;
        __m256 most = _mm256_set1_ps(-INFINITY);
        for (int p = 0; p < VEC_BLOCK; p += 8) /* of a NaN and a number, the second operand */
            most = _mm256_max_ps(_mm256_loadu_ps(of_query + p), most);
        ret_maximum[i] = lanes_maximum(most);
    }
    for (int i = 0; i < n_q; i++)
        ret_sum[i] = weights_exp(s + i * VEC_BLOCK, _mm256_set1_ps(ret_maximum[i]));
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

void attention_avx2_fill(struct vec_kernels *k)
{
    k->scores_f16 = avx2_scores_f16;
    k->scores_f32 = avx2_scores_f32;
    k->scores_q8_0 = avx2_scores_q8_0;
    k->weights = avx2_weights;
    k->values_f16 = avx2_values_f16;
    k->values_f32 = avx2_values_f32;
    k->values_q8_0 = avx2_values_q8_0;
    k->merge = avx2_merge;
}
