/* rope.h - rotary position embedding (RoFormer, arXiv:2104.09864), NeoX layout: element i pairs
 * with i + dim/2; YaRN scaling (arXiv:2309.00071). */
#ifndef PACELINE_KERNELS_ROPE_H
#define PACELINE_KERNELS_ROPE_H

#include "kernels/kernels.h"

#include <stddef.h>

struct rope_spec {
    int dim;                     /* rotated elements of a head, even */
    double base;                 /* theta */
    double yarn_factor;          /* 0 or 1: no scaling */
    int original_context;        /* YaRN: context of training before scaling */
    double beta_fast, beta_slow; /* YaRN: 32 and 1 where the model says nothing */
    double attention_factor;     /* YaRN: 0 = 0.1 ln(factor) + 1 */
};

/* inverse_frequencies: [dim/2] doubles; ret_magnitude: what cos and sin are multiplied by. Once,
 * at load. */
void rope_prepare(const struct rope_spec *spec, double *ret_inverse_frequencies,
                  double *ret_magnitude);
/* cos, sin: [dim/2] float32 of one position: double angle, rounded once at the end. */
void rope_angles(const double *inverse_frequencies, double magnitude, int dim, int position,
                 float *ret_cos, float *ret_sin);
/* Rotates `heads` heads of head_dim floats in place; the first dim elements of each. */
void rope_rotate(const struct kernels *k, float *x, int heads, int head_dim, int dim,
                 const float *cos, const float *sin);

#endif
