/* scheduler.h - which rows run next: who has a slot, whose blocks, how much of which prompt.
 *
 * A choice waits until a slot (a sequence id on every worker) and room in the KV cache are there,
 * then runs until it is finished. A step carries the decode rows of one group of choices, and
 * chunks of prompts as long as the decoding ones keep their rhythm (pace.h); chunks of one prompt
 * follow each other into the pipeline without waiting, a decoding choice is in one step at most.
 * After a new plan those who ran are computed again, whoever has heard nothing for longest first,
 * and until that is done chunks are as large as when nobody decodes: all wait for it.
 *
 * Blocks are taken as sequences grow. What has been computed is found again by its content
 * (kv_blocks.h), so equal beginnings are computed once. When no block is free, the least urgent
 * choice of the tenant that came last gives up its own and waits again, at the place that its
 * arrival gives it; it is computed again from its tokens. */
#ifndef PACELINE_COORDINATOR_SCHEDULER_H
#define PACELINE_COORDINATOR_SCHEDULER_H

#include "base/err.h"
#include "coordinator/kv_blocks.h"
#include "coordinator/pipeline.h"
#include "coordinator/replay.h"
#include "coordinator/request.h"
#include "coordinator/step_builder.h"
#include "coordinator/wait_queue.h"

#include <stdint.h>

struct scheduler_spec {
    int n_slots;     /* sequences at once */
    int context;     /* positions of one sequence */
    int max_rows;    /* of a step, at least n_slots */
    int max_outputs; /* of a step, at least n_slots */
    int max_waiting; /* choices beyond those for which a slot is free */
    uint32_t vocabulary;
    int kv_blocks; /* of all together; at least those of one whole context */
    /* Positions whose attention costs a row as much as the rest of it; groups of decoding choices
     * are even by this measure. 0: contexts are not looked at. */
    int context_per_row;
    bool without_cache;           /* nothing is kept of what has finished */
    const double *tenant_weights; /* [n_tenants]; NULL: all 1. Read by scheduler_init() only */
    int n_tenants;                /* 0: one */
};

struct scheduler {
    struct scheduler_spec spec;
    struct kv_blocks blocks;
    struct step_builder step; /* the one under construction */
    struct choice **slots;    /* [n_slots], NULL where free */
    struct wait_queue waiting;
    int n_running;
    int decode_turn, prefill_turn; /* slots that are looked at first */
    struct replay replay;          /* those who ran before the new plan, until all are back */
    bool has_suspects;             /* choices that may have ended a worker (suspects.h) */
    struct choice *turn;           /* the one of them that goes alone now; of this step */
    bool turn_is_free;
    bool prompts_first;          /* decode rows left no room in the last message for one of them */
    int n_groups;                /* that the decoding choices form now */
    uint64_t n_arrived, n_begun; /* choices, steps */
    /* There was no room for the choice of this age (0: none) when so many had been released. */
    uint64_t blocked_age, blocked_released;
    uint64_t n_preemptions; /* since the beginning */
};

int scheduler_init(struct scheduler *s, const struct scheduler_spec *spec, struct err *err);
void scheduler_clear(struct scheduler *s);
/* Whether so many choices more may come: ERR_LIMIT when too many wait, ERR_INPUT when they are more
 * than ever may. */
int scheduler_check_room(const struct scheduler *s, int64_t n_choices, struct err *err);
/* Its choices wait; whoever adds has checked that there is room. */
void scheduler_add(struct scheduler *s, struct request *r);
/* Takes the choice out, wherever it is; its slot and blocks are free at once: steps behind the
 * ones in flight come later at every stage. */
void scheduler_remove(struct scheduler *s, struct pipeline *p, struct choice *c);
/* A new plan: workers know nothing any more; everything is computed again, from the tokens. */
void scheduler_restart(struct scheduler *s);
/* A worker's end broke the plan: those whose rows were in the lost steps are suspects from now on.
 * Before scheduler_restart(). Returns one that must not be tried again, or NULL. */
struct choice *scheduler_suspect(struct scheduler *s, bool is_seen);
/* Fills the pipeline. */
int scheduler_step(struct scheduler *s, struct pipeline *p, struct err *err);

#endif
