/* step_message.h - struct batch ↔ Step, and results ↔ StepResult (forward.proto). */
#ifndef PACELINE_PROTO_STEP_MESSAGE_H
#define PACELINE_PROTO_STEP_MESSAGE_H

#include "base/err.h"
#include "proto/batch.h"
#include "proto/forward.pb-c.h"

#include <zmq.h>

/* A step as it came: the batch points into proto and into the arrays beside it. */
struct step_message {
    Paceline__Step *proto;
    struct batch batch;
    struct batch_sequence *sequences;
    struct batch_output *outputs;
    struct batch_bias *bias; /* of all outputs */
    struct batch_count *counts;
};

/* Packs a batch for the first stage. */
int step_message_pack(const struct batch *b, zmq_msg_t *ret_envelope, struct err *err);
/* Unpacks; the numbers inside are still unchecked (batch_check). */
int step_message_unpack(struct step_message *ret_step, const void *bytes, size_t size,
                        struct err *err);
void step_message_clear(struct step_message *m);
/* The same step for the next stage, with one more stage time. */
int step_message_forward(struct step_message *m, const Paceline__StageTime *time,
                         zmq_msg_t *ret_envelope, struct err *err);

/* Results of the last stage, with the times of all stages. */
int step_result_pack(const struct step_message *m, const Paceline__StageTime *last,
                     const struct batch_result *results, size_t n_results, zmq_msg_t *ret_envelope,
                     struct err *err);
/* *ret_result: paceline__step_result__free_unpacked. */
int step_result_unpack(Paceline__StepResult **ret_result, const void *bytes, size_t size,
                       struct err *err);
/* One result as the coordinator uses it; tops beyond the limit are dropped. */
void step_result_row(const Paceline__OutputResult *from, struct batch_result *ret_row);

#endif
