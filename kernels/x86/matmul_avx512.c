/* matmul_avx512.c - packed products with AVX-512 and VNNI.
 *
 * One register is one group's column vector: 16 rows × 4 columns. VPDPBUSD multiplies its codes
 * (unsigned) by four broadcast activations (signed) and adds into 16 lanes of 32 bits: exact, so
 * only the floats at block ends must follow docs/numerics.md, section 4.
 *
 * One activation row reads the packed planes directly. More of them first expand two groups × 512
 * columns to bytes, which stay in the first-level cache while six rows at a time pass by: even for
 * two rows that is faster than memory can bring the weights. */
#include "kernels/x86/matmul_avx512.h"
#include "kernels/kernels_fill.h"

#include <math.h>

enum {
    TILE_ROWS = 6,       /* rows × 2 groups of accumulators fill the registers */
    CHUNK_COLUMNS = 512, /* expanded at a time */
    AHEAD = 2048         /* bytes between reading and prefetching */
};

/* The four columns x[0..4) in every lane. */
always_inline __m512i four_columns(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

always_inline __m512i even_scale(__m512i pair)
{
    return _mm512_srai_epi32(_mm512_slli_epi32(pair, 16), 16);
}

always_inline __m512i odd_scale(__m512i pair)
{
    return _mm512_srai_epi32(pair, 16);
}

/* ---- one row, from the planes ---- */

always_inline void direct_32(int type, const struct matmul_tile *t, const uint8_t *group, float *y)
{
    const struct matmul_layout l = matmul_layout(type);
    const int blocks = t->cols / 32;
    const uint8_t *halves = group + (size_t)blocks * (size_t)l.block_bytes;
    __m512 acc = _mm512_setzero_ps();
    for (int b = 0; b < blocks; b++) {
        const int8_t *x = t->codes.codes + b * 32;
        const int sum_x = t->codes.sums32[b];
        __m512i even = _mm512_set1_epi32(-type_offset(type) * sum_x);
        __m512i odd = _mm512_setzero_si512();
        for (int i = 0; i < l.block_bytes; i += 64)
            _mm_prefetch((const char *)group + i + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int v = 0; v < 8; v += 2) {
            even =
                _mm512_dpbusd_epi32(even, load_codes(type, group, v, 0), four_columns(x + v * 4));
            odd = _mm512_dpbusd_epi32(odd, load_codes(type, group, v + 1, 0),
                                      four_columns(x + v * 4 + 4));
        }
        const __m512 dx = _mm512_set1_ps(t->codes.scales[b]);
        const __m512 products = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
        acc = _mm512_fmadd_ps(_mm512_mul_ps(load_row_scales(type, halves), dx), products, acc);
        if (type_has_minimum(type))
            acc = _mm512_fmadd_ps(_mm512_mul_ps(load_row_scales(type, halves + 32), dx),
                                  _mm512_set1_ps((float)sum_x), acc);
        group += l.block_bytes;
        halves += l.halves * 32;
    }
    _mm512_storeu_ps(y, acc);
}

/* Column vectors first … end of sub-blocks of 32 columns 2p and 2p + 1, which share vectors, times
 * their scales. */
always_inline __m512i direct_run(int type, const uint8_t *block, const int8_t *x, int p, int first,
                                 int end, __m512i even_scales, __m512i odd_scales)
{
    __m512i even = _mm512_setzero_si512(), odd = even;
    x += p * 64;
#pragma GCC unroll 8
    for (int i = first; i < end; i++) {
        even =
            _mm512_dpbusd_epi32(even, load_codes(type, block, p * 16, i), four_columns(x + i * 4));
        odd = _mm512_dpbusd_epi32(odd, load_codes(type, block, p * 16 + 8, i),
                                  four_columns(x + 32 + i * 4));
    }
    return _mm512_add_epi32(_mm512_mullo_epi32(even, even_scales),
                            _mm512_mullo_epi32(odd, odd_scales));
}

always_inline __m512i direct_pair(int type, const uint8_t *block, const int8_t *x, int p)
{
    if (type_sub_columns(type) == 32) {
        const __m512i scales = load_scales(type, block, p);
        return direct_run(type, block, x, p, 0, 8, even_scale(scales), odd_scale(scales));
    }
    const __m512i first = load_scales(type, block, p * 2);
    const __m512i second = load_scales(type, block, p * 2 + 1);
    return _mm512_add_epi32(
        direct_run(type, block, x, p, 0, 4, even_scale(first), even_scale(second)),
        direct_run(type, block, x, p, 4, 8, odd_scale(first), odd_scale(second)));
}

/* What the products are once the offset of the codes is taken out. */
always_inline __m512i centred(int offset, __m512i products, __m512i rest)
{
    return offset ? _mm512_sub_epi32(products, _mm512_mullo_epi32(rest, _mm512_set1_epi32(offset)))
                  : products;
}

always_inline void direct_256(int type, const struct matmul_tile *t, const uint8_t *group, float *y)
{
    const struct matmul_layout l = matmul_layout(type);
    const int blocks = t->cols / 256, pairs = 128 / type_sub_columns(type);
    const uint8_t *halves = group + (size_t)blocks * (size_t)l.block_bytes;
    __m512 acc = _mm512_setzero_ps();
    for (int b = 0; b < blocks; b++) {
        const int8_t *x = t->codes.codes + b * 256;
        for (int i = 0; i < l.block_bytes; i += 64)
            _mm_prefetch((const char *)group + i + AHEAD, _MM_HINT_T0);
        __m512i products = direct_pair(type, group, x, 0);
        products = _mm512_add_epi32(products, direct_pair(type, group, x, 1));
        products = _mm512_add_epi32(products, direct_pair(type, group, x, 2));
        products = _mm512_add_epi32(products, direct_pair(type, group, x, 3));
        __m512i factors[8];
#pragma GCC unroll 8
        for (int j = 0; j < pairs; j++)
            factors[j] =
                type_has_minimum(type) ? load_minima(type, group, j) : load_scales(type, group, j);
        const __m512i rest =
            sums_times(factors, sub_sums(type_sub_columns(type), &t->codes, 0, b), pairs);
        products = centred(type_offset(type), products, rest);
        const __m512 dx = _mm512_set1_ps(t->codes.scales[b]);
        acc = _mm512_fmadd_ps(_mm512_mul_ps(load_row_scales(type, halves), dx),
                              _mm512_cvtepi32_ps(products), acc);
        if (type_has_minimum(type))
            acc = _mm512_fnmadd_ps(_mm512_mul_ps(load_row_scales(type, halves + 32), dx),
                                   _mm512_cvtepi32_ps(rest), acc);
        group += l.block_bytes;
        halves += l.halves * 32;
    }
    _mm512_storeu_ps(y, acc);
}

always_inline void direct(int type, const struct matmul_tile *t)
{
    for (int g = 0; g < t->groups; g++) {
        const uint8_t *group = t->weights + (size_t)g * t->group_bytes;
        float *y = t->y + g * MATMUL_GROUP;
        if (matmul_layout(type).elements == 32)
            direct_32(type, t, group, y);
        else
            direct_256(type, t, group, y);
    }
}

/* ---- many rows, from expanded codes ---- */

/* One group, CHUNK_COLUMNS columns, ready for the multiplier. */
struct expanded {
    uint8_t codes[CHUNK_COLUMNS / 4][64];
    int32_t scales[CHUNK_COLUMNS / 16][16]; /* of sub-blocks, super-blocks only */
    int16_t pairs[CHUNK_COLUMNS / 32][32];  /* minima, or scales where the codes have an offset */
    float d[CHUNK_COLUMNS / 32][16], m[CHUNK_COLUMNS / 32][16];
};

/* The weights of the chunk behind this one, fetched a little at a time while this one multiplies:
 * else memory rests meanwhile. */
struct fetch {
    const uint8_t *at[2], *end; /* of both groups, which walk together; end: of the first */
    int lines;                  /* of each at a time */
};

always_inline void fetch_some(struct fetch *f)
{
    for (int i = 0; i < f->lines && f->at[0] < f->end; i++) {
        _mm_prefetch((const char *)f->at[0], _MM_HINT_T0);
        _mm_prefetch((const char *)f->at[1], _MM_HINT_T0);
        f->at[0] += 64;
        f->at[1] += 64;
    }
}

/* Accumulators of a tile of two groups. */
struct sums {
    float of[MATMUL_TILE_ROWS][2][MATMUL_GROUP];
};

always_inline void expand_sub_block(int type, const uint8_t *block, int first, __m512i *codes)
{
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        _mm512_store_si512(codes + first + i, load_codes(type, block, first, i));
}

always_inline void expand_256(int type, const uint8_t *block, int b, struct expanded *e)
{
    __m512i *codes = (__m512i *)e->codes[b * 64];
    expand_sub_block(type, block, 0, codes);
    expand_sub_block(type, block, 8, codes);
    expand_sub_block(type, block, 16, codes);
    expand_sub_block(type, block, 24, codes);
    expand_sub_block(type, block, 32, codes);
    expand_sub_block(type, block, 40, codes);
    expand_sub_block(type, block, 48, codes);
    expand_sub_block(type, block, 56, codes);
    const int pairs = 128 / type_sub_columns(type);
    for (int j = 0; j < pairs; j++) {
        const __m512i sc = load_scales(type, block, j);
        _mm512_store_si512(e->scales[(b * pairs + j) * 2], even_scale(sc));
        _mm512_store_si512(e->scales[(b * pairs + j) * 2 + 1], odd_scale(sc));
        _mm512_store_si512(e->pairs[b * pairs + j],
                           type_has_minimum(type) ? load_minima(type, block, j) : sc);
    }
}

always_inline void expand_32(int type, const uint8_t *block, int b, struct expanded *e)
{
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
        _mm512_store_si512(e->codes[b * 8 + v], load_codes(type, block, v, 0));
}

always_inline void expand(int type, const struct matmul_tile *t, const uint8_t *group, int column,
                          int columns, struct expanded *e)
{
    const struct matmul_layout l = matmul_layout(type);
    const int first = column / l.elements;
    const uint8_t *block = group + (size_t)first * (size_t)l.block_bytes;
    const uint8_t *halves = group + (size_t)(t->cols / l.elements) * (size_t)l.block_bytes +
                            (size_t)first * (size_t)l.halves * 32;
    for (int b = 0; b < columns / l.elements; b++) {
        if (l.elements == 32)
            expand_32(type, block, b, e);
        else
            expand_256(type, block, b, e);
        _mm512_store_ps(e->d[b], load_row_scales(type, halves));
        if (l.halves == 2)
            _mm512_store_ps(e->m[b], load_row_scales(type, halves + 32));
        block += l.block_bytes;
        halves += l.halves * 32;
    }
}

/* `vectors` column vectors of two groups times `rows` rows, into sum. */
always_inline void multiply(int rows, int vectors, const uint8_t (*w0)[64], const uint8_t (*w1)[64],
                            const int8_t *x, size_t stride, __m512i sum[TILE_ROWS][2])
{
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        const __m512i a = _mm512_load_si512(w0[v]), b = _mm512_load_si512(w1[v]);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const __m512i four = four_columns(x + (size_t)r * stride + v * 4);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], a, four);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], b, four);
        }
    }
}

/* acc += (d · dx) · sum for two groups of one row. */
always_inline void add_scaled(const struct expanded *e, int b, float dx, __m512i sum0, __m512i sum1,
                              __m512 *acc)
{
    const __m512 scale = _mm512_set1_ps(dx);
    acc[0] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(e[0].d[b]), scale),
                             _mm512_cvtepi32_ps(sum0), acc[0]);
    acc[1] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(e[1].d[b]), scale),
                             _mm512_cvtepi32_ps(sum1), acc[1]);
}

always_inline void tile_32(int offset, int has_minimum, int rows, const struct expanded *e,
                           int blocks, int first, const struct matmul_codes *x, struct fetch *fetch,
                           float *to)
{
    __m512 acc[TILE_ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        acc[r][0] = _mm512_load_ps(to + r * 2 * MATMUL_GROUP);
        acc[r][1] = _mm512_load_ps(to + (r * 2 + 1) * MATMUL_GROUP);
    }
    for (int b = 0; b < blocks; b++) {
        const int16_t *sums = x->sums32 + first + b;
        fetch_some(fetch);
        __m512i sum[TILE_ROWS][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm512_set1_epi32(-offset * sums[(size_t)r * x->sum32_stride]);
        multiply(rows, 8, e[0].codes + b * 8, e[1].codes + b * 8,
                 x->codes + (size_t)(first + b) * 32, x->stride, sum);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const float dx = x->scales[(size_t)r * x->scale_stride + (size_t)(first + b)];
            add_scaled(e, b, dx, sum[r][0], sum[r][1], acc[r]);
            if (has_minimum) {
                const __m512 s = _mm512_set1_ps(sums[(size_t)r * x->sum32_stride]);
                const __m512 scale = _mm512_set1_ps(dx);
                acc[r][0] =
                    _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(e[0].m[b]), scale), s, acc[r][0]);
                acc[r][1] =
                    _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(e[1].m[b]), scale), s, acc[r][1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm512_store_ps(to + r * 2 * MATMUL_GROUP, acc[r][0]);
        _mm512_store_ps(to + (r * 2 + 1) * MATMUL_GROUP, acc[r][1]);
    }
}

/* The end of super-block b for one row and group g. */
always_inline void finish_256(int sub_columns, int offset, int has_minimum,
                              const struct expanded *e, int b, const int16_t *sums, float dx,
                              __m512i total, float *to)
{
    const int pairs = 128 / sub_columns;
    __m512i factors[8];
#pragma GCC unroll 8
    for (int j = 0; j < pairs; j++)
        factors[j] = _mm512_load_si512(e->pairs[b * pairs + j]);
    const __m512i rest = sums_times(factors, sums, pairs);
    total = centred(offset, total, rest);
    const __m512 scale = _mm512_set1_ps(dx);
    __m512 acc = _mm512_load_ps(to);
    acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(e->d[b]), scale), _mm512_cvtepi32_ps(total),
                          acc);
    if (has_minimum)
        acc = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(e->m[b]), scale),
                               _mm512_cvtepi32_ps(rest), acc);
    _mm512_store_ps(to, acc);
}

always_inline void tile_256(int sub_columns, int offset, int has_minimum, int rows,
                            const struct expanded *e, int blocks, int first,
                            const struct matmul_codes *x, struct fetch *fetch, float *to)
{
    const int subs = 256 / sub_columns, vectors = sub_columns / 4;
    for (int b = 0; b < blocks; b++) {
        __m512i total[TILE_ROWS][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            total[r][0] = total[r][1] = _mm512_setzero_si512();
#pragma GCC unroll 1
        for (int j = 0; j < subs; j++) {
            if (j % (subs / 8) == 0)
                fetch_some(fetch);
            __m512i sum[TILE_ROWS][2];
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++)
                sum[r][0] = sum[r][1] = _mm512_setzero_si512();
            multiply(rows, vectors, e[0].codes + b * 64 + j * vectors,
                     e[1].codes + b * 64 + j * vectors,
                     x->codes + (size_t)(first + b) * 256 + j * sub_columns, x->stride, sum);
            const __m512i sc0 = _mm512_load_si512(e[0].scales[b * subs + j]);
            const __m512i sc1 = _mm512_load_si512(e[1].scales[b * subs + j]);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                total[r][0] = _mm512_add_epi32(total[r][0], _mm512_mullo_epi32(sum[r][0], sc0));
                total[r][1] = _mm512_add_epi32(total[r][1], _mm512_mullo_epi32(sum[r][1], sc1));
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const float dx = x->scales[(size_t)r * x->scale_stride + (size_t)(first + b)];
            const int16_t *sums = sub_sums(sub_columns, x, r, first + b);
            finish_256(sub_columns, offset, has_minimum, &e[0], b, sums, dx, total[r][0],
                       to + r * 2 * MATMUL_GROUP);
            finish_256(sub_columns, offset, has_minimum, &e[1], b, sums, dx, total[r][1],
                       to + (r * 2 + 1) * MATMUL_GROUP);
        }
    }
}

always_inline void tile(int type, int rows, const struct expanded *e, int column, int columns,
                        const struct matmul_codes *x, struct fetch *fetch, float *to)
{
    if (matmul_layout(type).elements == 32)
        tile_32(type_offset(type), type_has_minimum(type), rows, e, columns / 32, column / 32, x,
                fetch, to);
    else
        tile_256(type_sub_columns(type), type_offset(type), type_has_minimum(type), rows, e,
                 columns / 256, column / 256, x, fetch, to);
}

static struct matmul_codes codes_from_row(struct matmul_codes c, int row)
{
    c.codes += (size_t)row * c.stride;
    c.scales += (size_t)row * c.scale_stride;
    c.sums16 += (size_t)row * c.sum16_stride;
    c.sums32 += (size_t)row * c.sum32_stride;
    return c;
}

/* All rows times one expanded chunk, six at a time. */
always_inline void tiles(int type, const struct matmul_tile *t, const struct expanded *e,
                         int column, int columns, struct fetch *fetch, struct sums *sums)
{
    for (int r = 0, n; r < t->rows; r += n) {
        const struct matmul_codes x = codes_from_row(t->codes, r);
        const int left = t->rows - r;
        float *to = sums->of[r][0];
        n = left >= TILE_ROWS ? TILE_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        if (n == TILE_ROWS)
            tile(type, TILE_ROWS, e, column, columns, &x, fetch, to);
        else if (n == 4)
            tile(type, 4, e, column, columns, &x, fetch, to);
        else if (n == 2)
            tile(type, 2, e, column, columns, &x, fetch, to);
        else
            tile(type, 1, e, column, columns, &x, fetch, to);
    }
}

/* What follows `columns` columns at `column` in memory, as much as one chunk at most. Behind the
 * last columns that is the next group's beginning, or nothing that matters. */
always_inline struct fetch fetch_behind(int type, const struct matmul_tile *t, const uint8_t *first,
                                        const uint8_t *second, int column, int columns)
{
    const struct matmul_layout l = matmul_layout(type);
    const int next = column + columns, left = t->cols - next;
    const size_t skip =
        left > 0 ? (size_t)(next / l.elements) * (size_t)l.block_bytes : 2 * t->group_bytes;
    const int fetched = left > 0 && left < CHUNK_COLUMNS ? left : CHUNK_COLUMNS;
    const int bytes = fetched / l.elements * l.block_bytes;
    const int pieces = (t->rows + TILE_ROWS - 1) / TILE_ROWS * (columns / 32);
    return (struct fetch){
        {first + skip, second + skip}, first + skip + bytes, (bytes / 64 + pieces - 1) / pieces};
}

/* Two groups at a time; a single one is its own second, computed twice. */
always_inline void panel(int type, const struct matmul_tile *t)
{
    _Alignas(64) struct expanded e[2];
    _Alignas(64) struct sums sums;
    for (int g = 0; g < t->groups; g += 2) {
        const int second = g + 1 < t->groups ? g + 1 : g;
        memset(sums.of, 0, (size_t)t->rows * sizeof sums.of[0]);
        for (int column = 0; column < t->cols; column += CHUNK_COLUMNS) {
            const int left = t->cols - column;
            const int columns = left < CHUNK_COLUMNS ? left : CHUNK_COLUMNS;
            const uint8_t *w0 = t->weights + (size_t)g * t->group_bytes;
            const uint8_t *w1 = t->weights + (size_t)second * t->group_bytes;
            struct fetch fetch = fetch_behind(type, t, w0, w1, column, columns);
            expand(type, t, w0, column, columns, &e[0]);
            expand(type, t, w1, column, columns, &e[1]);
            tiles(type, t, e, column, columns, &fetch, &sums);
        }
        for (int r = 0; r < t->rows; r++) {
            float *y = t->y + (size_t)r * t->y_stride;
            memcpy(y + g * MATMUL_GROUP, sums.of[r][0], sizeof sums.of[r][0]);
            memcpy(y + second * MATMUL_GROUP, sums.of[r][1], sizeof sums.of[r][1]);
        }
    }
}

always_inline void product(int type, const struct matmul_tile *t)
{
    if (t->rows == 1)
        direct(type, t);
    else
        panel(type, t);
}

static void product_q4_0(const struct matmul_tile *t)
{
    product(TENSOR_Q4_0, t);
}

static void product_q4_1(const struct matmul_tile *t)
{
    product(TENSOR_Q4_1, t);
}

static void product_q5_0(const struct matmul_tile *t)
{
    product(TENSOR_Q5_0, t);
}

static void product_q5_1(const struct matmul_tile *t)
{
    product(TENSOR_Q5_1, t);
}

static void product_q8_0(const struct matmul_tile *t)
{
    product(TENSOR_Q8_0, t);
}

static void product_q2_k(const struct matmul_tile *t)
{
    product(TENSOR_Q2_K, t);
}

static void product_q3_k(const struct matmul_tile *t)
{
    product(TENSOR_Q3_K, t);
}

static void product_q4_k(const struct matmul_tile *t)
{
    product(TENSOR_Q4_K, t);
}

static void product_q5_k(const struct matmul_tile *t)
{
    product(TENSOR_Q5_K, t);
}

static void product_q6_k(const struct matmul_tile *t)
{
    product(TENSOR_Q6_K, t);
}

static void product_iq4_nl(const struct matmul_tile *t)
{
    product(TENSOR_IQ4_NL, t);
}

static void product_iq4_xs(const struct matmul_tile *t)
{
    product(TENSOR_IQ4_XS, t);
}

static void product_mxfp4(const struct matmul_tile *t)
{
    product(TENSOR_MXFP4, t);
}

/* ---- F32, F16, BF16: one fma per column, no blocks ---- */

always_inline __m512 load_floats(int type, const uint8_t *from)
{
    if (type == TENSOR_F32)
        return _mm512_load_ps(from);
    if (type == TENSOR_F16)
        return load_halves(from);
    const __m256i bits = _mm256_load_si256((const __m256i *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

always_inline void plain_tile(int type, int rows, const struct matmul_tile *t, int g, int second,
                              int row)
{
    const size_t bytes = (size_t)matmul_layout(type).block_bytes;
    const uint8_t *w0 = t->weights + (size_t)g * t->group_bytes;
    const uint8_t *w1 = t->weights + (size_t)second * t->group_bytes;
    const float *x = t->x + (size_t)row * t->x_stride;
    __m512 acc[TILE_ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    for (int k = 0; k < t->cols; k++) {
        const __m512 a = load_floats(type, w0 + (size_t)k * bytes);
        const __m512 b = load_floats(type, w1 + (size_t)k * bytes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const __m512 xk = _mm512_set1_ps(x[(size_t)r * t->x_stride + (size_t)k]);
            acc[r][0] = _mm512_fmadd_ps(a, xk, acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(b, xk, acc[r][1]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        float *y = t->y + (size_t)(row + r) * t->y_stride;
        _mm512_storeu_ps(y + g * MATMUL_GROUP, acc[r][0]);
        _mm512_storeu_ps(y + second * MATMUL_GROUP, acc[r][1]);
    }
}

always_inline void plain(int type, const struct matmul_tile *t)
{
    for (int g = 0; g < t->groups; g += 2) {
        const int second = g + 1 < t->groups ? g + 1 : g;
        int r = 0;
        for (; r + TILE_ROWS <= t->rows; r += TILE_ROWS)
            plain_tile(type, TILE_ROWS, t, g, second, r);
        for (; r + 3 <= t->rows; r += 3)
            plain_tile(type, 3, t, g, second, r);
        for (; r < t->rows; r++)
            plain_tile(type, 1, t, g, second, r);
    }
}

static void product_f32(const struct matmul_tile *t)
{
    plain(TENSOR_F32, t);
}

static void product_f16(const struct matmul_tile *t)
{
    plain(TENSOR_F16, t);
}

static void product_bf16(const struct matmul_tile *t)
{
    plain(TENSOR_BF16, t);
}

/* ---- activations ---- */

/* Scale of a group and the factor for its codes; both as section 3 wants. */
static float group_scale(const float *x, int n, float *ret_factor)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 16)
        largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
    const uint32_t bits = _mm512_reduce_max_epu32(largest);
    float amax;
    memcpy(&amax, &bits, sizeof amax);
    *ret_factor = 0;
    if (bits >= 0x7f800000)
        return NAN;
    if (amax < 0x1p-100f)
        return 0;
    *ret_factor = 127.0f / amax;
    return amax / 127.0f;
}

/* Codes of 16 columns; returns their sum. No product exceeds 127.5: no clamp is needed. */
always_inline int quantise_16(const float *x, __m512 factor, int8_t *codes)
{
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
    _mm_storeu_si128((__m128i *)codes, _mm512_cvtepi32_epi8(q));
    return _mm512_reduce_add_epi32(q);
}

static void quantise(const float *x, int cols, int group, const struct matmul_codes *to)
{
    for (int g = 0; g < cols / group; g++) {
        const int first = g * group;
        float factor;
        to->scales[g] = group_scale(x + first, group, &factor);
        for (int i = first; i < first + group; i += 32) {
            int sums[2] = {0, 0};
            if (factor == 0) { /* zero, or not finite: infinity · 0 must not reach the codes */
                memset(to->codes + i, 0, 32);
            } else {
                sums[0] = quantise_16(x + i, _mm512_set1_ps(factor), to->codes + i);
                sums[1] = quantise_16(x + i + 16, _mm512_set1_ps(factor), to->codes + i + 16);
            }
            to->sums32[i / 32] = (int16_t)(sums[0] + sums[1]);
            if (group == 256) {
                to->sums16[i / 16] = (int16_t)sums[0];
                to->sums16[i / 16 + 1] = (int16_t)sums[1];
            }
        }
    }
}

void matmul_avx512_fill(struct matmul_kernels *k)
{
    k->product[TENSOR_F32] = product_f32;
    k->product[TENSOR_F16] = product_f16;
    k->product[TENSOR_BF16] = product_bf16;
    k->product[TENSOR_Q4_0] = product_q4_0;
    k->product[TENSOR_Q4_1] = product_q4_1;
    k->product[TENSOR_Q5_0] = product_q5_0;
    k->product[TENSOR_Q5_1] = product_q5_1;
    k->product[TENSOR_Q8_0] = product_q8_0;
    k->product[TENSOR_Q2_K] = product_q2_k;
    k->product[TENSOR_Q3_K] = product_q3_k;
    k->product[TENSOR_Q4_K] = product_q4_k;
    k->product[TENSOR_Q5_K] = product_q5_k;
    k->product[TENSOR_Q6_K] = product_q6_k;
    k->product[TENSOR_IQ4_NL] = product_iq4_nl;
    k->product[TENSOR_IQ4_XS] = product_iq4_xs;
    k->product[TENSOR_MXFP4] = product_mxfp4;
    k->quantise = quantise;
    k->quantise_isa = "avx512";
}
