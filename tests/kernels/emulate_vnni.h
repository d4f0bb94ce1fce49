/* emulate_vnni.h - included before kernels/x86/matmul_avxvnni.c where it is compiled once more, for
 * AVX2: its one instruction beyond AVX2 in terms of AVX2, so that every such machine can check it.
 */
#ifndef PACELINE_TESTS_EMULATE_VNNI_H
#define PACELINE_TESTS_EMULATE_VNNI_H

#include <immintrin.h>

/* VPDPBUSD: each 32-bit lane of `sum` gets the four products of its bytes, unsigned in a, signed in
 * b; it wraps around, nothing saturates. */
static inline __m256i emulated_dpbusd(__m256i sum, __m256i a, __m256i b)
{
    const __m256i even_a = _mm256_and_si256(a, _mm256_set1_epi16(255));
    const __m256i even_b = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8);
    const __m256i odd_a = _mm256_srli_epi16(a, 8), odd_b = _mm256_srai_epi16(b, 8);
    const __m256i four =
        _mm256_add_epi32(_mm256_madd_epi16(even_a, even_b), _mm256_madd_epi16(odd_a, odd_b));
    return _mm256_add_epi32(sum, four);
}

#undef _mm256_dpbusd_avx_epi32
#define _mm256_dpbusd_avx_epi32 emulated_dpbusd
#define matmul_avxvnni_fill     matmul_emulated_fill

#endif
