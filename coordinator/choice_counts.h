/* choice_counts.h - how often each token stands in a choice, for penalties. Each token is counted
 * once, when it is new, so that a step of a long answer costs no more than one of a short one. */
#ifndef PACELINE_COORDINATOR_CHOICE_COUNTS_H
#define PACELINE_COORDINATOR_CHOICE_COUNTS_H

#include "proto/batch.h"

/* Open addressing over a dense array of entries. Zeroed: nothing has been counted. */
struct choice_counts {
    struct batch_count *entries; /* [n], in the order of their first token */
    uint32_t n;
    uint32_t n_slots; /* a power of two, at least twice n */
    uint32_t *slots;  /* 1 + index of an entry, or 0 */
    int n_tokens;     /* that have been counted */
};

/* Counts those of the choice's tokens that came since the last call. false: no memory. */
bool choice_counts_update(struct choice_counts *c, const uint32_t *tokens, int n_tokens,
                          int n_prompt);
/* Of a token that was counted. */
const struct batch_count *choice_counts_find(const struct choice_counts *c, uint32_t token);
void choice_counts_clear(struct choice_counts *c);

#endif
