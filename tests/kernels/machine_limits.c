#include "machine_limits.h"

#include "kernels/cpu_features.h"

#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { READS = 7, LOOPS = 25, ROUNDS = 4000000 };

/* Time that one thread was given, or what the clock shows when there are more: others may use the
 * machine too. The benches read the same clocks. */
static double limits_seconds(int threads)
{
    struct timespec now;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- reading memory ---- */

typedef uint64_t lanes __attribute__((vector_size(32)));

/* Several lines at a time; `ahead` in bytes, 0: the hardware prefetches alone. */
static inline __attribute__((always_inline)) uint64_t read_lines(const char *from, size_t bytes,
                                                                 size_t ahead)
{
    lanes sum[4] = {{0}};
    for (size_t i = 0; i + 256 <= bytes; i += 256)
        for (int j = 0; j < 8; j++) {
            lanes v;
            memcpy(&v, from + i + j * 32, sizeof v);
            sum[j % 4] ^= v;
            if (ahead && j % 2 == 0)
                __builtin_prefetch(from + i + j * 32 + ahead, 0, 3);
        }
    const lanes all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
    return all[0] ^ all[1] ^ all[2] ^ all[3];
}

static uint64_t read_narrow(const char *from, size_t bytes, size_t ahead)
{
    return read_lines(from, bytes, ahead);
}

#if defined(__x86_64__)
/* 128 bits at a time reach three quarters of it. */
__attribute__((target("avx2"))) static uint64_t read_wide(const char *from, size_t bytes,
                                                          size_t ahead)
{
    return read_lines(from, bytes, ahead);
}
#endif

static uint64_t read_span(const char *from, size_t bytes, size_t ahead)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return read_wide(from, bytes, ahead);
#endif
    return read_narrow(from, bytes, ahead);
}

/* Seconds of one pass, each thread over its own part. */
static double read_once(const char *memory, size_t bytes, int threads, size_t ahead)
{
    const size_t part = bytes / (size_t)threads / 4096 * 4096;
    uint64_t sum = 0;
    const double start = limits_seconds(threads);
#pragma omp parallel num_threads(threads) reduction(^ : sum)
    sum ^= read_span(memory + (size_t)omp_get_thread_num() * part, part, ahead);
    const double seconds = limits_seconds(threads) - start;
    volatile uint64_t keep = sum;
    (void)keep;
    return seconds * (double)bytes / (double)(part * (size_t)threads);
}

double machine_limits_read(int threads)
{
    static const size_t ahead[] = {0, 512, 1024, 4096};
    const size_t bytes = (size_t)512 << 20;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    madvise(memory, bytes, MADV_HUGEPAGE);
    const size_t part = bytes / (size_t)threads / 4096 * 4096;
#pragma omp parallel num_threads(threads) /* each page near the thread that reads it */
    memset(memory + (size_t)omp_get_thread_num() * part, 1, part);
    double best = 1e9;
    for (int i = 0; i < READS; i++)
        for (size_t j = 0; j < sizeof ahead / sizeof *ahead; j++) {
            const double seconds = read_once(memory, bytes, threads, ahead[j]);
            best = seconds < best ? seconds : best;
        }
    munmap(memory, bytes);
    return (double)bytes / best;
}

/* ---- multiplying: each loop returns the operations that it made ---- */

/* As many independent sums as hide the latency of an addition. By name, for an array of them would
 * be left in memory. */
enum { CHAINS = 12 };
#define EACH_CHAIN(do)                                                                             \
    do                                                                                             \
    (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)

/* A loop of `step(sum, factor)`, which makes `products` multiply-adds. */
#define CHAIN_START(i) sum##i = factor,
#define CHAIN_STEP(i)                                                                              \
    sum##i = LOOP_STEP(sum##i, factor);                                                            \
    TOUCH(sum##i);
#define LOOP_BODY(vector, start, products)                                                         \
    vector factor = start, EACH_CHAIN(CHAIN_START) last = factor;                                  \
    TOUCH(last);                                                                                   \
    for (int n = 0; n < ROUNDS; n++) {                                                             \
        EACH_CHAIN(CHAIN_STEP)                                                                     \
    }                                                                                              \
    return 2.0 * (products)*CHAINS * ROUNDS

#if defined(__x86_64__)
/* The compiler must take `v` as changed, so it neither hoists nor drops what is made of it. */
#define TOUCH(v) __asm__ volatile("" : "+v"(v))

/* Sums of 16 bits, which a kernel must widen now and then: an upper bound. */
__attribute__((target("avx2"))) static inline __m256i step_avx2(__m256i sum, __m256i factor)
{
    __m256i product = _mm256_maddubs_epi16(factor, factor);
    TOUCH(product); /* else it is computed once */
    return _mm256_add_epi16(sum, product);
}

__attribute__((target("avx2"))) static double int8_avx2(void)
{
#define LOOP_STEP step_avx2
    LOOP_BODY(__m256i, _mm256_set1_epi8(1), 32);
#undef LOOP_STEP
}

__attribute__((target("avx2,avxvnni"))) static double int8_avxvnni(void)
{
#define LOOP_STEP(sum, factor) _mm256_dpbusd_avx_epi32(sum, factor, factor)
    LOOP_BODY(__m256i, _mm256_set1_epi8(1), 32);
#undef LOOP_STEP
}

__attribute__((target("avx512f,avx512vnni"))) static double int8_avx512(void)
{
#define LOOP_STEP(sum, factor) _mm512_dpbusd_epi32(sum, factor, factor)
    LOOP_BODY(__m512i, _mm512_set1_epi8(1), 64);
#undef LOOP_STEP
}

__attribute__((target("avx2,fma"))) static double f32_avx2(void)
{
#define LOOP_STEP(sum, factor) _mm256_fmadd_ps(sum, factor, factor)
    LOOP_BODY(__m256, _mm256_set1_ps(0.5f), 8);
#undef LOOP_STEP
}

__attribute__((target("avx512f"))) static double f32_avx512(void)
{
#define LOOP_STEP(sum, factor) _mm512_fmadd_ps(sum, factor, factor)
    LOOP_BODY(__m512, _mm512_set1_ps(0.5f), 16);
#undef LOOP_STEP
}

/* Four tiles of sums over two and two of factors, as a kernel would hold them. */
__attribute__((target("amx-tile,amx-int8"))) static double int8_amx(void)
{
    enum { STEPS = ROUNDS / 40 };
    static const int8_t ones[1024] __attribute__((aligned(64))) = {1, 1, 1, 1};
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* By hand: some compilers take the configuration for 8 bytes and drop the other stores. */
    __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, ones, 64);
    _tile_loadd(5, ones, 64);
    _tile_loadd(6, ones, 64);
    _tile_loadd(7, ones, 64);
    for (int n = 0; n < STEPS; n++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 64 * 4 * STEPS;
}

#elif defined(__aarch64__)
#define TOUCH(v) __asm__ volatile("" : "+w"(v))

__attribute__((target("arch=armv8.2-a+dotprod"))) static double int8_neon(void)
{
#define LOOP_STEP(sum, factor)                                                                     \
    vdotq_s32(sum, vreinterpretq_s8_s32(factor), vreinterpretq_s8_s32(factor))
    LOOP_BODY(int32x4_t, vdupq_n_s32(0x01010101), 16);
#undef LOOP_STEP
}

/* Used only where the CPU has it: not the set NEON alone, but its best. */
__attribute__((target("arch=armv8.2-a+i8mm"))) static double int8_i8mm(void)
{
#define LOOP_STEP(sum, factor)                                                                     \
    vmmlaq_s32(sum, vreinterpretq_s8_s32(factor), vreinterpretq_s8_s32(factor))
    LOOP_BODY(int32x4_t, vdupq_n_s32(0x01010101), 32);
#undef LOOP_STEP
}

static double int8_arm(void)
{
    return cpu_features() & CPU_I8MM ? int8_i8mm() : int8_neon();
}

static double f32_neon(void)
{
#define LOOP_STEP(sum, factor) vfmaq_f32(factor, sum, factor)
    LOOP_BODY(float32x4_t, vdupq_n_f32(0.5f), 4);
#undef LOOP_STEP
}
#endif

typedef double loop(void);

static loop *const int8_loops[ISAS] = {
#if defined(__x86_64__)
    [ISA_AVX2] = int8_avx2,
    [ISA_AVXVNNI] = int8_avxvnni,
    [ISA_AVX512] = int8_avx512,
    [ISA_AMX] = int8_amx,
#elif defined(__aarch64__)
    [ISA_NEON] = int8_arm,
#endif
};

static loop *const f32_loops[ISAS] = {
#if defined(__x86_64__)
    [ISA_AVX2] = f32_avx2,
    [ISA_AVXVNNI] = f32_avx2,
    [ISA_AVX512] = f32_avx512,
    [ISA_AMX] = f32_avx512,
#elif defined(__aarch64__)
    [ISA_NEON] = f32_neon,
#endif
};

static double loop_rate(loop *run, int threads)
{
    double best = 0;
    for (int i = 0; run && i < LOOPS; i++) {
        double operations = 0;
        const double start = limits_seconds(threads);
#pragma omp parallel num_threads(threads) reduction(+ : operations)
        operations += run();
        const double rate = operations / (limits_seconds(threads) - start);
        best = rate > best ? rate : best;
    }
    return best;
}

double machine_limits_int8(enum isa isa, int threads)
{
    return loop_rate(int8_loops[isa], threads);
}

double machine_limits_f32(enum isa isa, int threads)
{
    return loop_rate(f32_loops[isa], threads);
}

struct machine_limits machine_limits_measure(enum isa isa, int threads)
{
    return (struct machine_limits){.read_bytes = machine_limits_read(threads),
                                   .int8_ops = machine_limits_int8(isa, threads),
                                   .f32_ops = machine_limits_f32(isa, threads)};
}

const char *machine_limits_share(char *to, double rate, double limit)
{
    to[0] = '\0';
    if (limit > 0)
        snprintf(to, 16, " (%.0f %%)", 100 * rate / limit);
    return to;
}
