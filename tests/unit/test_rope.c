/* test_rope.c - rotary tables and rotation. YaRN's expected frequencies come from the formulas of
 * the transformers library, evaluated in Python's binary64. */
#include "kernels/kernels.h"
#include "kernels/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void assert_near(double got, double want, double relative)
{
    if (!(fabs(got - want) <= fabs(want) * relative))
        fail_msg("%.17g, not %.17g", got, want);
}

static void test_plain_frequencies(void **state)
{
    const struct rope_spec spec = {.dim = 128, .base = 1e6};
    double f[64], magnitude;
    rope_prepare(&spec, f, &magnitude);
    assert_true(magnitude == 1.0 && f[0] == 1.0);
    for (int i = 0; i < 64; i++)
        assert_near(f[i], pow(1e6, -2.0 * i / 128), 1e-14);
}

/* Qwen2.5's long-context setting: pairs up to 23 keep their frequency, from 40 on it is a quarter.
 */
static void test_yarn_frequencies(void **state)
{
    const struct rope_spec spec = {
        .dim = 128, .base = 1e6, .yarn_factor = 4, .original_context = 32768};
    double f[64], magnitude;
    rope_prepare(&spec, f, &magnitude);
    assert_near(magnitude, 1.138629436111989, 1e-15);
    assert_near(f[1], 0x1.9c9758e458666p-1, 1e-14);
    assert_near(f[23], 0x1.c9548b66b624bp-8, 1e-14);
    assert_near(f[24], 0x1.6046ee02286ecp-8, 1e-14);
    assert_near(f[30], 0x1.17040e6c20ec6p-10, 1e-14);
    assert_near(f[40], 0x1.74eea61c12623p-15, 1e-14);
    assert_near(f[63], 0x1.4d1c97f4e952fp-22, 1e-14);
}

static void test_yarn_of_a_short_context(void **state)
{
    /* All slow pairs begin before the first: the ramp is clipped at 0. */
    static const double want[8] = {1.0,
                                   0.25298221281347033,
                                   0.060000000000000005,
                                   0.012649110640673516,
                                   0.004,
                                   0.0012649110640673518,
                                   0.0004,
                                   0.00012649110640673518};
    struct rope_spec spec = {.dim = 16,
                             .base = 1e4,
                             .yarn_factor = 2.5,
                             .original_context = 64,
                             .beta_fast = 32,
                             .beta_slow = 1};
    double f[8], magnitude;
    rope_prepare(&spec, f, &magnitude);
    for (int i = 0; i < 8; i++)
        assert_near(f[i], want[i], 1e-14);
    assert_near(magnitude, 1.0916290731874154, 1e-15);
    spec.attention_factor = 1.25;
    rope_prepare(&spec, f, &magnitude);
    assert_true(magnitude == 1.25);
}

static void test_angles_are_rounded_once(void **state)
{
    const struct rope_spec spec = {.dim = 64, .base = 1e6};
    double f[32], magnitude;
    float cos_table[32], sin_table[32];
    rope_prepare(&spec, f, &magnitude);
    for (int position = 0; position <= 131072; position += 1 + position / 3) {
        rope_angles(f, magnitude, 64, position, cos_table, sin_table);
        for (int i = 0; i < 32; i++) {
            /* Half an ulp, and what 1e-14 of the angle may move the value before it is rounded. */
            double angle = position * pow(1e6, -i / 32.0), slack = 0x1p-25 + angle * 1e-14;
            assert_true(fabs((double)cos_table[i] - cos(angle)) <= slack);
            assert_true(fabs((double)sin_table[i] - sin(angle)) <= slack);
        }
    }
}

/* Two heads, of which the first 12 of 20 elements turn: pair (i, i + 6) by the angle i. */
static void test_rotation(void **state)
{
    struct kernels k;
    float x[40], y[40], cos_table[6], sin_table[6];
    assert_int_equal(kernels_select(&k, NULL, NULL), 0);
    for (int i = 0; i < 6; i++) {
        cos_table[i] = (float)cos(i);
        sin_table[i] = (float)sin(i);
    }
    for (int i = 0; i < 40; i++)
        y[i] = x[i] = (float)(i * 7 % 11) - 5.0f;
    rope_rotate(&k, y, 2, 20, 12, cos_table, sin_table);
    for (int h = 0; h < 40; h += 20) {
        for (int i = 0; i < 6; i++) {
            double a = (double)x[h + i], b = (double)x[h + i + 6];
            double c = (double)cos_table[i], s = (double)sin_table[i];
            /* one rounding of a product, one of the sum */
            double slack = (fabs(a) + fabs(b)) * 0x1p-23;
            assert_true(fabs((double)y[h + i] - (a * c - b * s)) <= slack);
            assert_true(fabs((double)y[h + i + 6] - (b * c + a * s)) <= slack);
        }
        for (int i = 12; i < 20; i++)
            assert_true(y[h + i] == x[h + i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_frequencies),
        cmocka_unit_test(test_yarn_frequencies),
        cmocka_unit_test(test_yarn_of_a_short_context),
        cmocka_unit_test(test_angles_are_rounded_once),
        cmocka_unit_test(test_rotation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
