/* assignment.h - what a Load made of a worker: a stage, and its place in the line.
 *
 * A new plan often gives a worker the layers that it has, under another epoch: so the made stage is
 * held by every assignment that it serves. */
#ifndef PACELINE_WORKER_ASSIGNMENT_H
#define PACELINE_WORKER_ASSIGNMENT_H

#include "base/err.h"
#include "model/manifest.h"
#include "proto/cluster.pb-c.h"
#include "worker/stage.h"

#include <stdatomic.h>

struct made_stage {
    atomic_int holders;
    unsigned char key[DIGEST_BYTES]; /* assignment_key() of what it was made from */
    struct weight_file *weights;
    struct model_config model;
    struct batch_limits limits;
    struct stage *stage;
    float *aligned; /* [max_rows, hidden]: frames that libzmq delivers at odd addresses */
};

struct assignment {
    Paceline__Control *message; /* owned */
    const Paceline__Load *load; /* its body */
    struct made_stage *made;    /* held */
    void *data_out; /* PUSH to the next stage or to the coordinator; of the compute thread */
};

/* Equal for Loads that the same stage can serve: layers, limits and content. */
void assignment_key(const Paceline__Load *load, unsigned char ret_key[DIGEST_BYTES]);
/* Takes message and a hold on made over on success. */
int assignment_new(struct assignment **ret_assignment, Paceline__Control *message,
                   struct made_stage *made, struct err *err);
void assignment_free(struct assignment *a); /* by the thread that has data_out; NULL is fine */

struct made_stage *assignment_hold_stage(struct made_stage *made);
void assignment_let_stage_go(struct made_stage *made); /* the last one frees; NULL is fine */

#endif
