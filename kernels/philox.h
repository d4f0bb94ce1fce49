/* philox.h - the counter-based generator Philox4x32-10 (Salmon et al., SC'11). A number depends on
 * its key and counter alone, so that a token can be drawn again anywhere, in any order. */
#ifndef PACELINE_KERNELS_PHILOX_H
#define PACELINE_KERNELS_PHILOX_H

#include <stdint.h>

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t ret_words[4]);
/* Uniform in [0, 1), a multiple of 2^-53: key = seed, counter = (position mod 2^32,
 * position / 2^32, choice, 0), low word first. */
double philox_uniform(uint64_t seed, uint32_t choice, uint64_t position);

#endif
