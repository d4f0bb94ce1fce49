/* The answers that the coordinator knows are those of every instruction set of this machine, and
 * no fault of a kernel leaves them as they are. */
#include "kernels/quant.h"
#include "proto/known_answers.h"
#include "worker/self_test.h"
#include "worker/self_test_weights.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_instruction_set_gives_the_known_answers(void **state)
{
    bool ok = true;
    for (int isa = 0; isa < ISAS; isa++) {
        struct kernels k;
        struct err err;
        if (!kernels_isa_is_offered(isa))
            continue;
        assert_int_equal(kernels_select(&k, kernels_isa_name(isa), &err), 0);
        /* All rounds with the best one only: the scalar one takes its time. */
        bool is_best = isa + 1 == ISAS || !kernels_isa_is_offered(isa + 1);
        for (uint32_t round = 0; round < KNOWN_ANSWERS; round += is_best ? 1 : 11) {
            struct self_test_result r;
            self_test_run(&k, round, &r);
            assert_int_equal(r.failure.code, 0);
            if (r.n_answers == 1 && r.answers[0].answer == known_answers[round])
                continue;
            ok = false;
            print_message("%s, round %u: 0x%016llx\n", kernels_isa_name(isa), round,
                          (unsigned long long)r.answers[0].answer);
        }
    }
    assert_true(ok);
}

static void every_type_is_computed_with(void **state)
{
    struct self_test_weights w;
    struct err err;
    bool seen[64] = {false};
    assert_int_equal(self_test_weights_make(&w, &err), 0);
    for (int i = 0; i < SELF_TEST_LAYERS; i++) {
        const struct layer_weights *l = &w.layers[i];
        const struct matrix *all[] = {&l->q,    &l->k,  &l->v,   &l->attention_output,
                                      &l->gate, &l->up, &l->down};
        for (int k = 0; k < 7; k++)
            seen[all[k]->type] = true;
    }
    for (int type = 0; type < 64; type++)
        if (quant_type_is_supported(type) && !seen[type])
            fail_msg("%s is left out", quant_type_name(type));
    self_test_weights_clear(&w);
}

static void each_thread_answers(void **state)
{
    struct kernels k;
    struct err err;
    struct self_test_result r;
    int before = omp_get_max_threads();
    assert_int_equal(kernels_select(&k, NULL, &err), 0);
    omp_set_num_threads(5);
    self_test_run(&k, 3, &r);
    assert_int_equal(r.round, 3);
    assert_int_equal(r.n_answers, 1);
    assert_int_equal(r.answers[0].n_threads, 5);
    assert_int_equal(omp_get_max_threads(), 5);
    omp_set_num_threads(before);
}

/* ---- kernels that err: one bit of one number ---- */

/* A last bit that is added to something large is lost, here as in any answer. */
#define IN_A_SUM (1u << 12)

static struct kernels sound;
static int faulty_type;   /* of the product that errs */
static int faulty_thread; /* of the team that is tested; -1: all */

static void flip(float *value, uint32_t mask)
{
    uint32_t bits;
    if (faulty_thread >= 0 && omp_get_ancestor_thread_num(1) != faulty_thread)
        return;
    memcpy(&bits, value, sizeof bits);
    bits ^= mask;
    memcpy(value, &bits, sizeof bits);
}

static void faulty_product(const struct matmul_tile *tile)
{
    sound.matmul.product[faulty_type](tile);
    flip(&tile->y[MATMUL_GROUP * tile->groups - 1], IN_A_SUM);
}

static void faulty_product_many(const struct matmul_tile *tile)
{
    sound.matmul.product_many[faulty_type](tile);
    flip(&tile->y[(size_t)(tile->rows - 1) * tile->y_stride], IN_A_SUM);
}

static void faulty_scale(float *y, const float *x, const float *weight, float r, size_t n)
{
    sound.vec.scale(y, x, weight, r, n);
    flip(&y[n / 2], 1u << 20); /* an input that is quantised next */
}

static void faulty_rotate(float *x, const float *cos, const float *sin, size_t half)
{
    sound.vec.rotate(x, cos, sin, half);
    flip(&x[half], 1);
}

static void faulty_swiglu(float *y, const float *gate, const float *up, size_t n)
{
    sound.vec.swiglu(y, gate, up, n);
    flip(&y[n - 1], 1);
}

static void faulty_add(float *y, const float *x, size_t n)
{
    sound.vec.add(y, x, n);
    flip(&y[n - 1], 1);
}

static void faulty_divide(float *y, const float *x, float by, size_t n)
{
    sound.vec.divide(y, x, by, n);
    flip(&y[0], 1);
}

static void faulty_scores(float *s, const float *q, const void *keys, int n_q, int dim, float scale)
{
    sound.vec.scores_f16(s, q, keys, n_q, dim, scale);
    flip(&s[3], 1u << 16);
}

static void faulty_values(float *o, const float *w, const void *values, int n_q, int dim, int n)
{
    sound.vec.values_f16(o, w, values, n_q, dim, n);
    flip(&o[dim - 1], 1u << 10);
}

static void faulty_merge(float *maximum, float *sum, float *o, const float *maximum2,
                         const float *sum2, const float *o2, int n_q, int dim)
{
    sound.vec.merge(maximum, sum, o, maximum2, sum2, o2, n_q, dim);
    flip(&sum[0], 1u << 10);
}

static void expect_fault(const struct kernels *k, const char *what)
{
    struct self_test_result r;
    self_test_run(k, 5, &r);
    for (int i = 0; i < r.n_answers; i++)
        if (r.answers[i].answer == known_answers[5])
            fail_msg("nobody sees that %s errs", what);
}

static void a_wrong_bit_is_seen(void **state)
{
    struct err err;
    assert_int_equal(kernels_select(&sound, NULL, &err), 0);
    faulty_thread = -1;
    for (faulty_type = 0; faulty_type < MATMUL_SLOTS; faulty_type++) {
        struct kernels k = sound;
        if (!quant_type_is_supported(faulty_type))
            continue;
        k.matmul.product[faulty_type] = faulty_product;
        expect_fault(&k, quant_type_name(faulty_type));
        k.matmul.product[faulty_type] = sound.matmul.product[faulty_type];
        if (!sound.matmul.product_many[faulty_type] || sound.matmul.many[faulty_type] > 18)
            continue;
        k.matmul.product_many[faulty_type] = faulty_product_many;
        expect_fault(&k, quant_type_name(faulty_type));
    }
#define FAULT(slot, function)                                                                      \
    do {                                                                                           \
        struct kernels k = sound;                                                                  \
        k.vec.slot = function;                                                                     \
        expect_fault(&k, #slot);                                                                   \
    } while (0)
    FAULT(scale, faulty_scale);
    FAULT(rotate, faulty_rotate);
    FAULT(swiglu, faulty_swiglu);
    FAULT(add, faulty_add);
    FAULT(divide, faulty_divide);
    FAULT(scores_f16, faulty_scores);
    FAULT(values_f16, faulty_values);
    FAULT(merge, faulty_merge);
}

static void a_thread_that_errs_is_told_from_the_others(void **state)
{
    struct kernels k;
    struct err err;
    struct self_test_result r;
    int before = omp_get_max_threads();
    assert_int_equal(kernels_select(&sound, NULL, &err), 0);
    k = sound;
    faulty_type = TENSOR_Q4_K;
    k.matmul.product[TENSOR_Q4_K] = faulty_product;
    omp_set_num_threads(4);
    faulty_thread = 2;
    self_test_run(&k, 7, &r);
    omp_set_num_threads(before);
    assert_int_equal(r.n_answers, 2);
    int right = r.answers[0].answer == known_answers[7] ? 0 : 1;
    assert_true(r.answers[right].answer == known_answers[7]);
    assert_int_equal(r.answers[right].n_threads, 3);
    assert_int_equal(r.answers[1 - right].n_threads, 1);
    assert_true(r.answers[1 - right].processor >= 0);
}

static atomic_int largest_team;

static void watching_product(const struct matmul_tile *tile)
{
    int n = omp_get_level() > 1 ? omp_get_num_threads() : 1;
    if (n > atomic_load(&largest_team))
        atomic_store(&largest_team, n);
    sound.matmul.product[TENSOR_Q4_K](tile);
}

/* Whatever the environment says of teams within teams: it is this core that is tested. */
static void each_thread_computes_alone(void **state)
{
    struct kernels k;
    struct err err;
    struct self_test_result r;
    int before = omp_get_max_threads(), levels = omp_get_max_active_levels();
    assert_int_equal(kernels_select(&sound, NULL, &err), 0);
    k = sound;
    k.matmul.product[TENSOR_Q4_K] = watching_product;
    omp_set_num_threads(3);
    omp_set_max_active_levels(3);
    self_test_run(&k, 1, &r);
    omp_set_max_active_levels(levels);
    omp_set_num_threads(before);
    assert_int_equal(r.n_answers, 1);
    assert_int_equal(atomic_load(&largest_team), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_computed_with),
        cmocka_unit_test(every_instruction_set_gives_the_known_answers),
        cmocka_unit_test(each_thread_answers),
        cmocka_unit_test(each_thread_computes_alone),
        cmocka_unit_test(a_wrong_bit_is_seen),
        cmocka_unit_test(a_thread_that_errs_is_told_from_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
