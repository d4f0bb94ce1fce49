/* vec_neon.c - vectors with NEON. */
#include "kernels/kernels_fill.h"

void vec_neon_fill(struct vec_kernels *k)
{
    (void)k;
}
