/* chain.h - a model as stages in one process, each fed with what the one before gives: the
 * pipeline without its sockets. */
#ifndef PACELINE_TESTS_ORACLE_CHAIN_H
#define PACELINE_TESTS_ORACLE_CHAIN_H

#include "kernels/kernels.h"
#include "model/model_config.h"
#include "model/weight_file.h"
#include "proto/batch.h"
#include "worker/stage.h"

#include <stddef.h>
#include <stdint.h>

enum { CHAIN_STAGES = 32, CHAIN_SLOTS = 8, CHAIN_ROWS = 352 };

struct chain_model {
    struct weight_file *file;
    struct model_config config;
};
/* Fail the test when the file is refused. */
void chain_open_model(struct chain_model *m, const char *path);
void chain_close_model(struct chain_model *m);

struct chain {
    const struct chain_model *model;
    struct kernels kernels;
    struct batch_limits limits;
    int n_stages;
    struct stage *stages[CHAIN_STAGES];
    uint32_t n_blocks[CHAIN_SLOTS];    /* given to each sequence */
    const float *hidden[CHAIN_STAGES]; /* what each stage but the last gave in the last step */
};

/* n_stages of (nearly) equal length. */
void chain_open(struct chain *c, const struct chain_model *m, const char *isa, int n_stages,
                enum kv_type kv_type);
void chain_close(struct chain *c);

/* Tokens of one sequence in a step. position 0 begins the sequence anew, in new blocks. */
struct chain_part {
    uint32_t slot, position, count;
    const uint32_t *tokens;
};

/* One step through all stages; outputs as in a batch. Fails the test on an error. */
void chain_step(struct chain *c, const struct chain_part *parts, uint32_t n_parts,
                const struct batch_output *outputs, uint32_t n_outputs,
                struct stage_output *ret_output);

/* Logits of all rows of a prompt into to[n, vocabulary], in steps of `chunk` tokens. A step gives
 * at most BATCH_LOGIT_ROWS rows of logits, so longer chunks are repeated with other outputs. */
void chain_prompt_logits(struct chain *c, uint32_t slot, const uint32_t *ids, int n, int chunk,
                         float *to);
/* The next token at temperature 0, after `tokens` at `position`. */
struct batch_result chain_greedy(struct chain *c, uint32_t slot, uint32_t position,
                                 const uint32_t *tokens, uint32_t count);

#endif
