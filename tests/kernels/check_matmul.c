/* check_matmul.c - packed products: every instruction set against the scalar reference, and the
 * reference against double precision. --bench times them. */
#include "kernels/codebook.h"
#include "kernels/matmul.h"
#include "kernels/matmul_layout.h"
#include "kernels/matmul_pack.h"
#include "machine_limits.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct type_case {
    enum tensor_type type;
    int halves[2]; /* offsets in a GGUF block, -1: none */
};

static const struct type_case cases[] = {
    {TENSOR_Q4_0, {0, -1}},    {TENSOR_Q4_1, {0, 2}},     {TENSOR_Q5_0, {0, -1}},
    {TENSOR_Q5_1, {0, 2}},     {TENSOR_Q8_0, {0, -1}},    {TENSOR_Q2_K, {80, 82}},
    {TENSOR_Q3_K, {108, -1}},  {TENSOR_Q4_K, {0, 2}},     {TENSOR_Q5_K, {0, 2}},
    {TENSOR_Q6_K, {208, -1}},  {TENSOR_F32, {-1, -1}},    {TENSOR_F16, {-1, -1}},
    {TENSOR_BF16, {-1, -1}},   {TENSOR_IQ4_NL, {0, -1}},  {TENSOR_IQ4_XS, {0, -1}},
    {TENSOR_MXFP4, {-1, -1}},  {TENSOR_IQ2_XXS, {0, -1}}, {TENSOR_IQ2_XS, {0, -1}},
    {TENSOR_IQ3_XXS, {0, -1}}, {TENSOR_IQ1_S, {0, -1}},   {TENSOR_IQ3_S, {0, -1}},
    {TENSOR_IQ2_S, {0, -1}},   {TENSOR_IQ1_M, {-1, -1}},  {TENSOR_TQ1_0, {52, -1}},
    {TENSOR_TQ2_0, {64, -1}},
};

enum { CASES = sizeof cases / sizeof *cases };

static uint64_t first_seed = 1, seed = 1; /* of the run, and as it stands */
static int repeats = 12;                  /* of each type and flavour */

/* xorshift64* (Vigna, arXiv:1402.6246) */
static uint32_t random_bits(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)(seed * 0x2545f4914f6cdd1dULL >> 32);
}

static int random_below(int n)
{
    return (int)(random_bits() % (uint32_t)n);
}

static float random_float(void)
{
    return (float)((int)(random_bits() >> 8) - (1 << 23)) * 0x1p-23f;
}

/* Memory that ends where an unreadable page begins. */
struct fence {
    char *map;
    size_t mapped;
    void *data;
};

static struct fence fence_new(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct fence f = {.mapped = (size + page - 1) / page * page + page};
    f.map = mmap(NULL, f.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f.map != MAP_FAILED);
    assert_int_equal(mprotect(f.map + f.mapped - page, page, PROT_NONE), 0);
    f.data = f.map + f.mapped - page - size;
    return f;
}

static void fence_free(struct fence f)
{
    munmap(f.map, f.mapped);
}

/* What the numbers of a run are like. */
enum flavour { ORDINARY, CORNERS, EXTREME, FLAVOURS };

static uint16_t random_half(enum flavour flavour)
{
    static const uint16_t odd[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff,
                                   0xfbff, 0x7c00, 0xfc00, 0x7e01, 0x3c00};
    if (flavour == EXTREME && random_below(4) == 0)
        return odd[random_below((int)(sizeof odd / sizeof *odd))];
    return quant_f32_to_f16(random_float() * 0.02f);
}

static void random_block(const struct type_case *c, enum flavour flavour, uint8_t *to)
{
    static const uint8_t corners[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0};
    const int bytes = quant_block_bytes(c->type);
    const int corner = random_below((int)sizeof corners + 1);
    for (int i = 0; i < bytes; i++)
        to[i] = flavour != CORNERS             ? (uint8_t)random_bits()
                : corner < (int)sizeof corners ? corners[corner]
                                               : corners[random_below((int)sizeof corners)];
    for (int i = 0; i < 2 && c->halves[i] >= 0; i++) {
        const uint16_t h = random_half(flavour);
        memcpy(to + c->halves[i], &h, sizeof h);
    }
    if (c->type == TENSOR_IQ1_M) { /* d is on top of four words */
        const uint16_t h = random_half(flavour);
        for (int i = 0; i < 4; i++)
            to[49 + 2 * i] = (uint8_t)((to[49 + 2 * i] & 15) | (h >> 4 * i & 15) << 4);
    }
    if (c->type == TENSOR_MXFP4 && flavour != EXTREME)
        to[0] = (uint8_t)(112 + random_below(12)); /* 2^(e - 128) */
}

static void random_weights(const struct type_case *c, enum flavour flavour, uint8_t *to, size_t n)
{
    const size_t bytes = (size_t)quant_block_bytes(c->type);
    for (size_t i = 0; i < n; i++) {
        uint8_t *block = to + i * bytes;
        uint16_t h = random_half(flavour);
        const float f = quant_f16_to_f32(h);
        if (c->type == TENSOR_F32)
            memcpy(block, &f, sizeof f);
        else if (c->type == TENSOR_F16)
            memcpy(block, &h, sizeof h);
        else if (c->type == TENSOR_BF16)
            memcpy(block, (const char *)&f + 2, 2);
        else
            random_block(c, flavour, block);
    }
}

static float random_input(enum flavour flavour, int kind)
{
    static const float odd[] = {INFINITY,  -INFINITY, NAN,       3.4e38f,   -3.4e38f,
                                0x1p-149f, 0x1p-127f, -0x1p-99f, 0x1p-100f, 0x1.8p-101f,
                                -0.0f,     1e-30f,    1e30f};
    if (flavour == EXTREME && kind == 0 && random_below(300) == 0)
        return odd[random_below((int)(sizeof odd / sizeof *odd))];
    if (flavour == EXTREME && kind == 1)
        return 0;
    if (flavour == EXTREME && kind == 2)
        return random_float() * 0x1p-126f;
    if (flavour == EXTREME && kind == 3)
        return random_float() * 3e38f;
    if (flavour == CORNERS)
        return kind == 0 ? 1 : kind == 1 ? -1 : random_below(2) ? 1.0f : -1.0f;
    return random_float();
}

struct product {
    const struct type_case *c;
    enum flavour flavour;
    int rows, cols, tokens;
    size_t y_stride;
    struct fence source, packed, x;
    struct matrix matrix;
    struct activations *activations;
};

static void product_fill(struct product *p)
{
    const size_t row_bytes = quant_row_bytes(p->c->type, p->cols);
    p->source = fence_new(row_bytes * (size_t)p->rows);
    random_weights(p->c, p->flavour, p->source.data,
                   row_bytes * (size_t)p->rows / (size_t)quant_block_bytes(p->c->type));
    p->packed = fence_new(matrix_bytes(p->c->type, p->rows, p->cols));
    matrix_pack(&p->matrix, p->packed.data, p->c->type, p->rows, p->cols, p->source.data);
    const size_t n = (size_t)p->tokens * (size_t)p->cols;
    p->x = fence_new(n * sizeof(float));
    float *x = p->x.data;
    for (size_t i = 0; i < n; i++)
        x[i] = random_input(p->flavour, (int)(i / (size_t)p->cols % 5));
    p->activations = activations_new(p->tokens, p->cols);
    assert_non_null(p->activations);
}

static void product_clear(struct product *p)
{
    activations_free(p->activations);
    fence_free(p->x);
    fence_free(p->packed);
    fence_free(p->source);
}

enum { CANARY = 0x7fa5a5a5 };

static struct fence product_run(struct product *p, const struct kernels *k, int first, int tokens)
{
    const size_t n = (size_t)(tokens - 1) * p->y_stride + (size_t)p->rows;
    struct fence f = fence_new(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        memcpy((float *)f.data + i, &(uint32_t){CANARY}, sizeof(float));
    activations_load(p->activations, (const float *)p->x.data + (size_t)first * (size_t)p->cols,
                     tokens, p->cols);
    matmul(k, f.data, p->y_stride, &p->matrix, p->activations);
    return f;
}

static bool floats_equal(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void compare(const struct product *p, const char *isa, const float *got, const float *want,
                    int tokens)
{
    for (int r = 0; r < tokens; r++) {
        for (int o = 0; o < (int)p->y_stride && (r + 1 < tokens || o < p->rows); o++) {
            const size_t i = (size_t)r * p->y_stride + (size_t)o;
            uint32_t bits;
            memcpy(&bits, &got[i], sizeof bits);
            const bool fine = o < p->rows ? floats_equal(got[i], want[i]) : bits == CANARY;
            if (!fine)
                fail_msg("%s %s [%d × %d] × %d, row %d output %d: %a, should be %a (--seed %llu)",
                         quant_type_name(p->c->type), isa, p->rows, p->cols, p->tokens, r, o,
                         (double)got[i], (double)want[i], (unsigned long long)first_seed);
        }
    }
}

static struct product random_product(const struct type_case *c, enum flavour flavour)
{
    static const int tokens[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 28, 33, 44, 70};
    static const int narrow[] = {32, 64, 96, 160, 544, 896, 1056};
    static const int wide[] = {256, 512, 768, 1280};
    static const int plain[] = {1, 3, 17, 64, 131, 896};
    struct product p = {.c = c, .flavour = flavour};
    p.rows = 1 + random_below(70);
    p.tokens = tokens[random_below(16)];
    p.cols = quant_block_elements(c->type) == 256  ? wide[random_below(4)]
             : quant_block_elements(c->type) == 32 ? narrow[random_below(7)]
                                                   : plain[random_below(6)];
    if (random_below(12) == 0)
        p.cols = 4864;
    if (random_below(25) == 0)
        p.tokens = MATMUL_TILE_ROWS + 5; /* more than a tile */
    p.y_stride = (size_t)(p.rows + random_below(3));
    return p;
}

/* matmul_avxvnni.c over AVX2's table, compiled with emulate_vnni.h. */
void matmul_emulated_fill(struct matmul_kernels *k);

/* Kernels of an instruction set that the machine has; after the last, of the emulated one. */
static const char *select_kernels(struct kernels *k, int i)
{
    if (i < ISAS)
        return kernels_select(k, kernels_isa_name(i), NULL) == 0 ? kernels_isa_name(i) : NULL;
#if defined(__x86_64__)
    if (kernels_select(k, "avx2", NULL) == 0) {
        matmul_emulated_fill(&k->matmul);
        return "emulated avxvnni";
    }
#endif
    return NULL;
}

static void check_isas(const struct type_case *c, enum flavour flavour)
{
    struct kernels scalar, k;
    assert_int_equal(kernels_select(&scalar, "scalar", NULL), 0);
    struct product p = random_product(c, flavour);
    product_fill(&p);
    omp_set_num_threads(1 + random_below(3));
    struct fence want = product_run(&p, &scalar, 0, p.tokens);
    for (int i = 0; i <= ISAS; i++) {
        const char *isa = select_kernels(&k, i);
        if (!isa)
            continue;
        struct fence got = product_run(&p, &k, 0, p.tokens);
        compare(&p, isa, got.data, want.data, p.tokens);
        fence_free(got);
        /* A part of the batch alone gives the same bits. */
        const int first = random_below(p.tokens);
        const int some = 1 + random_below(p.tokens - first);
        got = product_run(&p, &k, first, some);
        compare(&p, isa, got.data, (float *)want.data + (size_t)first * p.y_stride, some);
        fence_free(got);
    }
    fence_free(want);
    product_clear(&p);
}

static void test_isas_equal_scalar(void **state)
{
    for (int c = 0; c < CASES; c++)
        for (int flavour = 0; flavour < FLAVOURS; flavour++)
            for (int i = 0; i < repeats; i++)
                check_isas(&cases[c], (enum flavour)flavour);
}

/* Section 3 of docs/numerics.md once more, in double where it matters not. */
static void quantise_plainly(const float *x, int group, double *to)
{
    if (group == 1) { /* F32, F16, BF16 weights take x as it is */
        *to = (double)*x;
        return;
    }
    float amax = 0;
    for (int i = 0; i < group; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    const float d = amax / 127.0f, r = 127.0f / amax;
    for (int i = 0; i < group; i++)
        to[i] = (double)d * (double)rintf(x[i] * r);
}

/* |d · sc · (q − offset)| + |minimum| of one element: what rounding errors are relative to. */
static void magnitudes(int type, const uint8_t *row, int cols, const float *w, double *to)
{
    const struct quant_format *f = quant_format(type);
    for (int i = 0; i < cols; i++)
        to[i] = fabs((double)w[i]);
    if (!f)
        return;
    for (int i = 0; i < cols; i++) {
        struct quant_block b;
        quant_split(type, row + (size_t)(i / f->elements) * (size_t)quant_block_bytes(type), &b);
        const int at = i % f->elements;
        const int j = f->sub_elements ? at / f->sub_elements : 0;
        const double m = fabs((double)quant_f16_to_f32(b.minimum));
        const double minimum = !f->has_minimum ? 0 : f->sub_elements ? m * b.minima[j] : m;
        to[i] = fabs((double)w[i]) + 2 * minimum; /* |w| + |minimum| ≥ |w − minimum| */
    }
}

/* One output in double, and the sum of magnitudes behind it. */
static double dot_in_double(const struct product *p, int output, const double *x, double *ret_size)
{
    const enum tensor_type type = p->c->type;
    float *w = calloc((size_t)p->cols, sizeof *w);
    double *scale = calloc((size_t)p->cols, sizeof *scale);
    assert_true(w && scale);
    const uint8_t *row =
        (const uint8_t *)p->source.data + (size_t)output * quant_row_bytes(type, p->cols);
    quant_unpack_row(type, row, w, p->cols);
    magnitudes(type, row, p->cols, w, scale);
    double sum = 0;
    *ret_size = 0;
    for (int i = 0; i < p->cols; i++) {
        sum += (double)w[i] * x[i];
        *ret_size += scale[i] * fabs(x[i]);
    }
    free(scale);
    free(w);
    return sum;
}

/* Each output has at most two fma per block (or one per column), each off by 2^-24 of a sum that
 * stays below the sum of magnitudes; scales, converted sums and the dequantised weight itself add
 * six roundings more. */
static void check_against_double(struct product *p, const struct kernels *scalar)
{
    const int block = quant_block_elements(p->c->type);
    struct fence got = product_run(p, scalar, 0, p->tokens);
    double *x = calloc((size_t)p->cols, sizeof *x);
    assert_non_null(x);
    for (int r = 0; r < p->tokens; r++) {
        const float *from = (const float *)p->x.data + r * p->cols;
        for (int i = 0; i < p->cols; i += block)
            quantise_plainly(from + i, block, x + i);
        for (int o = 0; o < p->rows; o++) {
            double size;
            const double want = dot_in_double(p, o, x, &size);
            const double bound = (2.0 * p->cols / block + 6) * 0x1p-24 * size;
            const double value = (double)((const float *)got.data)[r * p->rows + o];
            if (!(fabs(value - want) <= bound))
                fail_msg("%s: %a, should be %a ± %a", quant_type_name(p->c->type), value, want,
                         bound);
        }
    }
    free(x);
    fence_free(got);
}

static void test_scalar_within_rounding_of_double(void **state)
{
    struct kernels k;
    assert_int_equal(kernels_select(&k, "scalar", NULL), 0);
    for (int c = 0; c < CASES; c++) {
        const int cols = quant_block_elements(cases[c].type) == 1 ? 300 : 768;
        struct product p = {.c = &cases[c], .rows = 37, .cols = cols, .tokens = 3, .y_stride = 37};
        product_fill(&p);
        check_against_double(&p, &k);
        product_clear(&p);
    }
}

static void test_packed_size_is_close_to_gguf(void **state)
{
    for (int c = 0; c < CASES; c++) {
        const double packed = (double)matrix_bytes(cases[c].type, 4096, 4096);
        const double gguf = 4096.0 * (double)quant_row_bytes(cases[c].type, 4096);
        /* MXFP4's scales of one byte become two. */
        const double limit = cases[c].type == TENSOR_MXFP4 ? 1.06 : 1.04;
        assert_true(packed >= gguf && packed <= limit * gguf);
    }
}

/* Several matrices at once, with types that differ, give what each gives alone; and so does the
 * pair that ends in a SwiGLU. */
static void test_parts_are_products(void **state)
{
    for (int i = 0; i < 30; i++) {
        struct kernels k;
        assert_int_equal(kernels_select(&k, NULL, NULL), 0);
        omp_set_num_threads(1 + random_below(3));
        struct product p[3];
        struct matmul_part parts[3];
        struct fence want[3], got[3];
        const int tokens = i % 3 == 0 ? 1 : 1 + random_below(20);
        for (int j = 0; j < 3; j++) {
            p[j] = (struct product){.c = &cases[random_below(CASES)], .tokens = tokens};
            p[j].cols = 512;
            p[j].rows = j < 2 ? 1 + random_below(300) : p[1].rows; /* the last two are a pair */
            p[j].y_stride = (size_t)p[j].rows + 1;
            product_fill(&p[j]);
            memcpy(p[j].x.data, p[0].x.data, (size_t)tokens * 512 * sizeof(float));
            want[j] = product_run(&p[j], &k, 0, tokens);
            got[j] = product_run(&p[j], &k, 0, tokens);
            memset(got[j].data, 0, sizeof(float) * (size_t)p[j].rows);
            parts[j] = (struct matmul_part){&p[j].matrix, got[j].data, p[j].y_stride};
        }
        activations_load(p[0].activations, p[0].x.data, tokens, 512);
        matmul_parts(&k, parts, 3, p[0].activations);
        for (int j = 0; j < 3; j++)
            compare(&p[j], "in parts", got[j].data, want[j].data, tokens);
        for (int r = 0; r < tokens; r++) {
            float *gate = (float *)want[1].data + (size_t)r * p[1].y_stride;
            const float *up = (const float *)want[2].data + (size_t)r * p[1].y_stride;
            k.vec.swiglu(gate, gate, up, (size_t)p[1].rows);
        }
        matmul_swiglu(&k, got[1].data, got[2].data, p[1].y_stride, &p[1].matrix, &p[2].matrix,
                      p[0].activations);
        compare(&p[1], "swiglu", got[1].data, want[1].data, tokens);
        for (int j = 0; j < 3; j++) {
            fence_free(want[j]);
            fence_free(got[j]);
            product_clear(&p[j]);
        }
    }
}

/* The fast form of each type against the one that goes through quant_split(). */
static void test_packing_fast_is_packing(void **state)
{
    for (int i = 0; i < 40 * CASES; i++) {
        const struct type_case *c = &cases[i % CASES];
        const int block = quant_block_elements(c->type);
        const int cols = block * (1 + random_below(block > 1 ? 5 : 70));
        const size_t source_bytes = quant_row_bytes(c->type, cols) * MATMUL_GROUP;
        const size_t bytes = matmul_group_bytes(c->type, cols);
        struct fence source = fence_new(source_bytes), want = fence_new(bytes),
                     got = fence_new(bytes);
        for (size_t at = 0; at < source_bytes; at++)
            ((uint8_t *)source.data)[at] = (uint8_t)random_bits();
        memset(got.data, 0xa5, bytes);
        matmul_pack_group(c->type, MATMUL_GROUP, cols, source.data, want.data);
        const bool fast = c->type != TENSOR_IQ4_XS && c->type != TENSOR_MXFP4 &&
                          !codebook_has(c->type); /* copied as they are */
        assert_int_equal(matmul_pack_16(c->type, cols, source.data, got.data), fast);
        if (fast)
            assert_memory_equal(got.data, want.data, bytes);
        fence_free(got);
        fence_free(want);
        fence_free(source);
    }
}

static void test_select(void **state)
{
    struct kernels k;
    struct err err = {0};
    char text[4096];
    assert_int_equal(kernels_select(&k, NULL, &err), 0);
    assert_int_equal(kernels_select(&k, "", &err), 0);
    kernels_describe(&k, text, sizeof text);
    for (int c = 0; c < CASES; c++) {
        char line[64];
        snprintf(line, sizeof line, "matmul.%s=%s ", quant_type_name(cases[c].type),
                 k.matmul.product_isa[cases[c].type]);
        assert_non_null(strstr(text, line));
    }
    char small[8];
    kernels_describe(&k, small, sizeof small);
    assert_string_equal(small, "matmul.");
    assert_int_equal(kernels_select(&k, "mmx", &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "\"mmx\""));
    assert_non_null(strstr(err.text, "scalar"));
}

/* Time that one thread was given, or what the clock shows when there are more. */
static double bench_seconds(int threads)
{
    struct timespec now;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seconds of one product: the best of several, since others use the machine too. */
static double time_product(const struct kernels *k, const struct matrix *m, struct activations *a,
                           const float *x, int tokens, float *y)
{
    double best = 1e9, all = 0;
    for (int i = 0; i < 50 && (i < 5 || all < 0.3); i++) {
        if (i == 0) /* the codes of rows that many matrices share: made before the best round */
            activations_load(a, x, tokens, m->cols);
        const double start = bench_seconds(omp_get_max_threads());
        matmul(k, y, (size_t)m->rows, m, a);
        const double seconds = bench_seconds(omp_get_max_threads()) - start;
        best = seconds < best ? seconds : best;
        all += seconds;
    }
    return best;
}

/* Zeros in large pages where the system has them, as the memory of a stage is; NULL: none. */
static void *bench_memory(size_t bytes)
{
    const size_t page = 2 << 20, size = (bytes + page - 1) / page * page;
    void *memory = aligned_alloc(page, size);
    if (!memory)
        return NULL;
    madvise(memory, size, MADV_HUGEPAGE);
    return memset(memory, 0, size);
}

/* A matrix of `bytes` bytes, one packed group repeated. */
static void bench_matrix(const struct type_case *c, int cols, size_t bytes, struct matrix *m)
{
    const size_t group = matmul_group_bytes(c->type, cols);
    const int groups = (int)(bytes / group);
    const size_t row_bytes = quant_row_bytes(c->type, cols);
    uint8_t *source = malloc(row_bytes * MATMUL_GROUP);
    char *memory = bench_memory(group * (size_t)groups);
    assert_true(source && memory);
    random_weights(c, ORDINARY, source,
                   row_bytes * MATMUL_GROUP / (size_t)quant_block_bytes(c->type));
    matrix_pack(m, memory, c->type, MATMUL_GROUP, cols, source);
    for (int g = 1; g < groups; g++)
        memcpy(memory + (size_t)g * group, memory, group);
    m->rows = groups * MATMUL_GROUP;
    free(source);
}

/* A figure and its share of the limit. */
static void bench_print(double rate, double limit)
{
    char share[16];
    printf(" %14.1f%-7s", rate * 1e-9, machine_limits_share(share, rate, limit));
}

static void bench(int threads, const char *only)
{
    enum { TOKENS = 512 };
    struct machine_limits limits[ISAS];
    omp_set_num_threads(threads);
    const double read_bytes = machine_limits_read(threads);
    printf("%d thread(s), memory read %.1f GB/s;", threads, read_bytes * 1e-9);
    for (int i = 1; i < ISAS; i++) {
        if (!kernels_isa_is_offered(i))
            continue;
        limits[i] = (struct machine_limits){read_bytes, machine_limits_int8((enum isa)i, threads),
                                            machine_limits_f32((enum isa)i, threads)};
        printf(" %s: int8 %.0f GOPS, f32 %.0f GFLOPS;", kernels_isa_name(i),
               limits[i].int8_ops * 1e-9, limits[i].f32_ops * 1e-9);
    }
    printf(" shares of it\nGB/s of weights for one row, then 10^9 operations/s\n");
    printf("%-6s %-8s %6s %14s %21s %21s %21s %21s\n", "type", "isa", "cols", "1 row", "2 rows",
           "4", "16", "512");
    for (int c = 0; c < CASES; c++) {
        if (only && strcmp(only, quant_type_name(cases[c].type)) != 0)
            continue;
        const int cols = quant_block_elements(cases[c].type) == 256 ? 4864 : 896;
        struct matrix large, small;
        bench_matrix(&cases[c], cols, 96 << 20, &large);
        bench_matrix(&cases[c], cols, 512 << 10, &small);
        struct activations *a = activations_new(TOKENS, cols);
        float *x = calloc((size_t)TOKENS * (size_t)cols, sizeof *x);
        float *y =
            bench_memory(((size_t)large.rows + (size_t)TOKENS * (size_t)small.rows) * sizeof *y);
        assert_true(a && x && y);
        for (int i = 0; i < TOKENS * cols; i++)
            x[i] = random_float();
        for (int i = 1; i < ISAS; i++) {
            struct kernels k;
            if (kernels_select(&k, kernels_isa_name(i), NULL) != 0)
                continue;
            const double one = time_product(&k, &large, a, x, 1, y);
            const bool is_plain = quant_block_elements(cases[c].type) == 1;
            printf("%-6s %-8s %6d", quant_type_name(cases[c].type),
                   k.matmul.product_isa[cases[c].type], cols);
            bench_print((double)matrix_bytes(large.type, large.rows, cols) / one, read_bytes);
            static const int tokens[] = {2, 4, 16, TOKENS};
            for (int j = 0; j < 4; j++)
                bench_print(2.0 * small.rows * cols * tokens[j] /
                                time_product(&k, &small, a, x, tokens[j], y),
                            is_plain ? limits[i].f32_ops : limits[i].int8_ops);
            printf("\n");
        }
        free(y);
        free(x);
        activations_free(a);
        free((void *)(uintptr_t)large.data);
        free((void *)(uintptr_t)small.data);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench(argc > 2 ? atoi(argv[2]) : 1, argc > 3 ? argv[3] : NULL);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "--seed") == 0)
        first_seed = seed = strtoull(argv[2], NULL, 10) | 1;
    if (argc > 2 && strcmp(argv[1], "--repeats") == 0)
        repeats = atoi(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_packed_size_is_close_to_gguf),
        cmocka_unit_test(test_packing_fast_is_packing),
        cmocka_unit_test(test_parts_are_products),
        cmocka_unit_test(test_scalar_within_rounding_of_double),
        cmocka_unit_test(test_isas_equal_scalar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
