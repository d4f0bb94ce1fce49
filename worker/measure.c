#include "worker/measure.h"

#include "base/clock.h"
#include "kernels/matmul.h"
#include "worker/layer.h"
#include "worker/region.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const int measure_rows[MEASURE_POINTS] = {1, 4, 16, 64, 512};

#define BLOB_LEAST     ((size_t)128 << 20) /* of weights: more than the cache holds ... */
#define BLOB_MOST      ((size_t)512 << 20)
#define BLOB_OF_CACHE  4 /* ... so many times */
#define MOST_COPIES    96
#define MOST_ELEMENTS  48e6 /* of a layer; a larger one is measured as a slice of itself */
#define HEAD_ELEMENTS  16e6
#define MOST_ROWS      512
#define MOST_POSITIONS 2048
#define BLOCKS         (MOST_POSITIONS / KV_BLOCK_TOKENS)
#define FAR            1408 /* where attention's share is seen */
#define BUDGET_S       2.2
#define SAMPLES        24
#define LEAST_SAMPLES  5
#define ENOUGH_S       0.03 /* for one point */
#define FILL           0x2c /* of weights: halves of 0.065 as scales */
#define HEAD_ROWS      16   /* worker/head.c: rows of logits at once */

struct measure {
    const struct measure_spec *spec;
    struct model_config config; /* perhaps a slice of the model's */
    double slice;               /* elements of the whole layer over those of the slice */
    struct region region;
    unsigned char *blob;
    size_t blob_bytes;
    float *ones, *zeros;
    struct workspace work;
    struct kv_store kv;
    struct activations *activations;
    uint32_t table[BLOCKS];
    struct layer_weights layers[MOST_COPIES];
    int n_layers, next;
    float *logits; /* [16, head_rows] */
    int head_rows;
    int64_t begin_us;
    double sample_s; /* when it began, of the thread's time */
    int64_t opened_us;
    double opened_s;
};

/* Memory is claimed for a moment only, but it is claimed on somebody's desk. */
static size_t measure_blob_bytes(void)
{
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t bytes = cache > 0 ? BLOB_OF_CACHE * (size_t)cache : BLOB_LEAST;
    bytes = bytes < BLOB_LEAST ? BLOB_LEAST : bytes;
    return bytes < BLOB_MOST ? bytes >> 20 << 20 : BLOB_MOST;
}

static double measure_elements(const struct model_config *c)
{
    double q = (double)c->n_heads * c->head_dim, kv = (double)c->n_kv_heads * c->head_dim;
    return c->hidden_size * (2 * q + 2 * kv + 3.0 * c->intermediate_size);
}

/* The fewest heads, from `least` on, whose columns are whole blocks of the type that reads them. */
static int measure_slice_kv_heads(const struct measure_spec *spec, int least)
{
    const struct model_config *c = &spec->config;
    int group = c->n_heads / c->n_kv_heads, n = least > 1 ? least : 1;
    for (; n < c->n_kv_heads; n++) {
        bool fits = true;
        for (int kind = 0; kind < spec->n_kinds; kind++)
            fits =
                fits && n * group * c->head_dim % quant_block_elements(spec->types[kind][3]) == 0;
        if (fits)
            break;
    }
    return n;
}

/* A layer with a part of the heads and of the feed-forward: the same work for each element. */
static void measure_cut_slice(struct measure *m)
{
    const struct model_config *whole = &m->spec->config;
    int parts = (int)ceil(measure_elements(whole) / MOST_ELEMENTS), group;
    m->config = *whole;
    if (parts > 1) {
        group = whole->n_heads / whole->n_kv_heads;
        m->config.n_kv_heads = measure_slice_kv_heads(m->spec, whole->n_kv_heads / parts);
        m->config.n_heads = m->config.n_kv_heads * group;
        int inner = whole->intermediate_size / parts / 256 * 256;
        m->config.intermediate_size = inner > 256 ? inner : 256;
    }
    m->slice = measure_elements(whole) / measure_elements(&m->config);
    m->head_rows = (int)fmin(whole->vocabulary_size, HEAD_ELEMENTS / whole->hidden_size);
    m->head_rows = m->head_rows / 16 * 16 > 0 ? m->head_rows / 16 * 16 : whole->vocabulary_size;
}

static void measure_place(struct measure *m)
{
    const struct model_config *c = &m->config;
    const struct batch_limits limits = {.max_rows = MOST_ROWS,
                                        .max_sequences = 1,
                                        .max_outputs = 1,
                                        .max_context = MOST_POSITIONS,
                                        .kv_blocks = BLOCKS};
    size_t widest = (size_t)workspace_max_columns(c);
    kv_store_init(&m->kv, c, m->spec->kv_type, 1, &limits);
    m->blob = region_take(&m->region, m->blob_bytes, 1);
    m->ones = region_take(&m->region, widest, sizeof(float));
    m->zeros = region_take(&m->region, widest, sizeof(float));
    m->logits = region_take(&m->region, (size_t)m->head_rows * HEAD_ROWS, sizeof(float));
    kv_store_place(&m->kv, &limits, &m->region);
    int threads = omp_get_max_threads(), processors = omp_get_num_procs();
    workspace_place(&m->work, c, &m->kv.shape, &limits, threads > processors ? threads : processors,
                    &m->region);
}

static int measure_open(struct measure *m, struct err *err)
{
    m->blob_bytes = measure_blob_bytes();
    measure_cut_slice(m);
    m->opened_us = clock_now_us();
    m->opened_s = clock_thread_s();
    measure_place(m);
    if (m->region.overflow)
        return err_set(err, ERR_INPUT, "shapes to measure are beyond reason");
    int64_t bytes = (int64_t)(m->region.used +
                              activations_memory(MOST_ROWS, workspace_max_columns(&m->config)));
    if (m->spec->memory_bytes > 0 && bytes > m->spec->memory_bytes)
        return err_set(err, ERR_MEMORY, "measuring takes %lld MiB, and %lld MiB are offered",
                       (long long)bytes >> 20, (long long)m->spec->memory_bytes >> 20);
    int rc = region_claim(&m->region, err);
    if (rc != 0)
        return rc;
    measure_place(m);
    m->activations = activations_new(MOST_ROWS, workspace_max_columns(&m->config));
    if (!m->activations)
        return err_set(err, ERR_MEMORY, "no memory to measure with");
    workspace_prepare(&m->work, m->spec->kernels, &m->config, m->activations);
#pragma omp parallel for
    for (size_t i = 0; i < m->blob_bytes >> 20; i++)
        memset(m->blob + (i << 20), FILL, 1 << 20);
    region_populate(&m->region, m->blob_bytes); /* or the first sample would fault the pages in */
    for (int i = 0; i < workspace_max_columns(&m->config); i++)
        m->ones[i] = 1;
    for (uint32_t i = 0; i < BLOCKS; i++)
        m->table[i] = i;
    size_t n = (size_t)MOST_ROWS * (size_t)m->config.hidden_size;
    for (size_t i = 0; i < n; i++)
        m->work.x[i] = (float)((i * 37) % 64) / 64 - 0.5f;
    return 0;
}

static void measure_close(struct measure *m)
{
    activations_free(m->activations);
    region_release(&m->region);
}

/* ---- layers ---- */

static const unsigned char *measure_bind(struct matrix *to, int type, int rows, int cols,
                                         const unsigned char *at)
{
    *to = (struct matrix){(enum tensor_type)type, rows, cols, at};
    return at + (matrix_bytes((enum tensor_type)type, rows, cols) + 63) / 64 * 64;
}

/* As many layers of the kind as the blob holds. */
static void measure_bind_layers(struct measure *m, int kind)
{
    const struct model_config *c = &m->config;
    const unsigned char *types = m->spec->types[kind], *at = m->blob;
    int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    int hidden = c->hidden_size, inner = c->intermediate_size;
    m->n_layers = m->next = 0;
    while (m->n_layers < MOST_COPIES) {
        struct layer_weights w = {.attention_norm = m->ones, .ffn_norm = m->ones};
        if (c->qkv_bias)
            w.q_bias = w.k_bias = w.v_bias = m->zeros;
        if (c->qk_norm)
            w.q_norm = w.k_norm = m->ones;
        at = measure_bind(&w.q, types[0], q, hidden, at);
        at = measure_bind(&w.k, types[1], kv, hidden, at);
        at = measure_bind(&w.v, types[2], kv, hidden, at);
        at = measure_bind(&w.attention_output, types[3], hidden, q, at);
        at = measure_bind(&w.gate, types[4], inner, hidden, at);
        at = measure_bind(&w.up, types[5], inner, hidden, at);
        at = measure_bind(&w.down, types[6], hidden, inner, at);
        if (at > m->blob + m->blob_bytes)
            break;
        m->layers[m->n_layers++] = w;
    }
}

/* A sample is timed in the processor's time: a short one falls between two pauses of a processor
 * that this process has a share of only, a long one holds several. measure_held_up() has the
 * pauses. */
static void measure_begin(struct measure *m)
{
    m->sample_s = clock_thread_s();
}

static double measure_end(const struct measure *m)
{
    return clock_thread_s() - m->sample_s;
}

/* rows of decode, each of a sequence of its own, or of one prompt; from this position on. */
static double measure_layer_once(struct measure *m, int rows, bool is_prompt, int position)
{
    m->work.n_rows = rows;
    for (int i = 0; i < rows; i++)
        m->work.rows[i] = (struct attention_row){m->table + (is_prompt || position ? 0 : i),
                                                 is_prompt ? position + i : position};
    measure_begin(m);
    layer_forward(&m->work, &m->layers[m->next++ % m->n_layers], &m->kv, 0);
    return measure_end(m);
}

static double measure_head_once(struct measure *m, int rows)
{
    const struct model_config *c = &m->config;
    struct matrix w;
    size_t bytes =
        (size_t)(measure_bind(&w, m->spec->head_type, m->head_rows, c->hidden_size, m->blob) -
                 m->blob);
    w.data = m->blob + bytes * ((size_t)m->next++ % (m->blob_bytes / bytes));
    measure_begin(m);
    activations_load(m->activations, m->work.x, rows, c->hidden_size);
    matmul(m->spec->kernels, m->logits, (size_t)m->head_rows, &w, m->activations);
    return measure_end(m);
}

static double measure_left_s(const struct measure *m)
{
    return BUDGET_S - (double)(clock_now_us() - m->begin_us) / 1e6;
}

static bool measure_is_cancelled(const struct measure *m)
{
    return m->spec->cancelled && atomic_load(m->spec->cancelled);
}

static int measure_compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* kind MEASURE_HEAD: the head. A third of what was seen is faster: the least would be that of
 * weights which a cache still held. */
static double measure_point(struct measure *m, int kind, int rows, bool is_prompt, int position)
{
    double samples[SAMPLES], sum = 0;
    int n;
    for (n = 0; n < SAMPLES && (n < LEAST_SAMPLES || sum < ENOUGH_S); n++) {
        double once = kind == MEASURE_HEAD ? measure_head_once(m, rows)
                                           : measure_layer_once(m, rows, is_prompt, position);
        samples[n] = once;
        sum += once;
        if (measure_left_s(m) < 0 || measure_is_cancelled(m)) {
            n++;
            break;
        }
    }
    qsort(samples, (size_t)n, sizeof *samples, measure_compare);
    return samples[n / 3];
}

/* More rows never cost less, nor more than in proportion: what says otherwise was disturbed. */
static void measure_smooth(double *seconds)
{
    for (int i = MEASURE_POINTS - 2; i >= 0; i--)
        seconds[i] = fmin(seconds[i], seconds[i + 1]);
    for (int i = 1; i < MEASURE_POINTS; i++)
        seconds[i] = fmin(seconds[i], seconds[i - 1] * measure_rows[i] / measure_rows[i - 1]);
}

/* ---- all of it ---- */

/* The last step to be measured takes about so long; where there is no time for it, it is taken to
 * be in proportion. */
static double measure_large(struct measure *m, int kind, int point, double before)
{
    double likely = before * measure_rows[point] / measure_rows[point - 1];
    if (likely * 4 > measure_left_s(m) || measure_is_cancelled(m))
        return likely;
    return measure_point(m, kind, measure_rows[point], true, 0);
}

static void measure_kinds(struct measure *m, struct measure_result *r)
{
    for (int kind = 0; kind < m->spec->n_kinds && !measure_is_cancelled(m); kind++) {
        double *s = r->seconds[kind];
        measure_bind_layers(m, kind);
        if (kind > 0 && (measure_left_s(m) < 0 || !m->n_layers)) { /* no time: as the first kind */
            memcpy(s, r->seconds[0], sizeof r->seconds[0]);
            continue;
        }
        measure_layer_once(m, 64, true, 0); /* pages are there, threads are awake */
        for (int i = 0; i < 3; i++)
            s[i] = measure_point(m, kind, measure_rows[i], false, 0);
        s[3] = measure_large(m, kind, 3, s[2]);
        s[4] = kind == 0 ? measure_large(m, kind, 4, s[3])
                         : s[3] * r->seconds[0][4] / r->seconds[0][3];
        measure_smooth(s);
    }
}

static double measure_read(const struct measure *m, int threads)
{
    const size_t n = m->blob_bytes / sizeof(uint64_t);
    const uint64_t *words = (const uint64_t *)m->blob;
    uint64_t sum = 0;
    int64_t begin_us = clock_now_us();
#pragma omp parallel for num_threads(threads) reduction(+ : sum)
    for (size_t i = 0; i < n; i++)
        sum += words[i];
    double s = (double)(clock_now_us() - begin_us) / 1e6;
    return sum ? (double)m->blob_bytes / fmax(s, 1e-6) : 0;
}

/* A row of decode whose keys and values are cold: all layers' weights were read since. */
static double measure_far_once(struct measure *m, struct measure_result *r)
{
    r->read_all = fmax(r->read_all, measure_read(m, omp_get_max_threads()));
    return measure_layer_once(m, 1, false, FAR);
}

/* What a position that is looked back upon costs a row. */
static void measure_attention(struct measure *m, struct measure_result *r)
{
    double samples[LEAST_SAMPLES];
    measure_bind_layers(m, 0);
    double near = measure_point(m, 0, 1, false, 0), far;
    int n;
    for (n = 0; n < LEAST_SAMPLES && (n == 0 || measure_left_s(m) > 0); n++)
        samples[n] = measure_far_once(m, r);
    qsort(samples, (size_t)n, sizeof *samples, measure_compare);
    r->attend_s = fmax(samples[n / 3] - near, 0) / FAR;
    near = measure_point(m, 0, 64, true, 0);
    far = near * 4 < measure_left_s(m) ? measure_point(m, 0, 64, true, FAR) : near;
    r->attend_many_s = fmax(far - near, 0) / (64.0 * FAR);
    if (!(r->attend_many_s > 0)) /* no time for it: rows of a prompt share what they read */
        r->attend_many_s = r->attend_s / 4;
}

static void measure_head(struct measure *m, struct measure_result *r)
{
    double *s = r->seconds[MEASURE_HEAD];
    const struct model_config *c = &m->spec->config;
    double whole = (double)c->vocabulary_size / m->head_rows;
    double layers = (double)c->vocabulary_size * c->hidden_size / measure_elements(&m->config);
    for (int i = 0; i < 3; i++) /* no time: as layers of so many weights */
        s[i] = measure_left_s(m) < 0
                   ? layers * r->seconds[0][i]
                   : whole * measure_point(m, MEASURE_HEAD, measure_rows[i], false, 0);
    for (int i = 3; i < MEASURE_POINTS; i++)
        s[i] = s[2] * measure_rows[i] / HEAD_ROWS;
    measure_smooth(s);
}

/* How much longer all took than the processor worked: a quota, others at work, another's machine.
 */
static double measure_held_up(const struct measure *m)
{
    double wall_s = (double)(clock_now_us() - m->opened_us) / 1e6;
    double worked_s = clock_thread_s() - m->opened_s;
    return worked_s > 0 ? fmax(wall_s / worked_s, 1) : 1;
}

/* A slice's times as the whole layer's; times of prompts without attention's share. */
static void measure_finish(const struct measure *m, struct measure_result *r)
{
    double heads = (double)m->spec->config.n_heads / m->config.n_heads;
    for (int kind = 0; kind < m->spec->n_kinds; kind++) {
        for (int i = 0; i < MEASURE_POINTS; i++) {
            double rows = measure_rows[i];
            double attention = i >= 3 ? r->attend_many_s * rows * rows / 2 : 0;
            double s = r->seconds[kind][i] - attention;
            r->seconds[kind][i] = fmax(s, r->seconds[kind][i] / 2) * m->slice;
        }
    }
    r->attend_s *= heads;
    r->attend_many_s *= heads;
    double held_up = measure_held_up(m);
    for (int kind = 0; kind <= MEASURE_HEAD; kind++)
        for (int i = 0; i < MEASURE_POINTS; i++)
            r->seconds[kind][i] *= held_up;
    r->attend_s *= held_up;
    r->attend_many_s *= held_up;
    r->int8_ops = 2 * measure_rows[4] * measure_elements(&m->spec->config) / r->seconds[0][4];
}

static int measure_check(const struct measure_spec *spec, struct err *err)
{
    const struct model_config *c = &spec->config;
    bool ok = spec->n_kinds >= 1 && spec->n_kinds <= MEASURE_KINDS && c->hidden_size >= 32 &&
              c->hidden_size <= 65536 && c->intermediate_size >= 32 &&
              c->intermediate_size <= 1 << 20 && c->n_kv_heads >= 1 &&
              c->n_heads >= c->n_kv_heads && c->n_heads <= 1024 &&
              c->n_heads % c->n_kv_heads == 0 && c->head_dim >= 2 && c->head_dim <= 256 &&
              c->rope_dim >= 2 && c->rope_dim <= c->head_dim && c->vocabulary_size >= 1 &&
              c->vocabulary_size <= 1 << 24 && (int)spec->kv_type >= 0 && spec->kv_type < KV_TYPES;
    int widths[MODEL_SHAPE_MATRICES] = {c->hidden_size,           c->hidden_size, c->hidden_size,
                                        c->n_heads * c->head_dim, c->hidden_size, c->hidden_size,
                                        c->intermediate_size};
    for (int kind = 0; ok && kind < spec->n_kinds; kind++)
        for (int i = 0; ok && i < MODEL_SHAPE_MATRICES; i++)
            ok = quant_type_is_supported(spec->types[kind][i]) &&
                 widths[i] % quant_block_elements(spec->types[kind][i]) == 0;
    ok = ok && quant_type_is_supported(spec->head_type) &&
         c->hidden_size % quant_block_elements(spec->head_type) == 0;
    return ok ? 0 : err_set(err, ERR_INPUT, "the shapes to measure cannot be those of a model");
}

int measure_glance(const struct measure_spec *spec, double *ret_layer_s, struct err *err)
{
    struct measure *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_MEMORY, "no memory to measure with");
    m->spec = spec;
    m->begin_us = clock_now_us();
    int rc = measure_check(spec, err);
    if (rc == 0)
        rc = measure_open(m, err);
    if (rc == 0) {
        measure_bind_layers(m, 0);
        if (m->n_layers == 0)
            rc = err_set(err, ERR_INPUT, "a layer to measure is larger than %zu bytes",
                         m->blob_bytes);
    }
    if (rc == 0) {
        measure_layer_once(m, 64, true, 0);
        *ret_layer_s = measure_point(m, 0, 1, false, 0) * m->slice * measure_held_up(m);
    }
    measure_close(m);
    free(m);
    return rc;
}

int measure_run(const struct measure_spec *spec, struct measure_result *ret_result, struct err *err)
{
    int rc = measure_check(spec, err);
    if (rc != 0)
        return rc;
    struct measure *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, ERR_MEMORY, "no memory to measure with");
    struct measure_result r = {.attend_s = 0};
    m->spec = spec;
    m->begin_us = clock_now_us();
    rc = measure_open(m, err);
    if (rc == 0) {
        r.read_all = measure_read(m, omp_get_max_threads());
        r.read_one = measure_read(m, 1);
        m->begin_us = clock_now_us();
        measure_bind_layers(m, 0);
        if (m->n_layers == 0)
            rc = err_set(err, ERR_INPUT, "a layer to measure is larger than %zu bytes",
                         m->blob_bytes);
    }
    if (rc == 0) {
        measure_kinds(m, &r);
        measure_head(m, &r);
        measure_attention(m, &r);
        measure_finish(m, &r);
        if (measure_is_cancelled(m))
            rc = err_set(err, ERR_CANCELLED, "measuring was cancelled");
    }
    if (rc == 0)
        *ret_result = r;
    measure_close(m);
    free(m);
    return rc;
}
