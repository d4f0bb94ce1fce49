/* plan_question.h - what would these machines do with this model? And what would help? */
#ifndef PACELINE_COORDINATOR_PLAN_QUESTION_H
#define PACELINE_COORDINATOR_PLAN_QUESTION_H

#include "coordinator/plan_machine.h"
#include "coordinator/planner.h"

#include <stdint.h>

enum { PLAN_CONCURRENCY = 1024 }; /* the most */

struct plan_question {
    const struct model_shape *shape; /* borrowed */
    struct plan_machines machines;
    enum planner_objective objective;
    int context, concurrency;
};

struct plan_answer_stage {
    char worker[64];
    int kind; /* of machine */
    int first_layer, end_layer;
    int64_t weight_bytes, kv_bytes, memory_bytes;
    double step_s; /* of one row */
};

struct plan_answer {
    bool fits;
    int64_t needed_bytes, offered_bytes; /* by all machines together */
    int n_stages, n_workers;
    struct plan_answer_stage stages[PLANNER_MAX_STAGES];
    int n_standby[PLAN_MACHINE_KINDS];
    struct planner_forecast forecast;
    char bottleneck[128];
};

/* Tokens of a conversation where nobody says how many. */
int plan_question_context(const struct model_shape *shape);
/* Not fitting is an answer, not a failure. */
int plan_question_ask(const struct plan_question *q, struct plan_answer *ret_answer,
                      struct err *err);

struct plan_help {
    char what[96];
    double total_gain, latency_gain; /* 0.25: a quarter more tokens a second, in all and single */
    bool fits;
};
enum { PLAN_HELPS = PLAN_MACHINE_KINDS + 2 };
/* What one more machine of each kind, a tenfold network and half as much memory again would give,
 * the best first. */
int plan_question_helps(const struct plan_question *q, const struct plan_answer *a,
                        struct plan_help ret_helps[PLAN_HELPS], int *ret_n, struct err *err);

struct plan_remedies {
    const char *mix;                  /* NULL: none would do */
    int context;                      /* 0: none */
    int machines[PLAN_MACHINE_KINDS]; /* of each kind, more; 0: any number is too few */
};
/* For what does not fit. model: a name, or NULL for a file, whose types are what they are. mix: the
 * present one. */
int plan_question_remedies(const struct plan_question *q, const char *model, const char *mix,
                           struct plan_remedies *ret_remedies, struct err *err);

#endif
