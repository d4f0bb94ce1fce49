/* test_token_counts.c */
#include "worker/token_counts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_counts_are_absolute_and_bounded(void **state)
{
    struct token_counts c;
    assert_true(token_counts_init(&c, 100));
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 150; i++) /* 50 more than there is room for */
            token_counts_set(&c, i * 4096, i, i % 2 == 0);
        assert_int_equal(c.n, 100);
        for (uint32_t i = 0; i < 100; i++) {
            assert_int_equal(c.entries[i].token, i * 4096);
            assert_int_equal(c.entries[i].generated, i);
            assert_int_equal(c.entries[i].in_prompt, i % 2 == 0);
        }
        token_counts_set(&c, 4096, 77, true); /* still found when full */
        assert_int_equal(c.n, 100);
        assert_int_equal(c.entries[1].generated, 77);
        token_counts_reset(&c);
        assert_int_equal(c.n, 0);
    }
    token_counts_clear(&c);
}

static void test_smallest_table(void **state)
{
    struct token_counts c;
    assert_true(token_counts_init(&c, 0));
    token_counts_set(&c, 5, 1, false);
    assert_int_equal(c.n, 0);
    token_counts_clear(&c);
    token_counts_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_are_absolute_and_bounded),
        cmocka_unit_test(test_smallest_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
