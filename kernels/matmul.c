/* matmul.c - packing, quantised activations, and how a product is cut into tiles for threads. */
#include "kernels/matmul.h"
#include "kernels/matmul_layout.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

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
        matmul_pack_group(type, left < MATMUL_GROUP ? left : MATMUL_GROUP, cols,
                          (const uint8_t *)source + (size_t)g * source_bytes,
                          (uint8_t *)memory + (size_t)g * group_bytes);
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
static size_t place(struct matmul_codes *c, char *memory, int max_rows, int max_cols)
{
    set_strides(c, max_cols);
    const size_t rows = (size_t)max_rows;
    const size_t sizes[4] = {rows * c->stride, rows * c->scale_stride * sizeof(float),
                             rows * c->sum16_stride * sizeof(int16_t),
                             rows * c->sum32_stride * sizeof(int16_t)};
    size_t offsets[5] = {0};
    for (int i = 0; i < 4; i++)
        offsets[i + 1] = offsets[i] + (sizes[i] + 63) / 64 * 64;
    if (memory) {
        c->codes = (int8_t *)memory;
        c->scales = (float *)(memory + offsets[1]);
        c->sums16 = (int16_t *)(memory + offsets[2]);
        c->sums32 = (int16_t *)(memory + offsets[3]);
    }
    return offsets[4];
}

size_t activations_memory(int max_rows, int max_cols)
{
    struct matmul_codes c;
    const size_t head = (sizeof(struct activations) + 63) / 64 * 64;
    return head + 2 * place(&c, NULL, max_rows, max_cols);
}

struct activations *activations_new(int max_rows, int max_cols)
{
    assert(max_rows > 0 && max_cols > 0);
    char *memory = aligned_alloc(64, activations_memory(max_rows, max_cols));
    if (!memory)
        return NULL;
    struct activations *a = (struct activations *)memory;
    *a = (struct activations){.max_rows = max_rows, .max_cols = max_cols};
    memory += (sizeof *a + 63) / 64 * 64;
    memory += place(&a->narrow.codes, memory, max_rows, max_cols);
    place(&a->wide.codes, memory, max_rows, max_cols);
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

/* The same arrays, beginning at another row. */
static struct matmul_codes codes_from_row(struct matmul_codes c, int row)
{
    c.codes += (size_t)row * c.stride;
    c.scales += (size_t)row * c.scale_stride;
    c.sums16 += (size_t)row * c.sum16_stride;
    c.sums32 += (size_t)row * c.sum32_stride;
    return c;
}

static const struct matmul_codes *activations_codes(const struct kernels *k, struct activations *a,
                                                    int group)
{
    struct activations_form *form = group == 256 ? &a->wide : &a->narrow;
    if (form->made)
        return &form->codes;
    set_strides(&form->codes, a->cols);
    /* One row takes less time than waking a team. */
#pragma omp parallel for if (a->rows > 1 && (size_t)a->rows * (size_t)a->cols > 16384)
    for (int r = 0; r < a->rows; r++) {
        const struct matmul_codes to = codes_from_row(form->codes, r);
        k->matmul.quantise(a->x + (size_t)r * (size_t)a->cols, a->cols, group, &to);
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

static struct plan plan_tiles(const struct matrix *w, int rows, int threads)
{
    /* Codes of the rows of a tile stay in half of a common second-level cache while groups of
     * weights pass by. */
    const int cached_rows = 512 * 1024 / w->cols;
    struct plan p = {.groups = divide_up(w->rows, MATMUL_GROUP)};
    p.tile_rows = cached_rows < MATMUL_TILE_ROWS ? cached_rows : MATMUL_TILE_ROWS;
    p.tile_rows = p.tile_rows < 12 ? 12 : p.tile_rows;
    p.row_tiles = divide_up(rows, p.tile_rows);
    /* Even shares, whole sixes: micro-kernels take six rows at a time. */
    p.tile_rows = divide_up(divide_up(rows, p.row_tiles), 6) * 6;
    p.row_tiles = divide_up(rows, p.tile_rows);
    /* Few rows: enough bytes to stream, and enough tiles for a fair share. Many: two groups. */
    const size_t group_bytes = matmul_group_bytes(w->type, w->cols);
    const int streamed = rows > 4 ? 2 : (int)(128 * 1024 / (group_bytes + 1)) + 1;
    const int fair = divide_up(p.groups, threads * 4);
    p.tile_groups = divide_up(streamed < fair ? streamed : fair, 2) * 2;
    p.group_tiles = divide_up(p.groups, p.tile_groups);
    return p;
}

/* One tile; the last group may have fewer than 16 rows and goes through a buffer. */
static void run_tile(const struct kernels *k, const struct matrix *w, struct matmul_tile *t,
                     int first_group)
{
    void (*const product)(const struct matmul_tile *) = k->matmul.product[w->type];
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

void matmul(const struct kernels *k, float *y, size_t y_stride, const struct matrix *w,
            struct activations *a)
{
    assert(w->cols == a->cols && y_stride >= (size_t)w->rows);
    if (a->rows == 0 || w->rows == 0)
        return;
    const int block = quant_block_elements(w->type);
    struct matmul_tile whole = {.group_bytes = matmul_group_bytes(w->type, w->cols),
                                .cols = w->cols,
                                .x = a->x,
                                .x_stride = (size_t)a->cols,
                                .y_stride = y_stride};
    if (block > 1)
        whole.codes = *activations_codes(k, a, block);
    const struct plan p = plan_tiles(w, a->rows, omp_get_max_threads());
    const size_t work = (size_t)a->rows * (size_t)w->rows * (size_t)w->cols;
    /* Tiles of the same rows follow each other, so that their codes stay cached. */
#pragma omp parallel for schedule(dynamic, 1) if (work > 32768)
    for (int i = 0; i < p.row_tiles * p.group_tiles; i++) {
        const int row = i / p.group_tiles * p.tile_rows;
        const int group = i % p.group_tiles * p.tile_groups;
        struct matmul_tile t = whole;
        t.rows = a->rows - row < p.tile_rows ? a->rows - row : p.tile_rows;
        t.groups = p.groups - group < p.tile_groups ? p.groups - group : p.tile_groups;
        t.x += (size_t)row * t.x_stride;
        if (block > 1)
            t.codes = codes_from_row(whole.codes, row);
        t.y = y + (size_t)row * y_stride + group * MATMUL_GROUP;
        run_tile(k, w, &t, group);
    }
}
