/* candidates.h - the most likely tokens of a vocabulary, in order, without sorting all of it.
 *
 * Logits are scaled: 0 is the largest, -inf is forbidden. A histogram of them says how deep to
 * look; what lies above is collected and sorted by radix, so that even the whole vocabulary takes
 * linear time. The result does not depend on the histogram, only the work does. */
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
/* Keeps what passes min_p, then top_k, then top_p, ordered by (scaled descending, token ascending).
 * total: sum of all weights. Returns the sum of the kept ones, added up in order. */
double candidates_select(struct candidates *c, const float *scaled, const float *weights,
                         double total, const struct candidates_limits *limits);

#endif
