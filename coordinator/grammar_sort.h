/* grammar_sort.h - a vocabulary sorted by items of a position whose callers nobody knows: tokens
 * that are allowed whoever called, forbidden whoever called, and those that depend on callers. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_SORT_H
#define PACELINE_COORDINATOR_GRAMMAR_SORT_H

#include "base/err.h"
#include "coordinator/grammar_matcher.h"
#include "coordinator/grammar_vocabulary.h"
#include "proto/token_mask.h"

/* Longer tokens are always unsure where a rule counts: so repetitions beyond as many do not matter
 * to a token, since each takes a byte at least. */
enum { GRAMMAR_COUNTED_BYTES = 32 };

struct grammar_sorted {
    enum token_mask_form form;
    uint32_t n_ids, n_unsure;
    uint32_t *ids;    /* [n_ids], ascending: allowed, or forbidden; none of the unsure ones */
    uint64_t *words;  /* TOKEN_MASK_BITS: allowed */
    uint32_t *unsure; /* [n_unsure], most of them by their bytes */
    uint8_t *repeats; /* [vocabulary->n_tokens] in the tree's order, of a wide one: see below */
};
void grammar_sorted_clear(struct grammar_sorted *s);
size_t grammar_sorted_bytes(const struct grammar_sorted *s, const struct grammar_vocabulary *v);

struct grammar_sorter {
    const struct grammar *grammar;               /* borrowed */
    const struct grammar_vocabulary *vocabulary; /* borrowed */
    struct grammar_bytes loop_bytes;
    uint64_t work; /* of the matcher, over all that was sorted */
    /* scratch */
    uint32_t n_words;
    uint64_t *words;       /* [n_words] */
    uint32_t *ids, *tried; /* [vocabulary->n_ids + n_ends] */
};
int grammar_sorter_init(struct grammar_sorter *k, const struct grammar *g,
                        const struct grammar_vocabulary *v, struct err *err);
void grammar_sorter_clear(struct grammar_sorter *k);

/* items: [n]; at most one of them is endless, and then the result is wide: how many repetitions of
 * it a token makes is kept. ERR_INPUT: too much work. */
int grammar_sort(struct grammar_sorter *k, const struct matcher_item *items, uint32_t n,
                 struct grammar_sorted *ret_sorted, struct err *err);
/* The same where so few repetitions are left, at most GRAMMAR_COUNTED_BYTES. */
int grammar_sort_narrow(struct grammar_sorter *k, const struct grammar_sorted *wide, uint32_t left,
                        struct grammar_sorted *ret_sorted, struct err *err);

#endif
