#include "coordinator/kv_blocks.h"

#include <assert.h>
#include <stdlib.h>

int kv_blocks_init(struct kv_blocks *k, int n_blocks, struct err *err)
{
    k->free_ids = calloc((size_t)n_blocks + 1, sizeof *k->free_ids);
    if (!k->free_ids)
        return err_set(err, ERR_MEMORY, "no memory for %d KV block ids", n_blocks);
    k->n_blocks = k->n_free = n_blocks;
    for (int i = 0; i < n_blocks; i++)
        k->free_ids[i] = (uint32_t)(n_blocks - 1 - i);
    return 0;
}

void kv_blocks_clear(struct kv_blocks *k)
{
    free(k->free_ids);
    *k = (struct kv_blocks){0};
}

bool kv_blocks_take(struct kv_blocks *k, uint32_t *ret_id)
{
    if (!k->n_free)
        return false;
    *ret_id = k->free_ids[--k->n_free];
    return true;
}

void kv_blocks_give_back(struct kv_blocks *k, const uint32_t *ids, int n)
{
    assert(k->n_free + n <= k->n_blocks);
    for (int i = 0; i < n; i++)
        k->free_ids[k->n_free++] = ids[n - 1 - i];
}
