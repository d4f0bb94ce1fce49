/* matmul_avxvnni.c - packed products with the 256-bit VNNI instructions of client processors. */
#include "kernels/kernels_fill.h"

void matmul_avxvnni_fill(struct matmul_kernels *k)
{
    (void)k;
}
