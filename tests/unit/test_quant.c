/* test_quant.c - every supported block format against published values, bit by bit. */
#include "kernels/codebook.h"
#include "kernels/quant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct type_case {
    int type;
    const char *name;
    int elements, bytes;
};

static const struct type_case cases[] = {
    {TENSOR_F32, "F32", 1, 4},
    {TENSOR_F16, "F16", 1, 2},
    {TENSOR_BF16, "BF16", 1, 2},
    {TENSOR_Q4_0, "Q4_0", 32, 18},
    {TENSOR_Q4_1, "Q4_1", 32, 20},
    {TENSOR_Q5_0, "Q5_0", 32, 22},
    {TENSOR_Q5_1, "Q5_1", 32, 24},
    {TENSOR_Q8_0, "Q8_0", 32, 34},
    {TENSOR_Q2_K, "Q2_K", 256, 84},
    {TENSOR_Q3_K, "Q3_K", 256, 110},
    {TENSOR_Q4_K, "Q4_K", 256, 144},
    {TENSOR_Q5_K, "Q5_K", 256, 176},
    {TENSOR_Q6_K, "Q6_K", 256, 210},
    {TENSOR_IQ4_NL, "IQ4_NL", 32, 18},
    {TENSOR_IQ4_XS, "IQ4_XS", 256, 136},
    {TENSOR_MXFP4, "MXFP4", 32, 17},
    {TENSOR_IQ2_XXS, "IQ2_XXS", 256, 66},
    {TENSOR_IQ2_XS, "IQ2_XS", 256, 74},
    {TENSOR_IQ3_XXS, "IQ3_XXS", 256, 98},
    {TENSOR_IQ1_S, "IQ1_S", 256, 50},
    {TENSOR_IQ3_S, "IQ3_S", 256, 110},
    {TENSOR_IQ2_S, "IQ2_S", 256, 82},
    {TENSOR_IQ1_M, "IQ1_M", 256, 56},
    {TENSOR_TQ1_0, "TQ1_0", 256, 54},
    {TENSOR_TQ2_0, "TQ2_0", 256, 66},
};

static void *read_file(const char *name, size_t *ret_size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/quants/%s", TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    const long size = ftell(f);
    assert_true(size > 0);
    rewind(f);
    void *data = malloc((size_t)size);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, f), (size_t)size);
    fclose(f);
    *ret_size = (size_t)size;
    return data;
}

/* Equal bits, or a NaN in the same place. */
static void assert_floats_equal(const char *what, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: element %zu is %a, should be %a", what, i, (double)got[i],
                     (double)want[i]);
    }
}

static void test_unpack_matches_published_values(void **state)
{
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char name[32];
        size_t size, value_size;
        snprintf(name, sizeof name, "%s.bin", cases[c].name);
        uint8_t *blocks = read_file(name, &size);
        snprintf(name, sizeof name, "%s.f32", cases[c].name);
        float *want = read_file(name, &value_size);
        const size_t n = value_size / sizeof *want;
        assert_int_equal(size, quant_row_bytes(cases[c].type, (int64_t)n));
        float *got = malloc(value_size);
        assert_non_null(got);
        quant_unpack_row(cases[c].type, blocks, got, (int64_t)n);
        assert_floats_equal(cases[c].name, got, want, n);
        free(got);
        free(want);
        free(blocks);
    }
}

static void test_types(void **state)
{
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        assert_true(quant_type_is_supported(cases[c].type));
        assert_string_equal(quant_type_name(cases[c].type), cases[c].name);
        assert_int_equal(quant_block_elements(cases[c].type), cases[c].elements);
        assert_int_equal(quant_block_bytes(cases[c].type), cases[c].bytes);
        assert_int_equal(quant_row_bytes(cases[c].type, 512),
                         512 / cases[c].elements * cases[c].bytes);
    }
    assert_string_equal(quant_type_name(40), "NVFP4");
    assert_false(quant_type_is_supported(40));
    assert_int_equal(quant_block_elements(40), 0);
    assert_int_equal(quant_row_bytes(40, 256), 0);
    const int unknown[] = {-1, 4, 5, 31, 36, 41, 99, 1 << 30};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_null(quant_type_name(unknown[i]));
        assert_false(quant_type_is_supported(unknown[i]));
        assert_int_equal(quant_block_bytes(unknown[i]), 0);
    }
}

/* Every half survives the way through float32; values between halves go to the nearest one. */
static void test_half_conversion(void **state)
{
    for (int h = 0; h < 0x10000; h++) {
        const float f = quant_f16_to_f32((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(isnan(f));
            assert_true(isnan(quant_f16_to_f32(quant_f32_to_f16(f))));
            continue;
        }
        assert_int_equal(quant_f32_to_f16(f), h);
        if ((h & 0x7fff) >= 0x7bff)
            continue;
        /* The middle between two neighbours goes to the even one, its neighbours to theirs. */
        const float next = quant_f16_to_f32((uint16_t)(h + 1));
        const float middle = (f + next) / 2;
        assert_int_equal(quant_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, f)), h);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(quant_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(quant_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(quant_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(quant_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(quant_f32_to_f16(0x1p-140f), 0);
    assert_int_equal(quant_f32_to_f16(-0.0f), 0x8000);
}

static void test_half_conversion_matches_published_values(void **state)
{
    size_t size, want_size;
    float *from = read_file("quantize_src.f32", &size);
    uint16_t *want = read_file("quantize_F16.bin", &want_size);
    assert_int_equal(size / sizeof *from, want_size / sizeof *want);
    for (size_t i = 0; i < size / sizeof *from; i++)
        assert_int_equal(quant_f32_to_f16(from[i]), want[i]);
    free(want);
    free(from);
}

/* Blocks come from files: whatever their bytes, what is read stays within the tables. */
static void test_codebooks_hold_any_bytes(void **state)
{
    uint8_t bytes[128];
    uint64_t seed = 1;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int i = 0; i < 2000 && codebook_has(cases[c].type); i++) {
            for (size_t k = 0; k < sizeof bytes; k++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                bytes[k] = i < 256 ? (uint8_t)i : (uint8_t)(seed >> 56);
            }
            struct codebook_block b;
            codebook_split(cases[c].type, bytes, &b);
            for (int k = 0; k < 256; k++) {
                assert_in_range(b.weights[k] + 62, 0, 124);
                assert_in_range(b.scales[k / 16], 1, 31);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unpack_matches_published_values),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_codebooks_hold_any_bytes),
        cmocka_unit_test(test_half_conversion),
        cmocka_unit_test(test_half_conversion_matches_published_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
