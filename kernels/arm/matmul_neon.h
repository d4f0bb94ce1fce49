/* matmul_neon.h - what the packed products of ARM64 share: codes, scales and minima out of the
 * planes, a chunk of expanded weights, the end of a block. A column vector of a group is four
 * registers; register h is rows 4h … 4h+3. */
#ifndef PACELINE_KERNELS_ARM_MATMUL_NEON_H
#define PACELINE_KERNELS_ARM_MATMUL_NEON_H

#include "kernels/matmul_kernels.h"
#include "kernels/matmul_layout.h"

#include <arm_neon.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

enum { CHUNK_COLUMNS = 512 /* expanded at a time */ };

/* One group, CHUNK_COLUMNS columns, ready for the multiplier. Whoever expands orders the codes. */
struct expanded {
    int8_t codes[CHUNK_COLUMNS / 4][64];
    int16_t scales[CHUNK_COLUMNS / 32][32]; /* of two sub-blocks, a pair for each row */
    int16_t minima[CHUNK_COLUMNS / 32][32];
    float d[CHUNK_COLUMNS / 32][16], m[CHUNK_COLUMNS / 32][16];
};

/* One block, where it is packed. */
struct packed_block {
    const uint8_t *planes, *halves;
    int8x16_t values; /* what a code stands for, where the format has a table */
};

/* Fields share vectors of the planes. A compiler that keeps these for later spills its registers:
 * beyond here it shall load again. */
always_inline void load_again(void)
{
    __asm__ volatile("" ::: "memory");
}

/* What the centred product lacks when codes are not centred: offset · sum of activations. */
always_inline int type_offset(int type)
{
    switch (type) {
    case TENSOR_Q4_0:
        return 8;
    case TENSOR_Q5_0:
        return 16;
    case TENSOR_Q3_K:
        return 4;
    case TENSOR_Q6_K:
        return 32;
    default:
        return 0; /* Q8_0 too: its codes are made signed */
    }
}

always_inline int type_has_values(int type)
{
    return type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS || type == TENSOR_MXFP4;
}

always_inline int type_has_minimum(int type)
{
    return matmul_layout(type).halves == 2;
}

always_inline int type_sub_columns(int type)
{
    return type == TENSOR_Q2_K || type == TENSOR_Q3_K || type == TENSOR_Q6_K ? 16 : 32;
}

/* Register h of the codes of column vector `first + i`; `first` decides the fields, i walks along a
 * run of vectors with the same fields. All codes are below 128, so they are signed bytes too. */
always_inline int8x16_t load_codes(int type, const uint8_t *planes, int first, int i, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    const uint8_t *low = planes + l.low.offset + matmul_plane_vector(l, l.low, first) * 64;
    uint8x16_t codes = vld1q_u8(low + i * 64 + h * 16);
    if (type == TENSOR_Q8_0)
        return vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)));
    const int shift = matmul_plane_shift(l, l.low, first);
    if (shift)
        codes = codes >> (uint8_t)shift;
    if (shift + l.low.bits < 8)
        codes = vandq_u8(codes, vdupq_n_u8((uint8_t)((1 << l.low.bits) - 1)));
    if (l.high.bits == 0)
        return vreinterpretq_s8_u8(codes);
    const uint8_t *high = planes + l.high.offset + matmul_plane_vector(l, l.high, first) * 64;
    uint8x16_t bits = vld1q_u8(high + i * 64 + h * 16);
    /* From where the field stands to right above the low bits. */
    const int up = l.low.bits - matmul_plane_shift(l, l.high, first);
    bits = up >= 0 ? bits << (uint8_t)up : bits >> (uint8_t)-up;
    const uint8_t mask = (uint8_t)(((1 << l.high.bits) - 1) << l.low.bits);
    return vreinterpretq_s8_u8(vorrq_u8(codes, vandq_u8(bits, vdupq_n_u8(mask))));
}

/* Codes of vector i of sub-block j. Blocks of 32 have one sub-block, but their fields change within
 * it; in super-blocks runs are 8 vectors, and a sub-block of 16 columns is half of one. */
always_inline int8x16_t block_codes(int type, struct packed_block from, int j, int i, int h)
{
    const int vector = j * (type_sub_columns(type) / 4) + i;
    const int8x16_t codes = matmul_layout(type).elements == 32
                                ? load_codes(type, from.planes, vector, 0, h)
                                : load_codes(type, from.planes, vector / 8 * 8, vector % 8, h);
    return type_has_values(type) ? vqtbl1q_s8(from.values, vreinterpretq_u8_s8(codes)) : codes;
}

/* Scales of sub-blocks 2j and 2j + 1, a pair for each of the register's rows. */
always_inline int16x8_t block_scales(int type, const uint8_t *planes, int j, int h)
{
    const uint8_t *from = planes + matmul_layout(type).scales + j * 32 + h * 8;
    if (type == TENSOR_Q2_K)
        return vreinterpretq_s16_u16(vmovl_u8(vand_u8(vld1_u8(from), vdup_n_u8(15))));
    return vmovl_s8(vreinterpret_s8_u8(vld1_u8(from)));
}

always_inline int16x8_t block_minima(int type, const uint8_t *planes, int j, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    if (type == TENSOR_Q2_K)
        return vreinterpretq_s16_u16(
            vmovl_u8(vshr_n_u8(vld1_u8(planes + l.scales + j * 32 + h * 8), 4)));
    return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(planes + l.minima + j * 32 + h * 8)));
}

/* The first or the second of each pair, in 32 bits. */
always_inline int32x4_t one_of_pairs(int16x8_t pairs, int which)
{
    const int32x4_t both = vreinterpretq_s32_s16(pairs);
    return vshrq_n_s32(which ? both : vshlq_n_s32(both, 16), 16);
}

/* Of sixteen numbers of 16 bits, those of register h. */
always_inline float32x4_t load_halves(const uint8_t *from, int h)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from + h * 8)));
}

always_inline float32x4_t load_bfloats(const uint8_t *from, int h)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(from + h * 8)), 16));
}

always_inline float32x4_t block_d(int type, struct packed_block from, int h)
{
    return type == TENSOR_MXFP4 ? load_bfloats(from.halves, h) : load_halves(from.halves, h);
}

always_inline float32x4_t block_m(int type, struct packed_block from, int h)
{
    return type_has_minimum(type) ? load_halves(from.halves + 32, h) : vdupq_n_f32(0);
}

/* sums += minima · sums of activations, for sub-blocks 2j and 2j + 1; even and odd rows apart. */
always_inline void add_minima(int32x4_t sums[2], int16x8_t minima, const int16_t *two_sums)
{
    int32_t two;
    memcpy(&two, two_sums, sizeof two);
    const int16x8_t x = vreinterpretq_s16_s32(vdupq_n_s32(two));
    sums[0] = vmlal_s16(sums[0], vget_low_s16(minima), vget_low_s16(x));
    sums[1] = vmlal_high_s16(sums[1], minima, x);
}

/* Four outputs take a block: docs/numerics.md, section 4. `rest` is the sum with the minima, and
 * `dx` the scale of the activations. */
always_inline void finish(int type, float32x4_t d, float32x4_t m, float dx, int32x4_t products,
                          int32x4_t rest, float *to)
{
    float32x4_t acc = vld1q_f32(to);
    acc = vfmaq_f32(acc, vmulq_n_f32(d, dx), vcvtq_f32_s32(products));
    if (type_has_minimum(type)) {
        const float32x4_t scale = vmulq_n_f32(m, dx);
        acc = matmul_layout(type).elements == 32 ? vfmaq_f32(acc, scale, vcvtq_f32_s32(rest))
                                                 : vfmsq_f32(acc, scale, vcvtq_f32_s32(rest));
    }
    vst1q_f32(to, acc);
}

/* Sums of the activations of block `at`'s sub-blocks. */
always_inline const int16_t *block_sums(int type, const struct matmul_codes *x, int row, int at)
{
    if (matmul_layout(type).elements == 32)
        return x->sums32 + (size_t)row * x->sum32_stride + at;
    return type_sub_columns(type) == 32 ? x->sums32 + (size_t)row * x->sum32_stride + at * 8
                                        : x->sums16 + (size_t)row * x->sum16_stride + at * 16;
}

always_inline struct matmul_codes codes_from_row(struct matmul_codes c, int row)
{
    c.codes += (size_t)row * c.stride;
    c.scales += (size_t)row * c.scale_stride;
    c.sums16 += (size_t)row * c.sum16_stride;
    c.sums32 += (size_t)row * c.sum32_stride;
    return c;
}

/* Where block `at` of a group is. */
always_inline struct packed_block find_block(int type, int cols, const uint8_t *group, int at)
{
    const struct matmul_layout l = matmul_layout(type);
    const size_t all = (size_t)(cols / l.elements) * (size_t)l.block_bytes;
    return (struct packed_block){group + (size_t)at * (size_t)l.block_bytes,
                                 group + all + (size_t)at * (size_t)l.halves * 32,
                                 type_has_values(type) ? vld1q_s8(quant_format(type)->values)
                                                       : vdupq_n_s8(0)};
}

/* All of block b of a chunk but its codes. */
always_inline void expand_scales(int type, struct packed_block from, int b, struct expanded *e)
{
    const int pairs = matmul_layout(type).elements / type_sub_columns(type) / 2;
    for (int h = 0; h < 4; h++) {
        for (int j = 0; j < pairs; j++) {
            vst1q_s16(e->scales[b * pairs + j] + h * 8, block_scales(type, from.planes, j, h));
            if (type_has_minimum(type))
                vst1q_s16(e->minima[b * pairs + j] + h * 8, block_minima(type, from.planes, j, h));
        }
        vst1q_f32(e->d[b] + h * 4, block_d(type, from, h));
        vst1q_f32(e->m[b] + h * 4, block_m(type, from, h));
    }
}

/* A quantised product with the dot product alone: for one row the matrix product gains nothing. */
void matmul_neon_row(int type, const struct matmul_tile *t);

#endif
