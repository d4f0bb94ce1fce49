/* attention.h - causal grouped-query attention over blocks of keys and values.
 *
 * A KV block holds KV_BLOCK_TOKENS consecutive positions of one sequence for one layer. Keys are
 * stored transposed, [kv_head][head_dim][64], so that a lane is a position; values [kv_head][64]
 * [head_dim], so that a lane is an element. In q8_0 either is signed bytes, and each kv_head's are
 * followed by the halves that scale them, one for 32 elements of a head: [head_dim / 32][64] those
 * of keys, [64][head_dim / 32] those of values. So no float sum runs across lanes but the sum of
 * one block's 64 weights, which has a fixed tree. Each block, aligned to absolute position, gives
 * an independent (maximum, sum, output); partials merge by a left fold in ascending order
 * (docs/numerics.md), so chunks of a prompt, batches and threads leave no trace in the bits. */
#ifndef PACELINE_KERNELS_ATTENTION_H
#define PACELINE_KERNELS_ATTENTION_H

#include "kernels/kernels.h"

#include <stddef.h>
#include <stdint.h>

#define KV_BLOCK_TOKENS 64

enum kv_type { KV_F16, KV_F32, KV_Q8_0 };

#define KV_TYPES      3
#define KV_Q8_0_GROUP 32 /* head_dim is a multiple of it where KV_Q8_0 is chosen */

struct attention_shape {
    int heads, kv_heads, head_dim;
    enum kv_type kv_type;
    float scale; /* what q·k is multiplied by: 1/sqrt(head_dim), rounded once */
};

/* One row of a batch: a token, and where its sequence's keys and values are. */
struct attention_row {
    const uint32_t
        *blocks;  /* block table of its sequence: block i holds positions 64 i … 64 i+63 */
    int position; /* of this token; keys of positions 0…position are seen */
};

/* Bytes of one block of one layer (keys, then values), a multiple of 64. */
size_t kv_block_bytes(const struct attention_shape *shape);
/* Stores k and v ([rows, kv_heads × head_dim], strides in floats) at the rows' positions.
 * kv: the layer's first block; block b begins at kv + b × block_stride bytes. */
void kv_write(const struct kernels *k, const struct attention_shape *shape, void *kv,
              size_t block_stride, const struct attention_row *rows, int n_rows, const float *keys,
              size_t key_stride, const float *values, size_t value_stride);
/* out, q: [rows, heads × head_dim]. Rows of one sequence that follow each other share reads of K
 * and V. scratch: attention_scratch_bytes(), claimed at load, with threads no fewer
 * than omp_get_max_threads() at the call. */
void attention(const struct kernels *k, const struct attention_shape *shape, float *out,
               size_t out_stride, const float *q, size_t q_stride, const void *kv,
               size_t block_stride, const struct attention_row *rows, int n_rows, void *scratch);
size_t attention_scratch_bytes(const struct attention_shape *shape, int max_rows, int max_positions,
                               int threads);

#endif
