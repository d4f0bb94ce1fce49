#include "coordinator/kv_blocks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

/* ---- blocks without references, in the order of their last use ---- */

static void kv_blocks_unlink(struct kv_blocks *k, uint32_t id)
{
    const struct kv_block *b = &k->blocks[id];
    if (b->older == NONE)
        k->oldest = b->newer;
    else
        k->blocks[b->older].newer = b->newer;
    if (b->newer == NONE)
        k->newest = b->older;
    else
        k->blocks[b->newer].older = b->older;
    k->n_free--;
}

static void kv_blocks_link_newest(struct kv_blocks *k, uint32_t id)
{
    k->blocks[id].older = k->newest;
    k->blocks[id].newer = NONE;
    if (k->newest == NONE)
        k->oldest = id;
    else
        k->blocks[k->newest].newer = id;
    k->newest = id;
    k->n_free++;
}

/* What has no name is no use to anybody: it goes first. */
static void kv_blocks_link_oldest(struct kv_blocks *k, uint32_t id)
{
    k->blocks[id].newer = k->oldest;
    k->blocks[id].older = NONE;
    if (k->oldest == NONE)
        k->newest = id;
    else
        k->blocks[k->oldest].older = id;
    k->oldest = id;
    k->n_free++;
}

/* ---- names ---- */

static uint32_t *kv_blocks_bucket(const struct kv_blocks *k, const struct prefix_name *name)
{
    uint32_t hash; /* any part of a digest is as good as another */
    memcpy(&hash, name->digest, sizeof hash);
    return &k->buckets[hash & (k->n_buckets - 1)];
}

static uint32_t kv_blocks_look_up(const struct kv_blocks *k, const struct prefix_name *name)
{
    uint32_t id = *kv_blocks_bucket(k, name);
    while (id != NONE && memcmp(&k->blocks[id].name, name, sizeof *name) != 0)
        id = k->blocks[id].next_in_bucket;
    return id;
}

static void kv_blocks_forget_name(struct kv_blocks *k, uint32_t id)
{
    struct kv_block *b = &k->blocks[id];
    if (!b->is_named)
        return;
    uint32_t *at = kv_blocks_bucket(k, &b->name);
    while (*at != id)
        at = &k->blocks[*at].next_in_bucket;
    *at = b->next_in_bucket;
    b->is_named = false;
}

/* ---- for the scheduler ---- */

int kv_blocks_init(struct kv_blocks *k, int n_blocks, struct err *err)
{
    *k = (struct kv_blocks){.n_blocks = n_blocks, .n_buckets = 16, .oldest = NONE, .newest = NONE};
    while (k->n_buckets < (uint32_t)n_blocks)
        k->n_buckets *= 2;
    k->blocks = calloc((size_t)n_blocks + 1, sizeof *k->blocks);
    k->buckets = malloc(k->n_buckets * sizeof *k->buckets);
    if (!k->blocks || !k->buckets) {
        kv_blocks_clear(k);
        return err_set(err, ERR_MEMORY, "no memory for %d KV block ids", n_blocks);
    }
    memset(k->buckets, 0xff, k->n_buckets * sizeof *k->buckets); /* NONE */
    for (int i = 0; i < n_blocks; i++)
        kv_blocks_link_newest(k, (uint32_t)i);
    return 0;
}

void kv_blocks_clear(struct kv_blocks *k)
{
    free(k->blocks);
    free(k->buckets);
    *k = (struct kv_blocks){0};
}

bool kv_blocks_take(struct kv_blocks *k, uint32_t *ret_id)
{
    uint32_t id = k->oldest;
    if (!k->n_free)
        return false;
    kv_blocks_unlink(k, id);
    kv_blocks_forget_name(k, id);
    k->blocks[id].references = 1;
    *ret_id = id;
    return true;
}

void kv_blocks_share(struct kv_blocks *k, uint32_t id)
{
    assert(k->blocks[id].references > 0);
    k->blocks[id].references++;
}

bool kv_blocks_find(struct kv_blocks *k, const struct prefix_name *name, uint32_t *ret_id)
{
    uint32_t id = kv_blocks_look_up(k, name);
    if (id == NONE)
        return false;
    if (k->blocks[id].references++ == 0)
        kv_blocks_unlink(k, id);
    *ret_id = id;
    return true;
}

void kv_blocks_name(struct kv_blocks *k, uint32_t id, const struct prefix_name *name)
{
    struct kv_block *b = &k->blocks[id];
    assert(b->references > 0 && !b->is_named);
    if (kv_blocks_look_up(k, name) != NONE)
        return;
    uint32_t *bucket = kv_blocks_bucket(k, name);
    b->name = *name;
    b->is_named = true;
    b->next_in_bucket = *bucket;
    *bucket = id;
}

void kv_blocks_release(struct kv_blocks *k, const uint32_t *ids, int n, bool keep)
{
    for (int i = n - 1; i >= 0; i--) {
        struct kv_block *b = &k->blocks[ids[i]];
        assert(b->references > 0);
        if (--b->references > 0)
            continue;
        if (!keep)
            kv_blocks_forget_name(k, ids[i]);
        if (b->is_named)
            kv_blocks_link_newest(k, ids[i]);
        else
            kv_blocks_link_oldest(k, ids[i]);
        k->n_released++;
    }
}

void kv_blocks_forget_names(struct kv_blocks *k)
{
    for (int i = 0; i < k->n_blocks; i++)
        k->blocks[i].is_named = false;
    memset(k->buckets, 0xff, k->n_buckets * sizeof *k->buckets);
}
