/* check_arrays.h - what check_vec and check_attention share: random arrays of several flavours
 * behind which no byte can be read, and comparison bit by bit. */
#ifndef PACELINE_TESTS_KERNELS_CHECK_ARRAYS_H
#define PACELINE_TESTS_KERNELS_CHECK_ARRAYS_H

#include "kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* xorshift64* (Vigna, arXiv:1402.6246) */
static inline uint32_t random_bits(void)
{
    static uint64_t seed = 0x9e3779b97f4a7c15ULL;
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)(seed * 0x2545f4914f6cdd1dULL >> 32);
}

static inline size_t random_below(size_t n)
{
    return random_bits() % n;
}

/* Uniform in [-1, 1). */
static inline float random_float(void)
{
    return (float)((int)(random_bits() >> 8) - (1 << 23)) * 0x1p-23f;
}

enum flavour { ORDINARY, WIDE, ANY_BITS, FLAVOURS };

static inline float random_value(enum flavour flavour)
{
    static const float odd[] = {0.0f,   -0.0f,   INFINITY, -INFINITY, 1e-45f,   -1e-45f, 3.4e38f,
                                88.73f, -103.9f, -87.4f,   65504.0f,  65520.0f, 6e-8f,   1.0f};
    if (flavour == ANY_BITS) {
        uint32_t bits = random_bits();
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (flavour == WIDE)
        return random_below(8) == 0 ? odd[random_below(sizeof odd / sizeof *odd)]
                                    : ldexpf(random_float(), (int)random_below(16) - 8);
    return random_float() * 4.0f;
}

/* An array that ends where an unreadable page begins. The page, and the fill around the array, are
 * kept until fences_free(). */
#define FENCES 64
static struct {
    void *map;
    size_t bytes;
} fences[FENCES];
static int n_fences;

static inline void *fenced(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (bytes + page - 1) / page * page;
    char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED && n_fences < FENCES);
    assert_int_equal(mprotect(map + room, page, PROT_NONE), 0);
    fences[n_fences].map = map;
    fences[n_fences++].bytes = room + page;
    memset(map, 0xa5, room);
    return map + room - bytes;
}

static inline float *fenced_floats(size_t n, enum flavour flavour)
{
    float *x = fenced(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_value(flavour);
    return x;
}

static inline float *fenced_copy(const float *from, size_t n)
{
    float *x = fenced(n * sizeof *x);
    memcpy(x, from, n * sizeof *x);
    return x;
}

static inline void fences_free(void)
{
    while (n_fences > 0) {
        n_fences--;
        munmap(fences[n_fences].map, fences[n_fences].bytes);
    }
}

/* Equal bits, or both NaN. */
static inline void assert_same(const char *what, const struct kernels *isa, const float *got,
                               const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof got[i]) == 0 ||
            (got[i] != got[i] && want[i] != want[i]))
            continue;
        fail_msg("%s, %s: element %zu of %zu is %a, the reference says %a", what, isa->isa_name, i,
                 n, (double)got[i], (double)want[i]);
    }
}

/* The instruction sets of this machine; [0] is the reference. */
static inline int all_kernels(struct kernels all[ISAS])
{
    int n = 0;
    for (int i = 0; i < ISAS; i++)
        if (kernels_select(&all[n], kernels_isa_name(i), NULL) == 0)
            n++;
    assert_true(n >= 1 && all[0].isa == ISA_SCALAR);
    return n;
}

#endif
