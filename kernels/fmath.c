/* fmath.c - see fmath.h. Polynomials: exp's is the interpolation of (e^r - 1 - r) / r² at Chebyshev
 * nodes, the others are Taylor series, long enough that their remainder is below a rounding. */
#include "kernels/fmath.h"

#include "kernels/fmath_exp.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts: the first has 21 significant bits, so that its product with an exponent is
 * exact; the second is the rest, rounded. */
static const double ln2_high = 0x1.62e42p-1, ln2_low = 0x1.fdf473de6af28p-22;

static float power_of_two(int exponent)
{
    uint32_t bits = ((uint32_t)exponent + 127u) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

float fmath_exp(float x)
{
    x = x < EXP_LOWEST ? EXP_LOWEST : x; /* a NaN stays */
    x = x > EXP_HIGHEST ? EXP_HIGHEST : x;
    /* Adding 1.5·2^23 rounds to an integer, which the low bits of the sum then hold. */
    float sum = fmaf(x, EXP_LOG2E, EXP_ROUND);
    float n = sum - EXP_ROUND;
    float r = fmaf(-n, EXP_LN2_LOW, fmaf(-n, EXP_LN2_HIGH, x));
    float q = fmaf(r, EXP_C4, EXP_C3);
    q = fmaf(r, q, EXP_C2);
    q = fmaf(r, q, EXP_C1);
    q = fmaf(r, q, EXP_C0);
    float p = fmaf(r * r, q, r) + 1.0f;
    /* p · 2^n in two steps: the first is exact, the second rounds once, into a subnormal if need
     * be. */
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    int exponent = (int)(bits - EXP_ROUND_BITS);
    int first = exponent >> 1, second = exponent - first;
    return p * power_of_two(first) * power_of_two(second);
}

double fmath_log(double x)
{
    if (!(x > 0.0) || x == INFINITY)
        return x == 0.0 ? -INFINITY : x > 0.0 ? x : NAN;
    int exponent = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        exponent = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    exponent += (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) { /* sqrt 2: m in (0.707, 1.414] */
        m *= 0.5;
        exponent++;
    }
    /* ln m = 2 artanh s = 2 s (1 + z/3 + z²/5 + ...), s = (m - 1) / (m + 1), z = s² ≤ 0.0295 */
    double s = (m - 1.0) / (m + 1.0);
    double z = s * s, series = 0.0;
    for (int k = 25; k >= 3; k -= 2)
        series = fma(series, z, 1.0 / k);
    double twice = s + s;
    double small = fma(twice * z, series, exponent * ln2_low);
    return fma((double)exponent, ln2_high, twice + small);
}

/* e^x in binary64; for |x| ≤ 700. */
static double exp_double(double x)
{
    double n = rint(x * 0x1.71547652b82fep+0);
    double r = fma(-n, ln2_low, fma(-n, ln2_high, x));
    double p = 1.0;
    for (int k = 15; k >= 1; k--)
        p = fma(p, r / k, 1.0);
    uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

double fmath_pow(double base, double exponent)
{
    double x = exponent * fmath_log(base);
    if (x != x)
        return NAN;
    if (x > 709.0)
        return INFINITY;
    if (x < -708.0)
        return 0.0;
    return exp_double(x);
}

void fmath_sincos(double x, double *ret_sin, double *ret_cos)
{
    /* π/2 in two parts. k ≤ 2^23, so x - k · (first part) is exact: it is a multiple of 2^-53 and
     * smaller than 1. */
    double k = rint(x * 0x1.45f306dc9c883p-1);
    double high = fma(-k, 0x1.921fb54442d18p+0, x);
    double r = fma(-k, 0x1.1a62633145c07p-54, high);
    double rest = fma(-k, 0x1.1a62633145c07p-54, high - r); /* what rounding r lost */
    double z = r * r;
    double s = 1.0, c = 1.0;
    for (int i = 19; i >= 3; i -= 2) /* sin r = r (1 - z/(2·3) (1 - z/(4·5) (...))) */
        s = fma(s, -z / (i * (i - 1.0)), 1.0);
    for (int i = 20; i >= 2; i -= 2) /* cos r = 1 - z/(1·2) (1 - z/(3·4) (...)) */
        c = fma(c, -z / (i * (i - 1.0)), 1.0);
    s = r * s + rest;
    c = fma(-r, rest, c);
    switch ((int64_t)k & 3) {
    case 0:
        *ret_sin = s, *ret_cos = c;
        break;
    case 1:
        *ret_sin = c, *ret_cos = -s;
        break;
    case 2:
        *ret_sin = -s, *ret_cos = -c;
        break;
    default:
        *ret_sin = -c, *ret_cos = s;
        break;
    }
}
