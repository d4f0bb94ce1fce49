/* scheduler.h - which rows run next: prefill chunks, decode rows, fair turns.
 *
 * A choice waits until a slot is free, then owns it (a sequence id on every worker) until it is
 * finished. A step carries the decode rows of some slots and chunks of prompts; chunks of one
 * prompt follow each other into the pipeline without waiting, a decoding choice is in one step at
 * most. */
#ifndef PACELINE_COORDINATOR_SCHEDULER_H
#define PACELINE_COORDINATOR_SCHEDULER_H

#include "base/err.h"
#include "coordinator/kv_blocks.h"
#include "coordinator/pipeline.h"
#include "coordinator/request.h"

#include <stdint.h>

struct scheduler_spec {
    int n_slots;     /* sequences at once */
    int context;     /* positions of one sequence */
    int max_rows;    /* of a step */
    int max_outputs; /* of a step, at least n_slots */
    int max_waiting; /* choices beyond those for which a slot is free */
    uint32_t vocabulary;
};

struct scheduler {
    struct scheduler_spec spec;
    struct kv_blocks blocks;
    struct choice **slots; /* [n_slots], NULL where free */
    struct choice *first_waiting, *last_waiting;
    int n_running, n_waiting;
    int prefill_turn; /* slot that is looked at first */

    /* the step under construction */
    uint32_t *tokens;                 /* [max_rows] */
    struct batch_sequence *sequences; /* [n_slots] */
    struct batch_output *outputs;     /* [max_outputs] */
    int n_logit_rows;                 /* among them */
    size_t *first_count;              /* [max_outputs]: where an output's counts begin */
    struct batch_count *counts;       /* grows */
    size_t n_counts, counts_capacity;
    uint32_t *count_of; /* [vocabulary]: 1 + index into counts, 0 elsewhere */
};

int scheduler_init(struct scheduler *s, const struct scheduler_spec *spec, struct err *err);
void scheduler_clear(struct scheduler *s);
/* ERR_LIMIT when too many wait, ERR_INPUT when it has more choices than ever may. */
int scheduler_add(struct scheduler *s, struct request *r, struct err *err);
/* Takes the choice out, wherever it is; its slot and blocks are free at once: steps behind the
 * ones in flight come later at every stage. */
void scheduler_remove(struct scheduler *s, struct pipeline *p, struct choice *c);
/* A new plan: workers know nothing any more; everything is computed again, from the tokens. */
void scheduler_restart(struct scheduler *s);
/* Fills the pipeline. */
int scheduler_step(struct scheduler *s, struct pipeline *p, int n_stages, struct err *err);

#endif
