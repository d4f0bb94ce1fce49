/* kv_store.h - keys and values of a stage's layers, in the blocks that the coordinator names.
 *
 * A block id means the same on every stage: the coordinator alone gives ids out. Here each
 * sequence slot has a table: entry i = the block of positions 64 i … 64 i+63. What a batch brings
 * replaces the table from first_block on; what stood behind it is forgotten, so that a slot's
 * earlier request cannot be read through stale entries. */
#ifndef PACELINE_WORKER_KV_STORE_H
#define PACELINE_WORKER_KV_STORE_H

#include "base/err.h"
#include "kernels/attention.h"
#include "model/model_config.h"
#include "proto/batch.h"
#include "worker/region.h"

#include <stddef.h>
#include <stdint.h>

struct kv_store {
    struct attention_shape shape;
    int n_layers;
    uint32_t n_blocks, table_length;
    size_t block_stride;   /* bytes from one block of a layer to the next */
    unsigned char *blocks; /* [n_layers][n_blocks] */
    uint32_t *tables;      /* [max_sequences][table_length] */
    uint32_t *lengths;     /* [max_sequences]: entries that are set */
};

void kv_store_init(struct kv_store *kv, const struct model_config *c, enum kv_type type,
                   int n_layers, const struct batch_limits *limits);
void kv_store_place(struct kv_store *kv, const struct batch_limits *limits, struct region *r);
/* Takes over the batch's new blocks, and copies what it wants copied. ERR_INPUT, and no table has
 * changed: a sequence would have positions without a block. */
int kv_store_update(struct kv_store *kv, const struct batch *b, struct err *err);
const uint32_t *kv_store_table(const struct kv_store *kv, uint32_t sequence);
/* First block of a layer, counted from the stage's first. */
void *kv_store_layer(const struct kv_store *kv, int layer);

#endif
