/* matmul_layout.h - the packed form of a weight matrix, the same for every instruction set.
 *
 * 16 output rows (a group) are interleaved. A vector is 64 bytes: 16 rows × 4 consecutive columns,
 * row r in bytes 4r … 4r+3. That is one 512-bit register, two 256-bit ones, four of NEON, or one
 * line of an AMX tile.
 *
 *     group = blocks × block_bytes, then blocks × halves × 32 bytes, padded to 64
 *     block = plane of low bits, plane of high bits, scales, minima
 *     the second part: for each block 16 halves d, then 16 halves m or dmin where there are minima
 *
 * A plane keeps `bits` bits of each code in vectors that carry 8 / bits fields: column vector v of
 * a block (columns 4v … 4v+3) is in plane vector matmul_plane_vector(), shifted left by
 * matmul_plane_shift(). Fields change every 8 column vectors (32 columns) in super-blocks of 256,
 * so that two sub-blocks share a vector of nibbles, and every `bits` vectors in blocks of 32.
 * Scales and minima are bytes, [sub-block / 2][row][2]; Q2_K's are nibbles of one byte, scale low.
 *
 * F32, F16, BF16: [column][16], no blocks. The types of codebook.h: [block][16], the file's blocks,
 * padded to 64. */
#ifndef PACELINE_KERNELS_MATMUL_LAYOUT_H
#define PACELINE_KERNELS_MATMUL_LAYOUT_H

#include "kernels/quant.h"

struct matmul_plane {
    int bits;   /* of each code: 8, 4, 2, 1; 0: no such plane */
    int offset; /* of its first vector in the block */
};

struct matmul_layout {
    int elements;             /* columns of a block: 32 or 256; 1 for F32, F16, BF16 */
    struct matmul_plane low;  /* the low bits of each code ... */
    struct matmul_plane high; /* ... and those above them */
    int scales, minima;       /* offsets in the block; 0: none */
    int block_bytes;
    int halves; /* of each row and block: d, or d and a minimum */
};

/* Inline, so that a micro-kernel for one type sees constants. Against GGUF's bytes: equal, but
 * for scales of 6 bits that become bytes: Q3_K + 3.6 %, Q4_K + 2.8 %, Q5_K + 2.3 %, IQ4_XS
 * + 1.5 %, and MXFP4's scales of one byte that become two: + 5.9 %. */
__attribute__((always_inline)) static inline struct matmul_layout matmul_layout(int type)
{
    switch (type) {
    case TENSOR_F32:
        return (struct matmul_layout){.elements = 1, .block_bytes = 64};
    case TENSOR_F16:
    case TENSOR_BF16:
        return (struct matmul_layout){.elements = 1, .block_bytes = 32};
    case TENSOR_Q4_0:
        return (struct matmul_layout){32, {4, 0}, {0, 0}, 0, 0, .block_bytes = 256, .halves = 1};
    case TENSOR_Q4_1:
        return (struct matmul_layout){32, {4, 0}, {0, 0}, 0, 0, .block_bytes = 256, .halves = 2};
    case TENSOR_Q5_0:
        return (struct matmul_layout){32, {4, 0}, {1, 256}, 0, 0, .block_bytes = 320, .halves = 1};
    case TENSOR_Q5_1:
        return (struct matmul_layout){32, {4, 0}, {1, 256}, 0, 0, .block_bytes = 320, .halves = 2};
    case TENSOR_Q8_0:
        return (struct matmul_layout){32, {8, 0}, {0, 0}, 0, 0, .block_bytes = 512, .halves = 1};
    case TENSOR_Q2_K:
        return (struct matmul_layout){256, {2, 0}, {0, 0}, 1024, 0, 1280, .halves = 2};
    case TENSOR_Q3_K:
        return (struct matmul_layout){256, {2, 0}, {1, 1024}, 1536, 0, 1792, .halves = 1};
    case TENSOR_Q4_K:
        return (struct matmul_layout){256, {4, 0}, {0, 0}, 2048, 2176, 2304, .halves = 2};
    case TENSOR_Q5_K:
        return (struct matmul_layout){256, {4, 0}, {1, 2048}, 2560, 2688, 2816, .halves = 2};
    case TENSOR_Q6_K:
        return (struct matmul_layout){256, {4, 0}, {2, 2048}, 3072, 0, 3328, .halves = 1};
    case TENSOR_IQ4_NL: /* as Q4_0; quant_format()'s values tell what a code means */
    case TENSOR_MXFP4:  /* its halves are bfloat16 */
        return (struct matmul_layout){32, {4, 0}, {0, 0}, 0, 0, .block_bytes = 256, .halves = 1};
    case TENSOR_IQ4_XS: /* scales are signed */
        return (struct matmul_layout){256, {4, 0}, {0, 0}, 2048, 0, 2176, .halves = 1};
    default: /* codebook.h's types too: they have no layout but the file's */
        return (struct matmul_layout){0};
    }
}

/* Bytes of a group of 16 rows, a multiple of 64. */
size_t matmul_group_bytes(int type, int cols);
/* Packs `rows` (1 … 16) GGUF rows; the lanes of missing rows are zero weights. */
void matmul_pack_group(int type, int rows, int cols, const void *source, uint8_t *to);

__attribute__((always_inline)) static inline int matmul_plane_run(struct matmul_layout l,
                                                                  struct matmul_plane p)
{
    return l.elements == 256 ? 8 : p.bits;
}

__attribute__((always_inline)) static inline int matmul_plane_vector(struct matmul_layout l,
                                                                     struct matmul_plane p, int v)
{
    const int run = matmul_plane_run(l, p);
    return v / (run * 8 / p.bits) * run + v % run;
}

__attribute__((always_inline)) static inline int matmul_plane_shift(struct matmul_layout l,
                                                                    struct matmul_plane p, int v)
{
    return v / matmul_plane_run(l, p) * p.bits % 8;
}

#endif
