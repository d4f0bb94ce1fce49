/* pipeline.h - steps in flight: to the first stage, from the last, back to their choices. */
#ifndef PACELINE_COORDINATOR_PIPELINE_H
#define PACELINE_COORDINATOR_PIPELINE_H

#include "base/err.h"
#include "coordinator/request.h"
#include "coordinator/step_cost.h"
#include "coordinator/timeline.h"
#include "proto/batch.h"
#include "proto/keys.h"

#include <stdint.h>

struct metrics;

struct pipeline_item {     /* a sequence's share of a step */
    struct choice *choice; /* NULL once it was cancelled */
    uint32_t slot;
    int end;       /* tokens of the choice that are computed with this step */
    int n_outputs; /* results that must come back, all of one kind */
    enum batch_output_kind kind;
};

struct pipeline_step {
    uint64_t step;
    int64_t sent_us;
    int n_decode_rows, n_prefill_rows;
    int n_items;
    struct pipeline_item *items; /* owned */
    struct pipeline_step *next;
};

struct pipeline_keys {                 /* public ones, KEYS_BYTES each */
    const unsigned char *first, *last; /* of the workers with these stages */
};

struct pipeline {
    void *zmq;
    const struct key_pair *own;         /* borrowed; NULL: plain links */
    unsigned char last_key[KEYS_BYTES]; /* whose results count */
    void *results;                      /* PULL, bound once */
    int results_port;
    void *first; /* PUSH to the first stage, or NULL */
    uint64_t epoch, next_step;
    int n_stages;
    struct step_cost cost; /* of this plan's steps */
    struct pipeline_step *oldest, *newest;
    int n_in_flight, n_decode_steps; /* the latter: those that carry decode rows */
    int64_t longest_us;              /* that a step of this plan was under way */
    uint64_t n_steps_back;           /* since the plan began */
    uint64_t n_damaged;              /* results whose checksum was wrong, since it was opened */
    struct timeline *timeline;       /* gets the steps that came back; borrowed, or NULL */
    struct metrics *metrics;         /* the same */
    bool is_broken; /* a step was lost on the way or came back wrong: only a new plan helps */
};

struct pipeline_result {
    struct choice *choice;
    struct batch_result row;
    /* BATCH_LOGITS: [vocabulary], BATCH_EMBED: [hidden] float32, of any alignment; for the call */
    const void *values;
    size_t n_values;
};

/* own: the coordinator's keys, borrowed; NULL: plain. */
int pipeline_open(struct pipeline *p, void *zmq, const char *host, int port,
                  const struct key_pair *own, struct err *err);
void pipeline_close(struct pipeline *p);
/* A new plan: older steps are forgotten, their results will be dropped. keys: NULL where links are
 * plain. */
int pipeline_connect(struct pipeline *p, uint64_t epoch, int n_stages, const char *first_endpoint,
                     const struct pipeline_keys *keys, struct err *err);
void pipeline_disconnect(struct pipeline *p);
/* Sends b (epoch and step are filled in here), of whose rows n_decode_rows are the only ones of
 * their choices; takes items over on success and failure. A link that takes nothing (ERR_LIMIT)
 * breaks the pipeline: the scheduler has counted the step already. */
int pipeline_send(struct pipeline *p, struct batch *b, struct pipeline_item *items, int n_items,
                  int n_decode_rows, struct err *err);
/* Takes at most 64 messages, never waits; `take` gets every wanted row, in order, and `done` each
 * choice whose share of a step has come through. A step whose results are not exactly what was
 * asked for brings nothing and breaks the pipeline. */
void pipeline_receive(struct pipeline *p, uint32_t vocabulary, uint32_t hidden,
                      void (*take)(void *context, const struct pipeline_result *result),
                      void (*done)(void *context, struct choice *choice), void *context);
/* What broke the plan may be in this step, or, if it is 0, in any that is under way: tells the
 * choices (lost_end). Before the steps are forgotten. */
void pipeline_blame(struct pipeline *p, uint64_t step);
/* The choice is going away: its results in flight are nobody's. */
void pipeline_forget(struct pipeline *p, const struct choice *choice);

#endif
