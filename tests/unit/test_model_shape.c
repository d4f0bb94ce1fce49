/* Models by name: parameters and bytes against what their publishers say, types against a file. */
#include "kernels/quant.h"
#include "model/known_models.h"
#include "model/model_shape.h"
#include "model/quant_mix.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void assert_within(double value, double wanted, double share)
{
    if (fabs(value - wanted) > share * wanted)
        fail_msg("%.0f where %.0f is published", value, wanted);
}

static void parameters_are_the_published_ones(void **state)
{
    double wanted;
    for (size_t i = 0; known_model_name(i, &wanted); i++) {
        struct model_shape s;
        struct err err;
        assert_int_equal(model_shape_of_name(&s, known_model_name(i, &wanted), "Q8_0", &err), 0);
        double count = (double)model_shape_parameters(&s);
        /* A head that is written once more is published once. */
        if (wanted < 3.5e9 && !s.config.tied_head && strncmp(s.config.name, "qwen2.5", 7) == 0)
            count -= (double)s.config.vocabulary_size * s.config.hidden_size;
        assert_within(count, wanted, 0.012);
        model_shape_clear(&s);
    }
}

/* Sizes of files as their publishers list them, metadata (6 MB of vocabulary) included. */
static void bytes_are_those_of_published_files(void **state)
{
    static const struct {
        const char *name, *mix;
        double bytes;
    } files[] = {
        {"qwen2.5-coder-0.5b-instruct", "q4_k_m", 491400064},
        {"qwen2.5-coder-1.5b-instruct", "Q4_K_M", 1117320768},
        {"Qwen/Qwen2.5-7B-Instruct", "Q4_K_M", 4683073184},
        {"qwen2.5-7b", "Q8_0", 8098525888},
        {"qwen2.5-7b", "Q6_K", 6254198976},
        {"qwen2.5-7b", "Q3_K_M", 3808391072},
        {"qwen2.5-7b", "Q2_K", 3015939680},
        {"qwen2.5-32b", "Q4_K_M", 19851336256},
        {"qwen3-8b", "Q4_K_M", 5027783488},
        {"qwen3-0.6b", "Q8_0", 639446688},
        {"qwen1.5-0.5b-chat", "Q4_K_M", 407e6},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct model_shape s;
        struct err err;
        assert_int_equal(model_shape_of_name(&s, files[i].name, files[i].mix, &err), 0);
        assert_within((double)model_shape_bytes(&s) + 6e6, files[i].bytes, 0.02);
        model_shape_clear(&s);
    }
}

static void a_file_has_the_shape_of_its_tensors(void **state)
{
    struct weight_file *f;
    struct model_config c;
    struct model_shape s;
    struct err err;
    assert_int_equal(
        weight_file_open(&f, TEST_DATA "/models/qwen2-tied/gguf/qwen2-tied-Q8_0.gguf", &err), 0);
    assert_int_equal(model_config_read(&c, f, &err), 0);
    assert_int_equal(model_shape_of_file(&s, &c, f, &err), 0);
    int64_t bytes = 0;
    for (size_t i = 0; i < weight_file_tensor_count(f); i++)
        bytes += (int64_t)weight_file_tensor(f, i)->bytes;
    assert_int_equal(model_shape_bytes(&s), bytes);
    assert_int_equal(model_shape_type(&s, MODEL_Q, 1), TENSOR_Q8_0);
    assert_int_equal(model_shape_type(&s, MODEL_OUTPUT, 0), -1);
    model_shape_clear(&s);
    weight_file_close(f);
}

static void unknown_names_are_refused_with_those_that_are_known(void **state)
{
    struct model_shape s;
    struct err err;
    assert_int_equal(model_shape_of_name(&s, "qwen9-1b", "Q4_K_M", &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "qwen1.5-110b"));
    model_shape_clear(&s);
    assert_int_equal(model_shape_of_name(&s, "qwen3-8b", "Q9", &err), ERR_USAGE);
    assert_non_null(strstr(err.text, "Q4_K_M"));
    model_shape_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_the_published_ones),
        cmocka_unit_test(bytes_are_those_of_published_files),
        cmocka_unit_test(a_file_has_the_shape_of_its_tensors),
        cmocka_unit_test(unknown_names_are_refused_with_those_that_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
