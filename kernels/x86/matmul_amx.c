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
 * Planes are expanded once for all rows of a tile. While the tiles of one step multiply, vectors
 * finish the sums of the step before. In the last step of a super-block the next one's planes take
 * the place of those that were just multiplied, whose lines are cached. */
#include "kernels/kernels_fill.h"
#include "kernels/x86/amx_tiles.h"
#include "kernels/x86/matmul_avx512.h"

enum {
    FEWEST_ROWS = 28,    /* fewer are faster with vectors */
    FEWEST_ROWS_32 = 44, /* of formats of 32 columns */
    TILE_ROWS = 16,      /* of activations */
    STEP_ROWS = 32,      /* two A tiles */
    GROUPS_TOGETHER = 4, /* share the activations of some columns while those are cached */
    TAIL_COLUMNS = 1024,
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
    struct group_scales scales[2][2]; /* [turn]: of these planes and of those before */
};

/* Products of two A tiles and two planes. */
struct step_sums {
    _Alignas(64) int32_t of[2][STEP_ROWS][MATMUL_GROUP];
};

/* Vectors that still wait for their end: rows of one step. Everything from its first row on. */
struct step_rest {
    const struct group_scales *scales;
    int rows;
    const float *dx;
    const int16_t *sums;
    float *to[2]; /* [row][16], by group */
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

/* 16 numbers of sub-blocks' scales, twice in each row's lane; `odd`: of the second of the pair. */
always_inline __m512i scale_twice(__m512i pair, int odd)
{
    return odd ? odd_twice(pair) : even_twice(pair);
}

/* The eight column vectors of columns 32j … 32j + 31. */
always_inline void expand_columns(int type, const uint8_t *block, int j, uint8_t (*high)[64],
                                  uint8_t (*low)[64])
{
    const int narrow = type_sub_columns(type) == 16;
    const __m512i pair = load_scales(type, block, narrow ? j : j / 2);
    const __m512i first = scale_twice(pair, narrow ? 0 : j % 2);
    const __m512i second = narrow ? scale_twice(pair, 1) : first;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        multiply_codes(type, load_codes(type, block, j * 8, i), i < 4 ? first : second,
                       high[j * 8 + i], low[j * 8 + i]);
}

/* Super-blocks to expand: of one group, or of two whose types have one plane. */
struct step_source {
    const uint8_t *block[2], *halves[2]; /* NULL where there is none */
};

enum { PIECES = 8 }; /* of a super-block */

/* A piece of a source, 32 columns; with the first comes what the end needs. */
always_inline void expand_piece(int type, const struct step_source *from, int j,
                                struct step_weights *w, int turn)
{
    for (int g = 0; g < (is_one_plane(type) ? 2 : 1); g++) {
        const uint8_t *block = from->block[g];
        if (!block)
            continue;
        expand_columns(type, block, j, w->planes[g], w->planes[1]);
        if (j > 0)
            continue;
        struct group_scales *scales = &w->scales[turn][g];
        _mm512_storeu_ps(scales->d, load_halves(from->halves[g]));
        if (!type_has_minimum(type))
            continue;
        _mm512_storeu_ps(scales->m, load_halves(from->halves[g] + 32));
        for (int i = 0; i < 128 / type_sub_columns(type); i++)
            _mm512_storeu_si512(scales->minima[i], load_minima(type, block, i));
    }
}

/* Within a piece fields and scales are constants; which piece it is is not. */
always_inline void expand_some(int type, const struct step_source *from, int j,
                               struct step_weights *w, int turn)
{
    switch (j) {
    case 0:
        expand_piece(type, from, 0, w, turn);
        break;
    case 1:
        expand_piece(type, from, 1, w, turn);
        break;
    case 2:
        expand_piece(type, from, 2, w, turn);
        break;
    case 3:
        expand_piece(type, from, 3, w, turn);
        break;
    case 4:
        expand_piece(type, from, 4, w, turn);
        break;
    case 5:
        expand_piece(type, from, 5, w, turn);
        break;
    case 6:
        expand_piece(type, from, 6, w, turn);
        break;
    default:
        expand_piece(type, from, 7, w, turn);
    }
}

/* What finishes rows of a group: numbers in registers, and pointers that walk. */
struct row_end {
    __m512 d, m;
    __m512i minima[8];
    const float *dx;
    const int16_t *sums;
    const int32_t (*high)[MATMUL_GROUP], (*low)[MATMUL_GROUP]; /* products of the planes */
    float (*to)[MATMUL_GROUP];
};

always_inline struct row_end row_end_start(int type, const struct step_rest *rest,
                                           const struct step_sums *sums, int g)
{
    const struct group_scales *s = &rest->scales[g];
    struct row_end e = {0};
    e.dx = rest->dx;
    e.sums = rest->sums;
    e.to = (float(*)[MATMUL_GROUP])rest->to[g];
    e.high = sums->of[is_one_plane(type) ? g : 0];
    e.low = sums->of[1];
    e.d = _mm512_loadu_ps(s->d);
    if (!type_has_minimum(type))
        return e;
    e.m = _mm512_loadu_ps(s->m);
#pragma GCC unroll 8
    for (int j = 0; j < 128 / type_sub_columns(type); j++)
        e.minima[j] = _mm512_loadu_si512(s->minima[j]);
    return e;
}

always_inline void row_end_skip(int type, struct row_end *e, int rows)
{
    e->dx += rows;
    e->sums += rows * (256 / type_sub_columns(type));
    e->high += rows;
    e->low += rows;
    e->to += rows;
}

/* The integer of section 4 for row r. */
always_inline __m512i total_of(int type, const struct row_end *e, int r)
{
    const __m512i high = _mm512_load_si512(e->high[r]);
    if (plane_form(type) == ONE_UNSIGNED)
        return high;
    if (plane_form(type) == ONE_NEGATED)
        return _mm512_sub_epi32(_mm512_setzero_si512(), high);
    const __m512i low = _mm512_load_si512(e->low[r]);
    return _mm512_add_epi32(_mm512_slli_epi32(high, plane_form(type) == DIGITS ? 3 : 8), low);
}

/* Rows first … end of where e is: acc += (d · dx) · total − (dmin · dx) · minima. */
always_inline void finish_rows(int type, const struct row_end *e, int first, int end)
{
    const int pairs = 128 / type_sub_columns(type);
#pragma GCC unroll 4
    for (int r = first; r < end; r++) {
        const __m512 dx = _mm512_set1_ps(e->dx[r]);
        __m512 acc =
            _mm512_fmadd_ps(_mm512_mul_ps(e->d, dx), _mm512_cvtepi32_ps(total_of(type, e, r)),
                            _mm512_load_ps(e->to[r]));
        if (type_has_minimum(type))
            acc = _mm512_fnmadd_ps(
                _mm512_mul_ps(e->m, dx),
                _mm512_cvtepi32_ps(sums_times(e->minima, e->sums + r * pairs * 2, pairs)), acc);
        _mm512_store_ps(e->to[r], acc);
    }
}

/* A tile's codes: in place, or a copy with rows of zeros where the activations end. */
struct step_codes {
    const int8_t *of[2];
    size_t stride[2];
};

/* Planes to expand once those of the last step's columns are in tiles: two pieces a quarter. */
struct ahead {
    struct step_source from;
    const uint8_t *later; /* what comes behind it, to be fetched from memory meanwhile */
    int turn;
    bool is_due; /* the step is a super-block's last, and another one follows */
};

/* Alone, the pieces of four bits pass faster together. */
always_inline void expand_first(int type, const struct ahead *h, int k, struct step_weights *w)
{
    if (h->is_due && type != TENSOR_Q4_K)
        expand_some(type, &h->from, 2 * k, w, h->turn);
}

always_inline void expand_rest(int type, const struct ahead *h, int k, struct step_weights *w)
{
    if (!h->is_due)
        return;
    if (type == TENSOR_Q4_K)
        expand_some(type, &h->from, 2 * k, w, h->turn);
    expand_some(type, &h->from, 2 * k + 1, w, h->turn);
}

/* All columns of a super-block, 64 at a time. Tiles: sums of A tile a and plane p in 2a + p, A
 * tiles in 4 and 5, planes in 6 and 7. The first quarter takes the sums of the step before out of
 * the tiles, each just before its tile is needed. Between two tile products there are no more
 * vector instructions than let the processor see the next ones: it looks some 500 ahead. */
always_inline void multiply_256(int type, struct step_weights *w, const struct step_codes *a,
                                const struct step_rest *rest, struct step_sums *sums,
                                const struct ahead *ahead)
{
    const bool second = is_one_plane(type) && rest->to[1];
    struct row_end e0 = row_end_start(type, rest, sums, 0);
    struct row_end e1 = row_end_start(type, rest, sums, is_one_plane(type) ? 1 : 0);
#pragma GCC unroll 1
    for (int k = 0; k < 4; k++) {
        const bool is_unfinished = k * 8 < rest->rows;
        tile_load(6, w->planes[0][k * 16], 64);
        tile_load(4, a->of[0] + k * 64, a->stride[0]);
        if (k == 0) {
            tile_store(0, sums->of[0][0], 64);
            tile_zero(0);
        }
        if (is_high_signed(type))
            tile_dot_signed(0, 4, 6);
        else
            tile_dot_unsigned(0, 4, 6);
        tile_load(7, w->planes[1][k * 16], 64);
        if (k == 0) {
            tile_store(1, sums->of[1][0], 64);
            tile_zero(1);
        }
        if (is_low_signed(type))
            tile_dot_signed(1, 4, 7);
        else
            tile_dot_unsigned(1, 4, 7);
        expand_first(type, ahead, k, w);
        if (is_unfinished) {
            finish_rows(type, &e0, 0, 3);
            if (second)
                finish_rows(type, &e1, 0, 3);
        }
        if (k == 0) {
            tile_store(2, sums->of[0][TILE_ROWS], 64);
            tile_zero(2);
        }
        if (a->of[1]) {
            tile_load(5, a->of[1] + k * 64, a->stride[1]);
            if (is_high_signed(type))
                tile_dot_signed(2, 5, 6);
            else
                tile_dot_unsigned(2, 5, 6);
        }
        if (is_unfinished) {
            finish_rows(type, &e0, 3, 5);
            if (second)
                finish_rows(type, &e1, 3, 5);
        }
        if (k == 0) {
            tile_store(3, sums->of[1][TILE_ROWS], 64);
            tile_zero(3);
        }
        if (a->of[1]) {
            if (is_low_signed(type))
                tile_dot_signed(3, 5, 7);
            else
                tile_dot_unsigned(3, 5, 7);
        }
        if (is_unfinished) {
            finish_rows(type, &e0, 5, 8);
            if (second)
                finish_rows(type, &e1, 5, 8);
        }
        row_end_skip(type, &e0, 8);
        row_end_skip(type, &e1, 8);
        expand_rest(type, ahead, k, w);
    }
}

always_inline void finish_last(int type, const struct step_rest *rest, struct step_sums *sums)
{
    tile_store(0, sums->of[0][0], 64);
    tile_store(1, sums->of[1][0], 64);
    tile_store(2, sums->of[0][TILE_ROWS], 64);
    tile_store(3, sums->of[1][TILE_ROWS], 64);
    for (int g = 0; g < 2 && rest->to[g]; g++) {
        struct row_end e = row_end_start(type, rest, sums, g);
#pragma GCC unroll 1
        for (int r = 0; r < rest->rows; r++, row_end_skip(type, &e, 1))
            finish_rows(type, &e, 0, 1);
    }
}

/* Rows that fill no tile, with rows of zeros up to 16. */
struct tail {
    int rows;
    _Alignas(64) int8_t codes[TILE_ROWS][TAIL_COLUMNS + 64];
};

static void tail_start(struct tail *tail, const struct matmul_tile *t)
{
    tail->rows = t->rows % TILE_ROWS;
    if (tail->rows)
        memset(tail->codes, 0, sizeof tail->codes);
}

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

/* Where a product is: some groups' first, a super-block, a group of them. */
struct place {
    int group, block, i;
};

/* How many groups share the activations there. */
static int place_groups(const struct matmul_tile *t, const struct place *p)
{
    const int left = t->groups - p->group;
    return left > 0 && left < GROUPS_TOGETHER ? left : GROUPS_TOGETHER;
}

static struct place place_next(const struct matmul_tile *t, struct place p, int together)
{
    p.i += together;
    if (p.i < place_groups(t, &p))
        return p;
    p.i = 0;
    if (++p.block < t->cols / 256)
        return p;
    p.block = 0;
    p.group += GROUPS_TOGETHER;
    return p;
}

always_inline struct step_source place_source(int type, const struct matmul_tile *t,
                                              const struct place *p)
{
    const struct matmul_layout l = matmul_layout(type);
    struct step_source s = {{NULL, NULL}, {NULL, NULL}};
    const uint8_t *group = t->weights + (size_t)(p->group + p->i) * t->group_bytes;
    const size_t halves = (size_t)(t->cols / 256) * (size_t)l.block_bytes;
    for (int g = 0; g < 2 && p->group + p->i + g < t->groups; g++) {
        s.block[g] = group + (size_t)p->block * (size_t)l.block_bytes;
        s.halves[g] = group + halves + (size_t)p->block * (size_t)l.halves * 32;
        group += t->group_bytes;
    }
    return s;
}

/* What the steps over super-blocks share. */
struct steps {
    struct step_weights weights;
    struct step_sums sums;
    struct tail tail;
    struct step_rest rest;
};

/* All rows at one place. */
always_inline void steps_at(int type, const struct matmul_tile *t, struct steps *s,
                            const struct place *p, int turn, bool another, struct ahead *ahead,
                            struct tile_sums *sums)
{
    const struct matmul_blocks *x = &t->codes.blocks;
    const int subs = 256 / type_sub_columns(type);
    const size_t cell = (size_t)p->block * x->stride;
    const float *dx = x->scales + cell;
    const int16_t *sums16 = (subs == 8 ? x->sums32 : x->sums16) + cell * (size_t)subs;
    const bool second = is_one_plane(type) && p->i + 1 < place_groups(t, p);
    const size_t bytes = (size_t)matmul_layout(type).block_bytes;
    const size_t share = bytes / (size_t)((t->rows + STEP_ROWS - 1) / STEP_ROWS) + 64;
    size_t fetched = 0;
    for (int row = 0; row < t->rows; row += STEP_ROWS) {
        struct step_codes a;
        a.of[0] = tile_codes(t, &s->tail, row, p->block * 256, &a.stride[0]);
        a.of[1] = tile_codes(t, &s->tail, row + TILE_ROWS, p->block * 256, &a.stride[1]);
        for (const size_t end = fetched + share; fetched < end && fetched < bytes; fetched += 64)
            for (int g = 0; g < (is_one_plane(type) ? 2 : 1); g++)
                _mm_prefetch((const char *)ahead->later + (size_t)g * t->group_bytes + fetched,
                             _MM_HINT_T1);
        ahead->is_due = another && row + STEP_ROWS >= t->rows;
        multiply_256(type, &s->weights, &a, &s->rest, &s->sums, ahead);
        const int left = t->rows - row;
        s->rest = (struct step_rest){
            .scales = s->weights.scales[turn],
            .rows = left < STEP_ROWS ? left : STEP_ROWS,
            .dx = dx + row,
            .sums = sums16 + row * subs,
            .to = {sums->of[p->i][row], second ? sums->of[p->i + 1][row] : NULL}};
    }
}

always_inline void product_256(int type, const struct matmul_tile *t)
{
    static const struct tile_shapes shapes = {.palette = 1,
                                              .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                              .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    const int together = is_one_plane(type) ? 2 : 1;
    struct tile_sums sums;
    struct steps s; /* too large to clear for few rows */
    tail_start(&s.tail, t);
    s.rest = (struct step_rest){.scales = s.weights.scales[1]}; /* of no rows */
    struct place at = {0, 0, 0}, next;
    tile_configure(&shapes);
    const struct step_source first = place_source(type, t, &at);
    for (int j = 0; j < PIECES; j++)
        expand_some(type, &first, j, &s.weights, 0);
    for (int turn = 0; at.group < t->groups; at = next, turn ^= 1) {
        next = place_next(t, at, together);
        if (at.block == 0 && at.i == 0)
            memset(sums.of, 0, (size_t)place_groups(t, &at) * sizeof sums.of[0]);
        if (at.i == 0)
            tail_fill(&s.tail, t, at.block * 256, 256);
        const bool another = next.group < t->groups;
        struct ahead ahead = {.turn = turn ^ 1};
        if (another)
            ahead.from = place_source(type, t, &next);
        /* Behind the last group that is what the thread will most likely be given next. */
        const struct place later = place_next(t, next, together);
        ahead.later = t->weights + (size_t)(later.group + later.i) * t->group_bytes +
                      (size_t)later.block * (size_t)matmul_layout(type).block_bytes;
        steps_at(type, t, &s, &at, turn, another, &ahead, &sums);
        if (next.group != at.group) {
            finish_last(type, &s.rest, &s.sums);
            s.rest.rows = 0;
            sums_store(t, at.group, place_groups(t, &at), &sums);
        }
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

/* The same blocks of a tile of activations; for minima, sums as floats. */
struct chunk_rows {
    const int8_t *codes;
    size_t stride;
    const float *scales; /* [block][scale_stride] */
    size_t scale_stride;
    float sums[CHUNK_BLOCKS][TILE_ROWS];
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
    const struct matmul_blocks *x = &t->codes.blocks;
    const size_t cell = (size_t)first * x->stride + (size_t)row;
    to->codes = tile_codes(t, tail, row, first * 32, &to->stride);
    to->scales = x->scales + cell;
    to->scale_stride = x->stride;
    if (!type_has_minimum(type))
        return;
    for (int b = 0; b < blocks; b++) {
        const int16_t *sums = x->sums32 + cell + (size_t)b * x->stride;
        for (int r = 0; r < TILE_ROWS; r++)
            to->sums[b][r] = sums[r];
    }
}

/* acc += (d · dx) · products + (m · dx) · (sum of activations) for the rows of a tile. */
always_inline void finish_32(int type, const struct chunk_weights *w, const struct chunk_rows *x,
                             int b, const int32_t (*sums)[MATMUL_GROUP], __m512 *acc)
{
    const float *scales = x->scales + (size_t)b * x->scale_stride;
    const __m512 d = _mm512_loadu_ps(w->d[b]);
    const __m512 m = type_has_minimum(type) ? _mm512_loadu_ps(w->m[b]) : _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int r = 0; r < TILE_ROWS; r++) {
        const __m512 dx = _mm512_set1_ps(scales[r]);
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
    const size_t block_bytes = (size_t)matmul_layout(type).block_bytes;
    const bool is_last = first + blocks == t->cols / 32;
    for (int g = 0; g < n; g++) {
        const uint8_t *from = t->weights + (size_t)(group + g) * t->group_bytes;
        expand_32(type, from, t->cols / 32, first, blocks, &w);
        /* What is expanded next is fetched while these multiply; behind a group's last columns
         * that is another's first. */
        const uint8_t *next = g + 1 < n ? from + t->group_bytes + (size_t)first * block_bytes
                              : is_last ? from + t->group_bytes
                                        : t->weights + (size_t)group * t->group_bytes +
                                              (size_t)(first + blocks) * block_bytes;
        const size_t lines = (size_t)blocks * block_bytes / 64, share = lines / (size_t)tiles + 1;
        for (int i = 0; i < tiles; i++) {
            for (size_t line = (size_t)i * share; line < lines && line < (size_t)(i + 1) * share;
                 line++)
                _mm_prefetch((const char *)next + line * 64, _MM_HINT_T0);
            multiply_32(type, &w, &x[i], blocks, sums->of[g] + i * TILE_ROWS);
        }
    }
}

always_inline void product_32(int type, const struct matmul_tile *t)
{
    static const struct tile_shapes shapes = {.palette = 1,
                                              .bytes = {64, 64, 0, 0, 32, 32, 64, 64},
                                              .rows = {16, 16, 0, 0, 16, 16, 8, 8}};
    struct tile_sums sums;
    struct tail tail;
    tail_start(&tail, t);
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
    for (int type = 0; type < MATMUL_SLOTS; type++)
        if (k->product_many[type])
            k->many[type] = matmul_layout(type).elements == 32 ? FEWEST_ROWS_32 : FEWEST_ROWS;
    k->many_unit = STEP_ROWS;
    k->many_rows = FEWEST_ROWS;
}
