/* codebook.h - formats whose blocks of 256 weights are indices into grids (IQ1, IQ2, IQ3), or
 * ternary digits (TQ).
 *
 * Their packed form is the file's: a group keeps the blocks of its 16 rows side by side,
 * [block][row]. A product takes the 16 blocks apart into signed bytes, and multiplies these by all
 * activation rows of a tile. Source: the GGUF formats' definition; docs/numerics.md, section 9. */
#ifndef PACELINE_KERNELS_CODEBOOK_H
#define PACELINE_KERNELS_CODEBOOK_H

#include "kernels/matmul_kernels.h"

#include <stdbool.h>

/* One block: weight i is scale · scales[i / 16] · weights[i], exactly. */
struct codebook_block {
    _Alignas(32) int8_t weights[256]; /* −62 … 62 */
    int16_t scales[16];               /* 1 … 31 */
    float scale;
};

bool codebook_has(int type);
/* block: any bytes; quant_block_bytes(type) of them. */
void codebook_split(int type, const uint8_t *block, struct codebook_block *ret_block);
/* to[0..256): the values. */
void codebook_unpack(int type, const uint8_t *block, float *to);

/* The slots `product` of these types: each calls the tile's kernels->codebook. */
void codebook_fill(struct matmul_kernels *k);

#endif
