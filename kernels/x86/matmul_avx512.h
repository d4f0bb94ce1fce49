/* matmul_avx512.h - packed planes to bytes and numbers in registers, for the files that have
 * 512-bit vectors. All inline: with a constant type the layout is constant as well. */
#ifndef PACELINE_KERNELS_X86_MATMUL_AVX512_H
#define PACELINE_KERNELS_X86_MATMUL_AVX512_H

#include "kernels/matmul_kernels.h"
#include "kernels/matmul_layout.h"

#include <immintrin.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

/* Two neighbouring sums in every lane. */
always_inline __m512i two_sums(const int16_t *sums)
{
    int32_t two;
    memcpy(&two, sums, sizeof two);
    return _mm512_set1_epi32(two);
}

always_inline __m512 load_halves(const uint8_t *from)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)from));
}

/* d, m or dmin of 16 rows. */
always_inline __m512 load_row_scales(int type, const uint8_t *from)
{
    if (type != TENSOR_MXFP4)
        return load_halves(from);
    const __m256i bits = _mm256_load_si256((const __m256i *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* What load_codes() adds to the centred weight. */
always_inline int type_offset(int type)
{
    switch (type) {
    case TENSOR_Q4_0:
        return 8;
    case TENSOR_Q5_0:
        return 16;
    case TENSOR_Q8_0:
    case TENSOR_IQ4_NL:
    case TENSOR_IQ4_XS:
        return 128;
    case TENSOR_MXFP4:
        return 12;
    case TENSOR_Q3_K:
        return 4;
    case TENSOR_Q6_K:
        return 32;
    default:
        return 0;
    }
}

always_inline int type_has_minimum(int type)
{
    return matmul_layout(type).halves == 2;
}

always_inline int type_sub_columns(int type)
{
    return type == TENSOR_Q4_K || type == TENSOR_Q5_K || type == TENSOR_IQ4_XS ? 32 : 16;
}

/* The values of a table type's 16 codes, plus its offset. */
always_inline __m512i type_values(int type)
{
    const __m128i nl =
        _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166,
                      (char)181, (char)197, (char)217, (char)241);
    const __m128i fp4 = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    return _mm512_broadcast_i32x4(type == TENSOR_MXFP4 ? fp4 : nl);
}

/* Codes of column vector `first + i`, not negative: centred weights plus type_offset(). `first`
 * decides the fields and is a constant, i walks along a run of vectors with the same fields. */
always_inline __m512i load_codes(int type, const uint8_t *block, int first, int i)
{
    const struct matmul_layout l = matmul_layout(type);
    const uint8_t *low = block + l.low.offset + matmul_plane_vector(l, l.low, first) * 64;
    const __m512i vector = _mm512_load_si512(low + i * 64);
    if (l.low.bits == 8)
        return vector;
    const int shift = matmul_plane_shift(l, l.low, first);
    const __m512i mask = _mm512_set1_epi8((char)((1 << l.low.bits) - 1));
    const __m512i codes =
        _mm512_and_si512(shift ? _mm512_srli_epi16(vector, (unsigned)shift) : vector, mask);
    if (type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS || type == TENSOR_MXFP4)
        return _mm512_shuffle_epi8(type_values(type), codes);
    if (l.high.bits == 0)
        return codes;
    const uint8_t *high = block + l.high.offset + matmul_plane_vector(l, l.high, first) * 64;
    const __m512i bits = _mm512_load_si512(high + i * 64);
    /* From where the field stands to right above the low bits. */
    const int up = l.low.bits - matmul_plane_shift(l, l.high, first);
    const __m512i moved = up > 0   ? _mm512_slli_epi16(bits, (unsigned)up)
                          : up < 0 ? _mm512_srli_epi16(bits, (unsigned)-up)
                                   : bits;
    const __m512i high_mask = _mm512_set1_epi8((char)(((1 << l.high.bits) - 1) << l.low.bits));
    return _mm512_ternarylogic_epi32(codes, moved, high_mask, 0xf8); /* codes | moved & mask */
}

/* Scales of sub-blocks 2j and 2j + 1 as a pair of 16-bit numbers in each row's lane. */
always_inline __m512i load_scales(int type, const uint8_t *block, int j)
{
    const __m256i bytes =
        _mm256_load_si256((const __m256i *)(block + matmul_layout(type).scales + j * 32));
    if (type == TENSOR_Q2_K)
        return _mm512_cvtepu8_epi16(_mm256_and_si256(bytes, _mm256_set1_epi8(15)));
    return _mm512_cvtepi8_epi16(bytes);
}

always_inline __m512i load_minima(int type, const uint8_t *block, int j)
{
    const struct matmul_layout l = matmul_layout(type);
    if (type == TENSOR_Q2_K) {
        const __m256i bytes = _mm256_load_si256((const __m256i *)(block + l.scales + j * 32));
        return _mm512_cvtepu8_epi16(
            _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15)));
    }
    return _mm512_cvtepu8_epi16(_mm256_load_si256((const __m256i *)(block + l.minima + j * 32)));
}

/* Σ factor_j · (sum of the activations of sub-block j), two sub-blocks at a time. */
always_inline __m512i sums_times(const __m512i *factors, const int16_t *sums, int pairs)
{
    __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int j = 0; j < pairs; j++)
        total = _mm512_dpwssd_epi32(total, factors[j], two_sums(sums + 2 * j));
    return total;
}

/* Sums of the sub-blocks of super-block b. */
always_inline const int16_t *sub_sums(int sub_columns, const struct matmul_codes *x, int r, int b)
{
    return sub_columns == 32 ? x->sums32 + (size_t)r * x->sum32_stride + (size_t)b * 8
                             : x->sums16 + (size_t)r * x->sum16_stride + (size_t)b * 16;
}

#endif
