/* swiglu.h - elementwise pieces of a layer. */
#ifndef PACELINE_KERNELS_SWIGLU_H
#define PACELINE_KERNELS_SWIGLU_H

#include "kernels/kernels.h"

#include <stddef.h>

/* y[i] = silu(gate[i]) · up[i], silu(v) = v / (1 + exp(-v)); y may be gate or up. Threaded. */
void swiglu(const struct kernels *k, float *y, const float *gate, const float *up, size_t n);
/* y[i] += x[i] */
void residual_add(const struct kernels *k, float *y, const float *x, size_t n);
/* y[r][i] += bias[i] */
void bias_add(const struct kernels *k, float *y, size_t y_stride, const float *bias, int rows,
              int n);

#endif
