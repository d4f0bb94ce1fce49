/* quant.h - the block formats of GGUF tensors, and the exact float32 value of every element.
 *
 * A tensor of `cols` elements per row stores each row as cols / quant_block_elements(type) blocks
 * of quant_block_bytes(type). Source: the GGUF specification and ggml's published block layouts.
 * docs/numerics.md gives each format's formula. */
#ifndef PACELINE_KERNELS_QUANT_H
#define PACELINE_KERNELS_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are GGUF's. */
enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q2_K = 10,
    TENSOR_Q3_K = 11,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_IQ2_XXS = 16,
    TENSOR_IQ2_XS = 17,
    TENSOR_IQ3_XXS = 18,
    TENSOR_IQ1_S = 19,
    TENSOR_IQ4_NL = 20,
    TENSOR_IQ3_S = 21,
    TENSOR_IQ2_S = 22,
    TENSOR_IQ4_XS = 23,
    TENSOR_IQ1_M = 29,
    TENSOR_BF16 = 30,
    TENSOR_TQ1_0 = 34,
    TENSOR_TQ2_0 = 35,
    TENSOR_MXFP4 = 39
};

/* false: the program cannot compute with this type (the name may still be known). */
bool quant_type_is_supported(int type);
/* "Q4_K"; types that GGUF knows and we do not compute with have names too; "type 99" never comes
 * back: NULL for numbers that GGUF does not define. */
const char *quant_type_name(int type);
int quant_block_elements(int type); /* 0 for unsupported types, as below */
int quant_block_bytes(int type);
/* Bytes of one row; cols must be a multiple of the block. */
size_t quant_row_bytes(int type, int64_t cols);
/* to[0..cols) = the values of one row of blocks. The canonical dequantisation. */
void quant_unpack_row(int type, const void *row, float *to, int64_t cols);

/* A block taken apart: what the canonical formulas (docs/numerics.md, section 9) and matrix_pack()
 * both start from. Element i belongs to sub-block i / sub_block_elements. */
struct quant_format {
    int elements;     /* of a block: 32 or 256 */
    int sub_elements; /* that share scales[] and minima[]; 0: the format has no sub-blocks */
    int offset;       /* subtracted from a code: the centred weight */
    bool has_minimum;
    const int8_t *values; /* the centred weight of each code, in place of the offset; or NULL */
};
struct quant_block {
    uint16_t scale, minimum; /* halves: d, and m or dmin. MXFP4: d as a bfloat16 */
    uint8_t codes[256];      /* not negative; Q8_0's byte plus 128 */
    int8_t scales[16];
    uint8_t minima[16];
};
/* NULL for F32, F16, BF16, unsupported types, and those that codebook.h takes apart. */
const struct quant_format *quant_format(int type);
void quant_split(int type, const void *block, struct quant_block *ret_block);
/* The centred weight that a code stands for. */
int quant_centred(const struct quant_format *f, int code);
/* quant_block's scale or minimum in float32, exactly. */
float quant_scale_to_f32(int type, uint16_t scale);

/* IEEE half and bfloat16, scalar and exact: half conversion rounds to nearest even, overflows to
 * infinity, keeps subnormals; NaN stays NaN. */
float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f);
float quant_bf16_to_f32(uint16_t h);

#endif
