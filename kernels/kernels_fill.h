/* kernels_fill.h - the one function that each file of micro-kernels exports: it puts its kernels
 * into the table, over those of the file before. */
#ifndef PACELINE_KERNELS_KERNELS_FILL_H
#define PACELINE_KERNELS_KERNELS_FILL_H

#include "kernels/matmul_kernels.h"
#include "kernels/vec_kernels.h"

void matmul_scalar_fill(struct matmul_kernels *k);
void matmul_avx2_fill(struct matmul_kernels *k);
void codebook_avx2_fill(struct matmul_kernels *k); /* the slot `codebook` */
void matmul_avxvnni_fill(struct matmul_kernels *k);
void matmul_avx512_fill(struct matmul_kernels *k);
void matmul_amx_fill(struct matmul_kernels *k);
void matmul_neon_fill(struct matmul_kernels *k);
void matmul_i8mm_fill(struct matmul_kernels *k); /* over those of NEON */

void vec_fill(struct vec_kernels *k);
void vec_avx2_fill(struct vec_kernels *k);
void attention_avx2_fill(struct vec_kernels *k);
void vec_avx512_fill(struct vec_kernels *k);
void vec_neon_fill(struct vec_kernels *k);

#endif
