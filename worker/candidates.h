/* candidates.h - the most likely tokens of a vocabulary, in order, without sorting all of it.
 *
 * Logits are scaled: 0 is the largest, -inf is forbidden. The maxima of blocks of ids say where to
 * look and how deep, a histogram of what was found there how much of it is needed; that is sorted
 * by radix, so that even the whole vocabulary takes linear time. The result does not depend on
 * either, only the work does. */
#ifndef PACELINE_WORKER_CANDIDATES_H
#define PACELINE_WORKER_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CANDIDATES_LEVELS 1024 /* an eighth of a nat each; the last one takes all the rest */

struct candidate {
    uint32_t depth; /* bits of -scaled logit: ascending is descending probability */
    uint32_t token;
};

struct candidates {
    int vocabulary;
    int n;                            /* kept */
    struct candidate *list, *scratch; /* [vocabulary] each; list[0..n) in order */
    const float *scaled, *weights;    /* [vocabulary], the caller's; weight = exp(scaled) */
    const float *maxima;              /* of blocks of scaled, the caller's */
    uint32_t counts[CANDIDATES_LEVELS];
    double masses[CANDIDATES_LEVELS];
};

struct candidates_limits {
    float min_p; /* 0: off */
    int top_k;   /* 0: off */
    float top_p; /* 1: off */
};

size_t candidates_memory(int vocabulary);
bool candidates_init(struct candidates *c, int vocabulary); /* false: no memory */
void candidates_clear(struct candidates *c);                /* zeroed is fine */
/* No token below this scaled logit is looked at; -inf: any may be. maxima: the largest scaled logit
 * of each block of SOFTMAX_BLOCK ids (softmax.h). */
float candidates_least(struct candidates *c, const float *maxima,
                       const struct candidates_limits *limits);
/* Keeps what passes min_p, then top_k, then top_p, ordered by (scaled descending, token ascending).
 * scaled and weights hold the blocks whose maximum is not below `least`, the former function's;
 * total: sum of all weights, used where that is -inf. Returns the sum of the kept ones, added up
 * in order. */
double candidates_select(struct candidates *c, const float *scaled, const float *weights,
                         const float *maxima, float least, double total,
                         const struct candidates_limits *limits);

#endif
