/* rope.c - see rope.h. */
#include "kernels/rope.h"

#include "kernels/fmath.h"

#include <math.h>

static const double pi = 0x1.921fb54442d18p+1;

/* YaRN: the pair (a real number) that turns `rotations` times within the original context. */
static double pair_of_rotations(const struct rope_spec *spec, double rotations)
{
    double context = spec->original_context;
    return spec->dim * fmath_log(context / (rotations * 2.0 * pi)) / (2.0 * fmath_log(spec->base));
}

/* Pairs below `low` turn fast and keep their frequency, those above `high` are slowed by the
 * factor, and between them the two are mixed linearly (arXiv:2309.00071, section 3.2). */
static void yarn_scale(const struct rope_spec *spec, double *frequencies)
{
    double fast = spec->beta_fast > 0 ? spec->beta_fast : 32.0;
    double slow = spec->beta_slow > 0 ? spec->beta_slow : 1.0;
    double low = floor(pair_of_rotations(spec, fast)), high = ceil(pair_of_rotations(spec, slow));
    low = low < 0 ? 0 : low;
    high = high > spec->dim - 1 ? spec->dim - 1 : high;
    double width = high - low < 0.001 ? 0.001 : high - low;
    for (int i = 0; i < spec->dim / 2; i++) {
        double ramp = (i - low) / width;
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        frequencies[i] = frequencies[i] / spec->yarn_factor * ramp + frequencies[i] * (1.0 - ramp);
    }
}

void rope_prepare(const struct rope_spec *spec, double *ret_inverse_frequencies,
                  double *ret_magnitude)
{
    for (int i = 0; i < spec->dim / 2; i++)
        ret_inverse_frequencies[i] = 1.0 / fmath_pow(spec->base, 2.0 * i / spec->dim);
    *ret_magnitude = 1.0;
    if (!(spec->yarn_factor > 1.0))
        return;
    yarn_scale(spec, ret_inverse_frequencies);
    *ret_magnitude = spec->attention_factor > 0 ? spec->attention_factor
                                                : 0.1 * fmath_log(spec->yarn_factor) + 1.0;
}

void rope_angles(const double *inverse_frequencies, double magnitude, int dim, int position,
                 float *ret_cos, float *ret_sin)
{
    for (int i = 0; i < dim / 2; i++) {
        double s, c;
        fmath_sincos(position * inverse_frequencies[i], &s, &c);
        ret_cos[i] = (float)(c * magnitude);
        ret_sin[i] = (float)(s * magnitude);
    }
}

void rope_rotate(const struct kernels *k, float *x, int heads, int head_dim, int dim,
                 const float *cos, const float *sin)
{
    for (int h = 0; h < heads; h++)
        k->vec.rotate(x + (size_t)h * (size_t)head_dim, cos, sin, (size_t)dim / 2);
}
