/* Block ids: each is given out once, shared, found by name, forgotten oldest first. */
#include "coordinator/kv_blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct prefix_name name_of(unsigned number)
{
    struct prefix_name name;
    prefix_name_root(PREFIX_OF_TENANT, number, &name);
    return name;
}

static void every_id_is_given_out_once(void **state)
{
    (void)state;
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
    kv_blocks_release(&k, ids + 40, 3, true);
    assert_int_equal(k.n_free, 3);
    for (int i = 0; i < 3; i++) {
        uint32_t again;
        assert_true(kv_blocks_take(&k, &again));
        assert_true(again == ids[40] || again == ids[41] || again == ids[42]);
    }
    assert_false(kv_blocks_take(&k, &none));
    kv_blocks_clear(&k);
}

static void a_shared_block_is_free_when_nobody_has_it(void **state)
{
    (void)state;
    struct kv_blocks k;
    uint32_t id, found;
    assert_int_equal(kv_blocks_init(&k, 2, NULL), 0);
    struct prefix_name name = name_of(1);
    assert_true(kv_blocks_take(&k, &id));
    assert_false(kv_blocks_find(&k, &name, &found));
    kv_blocks_name(&k, id, &name);
    assert_true(kv_blocks_find(&k, &name, &found));
    assert_int_equal(found, id);
    kv_blocks_share(&k, id);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(k.n_free, 1);
        kv_blocks_release(&k, &id, 1, true);
    }
    assert_int_equal(k.n_free, 2);
    assert_true(kv_blocks_find(&k, &name, &found)); /* still there */
    assert_int_equal(found, id);
    assert_int_equal(k.n_free, 1);
    kv_blocks_clear(&k);
}

/* The end of the older sequence goes first, its beginning later, the newer sequence last. */
static void the_least_recently_used_is_forgotten_first(void **state)
{
    (void)state;
    struct kv_blocks k;
    uint32_t ids[6], found, id;
    assert_int_equal(kv_blocks_init(&k, 6, NULL), 0);
    for (unsigned i = 0; i < 6; i++) {
        struct prefix_name name = name_of(i);
        assert_true(kv_blocks_take(&k, &ids[i]));
        if (i != 5)
            kv_blocks_name(&k, ids[i], &name);
    }
    kv_blocks_release(&k, ids, 3, true);     /* 0 1 2 */
    kv_blocks_release(&k, ids + 3, 3, true); /* 3 4 and one without a name */
    static const unsigned order[] = {5, 2, 1, 0, 4, 3};
    for (int i = 0; i < 6; i++) {
        assert_true(kv_blocks_take(&k, &id));
        assert_int_equal(id, ids[order[i]]);
        struct prefix_name name = name_of(order[i]);
        assert_false(kv_blocks_find(&k, &name, &found));
    }
    kv_blocks_clear(&k);
}

static void names_are_unique_and_can_be_forgotten(void **state)
{
    (void)state;
    struct kv_blocks k;
    uint32_t a, b, found;
    struct prefix_name name = name_of(7);
    assert_int_equal(kv_blocks_init(&k, 3, NULL), 0);
    assert_true(kv_blocks_take(&k, &a));
    assert_true(kv_blocks_take(&k, &b));
    kv_blocks_name(&k, a, &name);
    kv_blocks_name(&k, b, &name);
    assert_false(k.blocks[b].is_named);
    kv_blocks_forget_names(&k);
    assert_false(kv_blocks_find(&k, &name, &found));
    kv_blocks_name(&k, b, &name);
    assert_true(kv_blocks_find(&k, &name, &found));
    assert_int_equal(found, b);
    kv_blocks_clear(&k);
}

/* Against digests computed by hand from the definition (sha256sum). */
static void names_follow_their_definition(void **state)
{
    (void)state;
    static const unsigned char root_of_tenant_2[] = {
        0xfc, 0x33, 0x0a, 0x7f, 0xaa, 0xdf, 0x04, 0x56, 0xb1, 0x27, 0xfe,
        0x72, 0x85, 0x88, 0x15, 0x2c, 0x4d, 0xa4, 0xc6, 0xd4, 0x0e, 0x41,
        0x24, 0x5d, 0xe9, 0xd6, 0x22, 0xa9, 0xaf, 0x69, 0x49, 0xbf};
    static const unsigned char block_after_it[] = {0x34, 0x94, 0x9f, 0xe2, 0xe5, 0x2d, 0x49, 0x9c,
                                                   0x9b, 0x35, 0x70, 0x6f, 0x3d, 0xf4, 0xdb, 0x43,
                                                   0x03, 0x00, 0xb8, 0x88, 0x02, 0x82, 0x29, 0xd2,
                                                   0x55, 0x5d, 0x06, 0x8d, 0xcf, 0x95, 0xbd, 0xd7};
    struct prefix_name name, other;
    uint32_t tokens[64];
    for (uint32_t i = 0; i < 64; i++)
        tokens[i] = i * 1000 + 1;
    prefix_name_root(PREFIX_OF_TENANT, 2, &name);
    assert_memory_equal(name.digest, root_of_tenant_2, sizeof name.digest);
    prefix_name_root(PREFIX_OF_REQUEST, 2, &other);
    assert_memory_not_equal(&name, &other, sizeof name);
    prefix_name_next(&name, tokens, &name);
    assert_memory_equal(name.digest, block_after_it, sizeof name.digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_id_is_given_out_once),
        cmocka_unit_test(a_shared_block_is_free_when_nobody_has_it),
        cmocka_unit_test(the_least_recently_used_is_forgotten_first),
        cmocka_unit_test(names_are_unique_and_can_be_forgotten),
        cmocka_unit_test(names_follow_their_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
