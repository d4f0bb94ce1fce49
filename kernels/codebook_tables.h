/* codebook_tables.h - the grids of the codebook formats: points on which 4 or 8 weights lie.
 *
 * Byte i of an entry, counted from the lowest, belongs to weight i. */
#ifndef PACELINE_KERNELS_CODEBOOK_TABLES_H
#define PACELINE_KERNELS_CODEBOOK_TABLES_H

#include <stdint.h>

/* Magnitudes, none of them zero. */
extern const uint64_t codebook_iq2_xxs[256], codebook_iq2_xs[512], codebook_iq2_s[1024];
extern const uint32_t codebook_iq3_xxs[256], codebook_iq3_s[512];
/* IQ1_S's and IQ1_M's: 8 · (−1, 0 or 1) + 128. */
extern const uint64_t codebook_iq1[2048];
/* By 8 sign bits, or by the first 7 of 8 that are an even number: 255 where the weight is negative,
 * else 0. */
extern const uint64_t codebook_signs[256], codebook_even_signs[128];

#endif
