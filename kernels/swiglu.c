/* swiglu.c - see swiglu.h. */
#include "kernels/swiglu.h"

/* Elements of one thread's turn: 16 KiB, so that results stay in the first cache. */
#define CHUNK 4096

static size_t chunk_length(size_t n, size_t start)
{
    return n - start < CHUNK ? n - start : CHUNK;
}

void swiglu(const struct kernels *k, float *y, const float *gate, const float *up, size_t n)
{
#pragma omp parallel for schedule(static) if (n >= 4 * CHUNK)
    for (size_t i = 0; i < n; i += CHUNK)
        k->vec.swiglu(y + i, gate + i, up + i, chunk_length(n, i));
}

void residual_add(const struct kernels *k, float *y, const float *x, size_t n)
{
#pragma omp parallel for schedule(static) if (n >= 16 * CHUNK)
    for (size_t i = 0; i < n; i += CHUNK)
        k->vec.add(y + i, x + i, chunk_length(n, i));
}

void bias_add(const struct kernels *k, float *y, size_t y_stride, const float *bias, int rows,
              int n)
{
    for (int row = 0; row < rows; row++)
        k->vec.add(y + (size_t)row * y_stride, bias, (size_t)n);
}
