/* stage.h - a contiguous run of decoder layers, and the KV blocks that live in it.
 *
 * Token ids (first stage) or hidden states go in; hidden states come out, or results on the last
 * stage, which holds the final norm, the head and the sampler. It knows neither sockets nor
 * requests; worker.c carries the bytes.
 * Threads: one caller at a time; OpenMP stays inside the kernels.
 * Memory:  stage_new() reserves all of it, so a plan that starts cannot run out later. */
#ifndef PACELINE_WORKER_STAGE_H
#define PACELINE_WORKER_STAGE_H

#include "base/err.h"
#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "model/manifest.h"
#include "model/model_config.h"
#include "model/weight_file.h"
#include "proto/batch.h"
#include "worker/packs.h"

#include <stdatomic.h>
#include <stdint.h>

struct stage;

struct stage_spec {
    const struct kernels *kernels;    /* borrowed; outlives the stage */
    const struct model_config *model; /* copied */
    /* Borrowed; outlives the stage, as embedding rows stay there. */
    const struct weight_file *weights;
    int first_layer, end_layer; /* half open: [first, end) */
    struct batch_limits limits;
    enum kv_type kv_type;
    int64_t memory_bytes; /* what may be claimed; 0: no limit */
    /* Where packed layers are shared, borrowed; NULL: they are the stage's own. What nobody holds
     * there is freed when the stage has taken its own. */
    struct packs *packs;
    int64_t memory_beside; /* stage_own_bytes() of stages that stay; their layers are in packs */
    /* Digest that this tensor must have, or NULL when none is known; called from several threads.
     * May be NULL itself. */
    const unsigned char *(*digest_of)(void *context, const char *tensor_name);
    /* May be NULL. */
    void (*progress)(void *context, int64_t bytes_done, int64_t bytes_total);
    /* Called once the stage holds its layers, before what nobody holds is freed; may be NULL. */
    void (*claimed)(void *context);
    void *context; /* of these */
    /* Checked between tensors; may be NULL. */
    const atomic_bool *cancelled;
};

/* Anonymous memory that stage_new() would claim, without claiming it; negative, an err_code, when
 * it would refuse the specification whatever the memory. */
int64_t stage_memory(const struct stage_spec *spec);
/* On success the caller owns *ret_stage (stage_free); on failure it is untouched. */
int stage_new(struct stage **ret_stage, const struct stage_spec *spec, struct err *err);
void stage_free(struct stage *s); /* NULL is fine, as with free() */
bool stage_is_first(const struct stage *s);
bool stage_is_last(const struct stage *s);
/* false: some of its weights are not what they were any more. Any thread. */
bool stage_is_sound(const struct stage *s);
int64_t stage_claimed_bytes(const struct stage *s);
int64_t stage_own_bytes(const struct stage *s); /* of these, all but the weights */

struct stage_output {
    const float *hidden; /* [rows, hidden]; NULL on the last stage */
    size_t n_results;    /* last stage: one for each batch output, in order */
    const struct batch_result *results;
    size_t n_values;   /* floats of the rows that outputs asked for, */
    const float *rows; /* one after the other: batch_row_values() of each */
};

/* The batch has passed batch_check(). in: [rows, hidden] float32, NULL on the first stage. What
 * *ret_output points at is owned by the stage and valid until the next call. Allocates nothing. */
int stage_forward(struct stage *s, const struct batch *b, const float *in,
                  struct stage_output *ret_output, struct err *err);

#endif
