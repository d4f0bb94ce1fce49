/* vec_avx2.c - the slots of vec_kernels.h with AVX2, FMA and F16C: two vectors are the 16 lanes of
 * docs/numerics.md. */
#include "kernels/x86/vec_avx2.h"
#include "kernels/kernels_fill.h"

#include <string.h>

static float avx2_sum_squares(const float *x, size_t n)
{
    __m256 lanes[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        lanes[0] = _mm256_fmadd_ps(a, a, lanes[0]);
        lanes[1] = _mm256_fmadd_ps(b, b, lanes[1]);
    }
    for (int part = 0; i < n; i += 8, part++) {
        __m256 a = _mm256_maskload_ps(x + i, first_lanes(n - i));
        lanes[part] = _mm256_fmadd_ps(a, a, lanes[part]);
    }
    return lanes_sum(lanes[0], lanes[1]);
}

/* Masks are for the last vector alone: storing through one takes many cycles on AMD's processors.
 */
INLINE __m256 load_lanes(const float *x, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(n));
}

INLINE void store_lanes(float *y, __m256 v, size_t n)
{
    if (n >= 8)
        _mm256_storeu_ps(y, v);
    else
        _mm256_maskstore_ps(y, first_lanes(n), v);
}

static void avx2_scale(float *y, const float *x, const float *weight, float r, size_t n)
{
    __m256 by = _mm256_set1_ps(r);
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load_lanes(x + i, n - i), by);
        store_lanes(y + i, _mm256_mul_ps(v, load_lanes(weight + i, n - i)), n - i);
    }
}

static void avx2_rotate(float *x, const float *cos, const float *sin, size_t half)
{
    for (size_t i = 0; i < half; i += 8) {
        const size_t n = half - i;
        __m256 a = load_lanes(x + i, n), b = load_lanes(x + half + i, n);
        __m256 c = load_lanes(cos + i, n), s = load_lanes(sin + i, n);
        store_lanes(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)), n);
        store_lanes(x + half + i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)), n);
    }
}

static void avx2_swiglu(float *y, const float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_lanes(gate + i, n - i);
        __m256 below = _mm256_add_ps(one, exp8(_mm256_xor_ps(v, sign)));
        v = _mm256_mul_ps(_mm256_div_ps(v, below), load_lanes(up + i, n - i));
        store_lanes(y + i, v, n - i);
    }
}

static void avx2_add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store_lanes(y + i, _mm256_add_ps(load_lanes(y + i, n - i), load_lanes(x + i, n - i)),
                    n - i);
}

static void avx2_divide(float *y, const float *x, float by, size_t n)
{
    __m256 divisor = _mm256_set1_ps(by);
    for (size_t i = 0; i < n; i += 8)
        store_lanes(y + i, _mm256_div_ps(load_lanes(x + i, n - i), divisor), n - i);
}

static bool avx2_maximum(const float *x, size_t n, float *ret_maximum, size_t *ret_index)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 most = lowest, most2 = lowest, unordered = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
        most = _mm256_max_ps(most, a);
        most2 = _mm256_max_ps(most2, b);
    }
    for (; i < n; i += 8) {
        __m256i m = first_lanes(n - i);
        __m256 v = _mm256_blendv_ps(lowest, _mm256_maskload_ps(x + i, m), _mm256_castsi256_ps(m));
        unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        most = _mm256_max_ps(most, v);
    }
    if (_mm256_movemask_ps(unordered))
        return false;
    float value = lanes_maximum(_mm256_max_ps(most, most2));
    i = 0;
    while (n - i >= 8) {
        __m256 equal = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(value), _CMP_EQ_OQ);
        if (_mm256_movemask_ps(equal))
            break;
        i += 8;
    }
    while (x[i] != value)
        i++;
    *ret_maximum = x[i];
    *ret_index = i;
    return true;
}

/* exp(x - maximum) of the first n lanes, 0 in the others. */
INLINE __m256 exp_lanes(const float *x, __m256 maximum, __m256i m)
{
    __m256 e = exp8(_mm256_sub_ps(_mm256_maskload_ps(x, m), maximum));
    return _mm256_and_ps(e, _mm256_castsi256_ps(m));
}

static float avx2_exp_sum(float *y, const float *x, float maximum, size_t n)
{
    __m256 low = _mm256_setzero_ps(), high = low, most = _mm256_set1_ps(maximum);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), most));
        __m256 e2 = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i + 8), most));
        low = _mm256_add_ps(low, e);
        high = _mm256_add_ps(high, e2);
        if (y) {
            _mm256_storeu_ps(y + i, e);
            _mm256_storeu_ps(y + i + 8, e2);
        }
    }
    if (i < n) {
        __m256i m = first_lanes(n - i), m2 = first_lanes(n - i > 8 ? n - i - 8 : 0);
        __m256 e = exp_lanes(x + i, most, m), e2 = exp_lanes(x + i + 8, most, m2);
        low = _mm256_add_ps(low, e);
        high = _mm256_add_ps(high, e2);
        if (y) {
            _mm256_maskstore_ps(y + i, m, e);
            _mm256_maskstore_ps(y + i + 8, m2, e2);
        }
    }
    return lanes_sum(low, high);
}

static void avx2_scale_logits(float *y, const float *x, double maximum, double factor, size_t n)
{
    __m256d most = _mm256_set1_pd(maximum), by = _mm256_set1_pd(factor);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x + i));
        v = _mm256_mul_pd(_mm256_sub_pd(v, most), by);
        _mm_storeu_ps(y + i, _mm256_cvtpd_ps(v));
    }
    for (; i < n; i++)
        y[i] = (float)(((double)x[i] - maximum) * factor);
}

static void avx2_f32_to_f16(uint16_t *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = load_lanes(from + i, n - i);
        __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        if (n - i >= 8)
            _mm_storeu_si128((__m128i *)(to + i), half);
        else
            memcpy(to + i, &half, (n - i) * sizeof *to);
    }
}

static void avx2_f16_to_f32(float *to, const uint16_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i half = _mm_setzero_si128();
        if (n - i >= 8)
            half = _mm_loadu_si128((const __m128i *)(from + i));
        else
            memcpy(&half, from + i, (n - i) * sizeof *from);
        store_lanes(to + i, _mm256_cvtph_ps(half), n - i);
    }
}

void vec_avx2_fill(struct vec_kernels *k)
{
    *k = (struct vec_kernels){.sum_squares = avx2_sum_squares,
                              .scale = avx2_scale,
                              .rotate = avx2_rotate,
                              .swiglu = avx2_swiglu,
                              .add = avx2_add,
                              .divide = avx2_divide,
                              .maximum = avx2_maximum,
                              .exp_sum = avx2_exp_sum,
                              .scale_logits = avx2_scale_logits,
                              .f32_to_f16 = avx2_f32_to_f16,
                              .f16_to_f32 = avx2_f16_to_f32};
}
