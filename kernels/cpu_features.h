/* cpu_features.h - what the CPU offers *and* the operating system lets us use (CPUID, XGETBV and
 * arch_prctl on x86-64; the auxiliary vector on ARM64), as bits. */
#ifndef PACELINE_KERNELS_CPU_FEATURES_H
#define PACELINE_KERNELS_CPU_FEATURES_H

enum cpu_feature {
    CPU_AVX2 = 1 << 0,    /* AVX2, FMA and F16C together */
    CPU_AVXVNNI = 1 << 1, /* VPDPBUSD and VPDPWSSD on 256 bits, without AVX-512 */
    CPU_AVX512 = 1 << 2,  /* AVX-512 F, BW, DQ, VL and VNNI together */
    CPU_AMX = 1 << 3,     /* AMX tiles and their int8 product; the system granted the tile state */
    CPU_NEON = 1 << 4,    /* ARMv8.2 dot product; half-precision conversion is part of ARMv8 */
    CPU_I8MM = 1 << 5     /* ARMv8.6 int8 matrix product */
};

/* Asks the system for the tile state where the CPU has AMX (Linux: arch_prctl), once for all
 * threads that start later. */
unsigned cpu_features(void);

#endif
