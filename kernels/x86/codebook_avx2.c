/* codebook_avx2.c - products of codebook blocks with AVX2.
 *
 * Splitting a block: indices and scales are computed in registers; entries of the grids are copied
 * one by one, in scalar code; then signs are applied to 32 weights at a time. No load goes past the
 * block.
 *
 * Products: weights stay in the order of their row, so a register holds 32 columns of one output:
 * VPSIGNB moves the weights' signs to the activations, VPMADDUBSW multiplies (2 · 62 · 127 fit 16
 * bits), VPMADDWD applies the scales, one in each half. The sums of eight registers are then added
 * across: integers, so in any order. */
#include "kernels/codebook.h"
#include "kernels/codebook_tables.h"
#include "kernels/kernels_fill.h"
#include "kernels/quant.h"

#include <immintrin.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

always_inline __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

always_inline __m128i load_128(const void *from)
{
    return _mm_loadu_si128((const __m128i *)from);
}

always_inline void store(void *to, __m256i v)
{
    _mm256_storeu_si256((__m256i *)to, v);
}

always_inline float read_half(const uint8_t *from)
{
    uint16_t h;
    memcpy(&h, from, sizeof h);
    return _cvtsh_ss(h);
}

/* 4 bytes in each lane of 32 bits. */
always_inline __m256i four_bytes(const uint8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return _mm256_set1_epi32(four);
}

/* 16 scales out of as many stored ones. */
always_inline void store_scales(int16_t *to, __m256i s)
{
    store(to, _mm256_add_epi16(_mm256_add_epi16(s, s), _mm256_set1_epi16(1)));
}

/* 8 scales, each for two times 16 weights. */
always_inline void store_double_scales(int16_t *to, __m256i s)
{
    store_scales(to, _mm256_or_si256(s, _mm256_slli_epi32(s, 16)));
}

/* Nibbles of 8 bytes, the low one first, as 16 bytes. */
always_inline __m128i nibbles(__m128i bytes)
{
    const __m128i high = _mm_srli_epi16(bytes, 4);
    return _mm_and_si128(_mm_unpacklo_epi8(bytes, high), _mm_set1_epi8(15));
}

/* Bits 0 … 31 as 255 or 0 in the bytes of their order. */
always_inline __m256i bits_to_bytes(const uint8_t *bits)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                            2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i each = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i bytes = _mm256_shuffle_epi8(four_bytes(bits), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each);
}

/* signs: a bit for each weight. */
always_inline void apply_signs(int8_t *weights, const uint8_t *signs)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const __m256i mask = bits_to_bytes(signs + 4 * i);
        const __m256i w = load(weights + 32 * i);
        store(weights + 32 * i, _mm256_sub_epi8(_mm256_xor_si256(w, mask), mask));
    }
}

/* Bit 7 of each byte becomes such that the bits set are an even number. */
always_inline __m256i make_even(__m256i bytes)
{
    const __m256i odd = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
    const __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
    return _mm256_or_si256(
        bytes, _mm256_xor_si256(_mm256_shuffle_epi8(odd, low), _mm256_shuffle_epi8(odd, high)));
}

/* Words of four times 7 sign bits and a scale: 32 bytes of signs, 16 scales. */
always_inline void split_sign_words(__m256i words, uint8_t *signs, int16_t *scales)
{
    __m256i bytes = _mm256_and_si256(words, _mm256_set1_epi32(0x7f));
#pragma GCC unroll 3
    for (int l = 1; l < 4; l++)
        bytes = _mm256_or_si256(
            bytes, _mm256_and_si256(_mm256_slli_epi32(words, l), _mm256_set1_epi32(0x7f << 8 * l)));
    store(signs, make_even(bytes));
    store_double_scales(scales, _mm256_srli_epi32(words, 28));
}

always_inline void copy_8(int8_t *to, const uint64_t *entry)
{
    memcpy(to, entry, sizeof *entry);
}

always_inline void copy_4(int8_t *to, const uint32_t *entry)
{
    memcpy(to, entry, sizeof *entry);
}

always_inline void split_iq2_xxs(const uint8_t *from, struct codebook_block *b)
{
    uint8_t signs[32];
    const __m256 first = _mm256_loadu_ps((const float *)(const void *)(from + 2));
    const __m256 second = _mm256_loadu_ps((const float *)(const void *)(from + 34));
    const __m256i words = _mm256_castps_si256(_mm256_shuffle_ps(first, second, 0xdd));
    split_sign_words(_mm256_permute4x64_epi64(words, 0xd8), signs, b->scales);
#pragma GCC unroll 8
    for (int l = 0; l < 32; l++)
        copy_8(b->weights + 8 * l, &codebook_iq2_xxs[from[2 + l / 4 * 8 + l % 4]]);
    apply_signs(b->weights, signs);
    b->scale = read_half(from) * 0.125f;
}

always_inline void split_iq2_xs(const uint8_t *from, struct codebook_block *b)
{
    uint16_t index[32];
    uint8_t signs[32];
    const __m256i first = load(from + 2), second = load(from + 34);
    const __m256i mask = _mm256_set1_epi16(511);
    store(index, _mm256_and_si256(first, mask));
    store(index + 16, _mm256_and_si256(second, mask));
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_srli_epi16(first, 9), _mm256_srli_epi16(second, 9));
    store(signs, make_even(_mm256_permute4x64_epi64(bytes, 0xd8)));
    store_scales(b->scales,
                 _mm256_cvtepu8_epi16(nibbles(_mm_loadl_epi64((const __m128i *)(from + 66)))));
#pragma GCC unroll 8
    for (int l = 0; l < 32; l++)
        copy_8(b->weights + 8 * l, &codebook_iq2_xs[index[l]]);
    apply_signs(b->weights, signs);
    b->scale = read_half(from) * 0.125f;
}

/* Low bytes of 32 indices, and higher bits that are moved to bit 8 by multiplication. */
always_inline void store_indices(uint16_t *to, const uint8_t *low, const __m256i high[2], int mask)
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++)
        store(to + 16 * h,
              _mm256_or_si256(_mm256_cvtepu8_epi16(load_128(low + 16 * h)),
                              _mm256_and_si256(high[h], _mm256_set1_epi16((int16_t)mask))));
}

always_inline void split_iq2_s(const uint8_t *from, struct codebook_block *b)
{
    uint16_t index[32];
    /* Byte j of the high bits, four times as a word. */
    const __m256i words = _mm256_setr_epi8(0, -1, 0, -1, 0, -1, 0, -1, 1, -1, 1, -1, 1, -1, 1, -1,
                                           2, -1, 2, -1, 2, -1, 2, -1, 3, -1, 3, -1, 3, -1, 3, -1);
    const __m256i shifts = _mm256_set1_epi64x(0x0004001000400100); /* by 8, 6, 4, 2 bits */
    __m256i high[2];
    for (int h = 0; h < 2; h++)
        high[h] =
            _mm256_mullo_epi16(_mm256_shuffle_epi8(four_bytes(from + 66 + 4 * h), words), shifts);
    store_indices(index, from + 2, high, 0x300);
    store_scales(b->scales,
                 _mm256_cvtepu8_epi16(nibbles(_mm_loadl_epi64((const __m128i *)(from + 74)))));
#pragma GCC unroll 8
    for (int l = 0; l < 32; l++)
        copy_8(b->weights + 8 * l, &codebook_iq2_s[index[l]]);
    apply_signs(b->weights, from + 34);
    b->scale = read_half(from) * 0.125f;
}

always_inline void split_iq3_xxs(const uint8_t *from, struct codebook_block *b)
{
    uint8_t signs[32];
    split_sign_words(load(from + 66), signs, b->scales);
#pragma GCC unroll 8
    for (int l = 0; l < 64; l++)
        copy_4(b->weights + 4 * l, &codebook_iq3_xxs[from[2 + l]]);
    apply_signs(b->weights, signs);
    b->scale = read_half(from) * 0.25f;
}

always_inline void split_iq3_s(const uint8_t *from, struct codebook_block *b)
{
    uint16_t index[64];
    int32_t scales;
    for (int h = 0; h < 2; h++) {
        const __m256i ninth = bits_to_bytes(from + 66 + 4 * h);
        const __m256i low = load(from + 2 + 32 * h),
                      one = _mm256_and_si256(ninth, _mm256_set1_epi8(1));
        /* Within halves: elements 0-7 and 16-23, 8-15 and 24-31. */
        const __m256i even = _mm256_unpacklo_epi8(low, one), odd = _mm256_unpackhi_epi8(low, one);
        store(index + 32 * h, _mm256_permute2x128_si256(even, odd, 0x20));
        store(index + 32 * h + 16, _mm256_permute2x128_si256(even, odd, 0x31));
    }
    memcpy(&scales, from + 106, sizeof scales);
    store_double_scales(b->scales, _mm256_cvtepu8_epi32(nibbles(_mm_cvtsi32_si128(scales))));
#pragma GCC unroll 8
    for (int l = 0; l < 64; l++)
        copy_4(b->weights + 4 * l, &codebook_iq3_s[index[l]]);
    apply_signs(b->weights, from + 74);
    b->scale = read_half(from);
}

/* From 8 · g + 128 to 8 · g ± 1. down: -1 in the bytes whose direction is down. */
always_inline void move_iq1(int8_t *weights, __m256i down)
{
    const __m256i up = _mm256_add_epi8(load(weights), _mm256_set1_epi8(-127));
    store(weights, _mm256_add_epi8(up, _mm256_add_epi8(down, down)));
}

always_inline void split_iq1_s(const uint8_t *from, struct codebook_block *b)
{
    uint16_t index[32];
    const __m128i words = load_128(from + 34);
    const __m256i shifts = _mm256_set1_epi64x(0x0000000400200100); /* left by 8, 5, 2 bits */
    __m256i high[2];
    for (int h = 0; h < 2; h++) {
        const __m128i four =
            h ? _mm_unpackhi_epi16(words, words) : _mm_unpacklo_epi16(words, words);
        const __m256i each = _mm256_setr_m128i(_mm_unpacklo_epi32(four, four), //
                                               _mm_unpackhi_epi32(four, four));
        const __m256i last = _mm256_and_si256(_mm256_srli_epi16(each, 1), /* right by 1 */
                                              _mm256_set1_epi64x((long long)0xffff000000000000));
        high[h] = _mm256_or_si256(_mm256_mullo_epi16(each, shifts), last);
    }
    store_indices(index, from + 2, high, 0x700);
    store_double_scales(b->scales, _mm256_cvtepu16_epi32(_mm_and_si128(_mm_srli_epi16(words, 12),
                                                                       _mm_set1_epi16(7))));
#pragma GCC unroll 8
    for (int l = 0; l < 32; l++)
        copy_8(b->weights + 8 * l, &codebook_iq1[index[l]]);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        move_iq1(b->weights + 32 * j, _mm256_set1_epi8((char)((int8_t)from[35 + 2 * j] >> 7)));
    b->scale = read_half(from) * 0.125f;
}

/* Each of the four words with a scale in the upper bits, and d's nibbles put together. */
always_inline void split_iq1_m_scales(const uint8_t *from, struct codebook_block *b)
{
    const __m128i words = _mm_loadl_epi64((const __m128i *)from);
    const __m128i twice = _mm_unpacklo_epi16(words, words);
    const __m256i each = _mm256_setr_m128i(_mm_unpacklo_epi32(twice, twice), //
                                           _mm_unpackhi_epi32(twice, twice));
    const __m256i shifts = _mm256_set1_epi64x(0x0010008004002000); /* by 13, 10, 7, 4 bits */
    store_scales(b->scales, _mm256_srli_epi16(_mm256_mullo_epi16(each, shifts), 13));
    const int half = from[1] >> 4 | from[3] >> 4 << 4 | from[5] >> 4 << 8 | from[7] >> 4 << 12;
    b->scale = _cvtsh_ss((uint16_t)half) * 0.125f;
}

always_inline void split_iq1_m(const uint8_t *from, struct codebook_block *b)
{
    uint16_t index[32];
    const __m128i bytes = load_128(from + 32);
    const __m256i shifts = _mm256_set1_epi32(0x00100100); /* by 8 and 4 bits */
    const __m256i high[2] = {
        _mm256_mullo_epi16(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(bytes, bytes)), shifts),
        _mm256_mullo_epi16(_mm256_cvtepu8_epi16(_mm_unpackhi_epi8(bytes, bytes)), shifts)};
    store_indices(index, from, high, 0x700);
    split_iq1_m_scales(from + 48, b);
#pragma GCC unroll 8
    for (int l = 0; l < 32; l++)
        copy_8(b->weights + 8 * l, &codebook_iq1[index[l]]);
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1,
                                            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m256i bits = _mm256_setr_epi64x(0x0808080808080808, (long long)0x8080808080808080,
                                            0x0808080808080808, (long long)0x8080808080808080);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        int16_t two;
        memcpy(&two, from + 32 + 2 * j, sizeof two);
        const __m256i each = _mm256_shuffle_epi8(_mm256_set1_epi16(two), spread);
        move_iq1(b->weights + 32 * j, _mm256_cmpeq_epi8(_mm256_and_si256(each, bits), bits));
    }
}

/* The first ternary digit of the fractions x / 256, less 1: whether x · 3 reaches 256 and 512. */
always_inline __m256i first_digit(__m256i x)
{
    const __m256i one = _mm256_cmpeq_epi8(_mm256_max_epu8(x, _mm256_set1_epi8(86)), x);
    const __m256i two = _mm256_cmpeq_epi8(_mm256_max_epu8(x, _mm256_set1_epi8((char)171)), x);
    return _mm256_sub_epi8(_mm256_sub_epi8(_mm256_set1_epi8(-1), one), two);
}

always_inline __m256i three_times(__m256i x)
{
    return _mm256_add_epi8(_mm256_add_epi8(x, x), x);
}

always_inline void split_tq1_0(const uint8_t *from, struct codebook_block *b)
{
    int32_t four;
    memcpy(&four, from + 48, sizeof four);
    __m256i first = load(from);
    __m256i rest = _mm256_setr_m128i(load_128(from + 32), _mm_cvtsi32_si128(four));
#pragma GCC unroll 5
    for (int f = 0; f < 5; f++) {
        store(b->weights + 32 * f, first_digit(first));
        const __m256i digits = first_digit(rest);
        _mm_storeu_si128((__m128i *)(b->weights + 160 + 16 * f), _mm256_castsi256_si128(digits));
        if (f < 4) {
            four = _mm_cvtsi128_si32(_mm256_extracti128_si256(digits, 1));
            memcpy(b->weights + 240 + 4 * f, &four, sizeof four);
        }
        first = three_times(first);
        rest = three_times(rest);
    }
    store(b->scales, _mm256_set1_epi16(1));
    b->scale = read_half(from + 52);
}

always_inline void split_tq2_0(const uint8_t *from, struct codebook_block *b)
{
    for (int h = 0; h < 2; h++) {
        const __m256i codes = load(from + 32 * h);
#pragma GCC unroll 4
        for (int f = 0; f < 4; f++)
            store(b->weights + 128 * h + 32 * f,
                  _mm256_add_epi8(
                      _mm256_and_si256(_mm256_srli_epi16(codes, 2 * f), _mm256_set1_epi8(3)),
                      _mm256_set1_epi8(-1)));
    }
    store(b->scales, _mm256_set1_epi16(1));
    b->scale = read_half(from + 64);
}

static void split(int type, const uint8_t *from, struct codebook_block *to)
{
    for (int o = 0; o < MATMUL_GROUP; o++, to++) {
        switch (type) {
        case TENSOR_IQ2_XXS:
            split_iq2_xxs(from + o * 66, to);
            break;
        case TENSOR_IQ2_XS:
            split_iq2_xs(from + o * 74, to);
            break;
        case TENSOR_IQ2_S:
            split_iq2_s(from + o * 82, to);
            break;
        case TENSOR_IQ3_XXS:
            split_iq3_xxs(from + o * 98, to);
            break;
        case TENSOR_IQ3_S:
            split_iq3_s(from + o * 110, to);
            break;
        case TENSOR_IQ1_S:
            split_iq1_s(from + o * 50, to);
            break;
        case TENSOR_IQ1_M:
            split_iq1_m(from + o * 56, to);
            break;
        case TENSOR_TQ1_0:
            split_tq1_0(from + o * 54, to);
            break;
        case TENSOR_TQ2_0:
            split_tq2_0(from + o * 66, to);
            break;
        }
    }
}

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
    k->codebook_split = split;
    k->codebook = codebook;
}
