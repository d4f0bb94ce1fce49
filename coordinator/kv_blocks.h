/* kv_blocks.h - the pool of KV blocks: ids that mean the same on every stage, shared by reference
 * count, found again by the name of their content.
 *
 * A block is named by what it holds: a digest over all tokens up to its end (prefix_name.h), given
 * when its last position joins the step that goes to the pipeline next. Steps behind that one find
 * it filled, at every stage; if that step cannot be sent, all names are forgotten. A block that
 * nobody refers to keeps its name and its content until its id is taken again, least recently used
 * first. */
#ifndef PACELINE_COORDINATOR_KV_BLOCKS_H
#define PACELINE_COORDINATOR_KV_BLOCKS_H

#include "base/err.h"
#include "coordinator/prefix_name.h"

#include <stdbool.h>
#include <stdint.h>

struct kv_block {
    uint32_t references;
    bool is_named;
    struct prefix_name name;
    uint32_t next_in_bucket;
    uint32_t older, newer; /* among those without references */
};

struct kv_blocks {
    struct kv_block *blocks; /* [n_blocks] */
    uint32_t *buckets;       /* [n_buckets] heads of the lists by name */
    uint32_t n_buckets;      /* a power of two */
    uint32_t oldest, newest; /* without references; the oldest is taken first */
    int n_blocks, n_free;    /* free: without references, named or not */
    uint64_t n_released;     /* since the beginning: somebody who waits for room looks here */
};

int kv_blocks_init(struct kv_blocks *k, int n_blocks, struct err *err);
void kv_blocks_clear(struct kv_blocks *k);
/* A block with one reference and no name. false: all are in use. */
bool kv_blocks_take(struct kv_blocks *k, uint32_t *ret_id);
/* One more reference to a block that has some. */
void kv_blocks_share(struct kv_blocks *k, uint32_t id);
/* One more reference to the block of that name. false: there is none. */
bool kv_blocks_find(struct kv_blocks *k, const struct prefix_name *name, uint32_t *ret_id);
/* Names a block that has references; where another has the name already, it stays without. */
void kv_blocks_name(struct kv_blocks *k, uint32_t id, const struct prefix_name *name);
/* One reference less to each; ids in the order of their positions, so that the end of a sequence
 * is forgotten before its beginning. keep: those without references can still be found; if not,
 * they lose their names and are taken before others. */
void kv_blocks_release(struct kv_blocks *k, const uint32_t *ids, int n, bool keep);
/* The workers' blocks hold nothing any more. */
void kv_blocks_forget_names(struct kv_blocks *k);

#endif
