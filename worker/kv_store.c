#include "worker/kv_store.h"

#include <math.h>
#include <string.h>

void kv_store_init(struct kv_store *kv, const struct model_config *c, enum kv_type type,
                   int n_layers, const struct batch_limits *limits)
{
    memset(kv, 0, sizeof *kv);
    kv->shape.heads = c->n_heads;
    kv->shape.kv_heads = c->n_kv_heads;
    kv->shape.head_dim = c->head_dim;
    kv->shape.kv_type = type;
    kv->shape.scale = (float)(1.0 / sqrt((double)c->head_dim));
    kv->n_layers = n_layers;
    kv->n_blocks = limits->kv_blocks;
    kv->table_length = limits->max_context / KV_BLOCK_TOKENS + 1;
    kv->block_stride = kv_block_bytes(&kv->shape);
}

void kv_store_place(struct kv_store *kv, const struct batch_limits *limits, struct region *r)
{
    kv->blocks = region_take(r, (size_t)kv->n_layers * kv->n_blocks, kv->block_stride);
    kv->tables =
        region_take(r, (size_t)limits->max_sequences * kv->table_length, sizeof *kv->tables);
    kv->lengths = region_take(r, limits->max_sequences, sizeof *kv->lengths);
}

static void kv_store_copy(const struct kv_store *kv, uint32_t from, uint32_t to)
{
    for (int i = 0; i < kv->n_layers; i++) {
        unsigned char *layer = kv_store_layer(kv, i);
        memmove(layer + to * kv->block_stride, layer + from * kv->block_stride, kv->block_stride);
    }
}

int kv_store_update(struct kv_store *kv, const struct batch *b, struct err *err)
{
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const struct batch_sequence *s = &b->sequences[i];
        uint32_t length = kv->lengths[s->sequence];
        if (s->n_blocks > 0 && s->first_block > length)
            return err_set(err, ERR_INPUT,
                           "sequence %u brings KV blocks from entry %u on, but entries from %u on "
                           "were never set",
                           s->sequence, s->first_block, length);
        if (s->n_blocks > 0)
            length = s->first_block + s->n_blocks;
        if ((uint64_t)length * KV_BLOCK_TOKENS < (uint64_t)s->position + s->count)
            return err_set(err, ERR_INPUT,
                           "sequence %u has %u KV blocks, too few for positions up to %llu",
                           s->sequence, length, (unsigned long long)s->position + s->count - 1);
    }
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const struct batch_sequence *s = &b->sequences[i];
        if (s->n_blocks == 0)
            continue;
        uint32_t *table = kv->tables + (size_t)s->sequence * kv->table_length;
        memcpy(table + s->first_block, s->blocks, s->n_blocks * sizeof *table);
        kv->lengths[s->sequence] = s->first_block + s->n_blocks;
        if (s->copy_from)
            kv_store_copy(kv, s->copy_from - 1, s->blocks[s->n_blocks - 1]);
    }
    return 0;
}

const uint32_t *kv_store_table(const struct kv_store *kv, uint32_t sequence)
{
    return kv->tables + (size_t)sequence * kv->table_length;
}

void *kv_store_layer(const struct kv_store *kv, int layer)
{
    return kv->blocks + (size_t)layer * kv->n_blocks * kv->block_stride;
}
