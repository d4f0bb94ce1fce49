/* test_philox.c - the generator's published known answers, and the numbers drawn from it. */
#include "kernels/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* kat_vectors of the authors' Random123, lines "philox4x32 10". */
static void test_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t words[4];
        philox4x32(cases[i].counter, cases[i].key, words);
        assert_memory_equal(words, cases[i].words, sizeof words);
    }
}

static void test_uniform_is_the_first_53_bits(void **state)
{
    double want = (double)(0x6627e8d5e169c58dULL >> 11) * 0x1p-53;
    assert_true(philox_uniform(0, 0, 0) == want);
    /* Every part of key and counter counts, the high words too. */
    const double others[] = {philox_uniform(1, 0, 0), philox_uniform(1ULL << 32, 0, 0),
                             philox_uniform(0, 1, 0), philox_uniform(0, 0, 1),
                             philox_uniform(0, 0, 1ULL << 32)};
    for (int i = 0; i < 5; i++) {
        assert_true(others[i] != want && others[i] >= 0.0 && others[i] < 1.0);
        for (int j = 0; j < i; j++)
            assert_true(others[i] != others[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_uniform_is_the_first_53_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
