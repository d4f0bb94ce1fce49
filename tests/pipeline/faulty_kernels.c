/* faulty_kernels.c - a worker whose arithmetic goes wrong when a test wants it: linked with the
 * worker's own files into paceline-worker-faulty, around kernels_select() (-Wl,--wrap). While the
 * file that $FAULT_FILE names is there, one bit of each sum of residuals is wrong. */
#include "kernels/kernels.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int __real_kernels_select(struct kernels *k, const char *name, struct err *err);
int __wrap_kernels_select(struct kernels *k, const char *name, struct err *err);

static void (*sound_add)(float *y, const float *x, size_t n);
static const char *fault_file;

static void faulty_add(float *y, const float *x, size_t n)
{
    sound_add(y, x, n);
    if (n == 0 || access(fault_file, F_OK) != 0)
        return;
    uint32_t bits;
    memcpy(&bits, &y[n / 2], sizeof bits);
    bits ^= 1u << 20;
    memcpy(&y[n / 2], &bits, sizeof bits);
}

int __wrap_kernels_select(struct kernels *k, const char *name, struct err *err)
{
    int rc = __real_kernels_select(k, name, err);
    fault_file = getenv("FAULT_FILE");
    if (rc != 0 || !fault_file)
        return rc;
    sound_add = k->vec.add;
    k->vec.add = faulty_add;
    return rc;
}
