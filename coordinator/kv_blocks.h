/* kv_blocks.h - block ids, the same on every stage: given out here, taken back here. */
#ifndef PACELINE_COORDINATOR_KV_BLOCKS_H
#define PACELINE_COORDINATOR_KV_BLOCKS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct kv_blocks {
    uint32_t *free_ids; /* stack */
    int n_free, n_blocks;
};

int kv_blocks_init(struct kv_blocks *k, int n_blocks, struct err *err);
void kv_blocks_clear(struct kv_blocks *k);
bool kv_blocks_take(struct kv_blocks *k, uint32_t *ret_id); /* false: none left */
void kv_blocks_give_back(struct kv_blocks *k, const uint32_t *ids, int n);

#endif
