/* codebook_avx2.c - products of split codebook blocks with AVX2.
 *
 * Weights stay in the order of their row, so a register holds 32 columns of one output: VPSIGNB
 * moves the weights' signs to the activations, VPMADDUBSW multiplies (2 · 62 · 127 fit 16 bits),
 * VPMADDWD applies the scales, one in each half. The sums of eight registers are then added across:
 * integers, so in any order. */
#include "kernels/codebook.h"
#include "kernels/kernels_fill.h"

#include <immintrin.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

/* Scales 2i and 2i + 1, each filling a half. */
always_inline __m256i two_scales(const int16_t *scales, int i)
{
    const __m256i spread = _mm256_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2,
                                            3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3);
    int32_t two;
    memcpy(&two, scales + 2 * i, sizeof two);
    return _mm256_shuffle_epi8(_mm256_set1_epi32(two), spread);
}

/* Lane i: the sum of the lanes of a[i]. */
always_inline __m256i add_across(const __m256i a[8])
{
    const __m256i low = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), //
                                          _mm256_hadd_epi32(a[2], a[3]));
    const __m256i high = _mm256_hadd_epi32(_mm256_hadd_epi32(a[4], a[5]), //
                                           _mm256_hadd_epi32(a[6], a[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20),
                            _mm256_permute2x128_si256(low, high, 0x31));
}

/* Sums of `outputs` blocks times `rows` activation rows, 8 in all: lane r · outputs + o. */
always_inline __m256i eight_sums(int outputs, int rows, const struct codebook_block *blocks,
                                 const int8_t *x, size_t x_stride)
{
    __m256i acc[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        acc[i] = _mm256_setzero_si256();
    for (int i = 0; i < 8; i++) {
        __m256i codes[2];
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++)
            codes[r] = _mm256_loadu_si256((const __m256i *)(x + (size_t)r * x_stride + 32 * i));
#pragma GCC unroll 8
        for (int o = 0; o < outputs; o++) {
            const __m256i w = _mm256_load_si256((const __m256i *)(blocks[o].weights + 32 * i));
            const __m256i magnitudes = _mm256_abs_epi8(w);
            const __m256i scales = two_scales(blocks[o].scales, i);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++) {
                const __m256i pairs =
                    _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(codes[r], w));
                acc[r * outputs + o] =
                    _mm256_add_epi32(acc[r * outputs + o], _mm256_madd_epi16(pairs, scales));
            }
        }
    }
    return add_across(acc);
}

static void one_row(const struct codebook_block *blocks, const float *d, const int8_t *x,
                    float x_scale, float *y)
{
    for (int o = 0; o < MATMUL_GROUP; o += 8) {
        const __m256 sums = _mm256_cvtepi32_ps(eight_sums(8, 1, blocks + o, x, 0));
        const __m256 scale = _mm256_mul_ps(_mm256_load_ps(d + o), _mm256_set1_ps(x_scale));
        _mm256_storeu_ps(y + o, _mm256_fmadd_ps(scale, sums, _mm256_loadu_ps(y + o)));
    }
}

static void two_rows(const struct codebook_block *blocks, const float *d, const int8_t *x,
                     size_t x_stride, const float x_scale[2], float *y, size_t y_stride)
{
    for (int o = 0; o < MATMUL_GROUP; o += 4) {
        const __m256 sums = _mm256_cvtepi32_ps(eight_sums(4, 2, blocks + o, x, x_stride));
        const __m128 four = _mm_load_ps(d + o);
        float *first = y + o, *second = y + y_stride + o;
        _mm_storeu_ps(first, _mm_fmadd_ps(_mm_mul_ps(four, _mm_set1_ps(x_scale[0])),
                                          _mm256_castps256_ps128(sums), _mm_loadu_ps(first)));
        _mm_storeu_ps(second, _mm_fmadd_ps(_mm_mul_ps(four, _mm_set1_ps(x_scale[1])),
                                           _mm256_extractf128_ps(sums, 1), _mm_loadu_ps(second)));
    }
}

static void codebook(const struct codebook_block *blocks, const struct matmul_codes *x, int rows,
                     float *y, size_t y_stride)
{
    _Alignas(32) float d[MATMUL_GROUP];
    for (int o = 0; o < MATMUL_GROUP; o++)
        d[o] = blocks[o].scale;
    int r = 0;
    for (; r + 2 <= rows; r += 2) {
        const float scales[2] = {x->scales[(size_t)r * x->scale_stride],
                                 x->scales[(size_t)(r + 1) * x->scale_stride]};
        two_rows(blocks, d, x->codes + (size_t)r * x->stride, x->stride, scales,
                 y + (size_t)r * y_stride, y_stride);
    }
    if (r < rows)
        one_row(blocks, d, x->codes + (size_t)r * x->stride, x->scales[(size_t)r * x->scale_stride],
                y + (size_t)r * y_stride);
}

void codebook_avx2_fill(struct matmul_kernels *k)
{
    k->codebook = codebook;
}
