/* matmul_avxvnni.c - packed products with the 256-bit VNNI instructions of client processors.
 *
 * VPDPBUSD multiplies codes (unsigned) by activations (signed) and adds four products into 32 bits,
 * without saturation: exact. Signed codes come plus 128. What is not this multiplier is in
 * matmul_256.h; F32, F16, BF16 and activations are AVX2's. */
#include "kernels/kernels_fill.h"
#include "kernels/x86/matmul_256.h"

static const struct multiplier avxvnni;

/* Sub-blocks are scaled by a 32-bit multiplication. Merging two of 16 bits for VPDPWSSD would take
 * as many instructions of the multiplier's ports. */
always_inline void add_scaled(int type, bool planes, int rows, const struct source *s, int run,
                              int sub_block, __m256i sum[][2], __m256i total[][2])
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __m256i scale = source_scale(&avxvnni, type, planes, s, run, sub_block, h);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const __m256i products = _mm256_mullo_epi32(sum[r][h], scale);
            total[r][h] = _mm256_add_epi32(total[r][h], products);
            KEEP_ORDER(total[r][h]);
        }
    }
}

/* sum += products of column vectors [first, end) of a run. */
always_inline void add_vectors(int type, bool planes, int rows, const struct source *s, int run,
                               int first, int end, const int8_t *x, size_t stride, __m256i sum[][2])
{
#pragma GCC unroll 8
    for (int i = first; i < end; i++) {
        const __m256i w0 = source_codes(&avxvnni, type, planes, s, run, i, 0);
        const __m256i w1 = source_codes(&avxvnni, type, planes, s, run, i, 1);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const __m256i four = four_columns(x + (size_t)r * stride + i * 4);
            sum[r][0] = _mm256_dpbusd_avx_epi32(sum[r][0], w0, four);
            KEEP_ORDER(sum[r][0]);
            sum[r][1] = _mm256_dpbusd_avx_epi32(sum[r][1], w1, four);
            KEEP_ORDER(sum[r][1]);
        }
    }
}

always_inline void add_run(int type, bool planes, int rows, const struct source *s, int run,
                           const int8_t *x, size_t stride, __m256i total[][2])
{
    if (matmul_layout(type).elements == 32) {
        add_vectors(type, planes, rows, s, run, 0, 8, x, stride, total);
        return;
    }
    const int vectors = type_sub_columns(type) / 4;
#pragma GCC unroll 2
    for (int j = 0; j < 8 / vectors; j++) {
        __m256i sum[MOST_ROWS][2];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_si256();
        add_vectors(type, planes, rows, s, run, j * vectors, (j + 1) * vectors, x, stride, sum);
        add_scaled(type, planes, rows, s, run, j, sum, total);
    }
}

static const struct multiplier avxvnni = {6, true, true, add_run};

static void product_q4_0(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q4_0, t);
}

static void product_q4_1(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q4_1, t);
}

static void product_q5_0(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q5_0, t);
}

static void product_q5_1(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q5_1, t);
}

static void product_q8_0(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q8_0, t);
}

static void product_q2_k(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q2_K, t);
}

static void product_q3_k(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q3_K, t);
}

static void product_q4_k(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q4_K, t);
}

static void product_q5_k(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q5_K, t);
}

static void product_q6_k(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_Q6_K, t);
}

static void product_iq4_nl(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_IQ4_NL, t);
}

static void product_iq4_xs(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_IQ4_XS, t);
}

static void product_mxfp4(const struct matmul_tile *t)
{
    product(&avxvnni, TENSOR_MXFP4, t);
}

void matmul_avxvnni_fill(struct matmul_kernels *k)
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
