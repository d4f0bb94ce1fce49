/* workspace.h - what the layers of a stage share while one step passes: its rows, their rotary
 * angles, and buffers for what a layer computes on its way. */
#ifndef PACELINE_WORKER_WORKSPACE_H
#define PACELINE_WORKER_WORKSPACE_H

#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "kernels/matmul.h"
#include "model/model_config.h"
#include "proto/batch.h"
#include "worker/kv_store.h"
#include "worker/region.h"

#include <stddef.h>

/* The feed-forward is the widest part of a layer; it takes the rows of a step in portions. */
#define WORKSPACE_MLP_ROWS 128

struct workspace {
    const struct kernels *kernels;
    const struct model_config *model;
    struct activations *activations;

    int n_rows;                 /* of this step */
    struct attention_row *rows; /* [n_rows] */
    float *cos, *sin;           /* [n_rows, rope_dim/2] */

    float *x;         /* [rows, hidden]: the residual stream */
    float *normed;    /* [rows, hidden]: what a mixer or feed-forward reads, and then its result */
    float *q, *k, *v; /* [rows, heads × head_dim], [rows, kv_heads × head_dim] */
    float *mixed;     /* [rows, heads × head_dim]: attention's result */
    float *gate, *up; /* [WORKSPACE_MLP_ROWS, intermediate] */
    void *attention;  /* scratch of attention() */

    double *inverse_frequencies; /* [rope_dim/2] */
    double rope_magnitude;
};

/* Widest row that is ever multiplied with a matrix. */
int workspace_max_columns(const struct model_config *c);
/* threads: the most that will ever compute here. */
void workspace_place(struct workspace *w, const struct model_config *c,
                     const struct attention_shape *shape, const struct batch_limits *limits,
                     int threads, struct region *r);
/* Once, when the memory is there. */
void workspace_prepare(struct workspace *w, const struct kernels *k, const struct model_config *c,
                       struct activations *a);
/* The rows of this step, from tables that kv_store_update() has accepted. */
void workspace_begin(struct workspace *w, const struct batch *b, const struct kv_store *kv);

#endif
