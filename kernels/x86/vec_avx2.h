/* vec_avx2.h - what vec_avx2.c and attention_avx2.c share: two vectors of 8 are the 16 lanes of
 * docs/numerics.md. */
#ifndef PACELINE_KERNELS_X86_VEC_AVX2_H
#define PACELINE_KERNELS_X86_VEC_AVX2_H

#include "kernels/fmath_exp.h"

#include <immintrin.h>
#include <math.h>

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

/* The polynomial of fmath_exp(): *ret_sum has n, as an integer behind EXP_ROUND_BITS. */
INLINE __m256 exp8_mantissa(__m256 x, __m256 *ret_sum)
{
    const __m256 round = _mm256_set1_ps(EXP_ROUND);
    *ret_sum = _mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), round);
    __m256 n = _mm256_sub_ps(*ret_sum, round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
    __m256 q = _mm256_fmadd_ps(r, _mm256_set1_ps(EXP_C4), _mm256_set1_ps(EXP_C3));
    q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(EXP_C2));
    q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(EXP_C1));
    q = _mm256_fmadd_ps(r, q, _mm256_set1_ps(EXP_C0));
    __m256 p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r);
    return _mm256_add_ps(p, _mm256_set1_ps(1.0f));
}

/* fmath_exp(). max and min return their second operand when one is NaN. */
INLINE __m256 exp8(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(EXP_LOWEST), x);
    x = _mm256_min_ps(_mm256_set1_ps(EXP_HIGHEST), x);
    __m256 sum, p = exp8_mantissa(x, &sum);
    __m256i exponent =
        _mm256_sub_epi32(_mm256_castps_si256(sum), _mm256_set1_epi32((int)EXP_ROUND_BITS));
    __m256i first = _mm256_srai_epi32(exponent, 1), second = _mm256_sub_epi32(exponent, first);
    return _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(first)), power_of_two(second));
}

#define EXP8_NEAR_LOWEST (-86.0f) /* e^-86 is above the smallest normal number */

/* The same for x in [EXP8_NEAR_LOWEST, 0], where p · 2^n is exact: n is added to p's exponent. The
 * low bits of EXP_ROUND_BITS are zero, so only n is left of the shifted sum. */
INLINE __m256 exp8_near(__m256 x)
{
    __m256 sum, p = exp8_mantissa(x, &sum);
    __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(sum), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shifted));
}

INLINE float lanes_maximum(__m256 v)
{
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

#endif
