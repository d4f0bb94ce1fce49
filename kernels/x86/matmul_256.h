/* matmul_256.h - packed products with 256-bit registers, for whichever multiplier the including
 * file brings.
 *
 * A column vector of a group (16 rows × 4 columns, matmul_layout.h) is two registers, its halves
 * h: 8 rows × 4 columns each. A tile of a few activation rows passes over the columns of a group,
 * 32 at a time: a run. Up to a tile of rows reads the packed planes directly; for more of them a
 * group × CHUNK_COLUMNS columns is first expanded to bytes, which stay in the first-level cache
 * while all rows pass.
 *
 * The multiplier adds the exact integer products of a run to total[row][half]. Everything here is
 * inlined, with type, rows and multiplier as constants. Only the floats at block ends must follow
 * docs/numerics.md, section 4. */
#ifndef PACELINE_KERNELS_X86_MATMUL_256_H
#define PACELINE_KERNELS_X86_MATMUL_256_H

#include "kernels/matmul_kernels.h"
#include "kernels/matmul_layout.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#define always_inline static inline __attribute__((always_inline))

/* No instruction, but `v` passes through it. Sums stay in the order in which they are written, one
 * that fits the sixteen registers; left alone, gcc moves products ahead of their sums and spills.
 */
#define KEEP_ORDER(v) __asm__("" : "+x"(v))

/* What is read through `pointer` is read again. */
#define FORGET(pointer) __asm__("" : "+r"(pointer))

enum {
    MOST_ROWS = 6,       /* of a tile */
    RUN = 32,            /* columns of a step: their codes are the same fields of the planes */
    CHUNK_COLUMNS = 512, /* expanded at a time */
    AHEAD = 3072         /* bytes between reading and prefetching */
};

/* One group, CHUNK_COLUMNS columns, ready for the multiplier. */
struct expanded {
    uint8_t codes[CHUNK_COLUMNS / 4][64];
    int16_t scales[CHUNK_COLUMNS / 16][32];
    int16_t pairs[CHUNK_COLUMNS / 32][32]; /* minima, or scales where the codes have an offset */
    float d[CHUNK_COLUMNS / 32][16], m[CHUNK_COLUMNS / 32][16];
};

/* Where a run is read. `planes` says which of the two; it is an argument of its own everywhere, so
 * that every function has it as a constant. */
struct source {
    const uint8_t *low, *high, *packed_scales; /* packed planes, or ... */
    int low_shift, high_shift;                 /* of the first fields */
    const uint8_t *codes;                      /* ... expanded */
    const int16_t *scales;
};

struct multiplier {
    int tile_rows;      /* at most MOST_ROWS */
    bool unsigned_only; /* signed codes come plus 128, and their types have an offset of 128 */
    bool wide_scales;   /* a lane has the scale in 32 bits, else twice in 16 */
    /* total[r][h] += scale · codes · x for the 32 columns of a run; `run` chooses the fields when
     * the source is packed. 32-wide formats have no scale. */
    void (*add_run)(int type, bool planes, int rows, const struct source *s, int run,
                    const int8_t *x, size_t stride, __m256i total[][2]);
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

always_inline void store_256(void *to, __m256i v)
{
    _mm256_store_si256((__m256i *)to, v);
}

/* ---- types ---- */

always_inline bool type_is_signed(int type)
{
    return type == TENSOR_Q8_0 || type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS;
}

always_inline bool type_has_minimum(int type)
{
    return matmul_layout(type).halves == 2;
}

/* What the centred product lacks: offset · sum of activations. */
always_inline int type_offset(const struct multiplier *m, int type)
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
    case TENSOR_MXFP4:
        return 12;
    default:
        return type_is_signed(type) && m->unsigned_only ? 128 : 0;
    }
}

always_inline int type_sub_columns(int type)
{
    return type == TENSOR_Q2_K || type == TENSOR_Q3_K || type == TENSOR_Q6_K ? 16 : 32;
}

/* Scale vectors of a run: one for each sub-block. */
always_inline int type_scales(int type)
{
    return matmul_layout(type).elements == 32 ? 0 : RUN / type_sub_columns(type);
}

/* Super-blocks whose end needs sums of activations by sub-block: for minima or offset. */
always_inline bool type_needs_pairs(const struct multiplier *m, int type)
{
    return matmul_layout(type).elements == 256 && (type_has_minimum(type) || type_offset(m, type));
}

/* Columns of a super-block that are one step of a loop: both nibbles of a vector, or one run.
 * Unrolled further, so that every field is a constant, a super-block is more code than a processor
 * keeps decoded. */
always_inline int type_step(int type)
{
    const struct matmul_layout l = matmul_layout(type);
    return l.elements == 256 && l.low.bits == 4 ? 2 * RUN : RUN;
}

/* The packed planes of a block from column `first` on, the beginning of a step. */
always_inline struct source packed_source(int type, const uint8_t *block, int first)
{
    const struct matmul_layout l = matmul_layout(type);
    struct source s = {
        .low = block + l.low.offset + matmul_plane_vector(l, l.low, first / 4) * 64,
        .low_shift = matmul_plane_shift(l, l.low, first / 4),
        .packed_scales = block + l.scales + first / type_sub_columns(type) * 16,
    };
    if (l.high.bits) {
        s.high = block + l.high.offset + matmul_plane_vector(l, l.high, first / 4) * 64;
        s.high_shift = matmul_plane_shift(l, l.high, first / 4);
    }
    return s;
}

/* ---- codes, scales, halves ---- */

/* Four bits to the values they stand for; MXFP4's doubled and plus 12, so that none is negative. */
always_inline __m256i look_up(const struct multiplier *m, int type, __m256i codes)
{
    const __m128i mxfp4 = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    const __m128i iq4 =
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    const __m128i flip = _mm_set1_epi8(m->unsigned_only ? (char)0x80 : 0);
    const __m128i table = type == TENSOR_MXFP4 ? mxfp4 : _mm_xor_si128(iq4, flip);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

/* The high bits of column vector i of a run, moved right above the low bits. */
always_inline __m256i load_high(int type, const struct source *s, int run, int i, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    const __m256i mask = _mm256_set1_epi8((char)((1 << l.high.bits) - 1));
    if (l.elements == 256) {
        const __m128i shift = _mm_cvtsi32_si128(s->high_shift + run * l.high.bits);
        const __m256i bits = _mm256_srl_epi16(load_256(s->high + i * 64 + h * 32), shift);
        return _mm256_slli_epi16(_mm256_and_si256(bits, mask), l.low.bits);
    }
    const __m256i bits = load_256(s->high + matmul_plane_vector(l, l.high, i) * 64 + h * 32);
    const int up = l.low.bits - matmul_plane_shift(l, l.high, i);
    const __m256i moved = up > 0   ? _mm256_slli_epi16(bits, up)
                          : up < 0 ? _mm256_srli_epi16(bits, -up)
                                   : bits;
    return _mm256_and_si256(moved, _mm256_slli_epi16(mask, l.low.bits));
}

/* Half h of column vector i of a run. */
always_inline __m256i load_codes(const struct multiplier *m, int type, const struct source *s,
                                 int run, int i, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    const int v = l.elements == 32 ? i : run * 8 + i;
    __m256i vector = load_256(s->low + matmul_plane_vector(l, l.low, v) * 64 + h * 32);
    if (type == TENSOR_Q8_0) /* packed plus 128 */
        return m->unsigned_only ? vector : _mm256_xor_si256(vector, _mm256_set1_epi8((char)0x80));
    if (l.low.bits == 2)
        vector = _mm256_srl_epi16(vector, _mm_cvtsi32_si128(s->low_shift));
    else if (matmul_plane_shift(l, l.low, v))
        vector = _mm256_srli_epi16(vector, 4);
    const __m256i mask = _mm256_set1_epi8((char)((1 << l.low.bits) - 1));
    const __m256i codes = _mm256_and_si256(vector, mask);
    if (type == TENSOR_IQ4_NL || type == TENSOR_IQ4_XS || type == TENSOR_MXFP4)
        return look_up(m, type, codes);
    return l.high.bits ? _mm256_or_si256(codes, load_high(type, s, run, i, h)) : codes;
}

always_inline __m256i source_codes(const struct multiplier *m, int type, bool planes,
                                   const struct source *s, int run, int i, int h)
{
    return planes ? load_codes(m, type, s, run, i, h) : load_256(s->codes + i * 64 + h * 32);
}

/* Pair j of a block's scales, as 16-bit numbers in each row's lane. */
always_inline __m256i load_scales(int type, const uint8_t *scales, int j, int h)
{
    const __m128i bytes = _mm_load_si128((const __m128i *)(scales + j * 32 + h * 16));
    if (type == TENSOR_Q2_K)
        return _mm256_cvtepu8_epi16(_mm_and_si128(bytes, _mm_set1_epi8(15)));
    return _mm256_cvtepi8_epi16(bytes);
}

always_inline __m256i load_minima(int type, const uint8_t *block, int j, int h)
{
    const struct matmul_layout l = matmul_layout(type);
    const uint8_t *from = block + (l.minima ? l.minima : l.scales) + j * 32 + h * 16;
    const __m128i bytes = _mm_load_si128((const __m128i *)from);
    if (type == TENSOR_Q2_K)
        return _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15)));
    return _mm256_cvtepu8_epi16(bytes);
}

/* The first or the second of each pair: in 32 bits, or twice. */
always_inline __m256i one_of_pair(bool wide, __m256i pairs, int which)
{
    if (wide)
        return _mm256_srai_epi32(which ? pairs : _mm256_slli_epi32(pairs, 16), 16);
    const __m128i first = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    const __m128i second = _mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
    return _mm256_shuffle_epi8(pairs, _mm256_broadcastsi128_si256(which ? second : first));
}

/* The scale of sub-block i of a run. */
always_inline __m256i source_scale(const struct multiplier *m, int type, bool planes,
                                   const struct source *s, int run, int i, int h)
{
    if (!planes)
        return load_256(s->scales + i * 32 + h * 16);
    const int j = run * type_scales(type) + i;
    return one_of_pair(m->wide_scales, load_scales(type, s->packed_scales, j / 2, h), j % 2);
}

/* Minima where the type has them, else scales. */
always_inline __m256i load_pairs(int type, const uint8_t *block, int j, int h)
{
    return type_has_minimum(type) ? load_minima(type, block, j, h)
                                  : load_scales(type, block + matmul_layout(type).scales, j, h);
}

always_inline __m256 load_halves(int type, const uint8_t *from)
{
    const __m128i halves = _mm_load_si128((const __m128i *)from);
    if (type == TENSOR_MXFP4 || type == TENSOR_BF16)
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
    return _mm256_cvtph_ps(halves);
}

/* ---- floats at the end of a block ---- */

/* What is at the end of a block: as packed, or expanded. */
struct block_end {
    const uint8_t *block, *halves;
    const int16_t *pairs;
    const float *d, *m;
};

always_inline __m256 end_d(int type, bool planes, const struct block_end *e, int h)
{
    return planes ? load_halves(type, e->halves + h * 16) : _mm256_load_ps(e->d + h * 8);
}

always_inline __m256 end_m(int type, bool planes, const struct block_end *e, int h)
{
    return planes ? load_halves(type, e->halves + 32 + h * 16) : _mm256_load_ps(e->m + h * 8);
}

/* sum_x: of the block's activations. */
always_inline void finish_32(int type, bool planes, const struct block_end *e, float dx,
                             float sum_x, const __m256i total[2], __m256 acc[2])
{
    const __m256 scale = _mm256_set1_ps(dx);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        acc[h] = _mm256_fmadd_ps(_mm256_mul_ps(end_d(type, planes, e, h), scale),
                                 _mm256_cvtepi32_ps(total[h]), acc[h]);
        if (type_has_minimum(type))
            acc[h] = _mm256_fmadd_ps(_mm256_mul_ps(end_m(type, planes, e, h), scale),
                                     _mm256_set1_ps(sum_x), acc[h]);
    }
}

/* sums: of the activations of the super-block's sub-blocks. */
always_inline void finish_256(const struct multiplier *m, int type, bool planes,
                              const struct block_end *e, float dx, const int16_t *sums,
                              const __m256i total[2], __m256 acc[2])
{
    const int pairs = 128 / type_sub_columns(type), offset = type_offset(m, type);
    const __m256 scale = _mm256_set1_ps(dx);
    __m256i rest[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    if (type_needs_pairs(m, type)) {
#pragma GCC unroll 8
        for (int j = 0; j < pairs; j++) {
            const __m256i two = two_sums(sums + 2 * j);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const __m256i factors = planes ? load_pairs(type, e->block, j, h)
                                               : load_256(e->pairs + j * 32 + h * 16);
                rest[h] = _mm256_add_epi32(rest[h], _mm256_madd_epi16(factors, two));
                KEEP_ORDER(rest[h]);
            }
        }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256i products = total[h];
        if (offset)
            products =
                _mm256_sub_epi32(products, _mm256_mullo_epi32(rest[h], _mm256_set1_epi32(offset)));
        acc[h] = _mm256_fmadd_ps(_mm256_mul_ps(end_d(type, planes, e, h), scale),
                                 _mm256_cvtepi32_ps(products), acc[h]);
        if (type_has_minimum(type))
            acc[h] = _mm256_fnmadd_ps(_mm256_mul_ps(end_m(type, planes, e, h), scale),
                                      _mm256_cvtepi32_ps(rest[h]), acc[h]);
    }
}

/* ---- a block times the rows of a tile ---- */

/* Block `at` of the row. */
always_inline void start_totals(const struct multiplier *m, int type, int rows,
                                const struct matmul_codes *x, int at, __m256i total[][2])
{
    const int offset = matmul_layout(type).elements == 32 ? type_offset(m, type) : 0;
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        const int start =
            offset ? -offset * x->sums32[(size_t)r * x->sum32_stride + (size_t)at] : 0;
        total[r][0] = total[r][1] = _mm256_set1_epi32(start);
    }
}

always_inline void finish(const struct multiplier *m, int type, bool planes, int rows,
                          const struct block_end *e, const struct matmul_codes *x, int at,
                          __m256i total[][2], __m256 acc[][2])
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        const float dx = x->scales[(size_t)r * x->scale_stride + (size_t)at];
        const int16_t *sums32 = x->sums32 + (size_t)r * x->sum32_stride;
        const int16_t *sums16 = x->sums16 + (size_t)r * x->sum16_stride;
        if (matmul_layout(type).elements == 32)
            finish_32(type, planes, e, dx, sums32[at], total[r], acc[r]);
        else
            finish_256(m, type, planes, e, dx,
                       type_sub_columns(type) == 32 ? sums32 + at * 8 : sums16 + at * 16, total[r],
                       acc[r]);
    }
}

/* Prefetches what lies AHEAD of bytes [from, end) of a block. */
always_inline void prefetch_part(const uint8_t *block, int from, int end)
{
#pragma GCC unroll 16
    for (int i = (from + 63) / 64 * 64; i < end; i += 64)
        _mm_prefetch((const char *)block + i + AHEAD, _MM_HINT_T0);
}

always_inline void add_packed_block(const struct multiplier *m, int type, int rows,
                                    const uint8_t *block, const uint8_t *halves,
                                    const struct matmul_codes *x, int at, __m256 acc[][2])
{
    const struct matmul_layout l = matmul_layout(type);
    const int8_t *codes = x->codes + (size_t)at * (size_t)l.elements;
    __m256i total[MOST_ROWS][2];
    start_totals(m, type, rows, x, at, total);
    if (l.elements == 32) {
        const struct source s = packed_source(type, block, 0);
        prefetch_part(block, 0, l.block_bytes);
        m->add_run(type, true, rows, &s, 0, codes, x->stride, total);
    } else {
        const int bytes = l.block_bytes / 8; /* of a run */
#pragma GCC unroll 1
        for (int first = 0; first < 256; first += type_step(type)) {
            struct source s = packed_source(type, block, first);
#pragma GCC unroll 2
            for (int run = 0; run < type_step(type) / RUN; run++) {
                prefetch_part(block + first / RUN * bytes, run * bytes, (run + 1) * bytes);
                m->add_run(type, true, rows, &s, run, codes + first + run * RUN, x->stride, total);
                FORGET(s.low); /* or registers would keep vectors for their other fields */
            }
        }
    }
    const struct block_end e = {block, halves, NULL, NULL, NULL};
    finish(m, type, true, rows, &e, x, at, total, acc);
}

/* Block b of what is expanded. */
always_inline void add_expanded_block(const struct multiplier *m, int type, int rows,
                                      const struct expanded *e, int b, const struct matmul_codes *x,
                                      int at, __m256 acc[][2])
{
    const int elements = matmul_layout(type).elements, scales = type_scales(type);
    struct source s = {.codes = e->codes[b * (elements / 4)],
                       .scales = e->scales[b * (elements / RUN) * scales]};
    const int8_t *codes = x->codes + (size_t)at * (size_t)elements;
    __m256i total[MOST_ROWS][2];
    start_totals(m, type, rows, x, at, total);
#pragma GCC unroll 1
    for (int run = 0; run < elements / RUN; run++) {
        m->add_run(type, false, rows, &s, 0, codes, x->stride, total);
        s.codes += RUN * 16;
        s.scales += scales * 32;
        codes += RUN;
    }
    const struct block_end end = {NULL, NULL, e->pairs[b * (128 / type_sub_columns(type))], e->d[b],
                                  e->m[b]};
    finish(m, type, false, rows, &end, x, at, total, acc);
}

/* ---- up to a tile of rows, from the planes ---- */

always_inline void direct(const struct multiplier *m, int type, int rows,
                          const struct matmul_tile *t)
{
    const struct matmul_layout l = matmul_layout(type);
    const int blocks = t->cols / l.elements;
    for (int g = 0; g < t->groups; g++) {
        const uint8_t *block = t->weights + (size_t)g * t->group_bytes;
        const uint8_t *halves = block + (size_t)blocks * (size_t)l.block_bytes;
        __m256 acc[MOST_ROWS][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            acc[r][0] = acc[r][1] = _mm256_setzero_ps();
        for (int b = 0; b < blocks; b++) {
            add_packed_block(m, type, rows, block, halves, &t->codes, b, acc);
            block += l.block_bytes;
            halves += l.halves * 32;
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            float *y = t->y + (size_t)r * t->y_stride + g * MATMUL_GROUP;
            _mm256_storeu_ps(y, acc[r][0]);
            _mm256_storeu_ps(y + 8, acc[r][1]);
        }
    }
}

/* ---- many rows, from expanded codes ---- */

/* One run to where its codes and scales are kept. */
always_inline void expand_run(const struct multiplier *m, int type, const struct source *s, int run,
                              uint8_t codes[][64], int16_t scales[][32])
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            store_256(codes[i] + h * 32, load_codes(m, type, s, run, i, h));
#pragma GCC unroll 2
        for (int i = 0; i < type_scales(type); i++)
            store_256(scales[i] + h * 16, source_scale(m, type, true, s, run, i, h));
    }
}

/* A packed block, which becomes block b of what is expanded. */
always_inline void expand_block(const struct multiplier *m, int type, const uint8_t *block,
                                const uint8_t *halves, int b, struct expanded *e)
{
    const struct matmul_layout l = matmul_layout(type);
    const int step = type_step(type);
#pragma GCC unroll 1
    for (int first = 0; first < l.elements; first += step) {
        const struct source s = packed_source(type, block, first);
#pragma GCC unroll 2
        for (int run = 0; run < step / RUN; run++) {
            const int at = (b * l.elements + first) / RUN + run;
            expand_run(m, type, &s, run, e->codes + at * 8, e->scales + at * type_scales(type));
        }
    }
    const int pairs = 128 / type_sub_columns(type);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        for (int j = 0; j < pairs && type_needs_pairs(m, type); j++)
            store_256(e->pairs[b * pairs + j] + h * 16, load_pairs(type, block, j, h));
        _mm256_store_ps(e->d[b] + h * 8, load_halves(type, halves + h * 16));
        if (l.halves == 2)
            _mm256_store_ps(e->m[b] + h * 8, load_halves(type, halves + 32 + h * 16));
    }
}

always_inline void tile(const struct multiplier *m, int type, int rows, const struct expanded *e,
                        int first, int blocks, const struct matmul_codes *x,
                        float sums[][MATMUL_GROUP])
{
    __m256 acc[MOST_ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        acc[r][0] = _mm256_load_ps(sums[r]);
        acc[r][1] = _mm256_load_ps(sums[r] + 8);
    }
    for (int b = 0; b < blocks; b++)
        add_expanded_block(m, type, rows, e, b, x, first + b, acc);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm256_store_ps(sums[r], acc[r][0]);
        _mm256_store_ps(sums[r] + 8, acc[r][1]);
    }
}

static struct matmul_codes codes_from_row(struct matmul_codes c, int row)
{
    c.codes += (size_t)row * c.stride;
    c.scales += (size_t)row * c.scale_stride;
    c.sums16 += (size_t)row * c.sum16_stride;
    c.sums32 += (size_t)row * c.sum32_stride;
    return c;
}

/* All rows times blocks [first, first + n) of a group. */
always_inline void chunk(const struct multiplier *m, int type, const struct matmul_tile *t,
                         const struct expanded *e, int first, int n, float sums[][MATMUL_GROUP])
{
    for (int r = 0; r < t->rows;) {
        const struct matmul_codes x = codes_from_row(t->codes, r);
        const int left = t->rows - r, rows = left < m->tile_rows ? left : m->tile_rows;
        if (rows == m->tile_rows)
            tile(m, type, m->tile_rows, e, first, n, &x, sums + r);
        else if (rows >= 2)
            tile(m, type, 2, e, first, n, &x, sums + r);
        else
            tile(m, type, 1, e, first, n, &x, sums + r);
        r += rows == m->tile_rows ? rows : rows >= 2 ? 2 : 1;
    }
}

always_inline void panel(const struct multiplier *m, int type, const struct matmul_tile *t)
{
    const struct matmul_layout l = matmul_layout(type);
    _Alignas(64) struct expanded e;
    _Alignas(64) float sums[MATMUL_TILE_ROWS][MATMUL_GROUP];
    const int blocks = t->cols / l.elements, most = CHUNK_COLUMNS / l.elements;
    for (int g = 0; g < t->groups; g++) {
        const uint8_t *block = t->weights + (size_t)g * t->group_bytes;
        const uint8_t *halves = block + (size_t)blocks * (size_t)l.block_bytes;
        memset(sums, 0, (size_t)t->rows * sizeof *sums);
        for (int first = 0; first < blocks; first += most) {
            const int n = blocks - first < most ? blocks - first : most;
            for (int b = 0; b < n; b++) {
                expand_block(m, type, block, halves, b, &e);
                block += l.block_bytes;
                halves += l.halves * 32;
            }
            chunk(m, type, t, &e, first, n, sums);
        }
        for (int r = 0; r < t->rows; r++)
            memcpy(t->y + (size_t)r * t->y_stride + g * MATMUL_GROUP, sums[r], sizeof sums[r]);
    }
}

always_inline void product(const struct multiplier *m, int type, const struct matmul_tile *t)
{
    if (t->rows == 1)
        direct(m, type, 1, t);
    else if (t->rows == 2)
        direct(m, type, 2, t);
    else if (t->rows == 3)
        direct(m, type, 3, t);
    else if (t->rows == 4)
        direct(m, type, 4, t);
    else
        panel(m, type, t);
}

#endif
