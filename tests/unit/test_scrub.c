/* Packed weights that are read through again: what has changed is found, named, and not taken any
 * more; what is not held goes, whether it is read or not. */
#include "proto/block_sum.h"
#include "worker/scrub.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define FAST 1e12

struct found {
    pthread_mutex_t lock;
    char names[8][64];
    int n;
};

static void on_damage(void *context, const char *tensor)
{
    struct found *f = context;
    pthread_mutex_lock(&f->lock);
    assert_true(f->n < 8);
    snprintf(f->names[f->n++], sizeof f->names[0], "%s", tensor);
    pthread_mutex_unlock(&f->lock);
}

static int found_so_far(struct found *f)
{
    pthread_mutex_lock(&f->lock);
    int n = f->n;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* A pack of two tensors, filled. */
static struct pack *make(struct packs *p, unsigned char content, size_t first, size_t second)
{
    unsigned char identity[PACK_IDENTITY_BYTES] = {content};
    struct pack *pack;
    struct err err;
    assert_int_equal(packs_take(&pack, p, identity, first + 64 + second, &err), 0);
    struct pack_part *parts = calloc(2, sizeof *parts);
    assert_non_null(parts);
    parts[0] = (struct pack_part){.bytes = first};
    parts[1] = (struct pack_part){.offset = first + 64, .bytes = second};
    for (int i = 0; i < 2; i++) {
        unsigned char *at = pack->region.base + parts[i].offset;
        for (size_t k = 0; k < parts[i].bytes; k++)
            at[k] = (unsigned char)(k * 31 + content);
        snprintf(parts[i].name, sizeof parts[i].name, "blk.%d.%d", content, i);
        parts[i].sum = block_sum(at, parts[i].bytes);
    }
    packs_fill(p, pack, parts, 2);
    return pack;
}

/* Until so many bytes more were read, whatever they were. */
static void wait_for_bytes(const struct scrub *s, uint64_t bytes)
{
    for (uint64_t until = scrub_bytes(s) + bytes; scrub_bytes(s) < until;)
        nap();
}

static void what_changes_is_named(void **state)
{
    struct packs *p;
    struct scrub *s;
    struct err err;
    struct found f = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct scrub_spec spec = {NULL, FAST, on_damage, &f};
    assert_int_equal(packs_new(&p, &err), 0);
    struct pack *packs[] = {make(p, 1, 1000, 700000), make(p, 2, 300000, 64),
                            make(p, 3, 262144, 262145)};
    struct scrub_spec with = spec;
    with.packs = p;
    assert_int_equal(scrub_start(&s, &with, &err), 0);
    wait_for_bytes(s, 6000000); /* some rounds */
    assert_int_equal(found_so_far(&f), 0);
    packs[0]->region.base[1040] ^= 1; /* between two tensors: nobody's */
    wait_for_bytes(s, 6000000);
    assert_int_equal(found_so_far(&f), 0);
    packs[1]->region.base[300064 + 63] ^= 0x80; /* the last byte of the last tensor */
    while (found_so_far(&f) == 0)
        nap();
    assert_string_equal(f.names[0], "blk.2.1");
    assert_true(atomic_load(&packs[1]->is_spoilt));
    assert_false(atomic_load(&packs[0]->is_spoilt));
    wait_for_bytes(s, 6000000); /* told once; the others are still looked at */
    assert_int_equal(found_so_far(&f), 1);
    packs[2]->region.base[262144 + 64 + 200000] ^= 4;
    while (found_so_far(&f) == 1)
        nap();
    assert_string_equal(f.names[1], "blk.3.1");
    scrub_stop(s);
    /* Whoever wants that content gets a pack of its own. */
    unsigned char identity[PACK_IDENTITY_BYTES] = {2};
    struct pack *again;
    assert_int_equal(packs_take(&again, p, identity, 300128, &err), 0);
    assert_ptr_not_equal(again, packs[1]);
    packs_give(p, again);
    for (int i = 0; i < 3; i++)
        packs_give(p, packs[i]);
    packs_free(p);
}

static void it_keeps_its_pace(void **state)
{
    struct packs *p;
    struct scrub *s;
    struct err err;
    struct found f = {.lock = PTHREAD_MUTEX_INITIALIZER};
    assert_int_equal(packs_new(&p, &err), 0);
    const struct scrub_spec spec = {p, 4 << 20, on_damage, &f};
    struct pack *pack = make(p, 1, 1 << 20, 1 << 20);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(scrub_start(&s, &spec, &err), 0);
    wait_for_bytes(s, 2 << 20);
    clock_gettime(CLOCK_MONOTONIC, &b);
    /* Half a second at least; a slow machine takes longer. The last slice is not waited for. */
    assert_true((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9 > 0.4);
    scrub_stop(s);
    packs_give(p, pack);
    packs_free(p);
}

static void nothing_to_read_is_no_harm(void **state)
{
    struct packs *p;
    struct scrub *s;
    struct err err;
    struct found f = {.lock = PTHREAD_MUTEX_INITIALIZER};
    assert_int_equal(packs_new(&p, &err), 0);
    const struct scrub_spec spec = {p, FAST, on_damage, &f};
    assert_int_equal(scrub_start(&s, &spec, &err), 0);
    unsigned char identity[PACK_IDENTITY_BYTES] = {9};
    struct pack *unfilled;
    assert_int_equal(packs_take(&unfilled, p, identity, 1000, &err), 0);
    nap();
    assert_int_equal(scrub_bytes(s), 0);
    assert_int_equal(scrub_bytes(NULL), 0);
    scrub_stop(s);
    scrub_stop(NULL);
    packs_give(p, unfilled);
    packs_free(p);
}

/* Plans come and go while it reads. */
static void packs_go_while_they_are_read(void **state)
{
    struct packs *p;
    struct scrub *s;
    struct err err;
    struct found f = {.lock = PTHREAD_MUTEX_INITIALIZER};
    assert_int_equal(packs_new(&p, &err), 0);
    const struct scrub_spec spec = {p, FAST, on_damage, &f};
    assert_int_equal(scrub_start(&s, &spec, &err), 0);
    for (int round = 0; round < 100; round++) {
        unsigned char *borrowed = malloc(300000);
        assert_non_null(borrowed);
        memset(borrowed, round, 300000);
        const struct pack_part part = {
            .name = "embedding", .bytes = 300000, .sum = block_sum(borrowed, 300000)};
        struct pack *kept = make(p, (unsigned char)round, 70000, 500), *watched;
        assert_int_equal(packs_watch(&watched, p, borrowed, &part, &err), 0);
        assert_int_equal(packs_bytes(p), kept->region.size);
        if (round % 3 == 0)
            wait_for_bytes(s, 1000000);
        packs_give(p, watched); /* from here on nobody reads it */
        memset(borrowed, 0xee, 300000);
        free(borrowed);
        packs_give(p, kept);
        packs_trim(p);
        assert_int_equal(packs_bytes(p), 0);
    }
    assert_int_equal(found_so_far(&f), 0);
    scrub_stop(s);
    packs_free(p);
}

struct giver {
    struct packs *p;
    struct pack *pack;
    atomic_bool is_done;
};

static void *give(void *argument)
{
    struct giver *g = argument;
    packs_give(g->p, g->pack);
    atomic_store(&g->is_done, true);
    return NULL;
}

/* What is borrowed may go as soon as it is given back: not while it is read. */
static void whoever_takes_bytes_back_waits_for_the_reader(void **state)
{
    static const unsigned char bytes[100];
    const struct pack_part part = {.name = "x", .bytes = sizeof bytes};
    struct giver g = {0};
    struct err err;
    pthread_t thread;
    assert_int_equal(packs_new(&g.p, &err), 0);
    assert_int_equal(packs_watch(&g.pack, g.p, bytes, &part, &err), 0);
    struct pack *read = packs_reach(g.p, 0);
    assert_ptr_equal(read, g.pack);
    assert_int_equal(pthread_create(&thread, NULL, give, &g), 0);
    for (struct pack *again; !atomic_load(&g.is_done) && (again = packs_reach(g.p, 0)); nap())
        packs_leave(g.p, again); /* until it is not to be found: the other thread is inside */
    for (int i = 0; i < 20; i++)
        nap();
    assert_false(atomic_load(&g.is_done));
    packs_leave(g.p, read);
    pthread_join(thread, NULL);
    packs_free(g.p);
}

static void what_is_borrowed_is_watched(void **state)
{
    struct packs *p;
    struct scrub *s;
    struct err err;
    static unsigned char bytes[600000];
    struct found f = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct pack_part part = {
        .name = "token_embd.weight", .bytes = sizeof bytes, .sum = block_sum(bytes, sizeof bytes)};
    struct pack *watched;
    assert_int_equal(packs_new(&p, &err), 0);
    assert_int_equal(packs_watch(&watched, p, bytes, &part, &err), 0);
    bytes[300000] = 1;
    const struct scrub_spec spec = {p, FAST, on_damage, &f};
    assert_int_equal(scrub_start(&s, &spec, &err), 0);
    while (found_so_far(&f) == 0)
        nap();
    assert_string_equal(f.names[0], "token_embd.weight");
    assert_true(atomic_load(&watched->is_spoilt));
    packs_give(p, watched);
    scrub_stop(s);
    packs_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changes_is_named),
        cmocka_unit_test(it_keeps_its_pace),
        cmocka_unit_test(nothing_to_read_is_no_harm),
        cmocka_unit_test(packs_go_while_they_are_read),
        cmocka_unit_test(whoever_takes_bytes_back_waits_for_the_reader),
        cmocka_unit_test(what_is_borrowed_is_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
