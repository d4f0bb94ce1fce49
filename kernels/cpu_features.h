/* cpu_features.h - what the CPU offers *and* the operating system lets us use (CPUID and XGETBV),
 * as bits. */
#ifndef PACELINE_KERNELS_CPU_FEATURES_H
#define PACELINE_KERNELS_CPU_FEATURES_H

enum cpu_feature {
    CPU_AVX2 = 1 << 0,  /* AVX2, FMA and F16C together */
    CPU_AVX512 = 1 << 1 /* AVX-512 F, BW, DQ, VL and VNNI together */
};

unsigned cpu_features(void);

#endif
