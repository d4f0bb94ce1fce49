/* step_builder.h - one step under construction: rows, block tables, outputs and token counts of
 * the choices that the scheduler puts into it. Arrays are made once and used for every step. */
#ifndef PACELINE_COORDINATOR_STEP_BUILDER_H
#define PACELINE_COORDINATOR_STEP_BUILDER_H

#include "base/err.h"
#include "coordinator/pipeline.h"
#include "coordinator/request.h"

struct step_builder {
    struct batch batch;          /* what has been put in so far */
    struct pipeline_item *items; /* [batch.n_sequences]; whoever sends the step takes it */
    int n_decode_rows;           /* among the rows */
    int n_row_outputs;           /* among the outputs: those that bring a row back */
    size_t message_bytes;        /* at most, once it is packed */
    uint32_t max_sequences, max_outputs, vocabulary;
    uint32_t *tokens;                 /* [max_rows] */
    struct batch_sequence *sequences; /* [max_sequences] */
    struct batch_output *outputs;     /* [max_outputs] */
    size_t *first_count;              /* [max_outputs]: where an output's counts begin */
    struct batch_count *counts;       /* grows */
    size_t n_counts, counts_capacity;
};

int step_builder_init(struct step_builder *b, int max_rows, int max_sequences, int max_outputs,
                      uint32_t vocabulary, struct err *err);
void step_builder_clear(struct step_builder *b);
/* An empty step. */
int step_builder_begin(struct step_builder *b, struct err *err);
/* Whether the step's message would still be one that workers take, with so many more rows. An empty
 * step takes any choice: what one can carry at most is less than a message may. */
bool step_builder_fits(const struct step_builder *b, const struct choice *c, int count);
/* The choice's next `count` tokens, at least 1, become rows of the step. Its blocks reach to the
 * last of them, and the outputs fit. */
int step_builder_add(struct step_builder *b, struct choice *c, int count, struct err *err);
/* Sends it, if it has rows. 1: sent; 0: it is empty. */
int step_builder_send(struct step_builder *b, struct pipeline *p, struct err *err);

#endif
