/* softmax.h - exponentials and their sums over a vocabulary, in the canonical order. */
#ifndef PACELINE_KERNELS_SOFTMAX_H
#define PACELINE_KERNELS_SOFTMAX_H

#include "kernels/kernels.h"

#include <stdbool.h>

#define SOFTMAX_BLOCK 256

/* Exact maximum of x and the id of its first occurrence. false: x holds a NaN. */
bool softmax_maximum(const struct kernels *k, const float *x, int n, float *ret_maximum,
                     int *ret_index);
/* y[i] = exp(x[i] - maximum); returns their sum: blocks of SOFTMAX_BLOCK elements (16 lanes
 * and a tree in each), folded in ascending order, in binary64. y may be x, or NULL when only the
 * sum is wanted. */
double softmax_exponentials(const struct kernels *k, float *y, const float *x, int n,
                            float maximum);

#endif
