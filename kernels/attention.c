/* attention.c - see attention.h.
 *
 * Work is cut into tiles: some rows of one sequence that follow each other, and one KV head with
 * the query heads that share it. A tile walks its blocks in ascending order and folds them. When
 * there are few tiles for the threads, single blocks of them are the pieces of work instead; the
 * same partials are stored and then folded in the same order. */
#include "kernels/attention.h"

#include "kernels/kernels_fill.h"
#include "kernels/quant.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdbool.h>
#include <string.h>

_Static_assert(KV_BLOCK_TOKENS == VEC_BLOCK, "the kernels' block is the cache's");

#define TILE_QUERIES 48 /* of a tile: K and V of a block are read once for so many */
#define MAX_HEAD_DIM 256

struct tile {
    int first_row, n_rows;
};

/* Maxima, sums and outputs of some queries: a partial result. */
struct partial {
    float *maximum, *sum; /* [queries] */
    float *o;             /* [queries, head_dim] */
};

struct job {
    const struct kernels *k;
    const struct attention_shape *shape;
    float *out;
    size_t out_stride;
    const float *q;
    size_t q_stride;
    const char *kv;
    size_t block_stride;
    const struct attention_row *rows;
    int group, tile_queries; /* query heads of a KV head; most queries that a tile has */
    struct tile *tiles;
    int n_tiles;
    float *areas; /* one for each thread */
    size_t area_floats;
    float *partials;
    size_t partial_floats; /* of one tile and block */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Bytes of the keys (or the values) of one head in one block. */
static size_t kv_head_bytes(const struct attention_shape *shape)
{
    size_t elements = (size_t)shape->head_dim * KV_BLOCK_TOKENS;
    if (shape->kv_type == KV_Q8_0)
        return elements + elements / KV_Q8_0_GROUP * sizeof(uint16_t);
    return elements * (shape->kv_type == KV_F16 ? sizeof(uint16_t) : sizeof(float));
}

size_t kv_block_bytes(const struct attention_shape *shape)
{
    return 2 * (size_t)shape->kv_heads * kv_head_bytes(shape);
}

static const char *kv_keys(const struct attention_shape *shape, const char *block, int kv_head)
{
    return block + (size_t)kv_head * kv_head_bytes(shape);
}

static const char *kv_values(const struct attention_shape *shape, const char *block, int kv_head)
{
    return block + (size_t)(shape->kv_heads + kv_head) * kv_head_bytes(shape);
}

/* One group of 32 elements, as docs/numerics.md (section 6) defines it; returns its scale. */
static uint16_t quantise_group(int8_t codes[KV_Q8_0_GROUP], const float *x)
{
    float largest = 0.0f;
    bool finite = true;
    for (int i = 0; i < KV_Q8_0_GROUP; i++) {
        finite = finite && fabsf(x[i]) <= FLT_MAX;
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    }
    uint16_t half = quant_f32_to_f16(largest / 127.0f);
    float scale = quant_f16_to_f32(half);
    memset(codes, 0, KV_Q8_0_GROUP);
    if (!finite || !(scale <= FLT_MAX))
        return 0x7e00; /* NaN */
    if (scale == 0.0f)
        return 0;
    float inverse = 1.0f / scale;
    for (int i = 0; i < KV_Q8_0_GROUP; i++) {
        float code = rintf(x[i] * inverse);
        codes[i] = (int8_t)(code > 127.0f ? 127.0f : code < -127.0f ? -127.0f : code);
    }
    return half;
}

/* A key and a value of one head at a position of a block. */
static void write_q8_0(void *keys, void *values, size_t slot, size_t dim, const float *key,
                       const float *value)
{
    int8_t *k_codes = keys, *v_codes = values, codes[KV_Q8_0_GROUP];
    uint16_t *k_scales = (uint16_t *)(k_codes + dim * KV_BLOCK_TOKENS);
    uint16_t *v_scales = (uint16_t *)(v_codes + dim * KV_BLOCK_TOKENS);
    size_t groups = dim / KV_Q8_0_GROUP;
    for (size_t g = 0; g < groups; g++) {
        size_t at = g * KV_Q8_0_GROUP;
        k_scales[g * KV_BLOCK_TOKENS + slot] = quantise_group(codes, key + at);
        for (size_t d = 0; d < KV_Q8_0_GROUP; d++)
            k_codes[(at + d) * KV_BLOCK_TOKENS + slot] = codes[d];
        v_scales[slot * groups + g] = quantise_group(v_codes + slot * dim + at, value + at);
    }
}

static void write_f16(const struct kernels *k, void *keys, void *values, size_t slot, size_t dim,
                      const float *key, const float *value)
{
    uint16_t half[MAX_HEAD_DIM];
    k->vec.f32_to_f16(half, key, dim);
    for (size_t d = 0; d < dim; d++)
        ((uint16_t *)keys)[d * KV_BLOCK_TOKENS + slot] = half[d];
    k->vec.f32_to_f16((uint16_t *)values + slot * dim, value, dim);
}

static void write_f32(void *keys, void *values, size_t slot, size_t dim, const float *key,
                      const float *value)
{
    for (size_t d = 0; d < dim; d++)
        ((float *)keys)[d * KV_BLOCK_TOKENS + slot] = key[d];
    memcpy((float *)values + slot * dim, value, dim * sizeof(float));
}

void kv_write(const struct kernels *k, const struct attention_shape *shape, void *kv,
              size_t block_stride, const struct attention_row *rows, int n_rows, const float *keys,
              size_t key_stride, const float *values, size_t value_stride)
{
    size_t dim = (size_t)shape->head_dim;
    assert(dim <= MAX_HEAD_DIM && (shape->kv_type != KV_Q8_0 || dim % KV_Q8_0_GROUP == 0));
#pragma omp parallel for schedule(static) if (n_rows >= 64)
    for (int r = 0; r < n_rows; r++) {
        size_t slot = (size_t)rows[r].position % KV_BLOCK_TOKENS;
        char *block =
            (char *)kv + rows[r].blocks[rows[r].position / KV_BLOCK_TOKENS] * block_stride;
        for (int h = 0; h < shape->kv_heads; h++) {
            const float *key = keys + (size_t)r * key_stride + (size_t)h * dim;
            const float *value = values + (size_t)r * value_stride + (size_t)h * dim;
            void *k_to = block + (size_t)h * kv_head_bytes(shape);
            void *v_to = block + (size_t)(shape->kv_heads + h) * kv_head_bytes(shape);
            if (shape->kv_type == KV_F16)
                write_f16(k, k_to, v_to, slot, dim, key, value);
            else if (shape->kv_type == KV_Q8_0)
                write_q8_0(k_to, v_to, slot, dim, key, value);
            else
                write_f32(k_to, v_to, slot, dim, key, value);
        }
    }
}

static int tile_blocks(const struct job *j, const struct tile *t)
{
    return j->rows[t->first_row + t->n_rows - 1].position / KV_BLOCK_TOKENS + 1;
}

static void prefetch(const char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(from + i);
}

typedef void scores_slot(float *, const float *, const void *, int, int, float);
typedef void values_slot(float *, const float *, const void *, int, int, int);

static scores_slot *slots_scores(const struct vec_kernels *v, enum kv_type type)
{
    return (scores_slot *[KV_TYPES]){v->scores_f16, v->scores_f32, v->scores_q8_0}[type];
}

static values_slot *slots_values(const struct vec_kernels *v, enum kv_type type)
{
    return (values_slot *[KV_TYPES]){v->values_f16, v->values_f32, v->values_q8_0}[type];
}

/* One block of one tile: partial results of its rows from `first` on, those that see the block.
 * Memory is read ahead by one product: the values during q · keys, and during w · values the keys
 * of the block behind. q: [queries of the tile, head_dim]; s: scratch, [queries, 64]. */
static void block_partial(const struct job *j, const struct tile *t, int kv_head, int b, int first,
                          const float *q, float *s, struct partial to)
{
    const struct attention_shape *shape = j->shape;
    const struct vec_kernels *v = &j->k->vec;
    const struct attention_row *rows = j->rows + t->first_row;
    int dim = shape->head_dim, group = j->group;
    const char *block = j->kv + rows[0].blocks[b] * j->block_stride;
    const char *keys = kv_keys(shape, block, kv_head), *values = kv_values(shape, block, kv_head);
    int from = first * group, n_q = t->n_rows * group - from;

    prefetch(values, kv_head_bytes(shape));
    slots_scores(v, shape->kv_type)(s, q + from * dim, keys, n_q, dim, shape->scale);
    if (b + 1 < tile_blocks(j, t))
        prefetch(kv_keys(shape, j->kv + rows[0].blocks[b + 1] * j->block_stride, kv_head),
                 kv_head_bytes(shape));
    /* Rows see the block's positions up to their own; rows that see all of it go together. */
    for (int r = first; r < t->n_rows;) {
        int n = rows[r].position - b * KV_BLOCK_TOKENS + 1;
        int end = n < KV_BLOCK_TOKENS ? r + 1 : t->n_rows;
        n = n < KV_BLOCK_TOKENS ? n : KV_BLOCK_TOKENS;
        int at = r * group, count = (end - r) * group;
        float *w = s + (at - from) * KV_BLOCK_TOKENS;
        v->weights(w, count, n, to.maximum + at, to.sum + at);
        slots_values(v, shape->kv_type)(to.o + at * dim, w, values, count, dim, n);
        r = end;
    }
}

/* The first row of the tile that sees block b. */
static int tile_first_row(const struct job *j, const struct tile *t, int b)
{
    int unseen = b * KV_BLOCK_TOKENS - j->rows[t->first_row].position;
    return unseen > 0 ? unseen : 0;
}

/* The rows' queries of this KV head, together: [n_rows × group, head_dim]. */
static void tile_queries(const struct job *j, const struct tile *t, int kv_head, float *to)
{
    size_t n = (size_t)(j->group * j->shape->head_dim);
    for (int r = 0; r < t->n_rows; r++)
        memcpy(to + (size_t)r * n,
               j->q + (size_t)(t->first_row + r) * j->q_stride + (size_t)kv_head * n,
               n * sizeof(float));
}

static struct partial partial_at(const struct job *j, float *memory)
{
    return (struct partial){memory, memory + j->tile_queries, memory + 2 * j->tile_queries};
}

static void partial_merge(const struct job *j, const struct tile *t, struct partial into,
                          struct partial from, int first)
{
    int at = first * j->group, dim = j->shape->head_dim;
    j->k->vec.merge(into.maximum + at, into.sum + at, into.o + at * dim, from.maximum + at,
                    from.sum + at, from.o + at * dim, t->n_rows * j->group - at, dim);
}

static void tile_output(const struct job *j, const struct tile *t, int kv_head, struct partial p)
{
    int dim = j->shape->head_dim;
    for (int r = 0; r < t->n_rows; r++) {
        float *to = j->out + (size_t)(t->first_row + r) * j->out_stride +
                    (size_t)kv_head * (size_t)(j->group * dim);
        for (int h = 0; h < j->group; h++) {
            int i = r * j->group + h;
            j->k->vec.divide(to + h * dim, p.o + i * dim, p.sum[i], (size_t)dim);
        }
    }
}

/* A thread's area: queries, scores, and two partial results. */
static float *area_queries(const struct job *j)
{
    return j->areas + (size_t)omp_get_thread_num() * j->area_floats;
}

static void tile_run(const struct job *j, const struct tile *t, int kv_head)
{
    size_t n = (size_t)j->tile_queries;
    float *q = area_queries(j);
    float *s = q + n * (size_t)j->shape->head_dim;
    struct partial total = partial_at(j, s + n * KV_BLOCK_TOKENS);
    struct partial part = partial_at(j, s + n * KV_BLOCK_TOKENS + j->partial_floats);
    tile_queries(j, t, kv_head, q);
    block_partial(j, t, kv_head, 0, 0, q, s, total);
    for (int b = 1; b < tile_blocks(j, t); b++) {
        int first = tile_first_row(j, t, b);
        block_partial(j, t, kv_head, b, first, q, s, part);
        partial_merge(j, t, total, part, first);
    }
    tile_output(j, t, kv_head, total);
}

static void run_by_tile(const struct job *j)
{
    int n = j->n_tiles * j->shape->kv_heads;
    /* From the last one, which has seen most, so that no thread ends with the longest. */
#pragma omp parallel for schedule(dynamic) if (n > 1)
    for (int i = n - 1; i >= 0; i--)
        tile_run(j, &j->tiles[i / j->shape->kv_heads], i % j->shape->kv_heads);
}

/* Windows of `width` blocks of all tiles: threads compute partials, then fold them. */
static void run_by_block(const struct job *j, int n_blocks, int width)
{
    int kv_heads = j->shape->kv_heads, n = j->n_tiles * kv_heads;
    float *totals = j->partials, *parts = totals + (size_t)n * j->partial_floats;
#pragma omp parallel
    for (int start = 0; start < n_blocks; start += width) {
#pragma omp for schedule(dynamic)
        for (int item = 0; item < n * width; item++) {
            int i = item % n, b = start + item / n, kv_head = i % kv_heads;
            const struct tile *t = &j->tiles[i / kv_heads];
            if (b >= tile_blocks(j, t))
                continue;
            float *q = area_queries(j);
            tile_queries(j, t, kv_head, q);
            struct partial part =
                partial_at(j, b == 0 ? totals + (size_t)i * j->partial_floats
                                     : parts + (size_t)(i * width + b - start) * j->partial_floats);
            block_partial(j, t, kv_head, b, tile_first_row(j, t, b), q,
                          q + (size_t)(j->tile_queries * j->shape->head_dim), part);
        }
#pragma omp for schedule(dynamic)
        for (int i = 0; i < n; i++) {
            const struct tile *t = &j->tiles[i / kv_heads];
            struct partial total = partial_at(j, totals + (size_t)i * j->partial_floats);
            int end = tile_blocks(j, t) < start + width ? tile_blocks(j, t) : start + width;
            for (int b = start == 0 ? 1 : start; b < end; b++)
                partial_merge(
                    j, t, total,
                    partial_at(j, parts + (size_t)(i * width + b - start) * j->partial_floats),
                    tile_first_row(j, t, b));
            if (start < tile_blocks(j, t) && end == tile_blocks(j, t))
                tile_output(j, t, i % kv_heads, total);
        }
    }
}

static int most_queries(const struct attention_shape *shape)
{
    int group = shape->heads / shape->kv_heads;
    return group > TILE_QUERIES ? group : TILE_QUERIES;
}

/* Floats of a partial result of n queries, a multiple of 16. */
static size_t partial_floats(const struct attention_shape *shape, int n)
{
    return round_up((size_t)n * (size_t)(shape->head_dim + 2), 16);
}

static size_t area_floats(const struct attention_shape *shape)
{
    int n = most_queries(shape);
    size_t of_query = (size_t)(shape->head_dim + KV_BLOCK_TOKENS);
    return round_up((size_t)n * of_query, 16) + 2 * partial_floats(shape, n);
}

/* Partial results that run_by_block() may hold, of as many queries as a tile may have. */
static size_t held_floats(const struct attention_shape *shape, int threads)
{
    return threads > 1 ? 16 * (size_t)threads * partial_floats(shape, most_queries(shape)) : 0;
}

size_t attention_scratch_bytes(const struct attention_shape *shape, int max_rows, int max_positions,
                               int threads)
{
    (void)max_positions; /* blocks are taken in windows, however many there are */
    return round_up((size_t)max_rows * sizeof(struct tile), 64) +
           sizeof(float) * ((size_t)threads * area_floats(shape) + held_floats(shape, threads));
}

/* Rows of one sequence that follow each other, as many as a tile takes. */
static void job_tiles(struct job *j, int n_rows)
{
    int most = j->tile_queries / j->group;
    j->n_tiles = 0;
    for (int r = 0; r < n_rows;) {
        int end = r + 1;
        while (end < n_rows && end - r < most && j->rows[end].blocks == j->rows[r].blocks &&
               j->rows[end].position == j->rows[end - 1].position + 1)
            end++;
        j->tiles[j->n_tiles++] = (struct tile){r, end - r};
        r = end;
    }
}

/* Blocks of a window, or 0 when the tiles alone keep the threads busy. */
static int window_width(const struct job *j, int threads, int n_blocks)
{
    int n = j->n_tiles * j->shape->kv_heads;
    if (threads < 2 || n_blocks < 4 || n >= 4 * threads || n % threads == 0)
        return 0;
    size_t held = held_floats(j->shape, threads) / j->partial_floats;
    int width = (int)(held / (size_t)n) - 1; /* one place of each tile is its total */
    return width < n_blocks ? width : n_blocks;
}

void attention(const struct kernels *k, const struct attention_shape *shape, float *out,
               size_t out_stride, const float *q, size_t q_stride, const void *kv,
               size_t block_stride, const struct attention_row *rows, int n_rows, void *scratch)
{
    assert(shape->head_dim <= MAX_HEAD_DIM);
    if (n_rows < 1)
        return;
    struct kernels plain;
    if (shape->head_dim % 8 != 0) {
        /* The instruction-set files take whole vectors. Such heads are rare, and the bits equal. */
        plain = *k;
        vec_fill(&plain.vec);
        k = &plain;
    }
    int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
    struct job j = {k, shape, out, out_stride, q, q_stride, kv, block_stride, rows, 0,
                    0, NULL,  0,   NULL,       0, NULL,     0};
    j.group = shape->heads / shape->kv_heads;
    j.tile_queries = most_queries(shape);
    j.tiles = scratch;
    job_tiles(&j, n_rows);
    j.areas = (float *)((char *)scratch + round_up((size_t)n_rows * sizeof(struct tile), 64));
    j.area_floats = area_floats(shape);
    j.partials = j.areas + (size_t)threads * j.area_floats;

    int largest = 0, n_blocks = 0;
    for (int i = 0; i < j.n_tiles; i++) {
        int blocks = tile_blocks(&j, &j.tiles[i]);
        largest = j.tiles[i].n_rows > largest ? j.tiles[i].n_rows : largest;
        n_blocks = blocks > n_blocks ? blocks : n_blocks;
    }
    j.tile_queries = largest * j.group; /* smaller tiles, more of them fit */
    j.partial_floats = partial_floats(shape, j.tile_queries);
    int width = window_width(&j, threads, n_blocks);
    if (width > 0)
        run_by_block(&j, n_blocks, width);
    else
        run_by_tile(&j);
}
