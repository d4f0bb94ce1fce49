/* Measuring at joining: it keeps to what the machine's owner offers, and refuses what is no model.
 */
#include "kernels/quant.h"
#include "worker/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct measure_spec small(const struct kernels *kernels)
{
    struct measure_spec spec = {
        .config = {.hidden_size = 256,
                   .intermediate_size = 512,
                   .n_heads = 4,
                   .n_kv_heads = 2,
                   .head_dim = 64,
                   .rope_dim = 64,
                   .vocabulary_size = 1024,
                   .rms_eps = 1e-6f,
                   .rope_base = 1e6},
        .n_kinds = 1,
        .head_type = TENSOR_Q8_0,
        .kernels = kernels,
    };
    memset(spec.types[0], TENSOR_Q8_0, MODEL_SHAPE_MATRICES);
    return spec;
}

static void it_takes_no_more_memory_than_is_offered(void **state)
{
    struct measure_spec spec = small(*state);
    struct measure_result result;
    struct err err;
    double layer_s;
    spec.memory_bytes = 100 << 20;
    assert_int_equal(measure_run(&spec, &result, &err), ERR_MEMORY);
    assert_non_null(strstr(err.text, "100 MiB are offered"));
    assert_int_equal(measure_glance(&spec, &layer_s, &err), ERR_MEMORY);
    spec.memory_bytes = INT64_C(4) << 30;
    assert_int_equal(measure_glance(&spec, &layer_s, &err), 0);
    assert_true(layer_s > 0 && layer_s < 10);
}

static void what_is_no_model_is_refused(void **state)
{
    struct measure_spec spec = small(*state);
    struct measure_result result;
    struct err err;
    spec.config.hidden_size = 100; /* no whole blocks */
    assert_int_equal(measure_run(&spec, &result, &err), ERR_INPUT);
    spec = small(*state);
    spec.config.n_kv_heads = 0;
    assert_int_equal(measure_run(&spec, &result, &err), ERR_INPUT);
    spec = small(*state);
    spec.types[0][3] = 255;
    assert_int_equal(measure_run(&spec, &result, &err), ERR_INPUT);
}

int main(void)
{
    static struct kernels kernels;
    struct err err;
    if (kernels_select(&kernels, NULL, &err) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(it_takes_no_more_memory_than_is_offered, &kernels),
        cmocka_unit_test_prestate(what_is_no_model_is_refused, &kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
