/* norm.h - root-mean-square normalisation (Zhang & Sennrich, arXiv:1910.07467). */
#ifndef PACELINE_KERNELS_NORM_H
#define PACELINE_KERNELS_NORM_H

#include "kernels/kernels.h"

#include <stddef.h>

/* y[r][i] = x[r][i] / sqrt(mean(x[r]²) + eps) · weight[i]; y may be x. Strides in floats.
 * One row of `n`; heads of a q or k vector are rows too (QK-norm: stride = head_dim). */
void rmsnorm(const struct kernels *k, float *y, size_t y_stride, const float *x, size_t x_stride,
             const float *weight, int rows, int n, float eps);

#endif
