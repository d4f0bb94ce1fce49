/* check_attention.c - attention: one row at a time, chunks, batches, threads and instruction sets
 * give equal bits; the reference against double precision. --bench times it; --every N takes one
 * shape of N, for emulated processors. */
#include "check_arrays.h"

#include "base/clock.h"
#include "kernels/attention.h"
#include "kernels/quant.h"
#include "machine_limits.h"

#include <omp.h>
#include <sys/mman.h>

static struct kernels all[ISAS];
static int n_all;
static int every = 1;

static const struct {
    int heads, kv_heads, head_dim;
} shapes[] = {{7, 1, 64}, {8, 1, 24}, {3, 3, 48}, {4, 2, 16}, {4, 2, 128}, {3, 1, 256},
              {52, 1, 8}, {5, 1, 40}, {6, 2, 72}, {4, 2, 4},  {2, 1, 18},  {12, 3, 32}};

enum { SHAPES = sizeof shapes / sizeof *shapes, SEQUENCES = 3, MAX_BLOCKS = 8 };

/* Some sequences: every token's q, k, v, and where their blocks are. */
struct setup {
    struct attention_shape shape;
    int lengths[SEQUENCES];
    uint32_t blocks[SEQUENCES][MAX_BLOCKS];
    float *q[SEQUENCES], *k[SEQUENCES], *v[SEQUENCES]; /* [length, heads or kv_heads × dim] */
    size_t q_floats, kv_floats;                        /* of a row */
    size_t kv_bytes, block_stride;
    void *kv, *scratch;
};

static float *random_rows(int rows, size_t floats, enum flavour flavour)
{
    float *x = malloc((size_t)rows * floats * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < (size_t)rows * floats; i++)
        x[i] = random_value(flavour);
    return x;
}

static void setup_init(struct setup *s, int shape, enum kv_type type, enum flavour flavour)
{
    int dim = shapes[shape].head_dim;
    s->shape = (struct attention_shape){shapes[shape].heads, shapes[shape].kv_heads, dim, type,
                                        (float)(1.0 / sqrt(dim))};
    s->q_floats = (size_t)(s->shape.heads * dim);
    s->kv_floats = (size_t)(s->shape.kv_heads * dim);
    uint32_t next = 0;
    for (int i = 0; i < SEQUENCES; i++) {
        s->lengths[i] = (int[]){1 + (int)random_below(64), 60 + (int)random_below(20),
                                257 + (int)random_below(70)}[i];
        s->q[i] = random_rows(s->lengths[i], s->q_floats, flavour);
        s->k[i] = random_rows(s->lengths[i], s->kv_floats, flavour);
        s->v[i] = random_rows(s->lengths[i], s->kv_floats, flavour);
        for (int b = 0; b < MAX_BLOCKS; b++)
            s->blocks[i][b] = next++ * 5 % (SEQUENCES * MAX_BLOCKS); /* any order */
    }
    s->block_stride = kv_block_bytes(&s->shape) + 128;
    s->kv_bytes = s->block_stride * SEQUENCES * MAX_BLOCKS - 128;
    s->kv = fenced(s->kv_bytes);
    s->scratch = fenced(attention_scratch_bytes(
        &s->shape, s->lengths[0] + s->lengths[1] + s->lengths[2], MAX_BLOCKS * 64, 3));
}

static void setup_clear(struct setup *s)
{
    for (int i = 0; i < SEQUENCES; i++) {
        free(s->q[i]);
        free(s->k[i]);
        free(s->v[i]);
    }
    fences_free();
}

/* A batch: for some sequences, `count` tokens from `from` on. Writes and attends as a stage does;
 * out[sequence] is [length, heads × dim]. */
static void run_batch(struct setup *s, const struct kernels *k, const int from[], const int count[],
                      float *out[])
{
    struct attention_row rows[1024];
    int n = 0, owner[1024];
    for (int i = 0; i < SEQUENCES; i++)
        for (int r = 0; r < count[i]; r++, n++) {
            rows[n] = (struct attention_row){s->blocks[i], from[i] + r};
            owner[n] = i;
        }
    size_t stride = s->q_floats + 3;
    float *q = malloc((size_t)(n + 1) * stride * sizeof *q);
    float *o = malloc((size_t)(n + 1) * stride * sizeof *o);
    float *kv[2] = {malloc((size_t)(n + 1) * s->kv_floats * 4),
                    malloc((size_t)(n + 1) * s->kv_floats * 4)};
    assert_true(q && o && kv[0] && kv[1]);
    for (int r = 0; r < n; r++) {
        size_t at = (size_t)rows[r].position;
        memcpy(q + (size_t)r * stride, s->q[owner[r]] + at * s->q_floats, s->q_floats * 4);
        memcpy(kv[0] + (size_t)r * s->kv_floats, s->k[owner[r]] + at * s->kv_floats,
               s->kv_floats * 4);
        memcpy(kv[1] + (size_t)r * s->kv_floats, s->v[owner[r]] + at * s->kv_floats,
               s->kv_floats * 4);
    }
    kv_write(k, &s->shape, s->kv, s->block_stride, rows, n, kv[0], s->kv_floats, kv[1],
             s->kv_floats);
    attention(k, &s->shape, o, stride, q, stride, s->kv, s->block_stride, rows, n, s->scratch);
    for (int r = 0; r < n; r++)
        memcpy(out[owner[r]] + (size_t)rows[r].position * s->q_floats, o + (size_t)r * stride,
               s->q_floats * 4);
    free(q);
    free(o);
    free(kv[0]);
    free(kv[1]);
}

/* How the tokens of the sequences are cut into batches. */
struct way {
    const char *name;
    int most;      /* tokens of a sequence in a batch, but the first ... */
    int tail;      /* ... which leaves so many; 0: there is no such first batch */
    bool together; /* sequences share batches */
};

static int way_count(const struct way *way, int length, int from)
{
    if (from == 0 && way->tail > 0 && length > way->tail)
        return length - way->tail;
    int count = way->most < 1000 ? 1 + (int)random_below((size_t)way->most) : way->most;
    return count < length - from ? count : length - from;
}

/* All tokens of all sequences. The cache starts as NaN everywhere, as a block that was another's
 * may. */
static void run_all(struct setup *s, const struct kernels *k, const struct way *way, float *out[])
{
    int from[SEQUENCES] = {0};
    memset(s->kv, 0xff, s->kv_bytes);
    for (bool busy = true; busy;) {
        busy = false;
        int count[SEQUENCES] = {0};
        for (int i = 0; i < SEQUENCES; i++) {
            if (from[i] == s->lengths[i] || (busy && !way->together))
                continue;
            count[i] = way_count(way, s->lengths[i], from[i]);
            busy = true;
        }
        if (busy)
            run_batch(s, k, from, count, out);
        for (int i = 0; i < SEQUENCES; i++)
            from[i] += count[i];
    }
}

static void outputs_new(const struct setup *s, float *out[SEQUENCES])
{
    for (int i = 0; i < SEQUENCES; i++) {
        out[i] = calloc((size_t)s->lengths[i] * s->q_floats, sizeof(float));
        assert_non_null(out[i]);
    }
}

static void outputs_free(float *out[SEQUENCES])
{
    for (int i = 0; i < SEQUENCES; i++)
        free(out[i]);
}

static void check_shape(int shape, enum kv_type type, enum flavour flavour)
{
    struct setup s;
    float *want[SEQUENCES], *got[SEQUENCES];
    setup_init(&s, shape, type, flavour);
    outputs_new(&s, want);
    outputs_new(&s, got);
    static const struct way ways[] = {{"one row", 1, 0, false},
                                      {"one row of each sequence", 1, 6, true},
                                      {"one row behind a chunk", 1, 6, false},
                                      {"chunks of all sequences", 80, 0, true},
                                      {"one sequence at once", 1000, 0, false},
                                      {"all at once", 1000, 0, true}};
    omp_set_num_threads(1);
    run_all(&s, &all[0], &ways[0], want);
    for (int i = 0; i < n_all; i++)
        for (int threads = 1; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            for (size_t w = threads > 1 || i == 0; w < sizeof ways / sizeof *ways; w++) {
                if (i == 0 && (threads < 3 || w + 1 < sizeof ways / sizeof *ways))
                    continue; /* the scalar code takes its time */
                for (int j = 0; j < SEQUENCES; j++)
                    memset(got[j], 0, (size_t)s.lengths[j] * s.q_floats * sizeof(float));
                run_all(&s, &all[i], &ways[w], got);
                for (int j = 0; j < SEQUENCES; j++)
                    assert_same(ways[w].name, &all[i], got[j], want[j],
                                (size_t)s.lengths[j] * s.q_floats);
            }
        }
    outputs_free(want);
    outputs_free(got);
    setup_clear(&s);
}

static void test_same_bits(void **state)
{
    for (int i = 0; i < SHAPES; i += every) {
        check_shape(i, i % 3 ? KV_F16 : KV_F32, ORDINARY);
        if (shapes[i].head_dim % KV_Q8_0_GROUP == 0)
            check_shape(i, KV_Q8_0, ORDINARY);
    }
}

static void test_same_bits_of_extremes(void **state)
{
    for (int i = 0; i < SHAPES; i += 3 * every) {
        check_shape(i, KV_F16, WIDE);
        check_shape(i + 1, KV_F32, ANY_BITS);
    }
    check_shape(0, KV_Q8_0, WIDE);
    check_shape(11, KV_Q8_0, ANY_BITS);
}

/* What the cache makes of a head: the formulas of docs/numerics.md, section 6. */
static void stored(const struct setup *s, const float *x, double *ret_y)
{
    const int dim = s->shape.head_dim;
    for (int first = 0; s->shape.kv_type == KV_Q8_0 && first < dim; first += 32) {
        float largest = 0.0f;
        for (int i = first; i < first + 32; i++)
            largest = fmaxf(largest, fabsf(x[i]));
        float d = quant_f16_to_f32(quant_f32_to_f16(largest / 127.0f));
        for (int i = first; i < first + 32; i++) {
            float code = d > 0.0f ? rintf(x[i] * (1.0f / d)) : 0.0f;
            ret_y[i] = (double)d * fmax(-127.0, fmin(127.0, (double)code));
        }
    }
    for (int i = 0; s->shape.kv_type != KV_Q8_0 && i < dim; i++)
        ret_y[i] =
            (double)(s->shape.kv_type == KV_F16 ? quant_f16_to_f32(quant_f32_to_f16(x[i])) : x[i]);
}

/* One head of one row in double precision; *ret_bound: how far float32 may be. */
static void exact_head(const struct setup *s, int sequence, int position, int head, double *ret_o,
                       double *ret_bound)
{
    static double score[MAX_BLOCKS * 64];
    const double u = 0x1p-24;
    double of_cache[256];
    int dim = s->shape.head_dim, kv_head = head / (s->shape.heads / s->shape.kv_heads);
    const float *q = s->q[sequence] + (size_t)position * s->q_floats + (size_t)(head * dim);
    double most = -INFINITY, least = INFINITY, error = 0.0, sum = 0.0, largest = 0.0;
    for (int p = 0; p <= position; p++) {
        const float *key = s->k[sequence] + (size_t)p * s->kv_floats + (size_t)(kv_head * dim);
        double terms = 0.0;
        score[p] = 0.0;
        stored(s, key, of_cache);
        for (int d = 0; d < dim; d++) {
            score[p] += (double)q[d] * of_cache[d];
            terms += fabs((double)q[d] * of_cache[d]);
        }
        score[p] *= (double)s->shape.scale;
        /* dim roundings of the chain, one of the scale */
        error = fmax(error, (dim + 1) * u * terms * (double)s->shape.scale);
        most = fmax(most, score[p]);
        least = fmin(least, score[p]);
    }
    for (int d = 0; d < dim; d++)
        ret_o[d] = 0.0;
    for (int p = 0; p <= position; p++) {
        const float *value = s->v[sequence] + (size_t)p * s->kv_floats + (size_t)(kv_head * dim);
        double w = exp(score[p] - most);
        sum += w;
        stored(s, value, of_cache);
        for (int d = 0; d < dim; d++) {
            ret_o[d] += w * of_cache[d];
            largest = fmax(largest, fabs(of_cache[d]));
        }
    }
    for (int d = 0; d < dim; d++)
        ret_o[d] /= sum;
    /* A weight is off by the errors of its score and of the maximum, by the rounding of their
     * difference (in the block, and again when blocks merge: each within the scores' spread), and
     * by two exp of 2 ulp (4 u) each. Sums in a block and over blocks, of weights and of products,
     * round at most 64 + 4 times each block that they pass. */
    int blocks = position / 64 + 1;
    double weight = 2 * error + 2 * u * (most - least + 1) + 8 * u + 4 * blocks * u;
    *ret_bound = (2 * weight + 2 * (64 + 4 * blocks + 2) * u) * largest;
}

static void test_within_rounding_of_double(void **state)
{
    omp_set_num_threads(2);
    for (int n = 0; n < SHAPES * KV_TYPES; n++) {
        struct setup s;
        float *out[SEQUENCES];
        const int shape = n / KV_TYPES, type = n % KV_TYPES;
        if (shape % every != 0)
            continue;
        if (type == KV_Q8_0 ? shapes[shape].head_dim % KV_Q8_0_GROUP != 0 : shape % 2 != type)
            continue;
        setup_init(&s, shape, (enum kv_type)type, ORDINARY);
        outputs_new(&s, out);
        run_all(&s, &all[n_all - 1], &(struct way){"all at once", 1000, 0, true}, out);
        for (int i = 0; i < SEQUENCES; i++)
            for (int position = 0; position < s.lengths[i]; position += 1 + position / 8)
                for (int h = 0; h < s.shape.heads; h++) {
                    double want[256], bound;
                    exact_head(&s, i, position, h, want, &bound);
                    const float *got =
                        out[i] + (size_t)position * s.q_floats + (size_t)(h * s.shape.head_dim);
                    for (int d = 0; d < s.shape.head_dim; d++)
                        if (!(fabs((double)got[d] - want[d]) <= bound))
                            fail_msg("head_dim %d, position %d: %g, not %g within %g",
                                     s.shape.head_dim, position, (double)got[d], want[d], bound);
                }
        outputs_free(out);
        setup_clear(&s);
    }
}

/* Shapes that are timed: Qwen2.5 of 0.5B, 1.5B and 7B, Qwen3 of 8B. */
static const struct {
    const char *name;
    int heads, kv_heads, head_dim;
} timed[] = {
    {"0.5B", 14, 2, 64}, {"1.5B", 12, 2, 128}, {"7B", 28, 4, 128}, {"Qwen3 8B", 32, 8, 128}};

static const char *const kv_names[KV_TYPES] = {"f16", "f32", "q8_0"};

enum { BENCH_ROWS = 128, BENCH_CACHE = 64 << 20 };

/* Time of one row and of a chunk of 128 rows behind `position` tokens. As many layers take turns
 * as keep their keys and values out of the caches. */
static void bench_shape(size_t at, enum kv_type type, int position, int isa,
                        const struct machine_limits *limits)
{
    struct attention_shape shape = {timed[at].heads, timed[at].kv_heads, timed[at].head_dim, type,
                                    (float)(1.0 / sqrt(timed[at].head_dim))};
    int blocks = (position + BENCH_ROWS) / 64 + 1, layers;
    size_t stride = kv_block_bytes(&shape), of_layer = (size_t)blocks * stride;
    size_t width = (size_t)(shape.heads * shape.head_dim);
    layers = 1 + (int)(BENCH_CACHE / of_layer);
    /* Large pages, as a stage's memory has. */
    size_t bytes = ((size_t)layers * of_layer + (2 << 20) - 1) >> 21 << 21;
    char *kv = aligned_alloc(2 << 20, bytes);
    uint32_t *table = calloc((size_t)blocks, sizeof *table);
    float *q = random_rows(BENCH_ROWS, width, ORDINARY), *out = calloc(BENCH_ROWS * width, 4);
    void *scratch =
        calloc(1, attention_scratch_bytes(&shape, BENCH_ROWS, blocks * 64, omp_get_max_threads()));
    assert_true(kv && table && out && scratch);
    madvise(kv, bytes, MADV_HUGEPAGE);
    memset(kv, 0x11, bytes); /* small numbers of every type */
    struct attention_row rows[BENCH_ROWS];
    for (int i = 0; i < blocks; i++)
        table[i] = (uint32_t)i;
    for (int i = 0; i < BENCH_ROWS; i++)
        rows[i] = (struct attention_row){table, position + i};
    for (int n = 1; n <= BENCH_ROWS; n += BENCH_ROWS - 1) {
        double best = 1e9;
        for (int j = 0; j < (n > 1 ? 8 : 8 * layers); j++) {
            int64_t start = clock_now_us();
            attention(&all[isa], &shape, out, width, q, width, kv + (size_t)(j % layers) * of_layer,
                      stride, rows, n, scratch);
            best = fmin(best, (double)(clock_now_us() - start));
        }
        double flops = 4.0 * n * (position + (n + 1) / 2.0) * (double)width / best * 1e6;
        double bytes_read = (double)(position / 64 * (int64_t)stride) / best * 1e6;
        char of_flops[16], of_read[16];
        printf("%-8s %-8s %-4s %3d rows behind %5d: %8.0f us, %6.2f Gflop/s%s, %5.2f GB/s%s\n",
               all[isa].isa_name, timed[at].name, kv_names[type], n, position, best, flops * 1e-9,
               machine_limits_share(of_flops, flops, limits->f32_ops), bytes_read * 1e-9,
               machine_limits_share(of_read, bytes_read, limits->read_bytes));
    }
    free(kv);
    free(q);
    free(out);
    free(table);
    free(scratch);
}

static int bench(int position)
{
    const int threads = omp_get_max_threads();
    for (int i = n_all > 1; i < n_all; i++) { /* not the reference, which takes seconds */
        const struct machine_limits limits = machine_limits_measure(all[i].isa, threads);
        printf("%d thread(s), %s: memory read %.1f GB/s, f32 %.0f GFLOPS; shares of it\n", threads,
               all[i].isa_name, limits.read_bytes * 1e-9, limits.f32_ops * 1e-9);
        for (size_t at = 0; at < sizeof timed / sizeof *timed; at++)
            for (int type = KV_F16; type < KV_TYPES; type++)
                bench_shape(at, (enum kv_type)type, position, i, &limits);
    }
    return 0;
}

int main(int argc, char **argv)
{
    n_all = all_kernels(all);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench(argc > 2 ? atoi(argv[2]) : 4096);
    if (argc > 2 && strcmp(argv[1], "--every") == 0)
        every = atoi(argv[2]) > 0 ? atoi(argv[2]) : 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_of_extremes),
        cmocka_unit_test(test_within_rounding_of_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
