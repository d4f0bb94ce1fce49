/* matmul_pack.h - packing of whole groups of 16 rows, type by type: the bytes that
 * matmul_pack_group() writes, at the speed of memory.
 *
 * Most planes of matmul_layout.h keep the order of bits within a byte that GGUF's blocks have, so
 * packing is nothing but a transposition of 4-byte words: word j of row r goes to word 16 j + r. */
#ifndef PACELINE_KERNELS_MATMUL_PACK_H
#define PACELINE_KERNELS_MATMUL_PACK_H

#include <stdbool.h>
#include <stdint.h>

/* false, and nothing is written: this type has no fast form. source: 16 rows of GGUF blocks, one
 * after the other; to: matmul_group_bytes(), 64-byte aligned. */
bool matmul_pack_16(int type, int cols, const void *source, uint8_t *to);

#endif
