/* norm.c - see norm.h. */
#include "kernels/norm.h"

#include <math.h>

void rmsnorm(const struct kernels *k, float *y, size_t y_stride, const float *x, size_t x_stride,
             const float *weight, int rows, int n, float eps)
{
    /* Threads cost more than a few short rows do. */
#pragma omp parallel for schedule(static) if ((long)rows * n >= 16384)
    for (int row = 0; row < rows; row++) {
        const float *from = x + (size_t)row * x_stride;
        float sum = k->vec.sum_squares(from, (size_t)n);
        float r = 1.0f / sqrtf(sum / (float)n + eps);
        k->vec.scale(y + (size_t)row * y_stride, from, weight, r, (size_t)n);
    }
}
