/* matmul_avx2.c - packed products with AVX2.
 *
 * A column vector of a group is two registers, 8 rows × 4 columns each. VPMADDUBSW multiplies codes
 * (unsigned) by activations (signed) and adds pairs into 16 bits with saturation, which must not
 * happen: so many products are added up as surely fit (sixteen_bit_vectors()), then VPMADDWD widens
 * to 32 bits and applies the scale of the sub-block on the way. Q8_0 takes |w| · (x with w's sign):
 * two products of 128 · 127 still fit. All of it is exact; only the floats at block ends must
 * follow docs/numerics.md, section 4.
 *
 * One activation row reads the packed planes directly; more of them first expand a group × 512
 * columns to bytes. */
#include "kernels/kernels_fill.h"
#include "kernels/matmul_layout.h"

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

enum {
    TILE_ROWS = 3,       /* rows × 2 registers of sums, twice, fill the registers */
    CHUNK_COLUMNS = 512, /* expanded at a time */
    AHEAD = 2304         /* bytes between reading and prefetching */
};

/* One group, CHUNK_COLUMNS columns, ready for the multiplier. */
struct expanded {
    uint8_t codes[CHUNK_COLUMNS / 4][64];   /* Q8_0: signed */
    int16_t scales[CHUNK_COLUMNS / 16][32]; /* of a sub-block, twice for each row */
    int16_t pairs[CHUNK_COLUMNS / 32][32];  /* minima, or scales where the codes have an offset */
    float d[CHUNK_COLUMNS / 32][16], m[CHUNK_COLUMNS / 32][16];
};

/* Where a tile reads its weights: `planes` says whether from a block or from expanded codes. It is
 * an argument of its own, so that every function has it as a constant. */
struct source {
    const uint8_t *block, *halves;
    const struct expanded *e;
};

always_inline __m256i four_columns(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

always_inline __m256i two_sums(const int16_t *sums)
{
    int32_t two;
    memcpy(&two, sums, sizeof two);
    return _mm256_set1_epi32(two);
}

always_inline __m256i load_256(const void *from)
{
    return _mm256_load_si256((const __m256i *)from);
}

always_inline __m256 load_halves(const uint8_t *from)
{
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)from));
}

/* What the centred product lacks when codes are not centred: offset · sum of activations. */
always_inline int type_offset(int type)
{
    switch (type) {
    case TENSOR_Q4_0:
        return 8;
    case TENSOR_Q5_0:
        return 16;
    case TENSOR_Q3_K:
        return 4;
    case TENSOR_Q6_K:
        return 32;
    default:
        return 0; /* Q8_0 too: its codes are made signed */
    }
}

always_inline int type_has_minimum(int type)
{
    return matmul_layout(type).halves == 2;
}

always_inline int type_sub_columns(int type)
{
    return type == TENSOR_Q2_K || type == TENSOR_Q3_K || type == TENSOR_Q6_K ? 16 : 32;
}

/* How many column vectors may add up in 16 bits: 2 · largest code · 127 each. */
always_inline int sixteen_bit_vectors(int type)
{
    switch (type) {
    case TENSOR_Q8_0:
        return 1; /* 2 · 128 · 127 = 32512 */
    case TENSOR_Q6_K:
        return 2; /* 2 · 2 · 63 · 127 = 32004 */
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
        return 4; /* 4 · 2 · 31 · 127 = 31496 */
    default:
        return type_sub_columns(type) / 4; /* 8 · 2 · 15 · 127 = 30480, 4 · 2 · 7 · 127 = 7112 */
    }
}

/* Half h of the codes of column vector `first + i`; `first` decides the fields, i walks along a run
 * of vectors with the same fields. */
always_inline __m256i load_codes(int type, const uint8_t *block, int first, int i, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    const uint8_t *low = block + l.low.offset + matmul_plane_vector(l, l.low, first) * 64;
    const __m256i vector = load_256(low + i * 64 + h * 32);
    if (type == TENSOR_Q8_0)
        return _mm256_xor_si256(vector, _mm256_set1_epi8((char)0x80));
    const int shift = matmul_plane_shift(l, l.low, first);
    const __m256i mask = _mm256_set1_epi8((char)((1 << l.low.bits) - 1));
    const __m256i codes = _mm256_and_si256(shift ? _mm256_srli_epi16(vector, shift) : vector, mask);
    if (l.high.bits == 0)
        return codes;
    const uint8_t *high = block + l.high.offset + matmul_plane_vector(l, l.high, first) * 64;
    const __m256i bits = load_256(high + i * 64 + h * 32);
    /* From where the field stands to right above the low bits. */
    const int up = l.low.bits - matmul_plane_shift(l, l.high, first);
    const __m256i moved = up > 0   ? _mm256_slli_epi16(bits, up)
                          : up < 0 ? _mm256_srli_epi16(bits, -up)
                                   : bits;
    const __m256i high_mask = _mm256_set1_epi8((char)(((1 << l.high.bits) - 1) << l.low.bits));
    return _mm256_or_si256(codes, _mm256_and_si256(moved, high_mask));
}

/* Scales of sub-blocks 2j and 2j + 1 as a pair of 16-bit numbers in each row's lane. */
always_inline __m256i load_scales(int type, const uint8_t *block, int j, int h)
{
    const uint8_t *from = block + matmul_layout(type).scales + j * 32 + h * 16;
    const __m128i bytes = _mm_load_si128((const __m128i *)from);
    if (type == TENSOR_Q2_K)
        return _mm256_cvtepu8_epi16(_mm_and_si128(bytes, _mm_set1_epi8(15)));
    return _mm256_cvtepi8_epi16(bytes);
}

always_inline __m256i load_minima(int type, const uint8_t *block, int j, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    if (type == TENSOR_Q2_K) {
        const __m128i bytes = _mm_load_si128((const __m128i *)(block + l.scales + j * 32 + h * 16));
        return _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
    }
    return _mm256_cvtepu8_epi16(
        _mm_load_si128((const __m128i *)(block + l.minima + j * 32 + h * 16)));
}

/* The first or the second of each pair, twice. */
always_inline __m256i twice(__m256i pairs, int which)
{
    const __m128i first = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    const __m128i second = _mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
    return _mm256_shuffle_epi8(pairs, _mm256_broadcastsi128_si256(which ? second : first));
}

/* Codes of vector i of block b's sub-block j. Blocks of 32 have one sub-block, but their fields
 * change within it. */
always_inline __m256i source_codes(int type, bool planes, const struct source *s, int b, int j,
                                   int i, int h)
{
    const int vectors = type_sub_columns(type) / 4, elements = matmul_layout(type).elements;
    if (!planes)
        return load_256(s->e->codes[b * (elements / 4) + j * vectors + i] + h * 32);
    if (elements == 32)
        return load_codes(type, s->block, i, 0, h);
    /* Runs are 8 vectors; a sub-block of 16 columns is half of one. */
    return load_codes(type, s->block, j * vectors / 8 * 8, j * vectors % 8 + i, h);
}

always_inline __m256i source_scale(int type, bool planes, const struct source *s, int b, int j,
                                   int h)
{
    if (matmul_layout(type).elements == 32)
        return _mm256_set1_epi16(1);
    if (!planes)
        return load_256(s->e->scales[b * (256 / type_sub_columns(type)) + j] + h * 16);
    return twice(load_scales(type, s->block, j / 2, h), j % 2);
}

/* Minima where the type has them, else scales, as pairs. */
always_inline __m256i source_pair(int type, bool planes, const struct source *s, int b, int j,
                                  int h)
{
    if (!planes)
        return load_256(s->e->pairs[b * (128 / type_sub_columns(type)) + j] + h * 16);
    return type_has_minimum(type) ? load_minima(type, s->block, j, h)
                                  : load_scales(type, s->block, j, h);
}

always_inline __m256 source_d(bool planes, const struct source *s, int b, int h)
{
    return planes ? load_halves(s->halves + h * 16) : _mm256_load_ps(s->e->d[b] + h * 8);
}

always_inline __m256 source_m(bool planes, const struct source *s, int b, int h)
{
    return planes ? load_halves(s->halves + 32 + h * 16) : _mm256_load_ps(s->e->m[b] + h * 8);
}

/* Pairs of products in 16 bits; for Q8_0 the codes are signed. */
always_inline __m256i multiply(int type, __m256i codes, __m256i x)
{
    if (type == TENSOR_Q8_0)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
    return _mm256_maddubs_epi16(codes, x);
}

/* total += scale · (codes of sub-block j) · x. */
always_inline void add_sub_block(int type, bool planes, int rows, const struct source *s, int b,
                                 int j, const int8_t *x, size_t stride, __m256i total[TILE_ROWS][2])
{
    const int vectors = type_sub_columns(type) / 4, most = sixteen_bit_vectors(type);
#pragma GCC unroll 8
    for (int first = 0; first < vectors; first += most) {
        __m256i sum[TILE_ROWS][2];
#pragma GCC unroll 8
        for (int i = first; i < first + most; i++) {
            const __m256i w0 = source_codes(type, planes, s, b, j, i, 0);
            const __m256i w1 = source_codes(type, planes, s, b, j, i, 1);
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++) {
                const __m256i four = four_columns(x + (size_t)r * stride + i * 4);
                const __m256i p0 = multiply(type, w0, four), p1 = multiply(type, w1, four);
                sum[r][0] = i == first ? p0 : _mm256_add_epi16(sum[r][0], p0);
                sum[r][1] = i == first ? p1 : _mm256_add_epi16(sum[r][1], p1);
            }
        }
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256i scale = source_scale(type, planes, s, b, j, h);
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++)
                total[r][h] = _mm256_add_epi32(total[r][h], _mm256_madd_epi16(sum[r][h], scale));
        }
    }
}

always_inline void finish_32(int type, bool planes, const struct source *s, int b, float dx,
                             float sum_x, const __m256i *total, float *to)
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256 scale = _mm256_set1_ps(dx);
        __m256 acc = _mm256_load_ps(to + h * 8);
        acc = _mm256_fmadd_ps(_mm256_mul_ps(source_d(planes, s, b, h), scale),
                              _mm256_cvtepi32_ps(total[h]), acc);
        if (type_has_minimum(type))
            acc = _mm256_fmadd_ps(_mm256_mul_ps(source_m(planes, s, b, h), scale),
                                  _mm256_set1_ps(sum_x), acc);
        _mm256_store_ps(to + h * 8, acc);
    }
}

/* sums: of the activations of the super-block's sub-blocks. */
always_inline void finish_256(int type, bool planes, const struct source *s, int b, float dx,
                              const int16_t *sums, const __m256i *total, float *to)
{
    const int pairs = 128 / type_sub_columns(type), offset = type_offset(type);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256i rest = _mm256_setzero_si256(), products = total[h];
#pragma GCC unroll 8
        for (int j = 0; j < pairs; j++)
            rest = _mm256_add_epi32(rest, _mm256_madd_epi16(source_pair(type, planes, s, b, j, h),
                                                            two_sums(sums + 2 * j)));
        if (offset)
            products =
                _mm256_sub_epi32(products, _mm256_mullo_epi32(rest, _mm256_set1_epi32(offset)));
        const __m256 scale = _mm256_set1_ps(dx);
        __m256 acc = _mm256_load_ps(to + h * 8);
        acc = _mm256_fmadd_ps(_mm256_mul_ps(source_d(planes, s, b, h), scale),
                              _mm256_cvtepi32_ps(products), acc);
        if (type_has_minimum(type))
            acc = _mm256_fnmadd_ps(_mm256_mul_ps(source_m(planes, s, b, h), scale),
                                   _mm256_cvtepi32_ps(rest), acc);
        _mm256_store_ps(to + h * 8, acc);
    }
}

/* Block b of the source (number `at` of the row) times `rows` rows, added to `to` [rows][16]. */
always_inline void add_block(int type, bool planes, int rows, const struct source *s, int b, int at,
                             const struct matmul_codes *x, float *to)
{
    const int elements = matmul_layout(type).elements, sub_columns = type_sub_columns(type);
    __m256i total[TILE_ROWS][2];
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        const int start =
            elements == 32 && type_offset(type)
                ? -type_offset(type) * x->sums32[(size_t)r * x->sum32_stride + (size_t)at]
                : 0;
        total[r][0] = total[r][1] = _mm256_set1_epi32(start);
    }
    const int8_t *codes = x->codes + (size_t)at * (size_t)elements;
    if (elements == 32) {
        add_sub_block(type, planes, rows, s, b, 0, codes, x->stride, total);
    } else if (planes) { /* fields change from sub-block to sub-block: unrolled, they are constants
                          */
#pragma GCC unroll 16
        for (int j = 0; j < 256 / sub_columns; j++)
            add_sub_block(type, true, rows, s, b, j, codes + j * sub_columns, x->stride, total);
    } else {
        for (int j = 0; j < 256 / sub_columns; j++)
            add_sub_block(type, false, rows, s, b, j, codes + j * sub_columns, x->stride, total);
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        const float dx = x->scales[(size_t)r * x->scale_stride + (size_t)at];
        const int16_t *sums32 = x->sums32 + (size_t)r * x->sum32_stride;
        const int16_t *sums16 = x->sums16 + (size_t)r * x->sum16_stride;
        if (elements == 32)
            finish_32(type, planes, s, b, dx, sums32[at], total[r], to + r * MATMUL_GROUP);
        else
            finish_256(type, planes, s, b, dx,
                       sub_columns == 32 ? sums32 + at * 8 : sums16 + at * 16, total[r],
                       to + r * MATMUL_GROUP);
    }
}

/* ---- one row, from the planes ---- */

always_inline void direct(int type, const struct matmul_tile *t)
{
    const struct matmul_layout l = matmul_layout(type);
    const int blocks = t->cols / l.elements;
    for (int g = 0; g < t->groups; g++) {
        const uint8_t *group = t->weights + (size_t)g * t->group_bytes;
        struct source s = {group, group + (size_t)blocks * (size_t)l.block_bytes, NULL};
        _Alignas(32) float sums[MATMUL_GROUP] = {0};
        for (int b = 0; b < blocks; b++) {
            for (int i = 0; i < l.block_bytes; i += 64)
                _mm_prefetch((const char *)s.block + i + AHEAD, _MM_HINT_T0);
            add_block(type, true, 1, &s, 0, b, &t->codes, sums);
            s.block += l.block_bytes;
            s.halves += l.halves * 32;
        }
        memcpy(t->y + g * MATMUL_GROUP, sums, sizeof sums);
    }
}

/* ---- many rows, from expanded codes ---- */

always_inline void expand_block(int type, const struct source *s, int b, struct expanded *e)
{
    const int elements = matmul_layout(type).elements, subs = elements / type_sub_columns(type);
    const int vectors = type_sub_columns(type) / 4;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
#pragma GCC unroll 16
        for (int j = 0; j < subs; j++) {
#pragma GCC unroll 8
            for (int i = 0; i < vectors; i++)
                _mm256_store_si256((__m256i *)(e->codes[(b * subs + j) * vectors + i] + h * 32),
                                   source_codes(type, true, s, 0, j, i, h));
            if (elements == 256)
                _mm256_store_si256((__m256i *)(e->scales[b * subs + j] + h * 16),
                                   source_scale(type, true, s, 0, j, h));
        }
        for (int j = 0; j < subs / 2; j++)
            _mm256_store_si256((__m256i *)(e->pairs[b * (subs / 2) + j] + h * 16),
                               source_pair(type, true, s, 0, j, h));
        _mm256_store_ps(e->d[b] + h * 8, source_d(true, s, 0, h));
        if (type_has_minimum(type))
            _mm256_store_ps(e->m[b] + h * 8, source_m(true, s, 0, h));
    }
}

always_inline void expand(int type, const struct matmul_tile *t, const uint8_t *group, int first,
                          int blocks, struct expanded *e)
{
    const struct matmul_layout l = matmul_layout(type);
    const size_t all = (size_t)(t->cols / l.elements) * (size_t)l.block_bytes;
    struct source s = {group + (size_t)first * (size_t)l.block_bytes,
                       group + all + (size_t)first * (size_t)l.halves * 32, NULL};
    for (int b = 0; b < blocks; b++) {
        expand_block(type, &s, b, e);
        s.block += l.block_bytes;
        s.halves += l.halves * 32;
    }
}

always_inline void tile(int type, int rows, const struct expanded *e, int first, int blocks,
                        const struct matmul_codes *x, float *to)
{
    const struct source s = {NULL, NULL, e};
    for (int b = 0; b < blocks; b++)
        add_block(type, false, rows, &s, b, first + b, x, to);
}

static struct matmul_codes codes_from_row(struct matmul_codes c, int row)
{
    c.codes += (size_t)row * c.stride;
    c.scales += (size_t)row * c.scale_stride;
    c.sums16 += (size_t)row * c.sum16_stride;
    c.sums32 += (size_t)row * c.sum32_stride;
    return c;
}

always_inline void panel(int type, const struct matmul_tile *t)
{
    _Alignas(64) struct expanded e;
    _Alignas(64) float sums[MATMUL_TILE_ROWS][MATMUL_GROUP];
    const int blocks = t->cols / matmul_layout(type).elements;
    const int chunk = CHUNK_COLUMNS / matmul_layout(type).elements;
    for (int g = 0; g < t->groups; g++) {
        memset(sums, 0, (size_t)t->rows * sizeof *sums);
        for (int first = 0; first < blocks; first += chunk) {
            const int n = blocks - first < chunk ? blocks - first : chunk;
            expand(type, t, t->weights + (size_t)g * t->group_bytes, first, n, &e);
            for (int r = 0; r < t->rows; r += TILE_ROWS) {
                const struct matmul_codes x = codes_from_row(t->codes, r);
                if (t->rows - r >= TILE_ROWS)
                    tile(type, TILE_ROWS, &e, first, n, &x, sums[r]);
                else if (t->rows - r == 2)
                    tile(type, 2, &e, first, n, &x, sums[r]);
                else
                    tile(type, 1, &e, first, n, &x, sums[r]);
            }
        }
        for (int r = 0; r < t->rows; r++)
            memcpy(t->y + (size_t)r * t->y_stride + g * MATMUL_GROUP, sums[r], sizeof sums[r]);
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

/* ---- F32, F16, BF16: one fma per column, no blocks ---- */

always_inline __m256 load_floats(int type, const uint8_t *from)
{
    if (type == TENSOR_F32)
        return _mm256_load_ps((const float *)(const void *)from);
    if (type == TENSOR_F16)
        return load_halves(from);
    const __m128i bits = _mm_load_si128((const __m128i *)from);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

always_inline void plain_tile(int type, int rows, const struct matmul_tile *t, int g, int row)
{
    const size_t bytes = (size_t)matmul_layout(type).block_bytes;
    const uint8_t *w = t->weights + (size_t)g * t->group_bytes;
    const float *x = t->x + (size_t)row * t->x_stride;
    __m256 acc[4][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (int k = 0; k < t->cols; k++, w += bytes) {
        const __m256 w0 = load_floats(type, w), w1 = load_floats(type, w + bytes / 2);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m256 xk = _mm256_set1_ps(x[(size_t)r * t->x_stride + (size_t)k]);
            acc[r][0] = _mm256_fmadd_ps(w0, xk, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(w1, xk, acc[r][1]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        float *y = t->y + (size_t)(row + r) * t->y_stride + g * MATMUL_GROUP;
        _mm256_storeu_ps(y, acc[r][0]);
        _mm256_storeu_ps(y + 8, acc[r][1]);
    }
}

always_inline void plain(int type, const struct matmul_tile *t)
{
    for (int g = 0; g < t->groups; g++) {
        int r = 0;
        for (; r + 4 <= t->rows; r += 4)
            plain_tile(type, 4, t, g, r);
        for (; r + 2 <= t->rows; r += 2)
            plain_tile(type, 2, t, g, r);
        if (r < t->rows)
            plain_tile(type, 1, t, g, r);
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
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    for (int i = 0; i < n; i += 8) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(x + i));
        largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, magnitude));
    }
    uint32_t lanes[8], most = 0;
    _mm256_storeu_si256((__m256i *)lanes, largest);
    for (int i = 0; i < 8; i++)
        most = lanes[i] > most ? lanes[i] : most;
    float amax;
    memcpy(&amax, &most, sizeof amax);
    *ret_factor = 0;
    if (most >= 0x7f800000)
        return NAN;
    if (amax < 0x1p-100f)
        return 0;
    *ret_factor = 127.0f / amax;
    return amax / 127.0f;
}

always_inline __m256i rounded(const float *x, __m256 factor)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
}

/* Codes of 32 columns, sums of each 16. |x · factor| stays below 127.5: no clamp is needed. */
always_inline void quantise_32(const float *x, __m256 factor, int8_t *codes, int sums[2])
{
    const __m256i low = _mm256_packs_epi32(rounded(x, factor), rounded(x + 8, factor));
    const __m256i high = _mm256_packs_epi32(rounded(x + 16, factor), rounded(x + 24, factor));
    /* Packing works on 128-bit halves: dwords come out as 0 2 4 6 1 3 5 7. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    _mm256_storeu_si256((__m256i *)codes, packed);
    /* Codes plus 128 summed by eights. */
    const __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(packed, _mm256_set1_epi8((char)0x80)),
                                           _mm256_setzero_si256());
    sums[0] = (int)(_mm256_extract_epi64(eights, 0) + _mm256_extract_epi64(eights, 1)) - 16 * 128;
    sums[1] = (int)(_mm256_extract_epi64(eights, 2) + _mm256_extract_epi64(eights, 3)) - 16 * 128;
}

static void quantise(const float *x, int cols, int group, const struct matmul_codes *to)
{
    for (int g = 0; g < cols / group; g++) {
        const int first = g * group;
        float factor;
        to->scales[g] = group_scale(x + first, group, &factor);
        for (int i = first; i < first + group; i += 32) {
            int sums[2] = {0, 0};
            if (factor == 0) /* zero, or not finite: infinity · 0 must not reach the codes */
                memset(to->codes + i, 0, 32);
            else
                quantise_32(x + i, _mm256_set1_ps(factor), to->codes + i, sums);
            to->sums32[i / 32] = (int16_t)(sums[0] + sums[1]);
            if (group == 256) {
                to->sums16[i / 16] = (int16_t)sums[0];
                to->sums16[i / 16 + 1] = (int16_t)sums[1];
            }
        }
    }
}

void matmul_avx2_fill(struct matmul_kernels *k)
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
    k->quantise = quantise;
    k->quantise_isa = "avx2";
}
