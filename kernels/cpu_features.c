/* cpu_features.c - asks the processor what it has, and the system what it keeps for us. */
#include "kernels/cpu_features.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Extended control register 0: which register states the operating system keeps for us. */
static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Tiles are 8 KiB of state that Linux (5.16 and later) saves for processes that asked for it. */
static bool request_tiles(void)
{
    const long arch_req_xcomp_perm = 0x1023, xfeature_xtiledata = 18;
    return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
}

unsigned cpu_features(void)
{
    /* CPUID leaf 1, ecx. */
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    /* CPUID leaf 7.0, ebx and ecx. */
    const unsigned avx2 = 1u << 5;
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    const unsigned vnni = 1u << 11;
    /* CPUID leaf 7.0, edx; leaf 7.1, eax. */
    const unsigned amx = 1u << 24 | 1u << 25; /* TILE, INT8 */
    const unsigned avxvnni = 1u << 4;
    /* XCR0: SSE and AVX states; opmask and both parts of the 512-bit registers; tile
     * configuration and data. */
    const uint64_t ymm = 0x6, zmm = 0xe6, tiles = 0x60000;

    unsigned a, b, c, d;
    unsigned features = 0;
    const unsigned first = fma | osxsave | avx | f16c;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & first) != first)
        return 0;
    const uint64_t xcr0 = read_xcr0();
    if ((xcr0 & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2))
        return 0;
    features |= CPU_AVX2;
    if ((xcr0 & zmm) == zmm && (b & avx512) == avx512 && (c & vnni))
        features |= CPU_AVX512;
    if ((xcr0 & tiles) == tiles && (d & amx) == amx && request_tiles())
        features |= CPU_AMX;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avxvnni))
        features |= CPU_AVXVNNI;
    return features;
}

#elif defined(__aarch64__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned cpu_features(void)
{
    unsigned features = 0;
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        features |= CPU_NEON;
    if (getauxval(AT_HWCAP2) & HWCAP2_I8MM)
        features |= CPU_I8MM;
    return features;
}

#else

unsigned cpu_features(void)
{
    return 0;
}

#endif
