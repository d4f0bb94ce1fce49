/* bpe.h - byte pair encoding of one word: again and again the pair of neighbours with the lowest
 * rank becomes one token, the leftmost first (Sennrich et al., arXiv:1508.07909). */
#ifndef PACELINE_COORDINATOR_BPE_H
#define PACELINE_COORDINATOR_BPE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define BPE_NO_ID    UINT32_MAX       /* no token has this id */
#define BPE_MAX_WORD (UINT32_MAX / 4) /* tokens of one word at most */

struct bpe_rule {
    uint32_t left, right, result; /* ids */
};

struct bpe;
/* rules: in order of rank, [n], copied. ERR_MODEL with param "merges": two of one pair. */
int bpe_new(struct bpe **ret_bpe, const struct bpe_rule *rules, size_t n, struct err *err);
void bpe_free(struct bpe *b);

/* What merging works with; grows to the longest word and is used again for the next. */
struct bpe_scratch {
    uint32_t *next, *previous; /* neighbours of a token that is still there */
    uint64_t *heap;            /* rank << 32 | place: the smallest is the next to merge */
    size_t capacity;           /* tokens */
};
void bpe_scratch_clear(struct bpe_scratch *s);

/* ids [*n]: the bytes of a word as tokens; on success what they merge to. O(n log n). */
int bpe_merge(const struct bpe *b, uint32_t *ids, size_t *n, struct bpe_scratch *s,
              struct err *err);

#endif
