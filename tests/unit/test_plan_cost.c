/* Memory as a worker claims it; times between the numbers of rows that are known. */
#include "coordinator/plan_cost.h"

#include "worker/stage.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct sample {
    struct weight_file *file;
    struct model_config config;
    struct model_shape shape;
    struct batch_limits limits;
};

static void sample_open(struct sample *s, const char *name)
{
    char path[512];
    struct err err;
    *s = (struct sample){.file = NULL};
    snprintf(path, sizeof path, TEST_DATA "/models/%s.gguf", name);
    assert_int_equal(weight_file_open(&s->file, path, &err), 0);
    assert_int_equal(model_config_read(&s->config, s->file, &err), 0);
    assert_int_equal(model_shape_of_file(&s->shape, &s->config, s->file, &err), 0);
    s->limits = (struct batch_limits){.max_rows = 512,
                                      .max_sequences = 16,
                                      .max_outputs = 32,
                                      .max_context = 4096,
                                      .kv_blocks = 256,
                                      .vocabulary = (uint32_t)s->config.vocabulary_size};
}

static void sample_close(struct sample *s)
{
    model_shape_clear(&s->shape);
    weight_file_close(s->file);
}

/* The most threads that a stage makes room for, as worker/stage.c counts them. */
static int most_threads(void)
{
    int threads = omp_get_max_threads(), processors = omp_get_num_procs();
    return threads > processors ? threads : processors;
}

static void check_memory(const char *name, enum kv_type kv_type)
{
    struct sample s;
    struct plan_model m;
    struct err err;
    sample_open(&s, name);
    assert_int_equal(plan_model_of_shape(&m, &s.shape, &s.limits, kv_type, &err), 0);
    for (int first = 0; first < s.config.n_layers; first++) {
        for (int end = first + 1; end <= s.config.n_layers; end++) {
            struct stage_spec spec = {.model = &s.config,
                                      .weights = s.file,
                                      .first_layer = first,
                                      .end_layer = end,
                                      .kv_type = kv_type,
                                      .limits = s.limits};
            double claimed = (double)stage_memory(&spec);
            double planned = (double)plan_model_memory(&m, most_threads(), first, end);
            if (!(fabs(planned / claimed - 1) < 0.02))
                fail_msg("%s, layers %d to %d: %.0f planned, %.0f claimed", name, first, end,
                         planned, claimed);
        }
    }
    plan_model_clear(&m);
    sample_close(&s);
}

static void memory_is_what_a_stage_claims(void **state)
{
    check_memory("qwen2-tied/gguf/qwen2-tied-Q8_0", KV_F16);
    check_memory("qwen2-k256/gguf/qwen2-k256-Q4_K_M", KV_F32);
    check_memory("qwen3-k256/gguf/qwen3-k256-Q3_K_M", KV_F16);
    check_memory("qwen15-mha/gguf/qwen15-mha-F16", KV_F16);
}

static void times_lie_on_lines(void **state)
{
    struct sample s;
    struct plan_model m;
    struct err err;
    sample_open(&s, "qwen2-k256/gguf/qwen2-k256-Q4_K_M");
    assert_int_equal(plan_model_of_shape(&m, &s.shape, &s.limits, KV_F16, &err), 0);
    assert_true(m.n_kinds >= 1 && m.n_kinds <= PLAN_KINDS);
    struct plan_speed speed = {.attend_s = 1e-3};
    for (int kind = 0; kind <= PLAN_HEAD; kind++)
        for (int i = 0; i < PLAN_POINTS; i++)
            speed.seconds[kind][i] = kind == PLAN_HEAD ? 10.0 * plan_cost_rows[i] : 1.0;
    int n = m.n_layers;
    double layer = plan_cost_decode(&m, &speed, 0, 1, 1, 0);
    assert_float_equal(layer, m.scale[0], 1e-9);
    assert_float_equal(plan_cost_decode(&m, &speed, 0, 1, 2, 100), layer + 2 * 100 * 1e-3, 1e-9);
    assert_float_equal(plan_cost_decode(&m, &speed, n, n, 1024, 0), 10240, 1e-6);
    assert_float_equal(plan_cost_decode(&m, &speed, n, n, 40, 0), 400, 1e-6);
    assert_float_equal(plan_cost_prefill(&m, &speed, n, n, 40, 0), 0, 1e-9);
    plan_model_clear(&m);
    sample_close(&s);
}

/* A machine of 10 GB/s needs for one row what reading takes, for many what multiplying takes. */
static void figures_bound_the_times(void **state)
{
    struct model_shape shape;
    struct plan_model m;
    struct err err;
    struct batch_limits limits = {.max_rows = 512,
                                  .max_sequences = 16,
                                  .max_outputs = 32,
                                  .max_context = 4096,
                                  .kv_blocks = 256,
                                  .vocabulary = 152064};
    assert_int_equal(model_shape_of_name(&shape, "qwen2.5-7b", "Q4_K_M", &err), 0);
    assert_int_equal(plan_model_of_shape(&m, &shape, &limits, KV_F16, &err), 0);
    struct plan_speed s = plan_speed_of_figures(&m, 10e9, 500e9);
    double bytes = (double)m.kinds[PLAN_HEAD].bytes, elements = 7.07e9; /* but the embedding */
    for (int i = 0; i < m.n_layers; i++)
        bytes += (double)m.kinds[m.kind[i]].bytes;
    double one = plan_cost_decode(&m, &s, 0, m.n_layers, 1, 0);
    assert_true(fabs(one / (bytes / 10e9) - 1) < 0.01);
    double many = plan_cost_decode(&m, &s, 0, m.n_layers, 512, 0);
    assert_true(fabs(many / (2 * 512 * elements / 500e9) - 1) < 0.02);
    plan_model_clear(&m);
    model_shape_clear(&shape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_what_a_stage_claims),
        cmocka_unit_test(times_lie_on_lines),
        cmocka_unit_test(figures_bound_the_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
