/* matmul.c - packing, quantised activations, and how a product is cut into tiles for threads. */
#include "kernels/matmul.h"
#include "kernels/matmul_layout.h"
#include "kernels/matmul_pack.h"

#include <assert.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

size_t matrix_bytes(enum tensor_type type, int rows, int cols)
{
    const size_t groups = ((size_t)rows + MATMUL_GROUP - 1) / MATMUL_GROUP;
    return groups * matmul_group_bytes(type, cols);
}

void matrix_pack(struct matrix *ret_matrix, void *memory, enum tensor_type type, int rows, int cols,
                 const void *source)
{
    assert((uintptr_t)memory % 64 == 0);
    const size_t group_bytes = matmul_group_bytes(type, cols);
    const size_t source_bytes = quant_row_bytes(type, cols) * MATMUL_GROUP;
    const int groups = (rows + MATMUL_GROUP - 1) / MATMUL_GROUP;
#pragma omp parallel for schedule(dynamic, 4)
    for (int g = 0; g < groups; g++) {
        const int left = rows - g * MATMUL_GROUP;
        const uint8_t *from = (const uint8_t *)source + (size_t)g * source_bytes;
        uint8_t *to = (uint8_t *)memory + (size_t)g * group_bytes;
        if (left < MATMUL_GROUP || !matmul_pack_16(type, cols, from, to))
            matmul_pack_group(type, left < MATMUL_GROUP ? left : MATMUL_GROUP, cols, from, to);
    }
    *ret_matrix = (struct matrix){type, rows, cols, memory};
}

struct activations_form {
    bool made;
    struct matmul_codes codes;
};

struct activations {
    int max_rows, max_cols;
    const float *x; /* borrowed */
    int rows, cols;
    struct activations_form narrow, wide; /* groups of 32 and of 256 columns */
};

/* Elements from row to row. An odd number of cache lines for the codes: rows of a tile would else
 * fall into the same cache set when the columns are a power of two. */
static void set_strides(struct matmul_codes *c, int cols)
{
    const size_t n = (size_t)cols;
    c->stride = (((n + 63) / 64) | 1) * 64;
    c->scale_stride = (n + 31) / 32;
    c->sum16_stride = (n + 31) / 32 * 2;
    c->sum32_stride = (n + 63) / 64 * 2;
}

/* Places the arrays of one form at `memory`; returns their size. memory may be NULL. */
static size_t place(struct matmul_codes *c, char *memory, int max_rows, int max_cols, int group)
{
    set_strides(c, max_cols);
    struct matmul_blocks *b = &c->blocks;
    b->stride = ((size_t)max_rows + 15) / 16 * 16 + MATMUL_BLOCK_ROWS;
    const size_t rows = (size_t)max_rows;
    const size_t cells = b->stride * (((size_t)max_cols + (size_t)group - 1) / (size_t)group);
    const size_t sizes[7] = {rows * c->stride,
                             rows * c->scale_stride * sizeof(float),
                             rows * c->sum16_stride * sizeof(int16_t),
                             rows * c->sum32_stride * sizeof(int16_t),
                             cells * sizeof(float),
                             group == 256 ? cells * 16 * sizeof(int16_t) : 0,
                             cells * (size_t)(group / 32) * sizeof(int16_t)};
    size_t offsets[8] = {0};
    for (int i = 0; i < 7; i++)
        offsets[i + 1] = offsets[i] + (sizes[i] + 63) / 64 * 64;
    if (memory) {
        c->codes = (int8_t *)memory;
        c->scales = (float *)(memory + offsets[1]);
        c->sums16 = (int16_t *)(memory + offsets[2]);
        c->sums32 = (int16_t *)(memory + offsets[3]);
        b->scales = (float *)(memory + offsets[4]);
        b->sums16 = (int16_t *)(memory + offsets[5]);
        b->sums32 = (int16_t *)(memory + offsets[6]);
    }
    return offsets[7];
}

#define LARGE_PAGE ((size_t)2 << 20)

size_t activations_memory(int max_rows, int max_cols)
{
    struct matmul_codes c;
    const size_t head = (sizeof(struct activations) + 63) / 64 * 64;
    const size_t bytes =
        head + place(&c, NULL, max_rows, max_cols, 32) + place(&c, NULL, max_rows, max_cols, 256);
    return bytes < LARGE_PAGE ? bytes : (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
}

struct activations *activations_new(int max_rows, int max_cols)
{
    assert(max_rows > 0 && max_cols > 0);
    const size_t bytes = activations_memory(max_rows, max_cols);
    const bool is_large = bytes >= LARGE_PAGE;
    char *memory = aligned_alloc(is_large ? LARGE_PAGE : 64, bytes);
    if (!memory)
        return NULL;
    /* Rows of a tile lie in as many small pages as they are. */
    if (is_large)
        madvise(memory, bytes, MADV_HUGEPAGE);
    struct activations *a = (struct activations *)memory;
    *a = (struct activations){.max_rows = max_rows, .max_cols = max_cols};
    memory += (sizeof *a + 63) / 64 * 64;
    memory += place(&a->narrow.codes, memory, max_rows, max_cols, 32);
    place(&a->wide.codes, memory, max_rows, max_cols, 256);
    return a;
}

void activations_free(struct activations *a)
{
    free(a);
}

void activations_load(struct activations *a, const float *x, int rows, int cols)
{
    assert(rows <= a->max_rows && cols <= a->max_cols);
    a->x = x;
    a->rows = rows;
    a->cols = cols;
    a->narrow.made = false;
    a->wide.made = false;
}

/* The same arrays, beginning at another row; `sums32` of a block. */
static struct matmul_codes codes_from_row(struct matmul_codes c, int row, int sums32)
{
    c.codes += (size_t)row * c.stride;
    c.scales += (size_t)row * c.scale_stride;
    c.sums16 += (size_t)row * c.sum16_stride;
    c.sums32 += (size_t)row * c.sum32_stride;
    c.blocks.scales += row;
    c.blocks.sums16 += row * 16;
    c.blocks.sums32 += row * sums32;
    return c;
}

/* Copies scales and sums of rows first … end to where they stand by block. */
static void fill_blocks(const struct matmul_codes *c, int first, int end, int cols, int group)
{
    const struct matmul_blocks *to = &c->blocks;
    const size_t subs = (size_t)group / 32;
    for (size_t b = 0; b < (size_t)(cols / group); b++)
        for (size_t r = (size_t)first; r < (size_t)end; r++) {
            const size_t cell = b * to->stride + r;
            to->scales[cell] = c->scales[r * c->scale_stride + b];
            if (subs == 1) {
                to->sums32[cell] = c->sums32[r * c->sum32_stride + b];
                continue;
            }
            memcpy(to->sums32 + cell * 8, c->sums32 + r * c->sum32_stride + b * 8,
                   8 * sizeof *c->sums32);
            memcpy(to->sums16 + cell * 16, c->sums16 + r * c->sum16_stride + b * 16,
                   16 * sizeof *c->sums16);
        }
}

static const struct matmul_codes *activations_codes(const struct kernels *k, struct activations *a,
                                                    int group)
{
    struct activations_form *form = group == 256 ? &a->wide : &a->narrow;
    if (form->made)
        return &form->codes;
    set_strides(&form->codes, a->cols);
    const bool by_block = k->matmul.many_rows > 0 && a->rows >= k->matmul.many_rows;
    const int together = by_block ? 16 : 1; /* threads share no line */
    /* One row takes less time than waking a team. */
#pragma omp parallel for if (a->rows > 1 && (size_t)a->rows * (size_t)a->cols > 16384)
    for (int first = 0; first < a->rows; first += together) {
        const int end = first + together < a->rows ? first + together : a->rows;
        for (int r = first; r < end; r++) {
            const struct matmul_codes to = codes_from_row(form->codes, r, group / 32);
            k->matmul.quantise(a->x + (size_t)r * (size_t)a->cols, a->cols, group, &to);
        }
        if (by_block)
            fill_blocks(&form->codes, first, end, a->cols, group);
    }
    form->made = true;
    return &form->codes;
}

/* How one product is cut: `row_tiles` ranges of activation rows times `group_tiles` ranges of
 * groups. Cuts never reach a bit of the result. */
struct plan {
    int groups, tile_groups, group_tiles;
    int tile_rows, row_tiles;
};

static int divide_up(int a, int b)
{
    return (a + b - 1) / b;
}

/* A tile of few rows streams at least so many bytes of weights. */
#define STREAM_BYTES (16 * 1024)

static struct plan plan_tiles(const struct matmul_kernels *k, const struct matrix *w, int rows)
{
    /* Micro-kernels take six rows and two groups at a time, or more of both. */
    const bool many = k->product_many[w->type] && rows >= k->many[w->type];
    const int unit = many ? k->many_unit : 6;
    /* Codes of the rows of a tile stay in half of the second-level cache while groups of weights
     * pass by: processors with tiles have 2 MiB, others 1 MiB and more. */
    const int cached_rows = (many ? 1024 : 512) * 1024 / w->cols;
    struct plan p = {.groups = divide_up(w->rows, MATMUL_GROUP)};
    const int most = MATMUL_TILE_ROWS / unit * unit;
    p.tile_rows = cached_rows < most ? cached_rows : most;
    p.tile_rows = p.tile_rows < 2 * unit ? 2 * unit : p.tile_rows;
    p.row_tiles = divide_up(rows, p.tile_rows);
    /* Even shares of whole units. */
    p.tile_rows = divide_up(divide_up(rows, p.row_tiles), unit) * unit;
    p.row_tiles = divide_up(rows, p.tile_rows);
    const size_t group_bytes = matmul_group_bytes(w->type, w->cols);
    const int streamed = many ? 4 : rows > 4 ? 2 : (int)(STREAM_BYTES / (group_bytes + 1)) + 1;
    p.tile_groups = divide_up(streamed, 2) * 2;
    p.group_tiles = divide_up(p.groups, p.tile_groups);
    return p;
}

/* One tile; the last group may have fewer than 16 rows and goes through a buffer. */
static void run_tile(const struct kernels *k, const struct matrix *w, struct matmul_tile *t,
                     int first_group)
{
    void (*product)(const struct matmul_tile *) = k->matmul.product[w->type];
    if (k->matmul.product_many[w->type] && t->rows >= k->matmul.many[w->type])
        product = k->matmul.product_many[w->type];
    const int left = w->rows - first_group * MATMUL_GROUP;
    const int whole = t->groups * MATMUL_GROUP <= left ? t->groups : t->groups - 1;
    const int rest = t->groups * MATMUL_GROUP <= left ? 0 : left - whole * MATMUL_GROUP;
    t->weights = (const uint8_t *)w->data + (size_t)first_group * t->group_bytes;
    t->groups = whole;
    if (whole > 0)
        product(t);
    if (rest == 0)
        return;
    float last[MATMUL_TILE_ROWS * MATMUL_GROUP];
    struct matmul_tile tail = *t;
    tail.weights += (size_t)whole * t->group_bytes;
    tail.groups = 1;
    tail.y = last;
    tail.y_stride = MATMUL_GROUP;
    product(&tail);
    for (int r = 0; r < t->rows; r++)
        memcpy(t->y + (size_t)r * t->y_stride + whole * MATMUL_GROUP, last + r * MATMUL_GROUP,
               (size_t)rest * sizeof *last);
}

/* One matrix of a piece of work: a tile that covers all of it, and how it is cut. */
struct job {
    const struct matrix *w;
    struct matmul_tile whole;
    struct plan plan;
    int end; /* tiles of this job and those before it */
};

static void job_prepare(struct job *j, const struct kernels *k, const struct matmul_part *part,
                        struct activations *a)
{
    const struct matrix *w = part->w;
    assert(w->cols == a->cols && part->y_stride >= (size_t)w->rows);
    const int block = quant_block_elements(w->type);
    j->w = w;
    j->whole = (struct matmul_tile){.kernels = &k->matmul,
                                    .group_bytes = matmul_group_bytes(w->type, w->cols),
                                    .cols = w->cols,
                                    .x = a->x,
                                    .x_stride = (size_t)a->cols,
                                    .y = part->y,
                                    .y_stride = part->y_stride};
    if (block > 1)
        j->whole.codes = *activations_codes(k, a, block);
    j->plan = plan_tiles(&k->matmul, w, a->rows);
}

/* Tiles of the same rows follow each other, so that their codes stay cached. */
static struct matmul_tile job_tile(const struct job *j, int rows, int index, int *ret_group)
{
    const struct plan *p = &j->plan;
    const int row = index / p->group_tiles * p->tile_rows;
    const int group = index % p->group_tiles * p->tile_groups;
    struct matmul_tile t = j->whole;
    t.rows = rows - row < p->tile_rows ? rows - row : p->tile_rows;
    t.groups = p->groups - group < p->tile_groups ? p->groups - group : p->tile_groups;
    t.x += (size_t)row * t.x_stride;
    if (t.codes.codes)
        t.codes = codes_from_row(t.codes, row, quant_block_elements(j->w->type) / 32);
    t.y += (size_t)row * t.y_stride + group * MATMUL_GROUP;
    *ret_group = group;
    return t;
}

/* What threads share: tiles [0, n), handed out in ascending order. A share is a part of what is
 * left, so that memory is read in long runs first and all end together, however different their
 * speed. */
struct queue {
    atomic_int next;
    int n, threads;
};

static bool queue_take(struct queue *q, int *ret_first, int *ret_end)
{
    int first = atomic_load_explicit(&q->next, memory_order_relaxed), end;
    do {
        if (first >= q->n)
            return false;
        const int share = (q->n - first) / (2 * q->threads);
        end = first + (share > 1 ? share : 1);
    } while (!atomic_compare_exchange_weak_explicit(&q->next, &first, end, memory_order_relaxed,
                                                    memory_order_relaxed));
    *ret_first = first;
    *ret_end = end;
    return true;
}

struct work {
    const struct kernels *k;
    const struct job *jobs;
    int rows;
    const struct job *up; /* with jobs[0] as the gate: each tile ends as their SwiGLU */
};

static void work_tile(const struct work *work, int index)
{
    const struct job *j = work->jobs;
    int before = 0, group;
    while (index >= j->end)
        before = j++->end;
    struct matmul_tile t = job_tile(j, work->rows, index - before, &group);
    const int end = (group + t.groups) * MATMUL_GROUP;
    const int n = (end < j->w->rows ? end : j->w->rows) - group * MATMUL_GROUP;
    run_tile(work->k, j->w, &t, group);
    if (!work->up)
        return;
    struct matmul_tile u = job_tile(work->up, work->rows, index - before, &group);
    run_tile(work->k, work->up->w, &u, group);
    for (int r = 0; r < t.rows; r++) {
        float *y = t.y + (size_t)r * t.y_stride;
        work->k->vec.swiglu(y, y, u.y + (size_t)r * u.y_stride, (size_t)n);
    }
}

static void work_run(const struct work *work, int tiles, size_t products)
{
    const bool alone = products <= 32768 || tiles == 1;
    struct queue q = {.n = tiles, .threads = alone ? 1 : omp_get_max_threads()};
#pragma omp parallel if (!alone)
    for (int i, end; queue_take(&q, &i, &end);)
        for (; i < end; i++)
            work_tile(work, i);
}

static size_t part_products(const struct matmul_part *p, int rows)
{
    return (size_t)rows * (size_t)p->w->rows * (size_t)p->w->cols;
}

void matmul_parts(const struct kernels *k, const struct matmul_part *parts, int n,
                  struct activations *a)
{
    assert(n <= MATMUL_PARTS);
    struct job jobs[MATMUL_PARTS];
    int tiles = 0, used = 0;
    size_t products = 0;
    for (int i = 0; i < n && a->rows > 0; i++) {
        if (parts[i].w->rows == 0)
            continue;
        struct job *j = &jobs[used++];
        job_prepare(j, k, &parts[i], a);
        tiles += j->plan.row_tiles * j->plan.group_tiles;
        j->end = tiles;
        products += part_products(&parts[i], a->rows);
    }
    if (tiles > 0)
        work_run(&(struct work){k, jobs, a->rows, NULL}, tiles, products);
}

void matmul(const struct kernels *k, float *y, size_t y_stride, const struct matrix *w,
            struct activations *a)
{
    matmul_parts(k, &(struct matmul_part){w, y, y_stride}, 1, a);
}

void matmul_swiglu(const struct kernels *k, float *y, float *up_y, size_t y_stride,
                   const struct matrix *gate, const struct matrix *up, struct activations *a)
{
    assert(gate->rows == up->rows && gate->cols == up->cols);
    if (a->rows == 0 || gate->rows == 0)
        return;
    const struct matmul_part parts[2] = {{gate, y, y_stride}, {up, up_y, y_stride}};
    struct job jobs[2];
    for (int i = 0; i < 2; i++)
        job_prepare(&jobs[i], k, &parts[i], a);
    jobs[1].plan = jobs[0].plan; /* the same cuts, whatever their types */
    jobs[0].end = jobs[0].plan.row_tiles * jobs[0].plan.group_tiles;
    work_run(&(struct work){k, jobs, a->rows, &jobs[1]}, jobs[0].end,
             2 * part_products(&parts[0], a->rows));
}
