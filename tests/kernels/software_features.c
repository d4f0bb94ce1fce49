/* software_features.c - in place of cpu_features.c where tests bring instructions as functions
 * (software_512.h): offers their sets on any machine that has AVX2. */
#include "kernels/cpu_features.h"
#include "kernels/kernels_fill.h"

#include <stdio.h>
#include <stdlib.h>

unsigned cpu_features(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c")) {
        printf("no AVX2 here: skipped\n");
        exit(77);
    }
    return CPU_AVX2 | CPU_AVX512 | CPU_AMX;
}

/* The vectors' own file is not brought: those of AVX2 stay. */
void vec_avx512_fill(struct vec_kernels *k)
{
    (void)k;
}
