/* matmul_neon.c - packed products with the dot product of ARMv8.2.
 *
 * SDOT by a lane multiplies four columns of four rows by the same four activations and adds them in
 * 32 bits, which is what a register of the packed form wants: no saturation, no shuffles. Sums of a
 * sub-block start at minus offset · Σx, so that codes need not be centred. All of it is exact; only
 * the floats at block ends must follow docs/numerics.md, section 4.
 *
 * One activation row reads the packed planes directly; more of them first expand a group × 512
 * columns to bytes. */
#include "kernels/arm/matmul_neon.h"
#include "kernels/kernels_fill.h"

#include <math.h>
#include <stdbool.h>

enum {
    TILE_ROWS = 3, /* rows × 4 registers of sums, twice, fill the registers */
    AHEAD = 2304   /* bytes between reading and prefetching */
};

/* Where a tile reads its weights: block b of `e`, or, with `planes`, the packed block. `planes` is
 * an argument of its own, so that every function has it as a constant. */
struct source {
    struct packed_block packed;
    const struct expanded *e;
};

always_inline int8x16_t source_codes(int type, bool planes, const struct source *s, int b, int j,
                                     int i, int h)
{
    if (planes)
        return block_codes(type, s->packed, j, i, h);
    const int vectors = type_sub_columns(type) / 4, elements = matmul_layout(type).elements;
    return vld1q_s8(s->e->codes[b * (elements / 4) + j * vectors + i] + h * 16);
}

always_inline int16x8_t source_scales(int type, bool planes, const struct source *s, int b, int j,
                                      int h)
{
    return planes ? block_scales(type, s->packed.planes, j, h)
                  : vld1q_s16(s->e->scales[b * (128 / type_sub_columns(type)) + j] + h * 8);
}

always_inline int16x8_t source_minima(int type, bool planes, const struct source *s, int b, int j,
                                      int h)
{
    return planes ? block_minima(type, s->packed.planes, j, h)
                  : vld1q_s16(s->e->minima[b * (128 / type_sub_columns(type)) + j] + h * 8);
}

always_inline float32x4_t source_d(int type, bool planes, const struct source *s, int b, int h)
{
    return planes ? block_d(type, s->packed, h) : vld1q_f32(s->e->d[b] + h * 4);
}

always_inline float32x4_t source_m(int type, bool planes, const struct source *s, int b, int h)
{
    return planes ? block_m(type, s->packed, h) : vld1q_f32(s->e->m[b] + h * 4);
}

/* sum = the centred product of sub-block j and x; sums: of x's sub-block j. */
always_inline void sub_block(int type, bool planes, int rows, const struct source *s, int b, int j,
                             const int8_t *x, size_t stride, const int16_t *const sums[],
                             int32x4_t sum[TILE_ROWS][4])
{
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 4; h++)
            sum[r][h] = vdupq_n_s32(type_offset(type) ? -type_offset(type) * sums[r][j] : 0);
#pragma GCC unroll 2
    for (int i = 0; i < type_sub_columns(type) / 4; i += 4) {
        int8x16_t four[TILE_ROWS];
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++)
            four[r] = vld1q_s8(x + (size_t)r * stride + i * 4);
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++) {
            if (planes)
                load_again();
            const int8x16_t w0 = source_codes(type, planes, s, b, j, i, h);
            const int8x16_t w1 = source_codes(type, planes, s, b, j, i + 1, h);
            const int8x16_t w2 = source_codes(type, planes, s, b, j, i + 2, h);
            const int8x16_t w3 = source_codes(type, planes, s, b, j, i + 3, h);
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++) {
                sum[r][h] = vdotq_laneq_s32(sum[r][h], w0, four[r], 0);
                sum[r][h] = vdotq_laneq_s32(sum[r][h], w1, four[r], 1);
                sum[r][h] = vdotq_laneq_s32(sum[r][h], w2, four[r], 2);
                sum[r][h] = vdotq_laneq_s32(sum[r][h], w3, four[r], 3);
            }
        }
    }
}

/* Sub-block j of a super-block: total += scale · product. */
always_inline void add_sub_block(int type, bool planes, int rows, const struct source *s, int b,
                                 int j, const int8_t *x, size_t stride, const int16_t *const sums[],
                                 int32x4_t total[TILE_ROWS][4])
{
    int32x4_t sum[TILE_ROWS][4];
    sub_block(type, planes, rows, s, b, j, x, stride, sums, sum);
#pragma GCC unroll 4
    for (int h = 0; h < 4; h++) {
        const int32x4_t scale = one_of_pairs(source_scales(type, planes, s, b, j / 2, h), j % 2);
#pragma GCC unroll 3
        for (int r = 0; r < rows; r++)
            total[r][h] = vmlaq_s32(total[r][h], sum[r][h], scale);
    }
}

always_inline int32x4_t minima_sum(int type, bool planes, const struct source *s, int b,
                                   const int16_t *sums, int h)
{
    int32x4_t pair[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    if (!type_has_minimum(type))
        return pair[0];
    if (matmul_layout(type).elements == 32)
        return vdupq_n_s32(sums[0]);
#pragma GCC unroll 8
    for (int j = 0; j < 128 / type_sub_columns(type); j++)
        add_minima(pair, source_minima(type, planes, s, b, j, h), sums + 2 * j);
    return vpaddq_s32(pair[0], pair[1]);
}

/* Block b of the source (number `at` of the row) times `rows` rows, added to `to` [rows][16]. */
always_inline void add_block(int type, bool planes, int rows, const struct source *s, int b, int at,
                             const struct matmul_codes *x, float *to)
{
    const int elements = matmul_layout(type).elements, sub_columns = type_sub_columns(type);
    const int8_t *codes = x->codes + (size_t)at * (size_t)elements;
    const int16_t *sums[TILE_ROWS];
    int32x4_t total[TILE_ROWS][4];
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        sums[r] = block_sums(type, x, r, at);
        for (int h = 0; h < 4; h++)
            total[r][h] = vdupq_n_s32(0);
    }
    if (elements == 32) {
        sub_block(type, planes, rows, s, b, 0, codes, x->stride, sums, total);
    } else if (planes) { /* fields change from sub-block to sub-block: unrolled, they are constants
                          */
#pragma GCC unroll 16
        for (int j = 0; j < 256 / sub_columns; j++)
            add_sub_block(type, true, rows, s, b, j, codes + j * sub_columns, x->stride, sums,
                          total);
    } else {
        for (int j = 0; j < 256 / sub_columns; j += 2) { /* scales come in pairs */
            add_sub_block(type, false, rows, s, b, j, codes + j * sub_columns, x->stride, sums,
                          total);
            add_sub_block(type, false, rows, s, b, j + 1, codes + (j + 1) * sub_columns, x->stride,
                          sums, total);
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++)
            finish(type, source_d(type, planes, s, b, h), source_m(type, planes, s, b, h),
                   x->scales[(size_t)r * x->scale_stride + (size_t)at], total[r][h],
                   minima_sum(type, planes, s, b, sums[r], h), to + r * MATMUL_GROUP + h * 4);
}

/* ---- one row, from the planes ---- */

always_inline void direct(int type, const struct matmul_tile *t)
{
    const struct matmul_layout l = matmul_layout(type);
    for (int g = 0; g < t->groups; g++) {
        struct source s = {find_block(type, t->cols, t->weights + (size_t)g * t->group_bytes, 0),
                           NULL};
        float sums[MATMUL_GROUP] = {0};
        for (int b = 0; b < t->cols / l.elements; b++) {
            for (int i = 0; i < l.block_bytes; i += 64)
                __builtin_prefetch(s.packed.planes + i + AHEAD);
            add_block(type, true, 1, &s, 0, b, &t->codes, sums);
            s.packed.planes += l.block_bytes;
            s.packed.halves += l.halves * 32;
        }
        memcpy(t->y + g * MATMUL_GROUP, sums, sizeof sums);
    }
}

/* ---- many rows, from expanded codes ---- */

always_inline void expand_block(int type, struct packed_block from, int b, struct expanded *e)
{
    const int elements = matmul_layout(type).elements, vectors = type_sub_columns(type) / 4;
#pragma GCC unroll 16
    for (int j = 0; j < elements / type_sub_columns(type); j++)
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++) {
            load_again();
#pragma GCC unroll 4
            for (int h = 0; h < 4; h++)
                vst1q_s8(e->codes[b * (elements / 4) + j * vectors + i] + h * 16,
                         block_codes(type, from, j, i, h));
        }
    expand_scales(type, from, b, e);
}

always_inline void tile(int type, int rows, const struct expanded *e, int first, int blocks,
                        const struct matmul_codes *x, float *to)
{
    const struct source s = {.e = e};
    for (int b = 0; b < blocks; b++)
        add_block(type, false, rows, &s, b, first + b, x, to);
}

always_inline void panel(int type, const struct matmul_tile *t)
{
    struct expanded e;
    float sums[MATMUL_TILE_ROWS][MATMUL_GROUP];
    const int elements = matmul_layout(type).elements;
    const int blocks = t->cols / elements, chunk = CHUNK_COLUMNS / elements;
    for (int g = 0; g < t->groups; g++) {
        const uint8_t *group = t->weights + (size_t)g * t->group_bytes;
        memset(sums, 0, (size_t)t->rows * sizeof *sums);
        for (int first = 0; first < blocks; first += chunk) {
            const int n = blocks - first < chunk ? blocks - first : chunk;
            for (int b = 0; b < n; b++)
                expand_block(type, find_block(type, t->cols, group, first + b), b, &e);
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

always_inline float32x4_t load_floats(int type, const uint8_t *from, int h)
{
    if (type == TENSOR_F32)
        return vreinterpretq_f32_u8(vld1q_u8(from + h * 16));
    if (type == TENSOR_F16)
        return load_halves(from, h);
    return load_bfloats(from, h);
}

always_inline void plain_tile(int type, int rows, const struct matmul_tile *t, int g, int row)
{
    const size_t bytes = (size_t)matmul_layout(type).block_bytes;
    const uint8_t *w = t->weights + (size_t)g * t->group_bytes;
    const float *x = t->x + (size_t)row * t->x_stride;
    float32x4_t acc[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = vdupq_n_f32(0);
    for (int k = 0; k < t->cols; k++, w += bytes) {
        float32x4_t wk[4];
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++)
            wk[h] = load_floats(type, w, h);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const float32x4_t xk = vld1q_dup_f32(x + (size_t)r * t->x_stride + (size_t)k);
#pragma GCC unroll 4
            for (int h = 0; h < 4; h++)
                acc[r][h] = vfmaq_f32(acc[r][h], wk[h], xk);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++)
            vst1q_f32(t->y + (size_t)(row + r) * t->y_stride + g * MATMUL_GROUP + h * 4, acc[r][h]);
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
    uint32x4_t largest = vdupq_n_u32(0);
    for (int i = 0; i < n; i += 4) {
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
        largest = vmaxq_u32(largest, vandq_u32(bits, vdupq_n_u32(0x7fffffff)));
    }
    const uint32_t most = vmaxvq_u32(largest);
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

always_inline int16x4_t rounded(const float *x, float factor)
{
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), factor)));
}

/* Codes of 16 columns, and their sum. |x · factor| stays below 127.5: no clamp is needed. */
always_inline int quantise_16(const float *x, float factor, int8_t *codes)
{
    const int16x8_t low = vcombine_s16(rounded(x, factor), rounded(x + 4, factor));
    const int16x8_t high = vcombine_s16(rounded(x + 8, factor), rounded(x + 12, factor));
    const int8x16_t all = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
    vst1q_s8(codes, all);
    return vaddlvq_s8(all);
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
                sums[0] = quantise_16(x + i, factor, to->codes + i);
                sums[1] = quantise_16(x + i + 16, factor, to->codes + i + 16);
            }
            to->sums32[i / 32] = (int16_t)(sums[0] + sums[1]);
            if (group == 256) {
                to->sums16[i / 16] = (int16_t)sums[0];
                to->sums16[i / 16 + 1] = (int16_t)sums[1];
            }
        }
    }
}

void matmul_neon_row(int type, const struct matmul_tile *t)
{
    struct matmul_kernels k = {0};
    matmul_neon_fill(&k);
    k.product[type](t);
}

void matmul_neon_fill(struct matmul_kernels *k)
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
    k->quantise_isa = "neon";
}
