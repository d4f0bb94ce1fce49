/* matmul_amx.c - packed products with AMX's int8 tiles, for many activation rows.
 *
 * Activation codes are A tiles as they lie in memory; a group's column vectors, one line each, are
 * B tiles. TDPB… multiplies 16 rows × 64 columns × 16 outputs and adds into 32-bit integers: exact,
 * so only the floats at block ends must follow docs/numerics.md, section 4.
 *
 * A scale that changes every 16 or 32 columns would cut the tiles short. So super-blocks put it
 * into the weights: P = scale · code is at most 16 bits, and two planes of bytes, P = high · 2^s +
 * low, give 2^s · (high plane's sums) + (low plane's sums), over all 256 columns at once. Formats
 * of 32 columns have a float scale there and take tiles of 32 columns.
 *
 * Planes are expanded once for all rows. While the tiles of one step multiply, vectors finish the
 * sums of the step before. */
#include "kernels/kernels_fill.h"
#include "kernels/x86/amx_tiles.h"
#include "kernels/x86/matmul_avx512.h"

enum {
    FEWEST_ROWS = 9,     /* fewer are faster with vectors */
    TILE_ROWS = 16,      /* of activations */
    STEP_ROWS = 32,      /* two A tiles */
    GROUPS_TOGETHER = 4, /* share the activations of some columns while those are cached */
    TAIL_COLUMNS = 512,
    PADDED_ROWS = (MATMUL_TILE_ROWS + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS
};

/* ---- super-blocks ---- */

/* How P becomes bytes. */
enum plane_form {
    ONE_UNSIGNED, /* P ≤ 255: Q2_K */
    ONE_NEGATED,  /* −P ≤ 127: Q3_K, whose least P is −(−32 · −4) once it is negated */
    DIGITS,       /* scale = 8 · high + low, times a code ≤ 31: Q4_K, Q5_K */
    BYTES         /* P = 256 · high + low, high signed: Q6_K, IQ4_XS */
};

always_inline enum plane_form plane_form(int type)
{
    return type == TENSOR_Q2_K                          ? ONE_UNSIGNED
           : type == TENSOR_Q3_K                        ? ONE_NEGATED
           : type == TENSOR_Q4_K || type == TENSOR_Q5_K ? DIGITS
                                                        : BYTES;
}

always_inline bool is_one_plane(int type)
{
    return plane_form(type) == ONE_UNSIGNED || plane_form(type) == ONE_NEGATED;
}

always_inline bool is_high_signed(int type)
{
    return plane_form(type) == BYTES || plane_form(type) == ONE_NEGATED;
}

always_inline bool is_low_signed(int type)
{
    return plane_form(type) == ONE_NEGATED;
}

/* What the end of a super-block needs of a group. */
struct group_scales {
    float d[MATMUL_GROUP], m[MATMUL_GROUP];
    int16_t minima[8][2 * MATMUL_GROUP];
};

/* One step multiplies two planes: of one group, or the single ones of two. Scales are kept until
 * the sums of the step before are done with them. */
struct step_weights {
    _Alignas(64) uint8_t planes[2][64][64];
    struct group_scales scales[2][2];
};

/* Products of two A tiles and two planes. */
struct step_sums {
    _Alignas(64) int32_t of[2][2][TILE_ROWS][MATMUL_GROUP];
};

/* Vectors that still wait for their end: rows of one step. */
struct step_rest {
    const struct group_scales *scales;
    const struct matmul_codes *x; /* from the first row of the tile */
    int block, first, rows;
    float *to[2]; /* [row][16] of the first row, by group */
};

/* Sub-block scales, 16 bits, twice in each row's lane: of the even and of the odd sub-block. */
always_inline __m512i even_twice(__m512i pair)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaa, pair, _mm512_slli_epi32(pair, 16));
}

always_inline __m512i odd_twice(__m512i pair)
{
    return _mm512_mask_blend_epi16(0x55555555, pair, _mm512_srli_epi32(pair, 16));
}

/* 64 codes times their row's scale, into bytes of one or both planes. */
always_inline void multiply_codes(int type, __m512i codes, __m512i scale, uint8_t *high,
                                  uint8_t *low)
{
    const __m512i even_bytes = _mm512_set1_epi16(0x00ff);
    const enum plane_form form = plane_form(type);
    if (form == ONE_UNSIGNED) { /* no byte carries into the next */
        _mm512_store_si512(high, _mm512_mullo_epi16(codes, scale));
        return;
    }
    if (form == DIGITS) {
        const __m512i sh = _mm512_srli_epi16(scale, 3);
        const __m512i sl = _mm512_and_si512(scale, _mm512_set1_epi16(7));
        _mm512_store_si512(high, _mm512_mullo_epi16(codes, sh));
        _mm512_store_si512(low, _mm512_mullo_epi16(codes, sl));
        return;
    }
    const __m512i offset = _mm512_set1_epi8((char)type_offset(type));
    if (form == ONE_NEGATED) { /* modulo 256 each */
        const __m512i centred = _mm512_sub_epi8(offset, codes);
        const __m512i even = _mm512_mullo_epi16(centred, scale);
        const __m512i odd = _mm512_mullo_epi16(_mm512_andnot_si512(even_bytes, centred), scale);
        _mm512_store_si512(high, _mm512_ternarylogic_epi32(even_bytes, even, odd, 0xca));
        return;
    }
    const __m512i centred = _mm512_sub_epi8(codes, offset);
    const __m512i even =
        _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(centred, 8), 8), scale);
    const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(centred, 8), scale);
    /* 0xca: where the first has ones the second, else the third */
    _mm512_store_si512(
        low, _mm512_ternarylogic_epi32(even_bytes, even, _mm512_slli_epi16(odd, 8), 0xca));
    _mm512_store_si512(
        high, _mm512_ternarylogic_epi32(even_bytes, _mm512_srli_epi16(even, 8), odd, 0xca));
}

/* Column vectors of sub-blocks of 32 columns 2p and 2p + 1. */
always_inline void expand_pair(int type, const uint8_t *block, int p, uint8_t (*high)[64],
                               uint8_t (*low)[64])
{
    const int narrow = type_sub_columns(type) == 16;
    const __m512i first = load_scales(type, block, narrow ? p * 2 : p);
    const __m512i second = narrow ? load_scales(type, block, p * 2 + 1) : first;
    /* Halves of 16 columns: their scales. */
    const __m512i scales[4] = {even_twice(first), narrow ? odd_twice(first) : even_twice(first),
                               narrow ? even_twice(second) : odd_twice(first), odd_twice(second)};
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        const int v = p * 16 + i;
        multiply_codes(type, load_codes(type, block, p * 16 + i / 8 * 8, i % 8), scales[i / 4],
                       high[v], low[v]);
    }
}

/* One super-block of one group into plane `plane` and, if the form has two, the next. */
always_inline void expand_256(int type, const uint8_t *block, const uint8_t *halves, int plane,
                              struct step_weights *w, struct group_scales *s)
{
    uint8_t(*high)[64] = w->planes[plane], (*low)[64] = w->planes[1];
    expand_pair(type, block, 0, high, low);
    expand_pair(type, block, 1, high, low);
    expand_pair(type, block, 2, high, low);
    expand_pair(type, block, 3, high, low);
    _mm512_storeu_ps(s->d, load_halves(halves));
    if (!type_has_minimum(type))
        return;
    _mm512_storeu_ps(s->m, load_halves(halves + 32));
    for (int j = 0; j < 128 / type_sub_columns(type); j++)
        _mm512_storeu_si512(s->minima[j], load_minima(type, block, j));
}

/* The integer of section 4 for row r of a step and group g. */
always_inline __m512i total_of(int type, const struct step_sums *sums, int r, int g)
{
    const __m512i high =
        _mm512_load_si512(sums->of[r / TILE_ROWS][is_one_plane(type) ? g : 0][r % TILE_ROWS]);
    if (plane_form(type) == ONE_UNSIGNED)
        return high;
    if (plane_form(type) == ONE_NEGATED)
        return _mm512_sub_epi32(_mm512_setzero_si512(), high);
    const __m512i low = _mm512_load_si512(sums->of[r / TILE_ROWS][1][r % TILE_ROWS]);
    return _mm512_add_epi32(_mm512_slli_epi32(high, plane_form(type) == DIGITS ? 3 : 8), low);
}

/* Rows first … end of a step: acc += (d · dx) · total − (dmin · dx) · minima. */
always_inline void finish_rows(int type, const struct step_rest *rest, const struct step_sums *sums,
                               int g, int first, int end)
{
    const int pairs = 128 / type_sub_columns(type);
    const struct group_scales *s = &rest->scales[g];
    if (first >= end)
        return;
    const __m512 d = _mm512_loadu_ps(s->d);
    const __m512 m = type_has_minimum(type) ? _mm512_loadu_ps(s->m) : _mm512_setzero_ps();
    __m512i minima[8];
    if (type_has_minimum(type)) {
#pragma GCC unroll 8
        for (int j = 0; j < pairs; j++)
            minima[j] = _mm512_loadu_si512(s->minima[j]);
    }
    for (int r = first; r < end; r++) {
        const struct matmul_codes *x = rest->x;
        const int row = rest->first + r;
        float *to = rest->to[g] + (size_t)r * MATMUL_GROUP;
        const __m512 dx =
            _mm512_set1_ps(x->scales[(size_t)row * x->scale_stride + (size_t)rest->block]);
        __m512 acc =
            _mm512_fmadd_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(total_of(type, sums, r, g)),
                            _mm512_load_ps(to));
        if (type_has_minimum(type)) {
            const int16_t *of = sub_sums(type_sub_columns(type), x, row, rest->block);
            acc = _mm512_fnmadd_ps(_mm512_mul_ps(m, dx),
                                   _mm512_cvtepi32_ps(sums_times(minima, of, pairs)), acc);
        }
        _mm512_store_ps(to, acc);
    }
}

/* A part of the rows, by quarter 1 … 3: what fits beside one quarter of a step's tiles. */
always_inline void finish_part(int type, const struct step_rest *rest, const struct step_sums *sums,
                               int part)
{
    static const int cuts[4] = {0, 11, 22, STEP_ROWS};
    const int first = cuts[part - 1], end = rest->rows < cuts[part] ? rest->rows : cuts[part];
    finish_rows(type, rest, sums, 0, first, end);
    if (is_one_plane(type) && rest->to[1])
        finish_rows(type, rest, sums, 1, first, end);
}

/* A tile's codes: in place, or a copy with rows of zeros where the activations end. */
struct step_codes {
    const int8_t *of[2];
    size_t stride[2];
};

/* Tiles: sums of A tile a and plane p in 2a + p, A tiles in 4 and 5, planes in 6 and 7. */
always_inline void multiply_first(int type, int k, const struct step_weights *w,
                                  const struct step_codes *a, struct step_sums *before)
{
    tile_load(6, w->planes[0][k * 16], 64);
    tile_load(4, a->of[0] + k * 64, a->stride[0]);
    if (before) {
        tile_store(0, before->of[0][0], 64);
        tile_zero(0);
    }
    if (is_high_signed(type))
        tile_dot_signed(0, 4, 6);
    else
        tile_dot_unsigned(0, 4, 6);
    tile_load(7, w->planes[1][k * 16], 64);
    if (before) {
        tile_store(1, before->of[0][1], 64);
        tile_zero(1);
    }
    if (is_low_signed(type))
        tile_dot_signed(1, 4, 7);
    else
        tile_dot_unsigned(1, 4, 7);
}

always_inline void multiply_second(int type, int k, const struct step_codes *a,
                                   struct step_sums *before)
{
    if (before) {
        tile_store(2, before->of[1][0], 64);
        tile_zero(2);
        tile_store(3, before->of[1][1], 64);
        tile_zero(3);
    }
    if (!a->of[1])
        return;
    tile_load(5, a->of[1] + k * 64, a->stride[1]);
    if (is_high_signed(type))
        tile_dot_signed(2, 5, 6);
    else
        tile_dot_unsigned(2, 5, 6);
    if (is_low_signed(type))
        tile_dot_signed(3, 5, 7);
    else
        tile_dot_unsigned(3, 5, 7);
}

/* All columns of a super-block, 64 at a time. The first quarter takes the sums of the step before
 * out of the tiles, each just before its tile is needed; the others leave time to finish them. */
always_inline void multiply_256(int type, const struct step_weights *w, const struct step_codes *a,
                                const struct step_rest *before, struct step_sums *sums)
{
    multiply_first(type, 0, w, a, sums);
    multiply_second(type, 0, a, sums);
#pragma GCC unroll 1
    for (int k = 1; k < 4; k++) {
        multiply_first(type, k, w, a, NULL);
        multiply_second(type, k, a, NULL);
        finish_part(type, before, sums, k);
    }
}

always_inline void finish_last(int type, const struct step_rest *before, struct step_sums *sums)
{
    tile_store(0, sums->of[0][0], 64);
    tile_store(1, sums->of[0][1], 64);
    tile_store(2, sums->of[1][0], 64);
    tile_store(3, sums->of[1][1], 64);
    for (int part = 1; part < 4; part++)
        finish_part(type, before, sums, part);
}

/* Rows that fill no tile, with rows of zeros up to 16. */
struct tail {
    int rows;
    _Alignas(64) int8_t codes[TILE_ROWS][TAIL_COLUMNS + 64];
};

static void tail_fill(struct tail *tail, const struct matmul_tile *t, int column, int columns)
{
    const int first = t->rows - tail->rows;
    for (int r = 0; r < tail->rows; r++)
        memcpy(tail->codes[r], t->codes.codes + (size_t)(first + r) * t->codes.stride + column,
               (size_t)columns);
}

/* The tile that begins at `row`; NULL where no row is left. */
static const int8_t *tile_codes(const struct matmul_tile *t, const struct tail *tail, int row,
                                int column, size_t *ret_stride)
{
    const bool whole = row + TILE_ROWS <= t->rows;
    *ret_stride = whole ? t->codes.stride : sizeof tail->codes[0];
    return row >= t->rows ? NULL
           : whole        ? t->codes.codes + (size_t)row * t->codes.stride + column
                          : tail->codes[0];
}

/* Sums of all rows of some groups. */
struct tile_sums {
    _Alignas(64) float of[GROUPS_TOGETHER][PADDED_ROWS][MATMUL_GROUP];
};

static void sums_store(const struct matmul_tile *t, int group, int groups,
                       const struct tile_sums *sums)
{
    for (int r = 0; r < t->rows; r++)
        for (int g = 0; g < groups; g++)
            memcpy(t->y + (size_t)r * t->y_stride + (group + g) * MATMUL_GROUP, sums->of[g][r],
                   sizeof sums->of[g][r]);
}

/* What the steps over super-blocks share. */
struct steps {
    struct step_weights weights;
    struct step_sums sums;
    struct tail tail;
    struct step_rest rest;
    int turn; /* which scales the step uses */
};

/* Groups g and, of types with one plane, g + 1 times all rows, in super-block b. */
always_inline void steps_of_group(int type, const struct matmul_tile *t, struct steps *s, int b,
                                  const uint8_t *group, bool second, float (*to)[PADDED_ROWS][16])
{
    const struct matmul_layout l = matmul_layout(type);
    const size_t at = (size_t)b * (size_t)l.block_bytes;
    const size_t halves =
        (size_t)(t->cols / 256) * (size_t)l.block_bytes + (size_t)b * (size_t)l.halves * 32;
    s->turn ^= 1;
    struct group_scales *scales = s->weights.scales[s->turn];
    expand_256(type, group + at, group + halves, 0, &s->weights, &scales[0]);
    if (second)
        expand_256(type, group + t->group_bytes + at, group + t->group_bytes + halves, 1,
                   &s->weights, &scales[1]);
    for (int row = 0; row < t->rows; row += STEP_ROWS) {
        struct step_codes a;
        a.of[0] = tile_codes(t, &s->tail, row, b * 256, &a.stride[0]);
        a.of[1] = tile_codes(t, &s->tail, row + TILE_ROWS, b * 256, &a.stride[1]);
        multiply_256(type, &s->weights, &a, &s->rest, &s->sums);
        const int left = t->rows - row;
        s->rest = (struct step_rest){scales,
                                     &t->codes,
                                     b,
                                     row,
                                     left < STEP_ROWS ? left : STEP_ROWS,
                                     {to[0][row], second ? to[1][row] : NULL}};
    }
}

always_inline void product_256(int type, const struct matmul_tile *t)
{
    static const struct tile_shapes shapes = {.palette = 1,
                                              .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                              .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    const int together = is_one_plane(type) ? 2 : 1;
    struct tile_sums sums;
    struct steps s = {.tail.rows = t->rows % TILE_ROWS};
    tile_configure(&shapes);
    for (int g = 0; g < t->groups; g += GROUPS_TOGETHER) {
        const int n = t->groups - g < GROUPS_TOGETHER ? t->groups - g : GROUPS_TOGETHER;
        memset(sums.of, 0, (size_t)n * sizeof sums.of[0]);
        for (int b = 0; b < t->cols / 256; b++) {
            tail_fill(&s.tail, t, b * 256, 256);
            for (int i = 0; i < n; i += together)
                steps_of_group(type, t, &s, b, t->weights + (size_t)(g + i) * t->group_bytes,
                               together == 2 && i + 1 < n, sums.of + i);
        }
        finish_last(type, &s.rest, &s.sums);
        s.rest.rows = 0;
        sums_store(t, g, n, &sums);
    }
    tile_release();
}

/* ---- blocks of 32 columns ---- */

enum { CHUNK_BLOCKS = TAIL_COLUMNS / 32 };

/* Some blocks of one group. */
struct chunk_weights {
    _Alignas(64) int8_t codes[CHUNK_BLOCKS][8][64]; /* centred */
    float d[CHUNK_BLOCKS][MATMUL_GROUP], m[CHUNK_BLOCKS][MATMUL_GROUP];
};

/* The same blocks of a tile of activations: scales and, for minima, sums as floats; zero where
 * rows are missing. */
struct chunk_rows {
    const int8_t *codes;
    size_t stride;
    float scales[CHUNK_BLOCKS][TILE_ROWS], sums[CHUNK_BLOCKS][TILE_ROWS];
};

always_inline void expand_32(int type, const uint8_t *group, int blocks_of_group, int first,
                             int blocks, struct chunk_weights *w)
{
    const struct matmul_layout l = matmul_layout(type);
    const __m512i offset = _mm512_set1_epi8((char)type_offset(type));
    const uint8_t *block = group + (size_t)first * (size_t)l.block_bytes;
    const uint8_t *halves = group + (size_t)blocks_of_group * (size_t)l.block_bytes +
                            (size_t)first * (size_t)l.halves * 32;
    for (int b = 0; b < blocks; b++) {
#pragma GCC unroll 8
        for (int v = 0; v < 8; v++)
            _mm512_store_si512(w->codes[b][v],
                               _mm512_sub_epi8(load_codes(type, block, v, 0), offset));
        _mm512_storeu_ps(w->d[b], load_row_scales(type, halves));
        if (type_has_minimum(type))
            _mm512_storeu_ps(w->m[b], load_row_scales(type, halves + 32));
        block += l.block_bytes;
        halves += l.halves * 32;
    }
}

always_inline void chunk_rows_fill(int type, const struct matmul_tile *t, const struct tail *tail,
                                   int row, int first, int blocks, struct chunk_rows *to)
{
    const struct matmul_codes *x = &t->codes;
    const int rows = t->rows - row < TILE_ROWS ? t->rows - row : TILE_ROWS;
    to->codes = tile_codes(t, tail, row, first * 32, &to->stride);
    for (int r = 0; r < TILE_ROWS; r++) {
        const float *scales = x->scales + (size_t)(row + r) * x->scale_stride + first;
        const int16_t *sums = x->sums32 + (size_t)(row + r) * x->sum32_stride + first;
        for (int b = 0; b < blocks; b++) {
            to->scales[b][r] = r < rows ? scales[b] : 0;
            if (type_has_minimum(type))
                to->sums[b][r] = r < rows ? sums[b] : 0;
        }
    }
}

/* acc += (d · dx) · products + (m · dx) · (sum of activations) for the rows of a tile. */
always_inline void finish_32(int type, const struct chunk_weights *w, const struct chunk_rows *x,
                             int b, const int32_t (*sums)[MATMUL_GROUP], __m512 *acc)
{
    const __m512 d = _mm512_loadu_ps(w->d[b]);
    const __m512 m = type_has_minimum(type) ? _mm512_loadu_ps(w->m[b]) : _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++) {
        const __m512 dx = _mm512_set1_ps(x->scales[b][r]);
        acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, dx),
                                 _mm512_cvtepi32_ps(_mm512_load_si512(sums[r])), acc[r]);
        if (type_has_minimum(type))
            acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(m, dx), _mm512_set1_ps(x->sums[b][r]), acc[r]);
    }
}

/* Blocks of even number use tiles 0, 4, 6, those of odd number 1, 5, 7: one multiplies while the
 * other's sums are finished. */
always_inline void start_even(const struct chunk_weights *w, const struct chunk_rows *x, int b)
{
    tile_load(4, x->codes + b * 32, x->stride);
    tile_load(6, w->codes[b], 64);
    tile_zero(0);
    tile_dot_signed(0, 4, 6);
}

always_inline void start_odd(const struct chunk_weights *w, const struct chunk_rows *x, int b)
{
    tile_load(5, x->codes + b * 32, x->stride);
    tile_load(7, w->codes[b], 64);
    tile_zero(1);
    tile_dot_signed(1, 5, 7);
}

always_inline void multiply_32(int type, const struct chunk_weights *w, const struct chunk_rows *x,
                               int blocks, float (*to)[MATMUL_GROUP])
{
    _Alignas(64) int32_t sums[2][TILE_ROWS][MATMUL_GROUP];
    __m512 acc[TILE_ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++)
        acc[r] = _mm512_load_ps(to[r]);
    start_even(w, x, 0);
    for (int b = 0; b < blocks; b += 2) {
        if (b + 1 < blocks)
            start_odd(w, x, b + 1);
        tile_store(0, sums[0], 64);
        finish_32(type, w, x, b, sums[0], acc);
        if (b + 1 == blocks)
            break;
        if (b + 2 < blocks)
            start_even(w, x, b + 2);
        tile_store(1, sums[1], 64);
        finish_32(type, w, x, b + 1, sums[1], acc);
    }
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++)
        _mm512_store_ps(to[r], acc[r]);
}

/* Some columns of all rows and of n groups. */
always_inline void chunk_32(int type, const struct matmul_tile *t, int group, int n, int first,
                            int blocks, struct tail *tail, struct tile_sums *sums)
{
    struct chunk_weights w;
    struct chunk_rows x[PADDED_ROWS / TILE_ROWS];
    const int tiles = (t->rows + TILE_ROWS - 1) / TILE_ROWS;
    tail_fill(tail, t, first * 32, blocks * 32);
    for (int i = 0; i < tiles; i++)
        chunk_rows_fill(type, t, tail, i * TILE_ROWS, first, blocks, &x[i]);
    for (int g = 0; g < n; g++) {
        expand_32(type, t->weights + (size_t)(group + g) * t->group_bytes, t->cols / 32, first,
                  blocks, &w);
        for (int i = 0; i < tiles; i++)
            multiply_32(type, &w, &x[i], blocks, sums->of[g] + i * TILE_ROWS);
    }
}

always_inline void product_32(int type, const struct matmul_tile *t)
{
    static const struct tile_shapes shapes = {.palette = 1,
                                              .bytes = {64, 64, 0, 0, 32, 32, 64, 64},
                                              .rows = {16, 16, 0, 0, 16, 16, 8, 8}};
    struct tile_sums sums;
    struct tail tail = {.rows = t->rows % TILE_ROWS};
    const int blocks = t->cols / 32;
    tile_configure(&shapes);
    for (int g = 0; g < t->groups; g += GROUPS_TOGETHER) {
        const int n = t->groups - g < GROUPS_TOGETHER ? t->groups - g : GROUPS_TOGETHER;
        memset(sums.of, 0, (size_t)n * sizeof sums.of[0]);
        for (int b = 0; b < blocks; b += CHUNK_BLOCKS)
            chunk_32(type, t, g, n, b, blocks - b < CHUNK_BLOCKS ? blocks - b : CHUNK_BLOCKS, &tail,
                     &sums);
        sums_store(t, g, n, &sums);
    }
    tile_release();
}

static void product_q4_0(const struct matmul_tile *t)
{
    product_32(TENSOR_Q4_0, t);
}

static void product_q4_1(const struct matmul_tile *t)
{
    product_32(TENSOR_Q4_1, t);
}

static void product_q5_0(const struct matmul_tile *t)
{
    product_32(TENSOR_Q5_0, t);
}

static void product_q5_1(const struct matmul_tile *t)
{
    product_32(TENSOR_Q5_1, t);
}

static void product_q8_0(const struct matmul_tile *t)
{
    product_32(TENSOR_Q8_0, t);
}

static void product_iq4_nl(const struct matmul_tile *t)
{
    product_32(TENSOR_IQ4_NL, t);
}

static void product_mxfp4(const struct matmul_tile *t)
{
    product_32(TENSOR_MXFP4, t);
}

static void product_q2_k(const struct matmul_tile *t)
{
    product_256(TENSOR_Q2_K, t);
}

static void product_q3_k(const struct matmul_tile *t)
{
    product_256(TENSOR_Q3_K, t);
}

static void product_q4_k(const struct matmul_tile *t)
{
    product_256(TENSOR_Q4_K, t);
}

static void product_q5_k(const struct matmul_tile *t)
{
    product_256(TENSOR_Q5_K, t);
}

static void product_q6_k(const struct matmul_tile *t)
{
    product_256(TENSOR_Q6_K, t);
}

static void product_iq4_xs(const struct matmul_tile *t)
{
    product_256(TENSOR_IQ4_XS, t);
}

void matmul_amx_fill(struct matmul_kernels *k)
{
    k->product_many[TENSOR_Q4_0] = product_q4_0;
    k->product_many[TENSOR_Q4_1] = product_q4_1;
    k->product_many[TENSOR_Q5_0] = product_q5_0;
    k->product_many[TENSOR_Q5_1] = product_q5_1;
    k->product_many[TENSOR_Q8_0] = product_q8_0;
    k->product_many[TENSOR_IQ4_NL] = product_iq4_nl;
    k->product_many[TENSOR_MXFP4] = product_mxfp4;
    k->product_many[TENSOR_Q2_K] = product_q2_k;
    k->product_many[TENSOR_Q3_K] = product_q3_k;
    k->product_many[TENSOR_Q4_K] = product_q4_k;
    k->product_many[TENSOR_Q5_K] = product_q5_k;
    k->product_many[TENSOR_Q6_K] = product_q6_k;
    k->product_many[TENSOR_IQ4_XS] = product_iq4_xs;
    k->many = FEWEST_ROWS;
    k->many_unit = STEP_ROWS;
}
