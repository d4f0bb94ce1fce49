/* matmul_i8mm.c - packed products of two and more activation rows with the int8 matrix product of
 * ARMv8.6.
 *
 * SMMLA multiplies two weight rows × 8 columns by two activation rows × 8 columns: twice the work
 * of SDOT in one instruction, and 2 × 2 sums in a register: (w0 x0, w0 x1, w1 x0, w1 x1). Expanding
 * puts two column vectors together to suit it: register 2h of eight holds rows 4h and 4h + 1 × 8
 * columns, register 2h + 1 the other two. A tile is half of the group times three pairs of rows;
 * only at block ends the sums of a pair are parted. */
#include "kernels/arm/matmul_neon.h"
#include "kernels/kernels_fill.h"

enum { TILE_PAIRS = 3 }; /* pairs × 4 registers of sums, twice */

/* Codes of block b of a chunk, in pairs of column vectors. */
always_inline void expand_block(int type, struct packed_block from, int b, struct expanded *e)
{
    const int elements = matmul_layout(type).elements, vectors = type_sub_columns(type) / 4;
#pragma GCC unroll 16
    for (int j = 0; j < elements / type_sub_columns(type); j++)
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i += 2) {
            int8_t *to = e->codes[b * (elements / 4) + j * vectors + i];
            load_again();
#pragma GCC unroll 4
            for (int h = 0; h < 4; h++) {
                const int32x4_t low = vreinterpretq_s32_s8(block_codes(type, from, j, i, h));
                const int32x4_t high = vreinterpretq_s32_s8(block_codes(type, from, j, i + 1, h));
                vst1q_s8(to + h * 32, vreinterpretq_s8_s32(vzip1q_s32(low, high)));
                vst1q_s8(to + h * 32 + 16, vreinterpretq_s8_s32(vzip2q_s32(low, high)));
            }
        }
    expand_scales(type, from, b, e);
}

/* Eight activations of both rows of a pair. */
always_inline int8x16_t two_rows(const int8_t *first, const int8_t *second)
{
    return vcombine_s8(vld1_s8(first), vld1_s8(second));
}

/* A pair of rows; with an odd number of them the last row is its own partner, for nothing. */
struct pair {
    const int8_t *codes[2];
    const int16_t *sums[2];
};

/* sum = the centred product of columns [0, 4 · vectors) of `codes`, sub-block j, half `half` of the
 * group. */
always_inline void sub_block(int type, int pairs, int half, const int8_t (*codes)[64], int j,
                             const struct pair *x, int32x4_t sum[TILE_PAIRS][4])
{
    const int columns = type_sub_columns(type);
#pragma GCC unroll 3
    for (int p = 0; p < pairs; p++) {
        const int32_t start[2] = {-type_offset(type) * x[p].sums[0][j],
                                  -type_offset(type) * x[p].sums[1][j]};
        const int32x2_t both = type_offset(type) ? vld1_s32(start) : vdup_n_s32(0);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            sum[p][i] = vcombine_s32(both, both);
    }
#pragma GCC unroll 4
    for (int k = 0; k < columns; k += 8) {
        int8x16_t w[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            w[i] = vld1q_s8(codes[k / 4] + half * 64 + i * 16);
#pragma GCC unroll 3
        for (int p = 0; p < pairs; p++) {
            const int at = j * columns + k;
            const int8x16_t two = two_rows(x[p].codes[0] + at, x[p].codes[1] + at);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                sum[p][i] = vmmlaq_s32(sum[p][i], w[i], two);
        }
    }
}

/* Sub-block j of block b, a super-block: total += scale · product. */
always_inline void add_sub_block(int type, int pairs, int half, const struct expanded *e, int b,
                                 int j, const struct pair *x, int32x4_t total[TILE_PAIRS][4])
{
    const int columns = type_sub_columns(type);
    int32x4_t sum[TILE_PAIRS][4];
    sub_block(type, pairs, half, e->codes + b * 64 + j * columns / 4, j, x, sum);
    const int16_t *scales = e->scales[b * (128 / columns) + j / 2] + half * 16;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const int32x4_t scale = one_of_pairs(vld1q_s16(scales + h * 8), j % 2);
        const int32x4_t low = vzip1q_s32(scale, scale), high = vzip2q_s32(scale, scale);
#pragma GCC unroll 3
        for (int p = 0; p < pairs; p++) {
            total[p][h * 2] = vmlaq_s32(total[p][h * 2], sum[p][h * 2], low);
            total[p][h * 2 + 1] = vmlaq_s32(total[p][h * 2 + 1], sum[p][h * 2 + 1], high);
        }
    }
}

always_inline int32x4_t minima_sum(int type, const struct expanded *e, int b, const int16_t *sums,
                                   int h)
{
    int32x4_t pair[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    const int pairs = 128 / type_sub_columns(type);
    if (!type_has_minimum(type))
        return pair[0];
    if (matmul_layout(type).elements == 32)
        return vdupq_n_s32(sums[0]);
#pragma GCC unroll 8
    for (int j = 0; j < pairs; j++)
        add_minima(pair, vld1q_s16(e->minima[b * pairs + j] + h * 8), sums + 2 * j);
    return vpaddq_s32(pair[0], pair[1]);
}

/* Half of the outputs of `rows` rows take block b (number `at` of the row): `to` [rows][16]. */
always_inline void add_half_block(int type, int rows, int half, const struct expanded *e, int b,
                                  int at, const struct matmul_codes *x, float *to)
{
    const int elements = matmul_layout(type).elements, pairs = (rows + 1) / 2;
    int32x4_t total[TILE_PAIRS][4];
    struct pair pair[TILE_PAIRS];
#pragma GCC unroll 6
    for (int r = 0; r < pairs * 2; r++) {
        const int row = r < rows ? r : r - 1;
        pair[r / 2].codes[r % 2] = x->codes + (size_t)row * x->stride + at * elements;
        pair[r / 2].sums[r % 2] = block_sums(type, x, row, at);
        total[r / 2][r % 2 * 2] = total[r / 2][r % 2 * 2 + 1] = vdupq_n_s32(0);
    }
    if (elements == 32)
        sub_block(type, pairs, half, e->codes + b * 8, 0, pair, total);
    for (int j = 0; elements == 256 && j < 256 / type_sub_columns(type); j += 2) {
        add_sub_block(type, pairs, half, e, b, j, pair, total);
        add_sub_block(type, pairs, half, e, b, j + 1, pair, total);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            const int h = half * 2 + i;
            const int32x4_t a = total[r / 2][i * 2], c = total[r / 2][i * 2 + 1];
            finish(type, vld1q_f32(e->d[b] + h * 4), vld1q_f32(e->m[b] + h * 4),
                   x->scales[(size_t)r * x->scale_stride + (size_t)at],
                   r % 2 ? vuzp2q_s32(a, c) : vuzp1q_s32(a, c),
                   minima_sum(type, e, b, pair[r / 2].sums[r % 2], h),
                   to + r * MATMUL_GROUP + h * 4);
        }
}

always_inline void tile(int type, int rows, const struct expanded *e, int first, int blocks,
                        const struct matmul_codes *x, float *to)
{
    for (int half = 0; half < 2; half++)
        for (int b = 0; b < blocks; b++)
            add_half_block(type, rows, half, e, b, first + b, x, to);
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
            for (int r = 0; r < t->rows;) {
                const struct matmul_codes x = codes_from_row(t->codes, r);
                const int left = t->rows - r;
                if (left >= 2 * TILE_PAIRS)
                    tile(type, 2 * TILE_PAIRS, &e, first, n, &x, sums[r]);
                else if (left >= 4)
                    tile(type, 4, &e, first, n, &x, sums[r]);
                else if (left >= 2)
                    tile(type, 2, &e, first, n, &x, sums[r]);
                else
                    tile(type, 1, &e, first, n, &x, sums[r]);
                r += left >= 2 * TILE_PAIRS ? 2 * TILE_PAIRS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            }
        }
        for (int r = 0; r < t->rows; r++)
            memcpy(t->y + (size_t)r * t->y_stride + g * MATMUL_GROUP, sums[r], sizeof sums[r]);
    }
}

always_inline void product(int type, const struct matmul_tile *t)
{
    if (t->rows == 1)
        matmul_neon_row(type, t);
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

void matmul_i8mm_fill(struct matmul_kernels *k)
{
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
}
