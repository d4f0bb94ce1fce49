/* kernels.h - the table of micro-kernels, chosen once when a program starts.
 *
 * Every slot computes exactly what the scalar reference computes, to the bit (docs/numerics.md);
 * a slot that an instruction set does not implement stays scalar. */
#ifndef PACELINE_KERNELS_KERNELS_H
#define PACELINE_KERNELS_KERNELS_H

#include "base/err.h"
#include "kernels/matmul_kernels.h"
#include "kernels/vec_kernels.h"

#include <stdbool.h>

enum isa { ISA_SCALAR, ISA_AVX2, ISA_AVXVNNI, ISA_AVX512, ISA_AMX, ISA_NEON, ISAS };

struct kernels {
    enum isa isa;
    const char *isa_name; /* "scalar", "avx2", "avxvnni", "avx512", "amx", "neon" */
    struct matmul_kernels matmul;
    struct vec_kernels vec;
};

/* name: one of isa_name's, or NULL or "" for the best that this machine has. An unknown
 * name, or one that the machine lacks: ERR_USAGE, and the sentence lists what would work.
 * Programs pass getenv("PACELINE_ISA"). */
int kernels_select(struct kernels *k, const char *name, struct err *err);
/* Names in ascending order of preference, and whether this machine offers that one. */
const char *kernels_isa_name(int isa);
bool kernels_isa_is_offered(int isa);
/* One line, "matmul.Q4_K=avx512 …", for --verbose and bench. */
void kernels_describe(const struct kernels *k, char *to, size_t size);

#endif
