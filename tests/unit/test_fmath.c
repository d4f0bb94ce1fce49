/* test_fmath.c - our exp, log, pow, sin and cos against libm in higher precision, within the
 * bounds that docs/numerics.md states. */
#include "kernels/fmath.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Distance from |x| to the next float (the next double). */
static double float_ulp(double x)
{
    float f = fabsf((float)x);
    return (double)nextafterf(f, INFINITY) - (double)f;
}

static double double_ulp(double x)
{
    return nextafter(fabs(x), INFINITY) - fabs(x);
}

static void test_exp_is_within_bound(void **state)
{
    for (uint64_t i = 0; i < 1ULL << 32; i += 2503) {
        uint32_t bits = (uint32_t)i;
        float x;
        memcpy(&x, &bits, sizeof x);
        if (!(x > -105.0f && x < 88.72f))
            continue;
        double want = exp((double)x);
        if (!(fabs((double)fmath_exp(x) - want) <= 1.1 * float_ulp(want)))
            fail_msg("exp(%a) = %a, not %a", (double)x, (double)fmath_exp(x), want);
    }
}

static void test_exp_of_corners(void **state)
{
    assert_true(fmath_exp(0.0f) == 1.0f && fmath_exp(-0.0f) == 1.0f);
    assert_true(fmath_exp(-INFINITY) == 0.0f && fmath_exp(-1e30f) == 0.0f);
    assert_true(fmath_exp(-104.0f) == 0.0f && fmath_exp(-103.9f) == 0x1p-149f);
    assert_true(fmath_exp(89.0f) == INFINITY && fmath_exp(INFINITY) == INFINITY);
    assert_true(isfinite(fmath_exp(88.72f)));
    assert_true(isnan(fmath_exp(NAN)));
}

static void test_log_is_within_bound(void **state)
{
    for (int i = 0; i < 400000; i++) {
        double x = ldexp(1.0 + i / 400000.0, i % 2098 - 1074);
        if (x == 0.0)
            continue;
        double want = (double)logl((long double)x);
        if (!(fabs(fmath_log(x) - want) <= 3 * double_ulp(want)))
            fail_msg("log(%a) = %a, not %a", x, fmath_log(x), want);
    }
    assert_true(fmath_log(1.0) == 0.0);
    assert_true(fmath_log(0.0) == -INFINITY && fmath_log(INFINITY) == INFINITY);
    assert_true(isnan(fmath_log(-1.0)) && isnan(fmath_log(NAN)));
}

static void test_pow_is_within_bound(void **state)
{
    for (int i = 1; i < 200000; i++) {
        double base = 1e-3 * i * (1 + i % 1000), exponent = (i % 777) / 300.0 - 1.3;
        double want = (double)powl((long double)base, (long double)exponent);
        double bound = (fabs(exponent * log(base)) + 2.0) * 0x1p-52;
        if (!(fabs(fmath_pow(base, exponent) / want - 1.0) <= bound))
            fail_msg("pow(%a, %a) = %a, not %a", base, exponent, fmath_pow(base, exponent), want);
    }
    assert_true(fmath_pow(1e6, 0.0) == 1.0);
    assert_true(fmath_pow(10.0, 400.0) == INFINITY && fmath_pow(10.0, -400.0) == 0.0);
}

static void test_sincos_is_within_bound(void **state)
{
    for (int i = 0; i < 400000; i++) {
        /* Also what lies next to multiples of π/2, where the reduction cancels most. */
        double x = i % 2 ? (i - 200000) * 49.9876543 : (i - 200000) * 0x1.921fb54442d18p+0;
        double s, c;
        fmath_sincos(x, &s, &c);
        if (!(fabs(s - (double)sinl((long double)x)) <= 0x1p-52 &&
              fabs(c - (double)cosl((long double)x)) <= 0x1p-52))
            fail_msg("sin, cos(%a) = %a, %a", x, s, c);
    }
    double s, c;
    fmath_sincos(0.0, &s, &c);
    assert_true(s == 0.0 && c == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_is_within_bound),    cmocka_unit_test(test_exp_of_corners),
        cmocka_unit_test(test_log_is_within_bound),    cmocka_unit_test(test_pow_is_within_bound),
        cmocka_unit_test(test_sincos_is_within_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
