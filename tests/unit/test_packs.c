/* Packed layers: shared by content, kept until they are trimmed, never touched while held. */
#include "worker/packs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct pack *take(struct packs *p, unsigned char content, size_t bytes)
{
    unsigned char identity[PACK_IDENTITY_BYTES] = {content};
    struct pack *pack;
    struct err err;
    assert_int_equal(packs_take(&pack, p, content ? identity : NULL, bytes, &err), 0);
    assert_true(pack->region.size >= bytes);
    return pack;
}

static void equal_content_is_one_pack(void **state)
{
    struct packs *p;
    struct err err;
    (void)state;
    assert_int_equal(packs_new(&p, &err), 0);
    struct pack *a = take(p, 1, 1000);
    memset(a->region.base, 7, 1000);
    struct pack *unfilled = take(p, 1, 1000);
    assert_ptr_not_equal(unfilled, a); /* nobody knows what will become of a */
    packs_fill(p, a, NULL, 0);
    struct pack *shared = take(p, 1, 1000), *other = take(p, 2, 500), *none = take(p, 0, 100);
    assert_ptr_equal(shared, a);
    assert_ptr_not_equal(other, a);
    assert_int_equal(packs_bytes(p), 1000 + 1000 + 500 + 100);
    packs_give(p, unfilled);
    packs_give(p, none);
    packs_give(p, a);
    packs_trim(p);
    assert_int_equal(packs_bytes(p), 1000 + 500);
    assert_int_equal(((unsigned char *)shared->region.base)[999], 7);
    packs_give(p, shared);
    assert_ptr_equal(take(p, 1, 1000), a); /* given back, not trimmed: still there */
    packs_give(p, a);
    packs_give(p, other);
    packs_trim(p);
    assert_int_equal(packs_bytes(p), 0);
    packs_free(p);
}

static void a_pack_may_be_nobody_elses(void **state)
{
    (void)state;
    struct pack *a = take(NULL, 1, 100), *b = take(NULL, 1, 100);
    packs_fill(NULL, a, NULL, 0);
    assert_ptr_not_equal(a, b);
    packs_give(NULL, a);
    packs_give(NULL, b);
    packs_give(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_content_is_one_pack),
        cmocka_unit_test(a_pack_may_be_nobody_elses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
