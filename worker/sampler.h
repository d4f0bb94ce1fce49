/* sampler.h - chooses a token from one row of logits, or scores a given one.
 *
 * The choice depends on the logits, the parameters, the counts and (seed, choice, position) alone:
 * docs/numerics.md, section 7. Threads: one caller at a time. */
#ifndef PACELINE_WORKER_SAMPLER_H
#define PACELINE_WORKER_SAMPLER_H

#include "base/err.h"
#include "kernels/kernels.h"
#include "proto/batch.h"

#include <stddef.h>
#include <stdint.h>

struct sampler; /* token counts of each sequence slot and scratch, claimed when made */

/* Bytes that sampler_new() claims. */
size_t sampler_memory(int vocabulary, uint32_t max_sequences, uint32_t max_context);
/* k is borrowed and outlives the sampler. On failure *ret_sampler is untouched. */
int sampler_new(struct sampler **ret_sampler, const struct kernels *k, int vocabulary,
                uint32_t max_sequences, uint32_t max_context, struct err *err);
void sampler_free(struct sampler *s); /* NULL is fine */

/* BATCH_SAMPLE. logits: [vocabulary]. Fills every field of the result; not_a_number when a logit is
 * NaN, or when no finite largest one is left to choose. */
void sampler_choose(struct sampler *s, const struct batch_output *o, const float *logits,
                    struct batch_result *ret_result);
/* BATCH_SCORE: log-probability of o->target, and of the likeliest tokens, from the raw logits. */
void sampler_score(struct sampler *s, const struct batch_output *o, const float *logits,
                   struct batch_result *ret_result);

/* Of the last sampler_choose(): how many tokens could have been chosen, and with what probability
 * this one. For tests and for looking into a distribution. */
int sampler_kept(const struct sampler *s);
double sampler_probability(const struct sampler *s, uint32_t token);

#endif
