/* token_counts.h - how often each token stands in a sequence, for penalties. The coordinator sends
 * absolute values, so that a count which arrives twice does no harm. */
#ifndef PACELINE_WORKER_TOKEN_COUNTS_H
#define PACELINE_WORKER_TOKEN_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_count {
    uint32_t token;
    uint32_t generated;
    bool in_prompt;
};

/* Open addressing over a dense array of entries; both claimed at once, for `most` tokens. */
struct token_counts {
    uint32_t most, n;
    uint32_t slots;              /* a power of two above most */
    struct token_count *entries; /* [most]; the first n are set, in order of arrival */
    uint32_t *slot;              /* [slots]: 1 + index of an entry, or 0 */
};

size_t token_counts_memory(uint32_t most);
/* false: no memory, and nothing to clear. */
bool token_counts_init(struct token_counts *c, uint32_t most);
void token_counts_clear(struct token_counts *c); /* gives the memory back; zeroed is fine */
void token_counts_reset(struct token_counts *c);
/* Ignored when the table is full: no sequence has more different tokens than it has positions. */
void token_counts_set(struct token_counts *c, uint32_t token, uint32_t generated, bool in_prompt);

#endif
