/* matmul_avx2.c - packed products with AVX2.
 *
 * VPMADDUBSW multiplies codes (unsigned) by activations (signed) and adds pairs into 16 bits with
 * saturation, which must not happen: so many products are added up as surely fit
 * (sixteen_bit_vectors()), then VPMADDWD widens to 32 bits and applies the scale of the sub-block
 * on the way. Signed codes w are taken as |w| · (x with w's sign): two products of 128 · 127 still
 * fit. matmul_256.h has all that is not this multiplier. */
#include "kernels/kernels_fill.h"
#include "kernels/x86/matmul_256.h"

#include <math.h>

/* How many column vectors may add up in 16 bits: 2 · largest code · 127 each. */
always_inline int sixteen_bit_vectors(int type)
{
    switch (type) {
    case TENSOR_Q8_0:
    case TENSOR_IQ4_NL:
    case TENSOR_IQ4_XS:
        return 1; /* 2 · 128 · 127 = 32512 */
    case TENSOR_Q6_K:
        return 2; /* 2 · 2 · 63 · 127 = 32004 */
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
    case TENSOR_MXFP4:
        return 4; /* 4 · 2 · 31 · 127 = 31496 */
    default:
        return type_sub_columns(type) / 4; /* 8 · 2 · 15 · 127 = 30480, 4 · 2 · 7 · 127 = 7112 */
    }
}

/* sum (+)= pairs of products of one column vector. */
always_inline void add_products(int type, bool first, __m256i codes, __m256i x, __m256i *sum)
{
    const __m256i products = type_is_signed(type) ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes),
                                                                         _mm256_sign_epi8(x, codes))
                                                  : _mm256_maddubs_epi16(codes, x);
    *sum = first ? products : _mm256_add_epi16(*sum, products);
    KEEP_ORDER(*sum);
}

/* total += sum, widened, times the scale. */
always_inline void add_sums(int rows, __m256i scale, int h, __m256i sum[][2], __m256i total[][2])
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        total[r][h] = _mm256_add_epi32(total[r][h], _mm256_madd_epi16(sum[r][h], scale));
        KEEP_ORDER(total[r][h]);
    }
}

static const struct multiplier avx2;

always_inline void add_run(int type, bool planes, int rows, const struct source *s, int run,
                           const int8_t *x, size_t stride, __m256i total[][2])
{
    const int most = sixteen_bit_vectors(type);
    const int scale_vectors = type_sub_columns(type) / 4;
#pragma GCC unroll 8
    for (int first = 0; first < 8; first += most) {
        __m256i sum[MOST_ROWS][2];
#pragma GCC unroll 8
        for (int i = first; i < first + most; i++) {
            const __m256i w0 = source_codes(&avx2, type, planes, s, run, i, 0);
            const __m256i w1 = source_codes(&avx2, type, planes, s, run, i, 1);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const __m256i four = four_columns(x + (size_t)r * stride + i * 4);
                add_products(type, i == first, w0, four, &sum[r][0]);
                add_products(type, i == first, w1, four, &sum[r][1]);
            }
        }
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256i scale =
                matmul_layout(type).elements == 32
                    ? _mm256_set1_epi16(1)
                    : source_scale(&avx2, type, planes, s, run, first / scale_vectors, h);
            add_sums(rows, scale, h, sum, total);
        }
    }
}

static const struct multiplier avx2 = {4, .add_run = add_run};

static void product_q4_0(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q4_0, t);
}

static void product_q4_1(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q4_1, t);
}

static void product_q5_0(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q5_0, t);
}

static void product_q5_1(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q5_1, t);
}

static void product_q8_0(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q8_0, t);
}

static void product_q2_k(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q2_K, t);
}

static void product_q3_k(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q3_K, t);
}

static void product_q4_k(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q4_K, t);
}

static void product_q5_k(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q5_K, t);
}

static void product_q6_k(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_Q6_K, t);
}

static void product_iq4_nl(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_IQ4_NL, t);
}

static void product_iq4_xs(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_IQ4_XS, t);
}

static void product_mxfp4(const struct matmul_tile *t)
{
    product(&avx2, TENSOR_MXFP4, t);
}

/* ---- F32, F16, BF16: one fma per column, no blocks ---- */

always_inline __m256 load_floats(int type, const uint8_t *from)
{
    if (type == TENSOR_F32)
        return _mm256_load_ps((const float *)(const void *)from);
    return load_halves(type, from);
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
    k->product[TENSOR_IQ4_NL] = product_iq4_nl;
    k->product[TENSOR_IQ4_XS] = product_iq4_xs;
    k->product[TENSOR_MXFP4] = product_mxfp4;
    k->quantise = quantise;
    k->quantise_isa = "avx2";
}
