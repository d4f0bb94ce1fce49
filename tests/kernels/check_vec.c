/* check_vec.c - vector kernels: every instruction set against the scalar reference, bit by bit.
 * --bench times the slots. */
#include "check_arrays.h"

#include "base/clock.h"
#include "kernels/fmath.h"
#include "kernels/norm.h"
#include "kernels/softmax.h"

static struct kernels all[ISAS];
static int n_all;

/* Calls `check` for lengths from 1 on (odd ones reach the tails) and each flavour. */
typedef void check_function(const struct kernels *ref, const struct kernels *isa, size_t n,
                            enum flavour flavour);

static void for_lengths(check_function *check)
{
    for (int i = 1; i < n_all; i++)
        for (int flavour = 0; flavour < FLAVOURS; flavour++)
            for (size_t n = 1; n < 5000; n += n < 70 ? 1 : 1 + random_below(n)) {
                check(&all[0], &all[i], n, (enum flavour)flavour);
                fences_free();
            }
}

static void check_reductions(const struct kernels *ref, const struct kernels *isa, size_t n,
                             enum flavour flavour)
{
    const float *x = fenced_floats(n, flavour);
    float want = ref->vec.sum_squares(x, n), got = isa->vec.sum_squares(x, n);
    assert_same("sum_squares", isa, &got, &want, 1);

    float most[2] = {0};
    size_t at[2] = {0};
    bool is_number[2];
    is_number[0] = ref->vec.maximum(x, n, &most[0], &at[0]);
    is_number[1] = isa->vec.maximum(x, n, &most[1], &at[1]);
    assert_int_equal(is_number[0], is_number[1]);
    assert_int_equal(at[0], at[1]);
    assert_same("maximum", isa, &most[1], &most[0], 1);

    float maximum = flavour == ORDINARY ? most[0] : random_value(flavour);
    float *e[2] = {fenced_floats(n, ORDINARY), fenced_floats(n, ORDINARY)};
    want = ref->vec.exp_sum(e[0], x, maximum, n);
    got = isa->vec.exp_sum(e[1], x, maximum, n);
    assert_same("exp_sum's sum", isa, &got, &want, 1);
    assert_same("exp_sum", isa, e[1], e[0], n);
    got = isa->vec.exp_sum(NULL, x, maximum, n);
    assert_same("exp_sum without y", isa, &got, &want, 1);
}

static void check_elementwise(const struct kernels *ref, const struct kernels *isa, size_t n,
                              enum flavour flavour)
{
    const float *x = fenced_floats(n, flavour), *w = fenced_floats(n, flavour);
    float *y[2] = {fenced_floats(n, flavour), NULL};
    y[1] = fenced_copy(y[0], n);
    float r = random_value(flavour);
    ref->vec.add(y[0], x, n);
    isa->vec.add(y[1], x, n);
    assert_same("add", isa, y[1], y[0], n);
    ref->vec.scale(y[0], x, w, r, n);
    isa->vec.scale(y[1], x, w, r, n);
    assert_same("scale", isa, y[1], y[0], n);
    ref->vec.divide(y[0], x, r, n);
    isa->vec.divide(y[1], x, r, n);
    assert_same("divide", isa, y[1], y[0], n);
    ref->vec.scale_logits(y[0], x, (double)r, 1.0 / 0.7, n);
    isa->vec.scale_logits(y[1], x, (double)r, 1.0 / 0.7, n);
    assert_same("scale_logits", isa, y[1], y[0], n);
    ref->vec.swiglu(y[0], x, w, n);
    isa->vec.swiglu(y[1], x, w, n);
    assert_same("swiglu", isa, y[1], y[0], n);
    float *in_place = fenced_copy(x, n);
    isa->vec.swiglu(in_place, in_place, w, n);
    assert_same("swiglu in place", isa, in_place, y[0], n);
}

static void check_rotate(const struct kernels *ref, const struct kernels *isa, size_t n,
                         enum flavour flavour)
{
    const float *cos = fenced_floats(n, flavour), *sin = fenced_floats(n, flavour);
    float *x[2] = {fenced_floats(2 * n, flavour), NULL};
    x[1] = fenced_copy(x[0], 2 * n);
    ref->vec.rotate(x[0], cos, sin, n);
    isa->vec.rotate(x[1], cos, sin, n);
    assert_same("rotate", isa, x[1], x[0], 2 * n);
}

static void check_halves(const struct kernels *ref, const struct kernels *isa, size_t n,
                         enum flavour flavour)
{
    const float *x = fenced_floats(n, flavour);
    uint16_t *h[2] = {fenced(n * 2), fenced(n * 2)};
    float *y[2] = {fenced(n * 4), fenced(n * 4)};
    for (int i = 0; i < 2; i++) {
        const struct kernels *k = i ? isa : ref;
        k->vec.f32_to_f16(h[i], x, n);
        k->vec.f16_to_f32(y[i], h[i], n);
    }
    assert_same("f16", isa, y[1], y[0], n);
}

static void test_reductions(void **state)
{
    for_lengths(check_reductions);
}

static void test_elementwise(void **state)
{
    for_lengths(check_elementwise);
}

static void test_rotate(void **state)
{
    for_lengths(check_rotate);
}

static void test_halves(void **state)
{
    for_lengths(check_halves);
}

/* All 65536 halves, and floats at and beside the middle of any two of them. */
static void test_every_half(void **state)
{
    for (int i = 1; i < n_all; i++)
        for (uint32_t h = 0; h < 65536; h += 16) {
            uint16_t half[16], back[2][16];
            float want[16], got[16], middle[16];
            for (uint32_t j = 0; j < 16; j++)
                half[j] = (uint16_t)(h + j);
            all[0].vec.f16_to_f32(want, half, 16);
            all[i].vec.f16_to_f32(got, half, 16);
            assert_same("f16_to_f32", &all[i], got, want, 16);
            for (int side = -1; side <= 1; side++) {
                for (uint32_t j = 0; j < 16; j++) {
                    float next = want[j] + (want[j] - (j ? want[j - 1] : want[j]));
                    middle[j] = 0.5f * (want[j] + next);
                    if (side)
                        middle[j] = nextafterf(middle[j], (float)side * INFINITY);
                }
                all[0].vec.f32_to_f16(back[0], middle, 16);
                all[i].vec.f32_to_f16(back[1], middle, 16);
                for (int j = 0; j < 16; j++)
                    if (middle[j] == middle[j])
                        assert_int_equal(back[1][j], back[0][j]);
            }
        }
}

/* Every lane evaluates what fmath_exp() does, over its whole range. */
static void test_exp_equals_fmath(void **state)
{
    enum { N = 4096 };
    static float x[N], y[N], want[N];
    for (int i = 0; i < n_all; i++)
        for (uint32_t block = 0; block < 256; block++) {
            for (uint32_t j = 0; j < N; j++) {
                uint32_t bits = (block * N + j) * 4099u; /* all signs and exponents */
                memcpy(&x[j], &bits, sizeof bits);
                want[j] = fmath_exp(x[j]);
            }
            all[i].vec.exp_sum(y, x, 0.0f, N);
            assert_same("exp", &all[i], y, want, N);
        }
}

/* The formula itself, in double precision: n roundings in a lane, four in the tree. */
static void test_reference_within_rounding_of_double(void **state)
{
    for (size_t n = 1; n < 3000; n += 1 + random_below(n)) {
        const float *x = fenced_floats(n, ORDINARY), *weight = fenced_floats(n, ORDINARY);
        float *y = fenced_floats(n, ORDINARY);
        double sum = 0.0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        double roundings = (double)(n / 16 + 1 + 4);
        assert_true(fabs((double)all[0].vec.sum_squares(x, n) - sum) <= sum * roundings * 0x1p-24);
        rmsnorm(&all[0], y, n, x, n, weight, 1, (int)n, 1e-6f);
        double r = 1.0 / sqrt(sum / (double)n + (double)1e-6f);
        for (size_t i = 0; i < n; i++) {
            double want = (double)x[i] * r * (double)weight[i];
            assert_true(fabs((double)y[i] - want) <= fabs(want) * (roundings + 7) * 0x1p-24);
        }
        float maximum = x[0];
        sum = 0.0;
        for (size_t i = 0; i < n; i++)
            maximum = x[i] > maximum ? x[i] : maximum;
        for (size_t i = 0; i < n; i++)
            sum += exp((double)x[i] - (double)maximum);
        double got = softmax_exponentials(&all[0], NULL, x, (int)n, maximum);
        /* rounding x - maximum (below 8): 2^-22 of e^x; exp 2 ulp; 16 + 4 in a block's sum */
        assert_true(fabs(got - sum) <= sum * (0x1p-22 + 24 * 0x1p-24));
        fences_free();
    }
}

static double seconds_of(void (*run)(const struct kernels *, float *, const float *),
                         const struct kernels *k, float *y, const float *x)
{
    double best = 1e9;
    for (int i = 0; i < 20; i++) {
        int64_t start = clock_now_us();
        for (int j = 0; j < 50; j++)
            run(k, y, x);
        double s = (double)(clock_now_us() - start) * 1e-6 / 50;
        best = s < best ? s : best;
    }
    return best;
}

enum { BENCH_N = 4096 };

static void bench_squares(const struct kernels *k, float *y, const float *x)
{
    y[0] = k->vec.sum_squares(x, BENCH_N);
}

static void bench_exp(const struct kernels *k, float *y, const float *x)
{
    k->vec.exp_sum(y, x, 4.0f, BENCH_N);
}

static void bench_swiglu(const struct kernels *k, float *y, const float *x)
{
    k->vec.swiglu(y, x, x, BENCH_N);
}

static void bench_maximum(const struct kernels *k, float *y, const float *x)
{
    size_t at;
    k->vec.maximum(x, BENCH_N, y, &at);
}

static int bench(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct kernels *, float *, const float *);
    } slots[] = {{"sum_squares", bench_squares},
                 {"exp_sum", bench_exp},
                 {"swiglu", bench_swiglu},
                 {"maximum", bench_maximum}};
    static float x[BENCH_N], y[BENCH_N];
    for (int i = 0; i < BENCH_N; i++)
        x[i] = random_value(ORDINARY);
    for (int i = 0; i < n_all; i++)
        for (size_t j = 0; j < sizeof slots / sizeof *slots; j++)
            printf("%-8s %-12s %8.3f elements/ns\n", all[i].isa_name, slots[j].name,
                   BENCH_N * 1e-9 / seconds_of(slots[j].run, &all[i], y, x));
    return 0;
}

int main(int argc, char **argv)
{
    n_all = all_kernels(all);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_rotate),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_exp_equals_fmath),
        cmocka_unit_test(test_reference_within_rounding_of_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
