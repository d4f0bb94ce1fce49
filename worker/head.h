/* head.h - hidden states to results: final norm, logits, and what each output asks of them. Only
 * rows that an output names are computed, and their logits live for a few rows at a time, except
 * for outputs that want the logits themselves. */
#ifndef PACELINE_WORKER_HEAD_H
#define PACELINE_WORKER_HEAD_H

#include "proto/batch.h"
#include "worker/region.h"
#include "worker/sampler.h"
#include "worker/weights.h"
#include "worker/workspace.h"

#include <stddef.h>

struct head {
    struct sampler *sampler; /* owned by the stage */
    size_t vocabulary, hidden;
    size_t n_values; /* floats of rows that are there */
    float *gathered; /* [HEAD_ROWS, hidden] */
    float *tile;     /* [HEAD_ROWS, vocabulary] */
    float *rows;     /* of outputs that want one, [BATCH_LOGIT_ROWS or fewer], without gaps */
    struct batch_result *results; /* [max_outputs] */
};

void head_place(struct head *h, const struct model_config *c, const struct batch_limits *limits,
                struct region *r);
/* Fills results, one for each output, and rows, from workspace.x. *ret_n_values: floats of the
 * rows. */
void head_forward(struct head *h, struct workspace *w, const struct weights *weights,
                  const struct batch *b, size_t *ret_n_values);

#endif
