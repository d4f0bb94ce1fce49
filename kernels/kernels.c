/* kernels.c - fills the table of micro-kernels. */
#include "kernels/kernels.h"
#include "kernels/codebook.h"
#include "kernels/cpu_features.h"
#include "kernels/kernels_fill.h"
#include "kernels/quant.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct isa_entry {
    const char *name;
    unsigned needs;
};

/* The last one that the machine offers is the best. */
static const struct isa_entry isas[ISAS] = {
    [ISA_SCALAR] = {"scalar", 0},
    [ISA_AVX2] = {"avx2", CPU_AVX2},
    [ISA_AVXVNNI] = {"avxvnni", CPU_AVX2 | CPU_AVXVNNI},
    [ISA_AVX512] = {"avx512", CPU_AVX2 | CPU_AVX512},
    [ISA_AMX] = {"amx", CPU_AVX2 | CPU_AVX512 | CPU_AMX},
    [ISA_NEON] = {"neon", CPU_NEON},
};

static bool isa_is_offered(int isa, unsigned features)
{
    return (features & isas[isa].needs) == isas[isa].needs;
}

static int isa_best(unsigned features)
{
    int best = ISA_SCALAR;
    for (int i = 0; i < ISAS; i++)
        best = isa_is_offered(i, features) ? i : best;
    return best;
}

static int isa_find(const char *name)
{
    for (int i = 0; i < ISAS; i++)
        if (strcmp(isas[i].name, name) == 0)
            return i;
    return -1;
}

const char *kernels_isa_name(int isa)
{
    return isas[isa].name;
}

bool kernels_isa_is_offered(int isa)
{
    return isa_is_offered(isa, cpu_features());
}

static int refuse(const char *name, bool known, unsigned features, struct err *err)
{
    char offered[64] = "";
    for (int i = 0; i < ISAS; i++) {
        const size_t used = strlen(offered);
        if (isa_is_offered(i, features))
            snprintf(offered + used, sizeof offered - used, "%s%s", used ? ", " : "", isas[i].name);
    }
    if (known)
        return err_set(err, ERR_USAGE,
                       "this machine lacks the instruction set \"%s\"; it offers: %s", name,
                       offered);
    return err_set(err, ERR_USAGE, "unknown instruction set \"%.40s\"; this machine offers: %s",
                   name, offered);
}

/* Products that a file has put over those of the file before carry its name. */
static void name_products(struct matmul_kernels *k, const struct matmul_kernels *before,
                          const char *name)
{
    for (int type = 0; type < MATMUL_SLOTS; type++)
        if (k->product[type] != before->product[type] ||
            k->product_many[type] != before->product_many[type] ||
            (codebook_has(type) && k->codebook != before->codebook))
            k->product_isa[type] = name;
}

static void fill_matmul(struct kernels *k, void (*fill)(struct matmul_kernels *k), const char *name)
{
    const struct matmul_kernels before = k->matmul;
    fill(&k->matmul);
    name_products(&k->matmul, &before, name);
}

/* What an instruction set has no kernel for, the one below it does. */
static void fill(struct kernels *k, unsigned features)
{
    fill_matmul(k, matmul_scalar_fill, isas[ISA_SCALAR].name);
    vec_fill(&k->vec);
#if defined(__x86_64__)
    (void)features;
    if (k->isa >= ISA_AVX2) {
        fill_matmul(k, matmul_avx2_fill, isas[ISA_AVX2].name);
        fill_matmul(k, codebook_avx2_fill, isas[ISA_AVX2].name);
        vec_avx2_fill(&k->vec);
        attention_avx2_fill(&k->vec);
    }
    if (k->isa == ISA_AVXVNNI)
        fill_matmul(k, matmul_avxvnni_fill, isas[ISA_AVXVNNI].name);
    if (k->isa >= ISA_AVX512) {
        fill_matmul(k, matmul_avx512_fill, isas[ISA_AVX512].name);
        vec_avx512_fill(&k->vec);
    }
    if (k->isa == ISA_AMX)
        fill_matmul(k, matmul_amx_fill, isas[ISA_AMX].name);
#elif defined(__aarch64__)
    if (k->isa == ISA_NEON) {
        fill_matmul(k, matmul_neon_fill, isas[ISA_NEON].name);
        if (features & CPU_I8MM)
            fill_matmul(k, matmul_i8mm_fill, "i8mm");
        vec_neon_fill(&k->vec);
    }
#else
    (void)features;
#endif
}

int kernels_select(struct kernels *k, const char *name, struct err *err)
{
    const unsigned features = cpu_features();
    int isa = isa_best(features);
    if (name && *name) {
        isa = isa_find(name);
        if (isa < 0 || !isa_is_offered(isa, features))
            return refuse(name, isa >= 0, features, err);
    }
    memset(k, 0, sizeof *k);
    k->isa = (enum isa)isa;
    k->isa_name = isas[isa].name;
    fill(k, features);
    return 0;
}

void kernels_describe(const struct kernels *k, char *to, size_t size)
{
    size_t used = 0;
    for (int type = 0; type < MATMUL_SLOTS && used < size; type++) {
        if (!k->matmul.product[type])
            continue;
        const int n = snprintf(to + used, size - used, "matmul.%s=%s ", quant_type_name(type),
                               k->matmul.product_isa[type]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < size)
        snprintf(to + used, size - used, "matmul.quantise=%s vec=%s", k->matmul.quantise_isa,
                 k->isa_name);
}
