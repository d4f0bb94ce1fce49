#include "worker/worker_measure.h"

#include "model/known_models.h"
#include "worker/measure.h"

#include <omp.h>
#include <stdio.h>

static int worker_read_shape(struct model_shape *ret_shape, const struct worker_settings *s,
                             struct err *err)
{
    struct weight_file *f = NULL;
    struct model_config c;
    if (known_model_exists(s->measure))
        return model_shape_of_name(ret_shape, s->measure, s->measure_quant, err);
    int rc = weight_file_open(&f, s->measure, err);
    if (rc == 0)
        rc = model_config_read(&c, f, err);
    if (rc == 0)
        rc = model_shape_of_file(ret_shape, &c, f, err);
    weight_file_close(f);
    return rc;
}

static void worker_print_measured(const struct worker_settings *s, const struct measure_result *r)
{
    printf("{\"threads\": %d, \"memory_bytes\": %lld, \"read_bytes_per_s_one\": %.6g, "
           "\"read_bytes_per_s\": %.6g, \"int8_ops_per_s\": %.6g, \"attend_s\": %.6g, "
           "\"attend_many_s\": %.6g, \"seconds\": [",
           (int)s->threads, (long long)s->memory_bytes, r->read_one, r->read_all, r->int8_ops,
           r->attend_s, r->attend_many_s);
    for (int i = 0; i < (MEASURE_KINDS + 1) * MEASURE_POINTS; i++)
        printf("%s%.6g", i ? ", " : "", r->seconds[i / MEASURE_POINTS][i % MEASURE_POINTS]);
    printf("]}\n");
}

int worker_measure(const struct worker_settings *s, const struct kernels *kernels,
                   const struct placement *placement, struct err *err)
{
    struct model_shape shape = {.types = NULL};
    int rc = worker_read_shape(&shape, s, err);
    if (rc == 0) {
        struct measure_spec spec = {.config = shape.config, .kernels = kernels, .kv_type = KV_F16};
        struct measure_result r;
        spec.n_kinds = model_shape_kinds(&shape, MEASURE_KINDS, spec.types, NULL);
        spec.head_type = model_shape_type(
            &shape, shape.config.tied_head ? MODEL_TOKEN_EMBEDDING : MODEL_OUTPUT, 0);
        omp_set_num_threads((int)s->threads);
        if (s->pin) {
#pragma omp parallel
            placement_pin(placement, omp_get_thread_num());
        }
        rc = measure_remembered(&spec, NULL, &r, err);
        if (rc == 0)
            worker_print_measured(s, &r);
    }
    model_shape_clear(&shape);
    return rc;
}
