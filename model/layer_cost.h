/* layer_cost.h - bytes and multiply-adds of a layer: what the planner weighs and the stage claims.
 */
#ifndef PACELINE_MODEL_LAYER_COST_H
#define PACELINE_MODEL_LAYER_COST_H

#include "kernels/attention.h"
#include "model/model_config.h"

#include <stdint.h>

struct layer_cost {
    int64_t weight_bytes; /* in the file */
    int64_t kv_bytes_per_token;
    int64_t multiply_adds_per_token; /* without attention's share, which grows with the context */
};

struct layer_cost layer_cost_of(const struct model_config *c, const struct weight_file *f,
                                int layer, enum kv_type kv_type);
/* Weight bytes that a token reads at the ends of the model: one row of the embedding, all of the
 * head (which is the embedding when tied). */
int64_t layer_cost_embedding_bytes(const struct model_config *c, const struct weight_file *f);
int64_t layer_cost_head_bytes(const struct model_config *c, const struct weight_file *f);
/* What a token costs in time, as bytes to read. A single stream waits for memory: its time goes by
 * bytes; many at once wait for the multipliers: theirs goes by multiply-adds, whatever the type.
 * Between them, with a handful of streams, a weight costs as much to multiply as 5.5 bits (those
 * of Q5_0) cost to read. */
int64_t layer_cost_work(int64_t weight_bytes, int64_t multiply_adds);
int64_t layer_cost_head_work(const struct model_config *c, const struct weight_file *f);

#endif
