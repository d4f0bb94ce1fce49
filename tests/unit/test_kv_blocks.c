/* Block ids: each is given out once, and comes back. */
#include "coordinator/kv_blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void every_id_is_given_out_once(void **state)
{
    struct kv_blocks k;
    struct err err;
    assert_int_equal(kv_blocks_init(&k, 100, &err), 0);
    bool seen[100] = {false};
    uint32_t ids[100];
    for (int i = 0; i < 100; i++) {
        assert_true(kv_blocks_take(&k, &ids[i]));
        assert_in_range(ids[i], 0, 99);
        assert_false(seen[ids[i]]);
        seen[ids[i]] = true;
    }
    uint32_t none;
    assert_false(kv_blocks_take(&k, &none));
    kv_blocks_give_back(&k, ids + 40, 3);
    assert_int_equal(k.n_free, 3);
    for (int i = 0; i < 3; i++) {
        uint32_t again;
        assert_true(kv_blocks_take(&k, &again));
        assert_true(again == ids[40] || again == ids[41] || again == ids[42]);
    }
    assert_false(kv_blocks_take(&k, &none));
    kv_blocks_clear(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_id_is_given_out_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
