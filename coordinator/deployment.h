/* deployment.h - one model in service: its file, its plan over the workers, its epoch.
 *
 *   HASHING -> WAITING -> LOADING -> SERVING
 *                 ^----------+----------+      a stage was lost or failed: new epoch, new plan
 *
 * While it serves, a better plan is made ready beside the one in service (deployment_change.c), and
 * takes over between two steps. */
#ifndef PACELINE_COORDINATOR_DEPLOYMENT_H
#define PACELINE_COORDINATOR_DEPLOYMENT_H

#include "coordinator/pipeline.h"
#include "coordinator/planner.h"
#include "coordinator/registry.h"
#include "coordinator/replan.h"
#include "coordinator/shipping.h"
#include "model/manifest.h"

#include <pthread.h>
#include <stdatomic.h>

enum deployment_state {
    DEPLOYMENT_HASHING,
    DEPLOYMENT_WAITING,
    DEPLOYMENT_LOADING,
    DEPLOYMENT_SERVING
};

struct deployment_spec {
    const char *model_path;
    const char *cache_dir; /* for manifests; or NULL */
    int workers_wanted;    /* before the first plan, which they must suffice for; 0: who comes */
    int context, concurrency;
    int kv_tokens; /* over all sequences; 0: see deployment_open() */
    enum kv_type kv_type;
    const int *cuts; /* first layers of stages 2, 3 … */
    int n_cuts;
    double change_gain;      /* so much faster another plan must be; 0.15 */
    int64_t change_after_ms; /* and for so long, by what was observed */
    enum planner_objective objective;
    bool measure;              /* workers, before they are planned with */
    bool preloads;             /* idle workers pack layers beforehand */
    const char *results_host;  /* "*" where the coordinator listens on every address */
    struct shipping *shipping; /* borrowed; closed before the deployment */
};

struct deployment_plan {
    uint64_t epoch;
    struct planner_stage stages[PLANNER_MAX_STAGES];
    int n_stages;
};

/* How the plan in service ended. */
struct deployment_loss {
    bool is_suspicious; /* what was under way may have been the cause: the pipeline has told it */
    bool is_seen;       /* by a worker, which may have named the step: */
    uint64_t step;      /* 0: any that was under way */
    char words[300];    /* "worker desk-1 crashed (Segmentation fault)" */
};

struct deployment {
    struct deployment_spec spec;
    struct weight_file *weights;
    struct model_config model;
    struct batch_limits limits;
    struct plan_model costs;
    bool wants_measures; /* the model is large enough for them to matter */
    bool awaits_measures;
    bool awaits_reunion; /* of workers that have a plan from before (reunion.h) */

    /* the manifest is computed beside the event loop */
    pthread_t hasher;
    bool hasher_runs;
    atomic_bool hashed, hash_cancelled;
    atomic_int_fast64_t bytes_hashed;
    int hash_rc;
    struct err hash_err;
    struct manifest manifest;
    unsigned char config_digest[DIGEST_BYTES];

    enum deployment_state state;
    uint64_t newest_epoch; /* that was given to a plan */
    bool served_once;
    struct deployment_plan plan; /* being loaded, or in service */
    struct deployment_plan next; /* made ready beside it; n_stages 0: none */
    char change[200];            /* why there is a next one, as a sentence */
    int64_t change_after_ms;     /* no other change is tried before */
    bool change_waits;           /* the next plan takes over when no step is under way, */
    int64_t change_ready_ms;     /* or some time after this, when it was ready */
    struct replan_state replan;  /* what observed times say of the plan in service */
    int64_t replan_judged_ms;
    int64_t standby_reviewed_ms;
    struct err obstacle; /* why there is no plan; code 0: none known */
    struct err failure;  /* of DEPLOYMENT_FAILED */
    struct deployment_loss loss;
    int64_t last_told_ms; /* how far loading is, in the log */
    /* Plans in a row that broke, without a worker's end, after steps went out and before one came
     * back. */
    int n_barren;
};

/* Opens the model and starts hashing it. Context and concurrency 0: defaults, the model's limits;
 * kv_tokens 0: 4 contexts, or one for each sequence if that is less. ERR_CONFIG when kv_tokens does
 * not hold one context. */
int deployment_open(struct deployment *d, const struct deployment_spec *spec, struct err *err);
void deployment_close(struct deployment *d);

enum deployment_event {
    DEPLOYMENT_NOTHING,
    DEPLOYMENT_BEGAN, /* a plan is in service: the pipeline is connected */
    DEPLOYMENT_LOST,  /* it was in service and is not any more; the next plan replays: d->loss */
    DEPLOYMENT_FAILED /* as LOST, but replaying is no use: d->failure says why */
};
/* Looks at what happened to the workers and moves on. Call after registry_receive(). Fails only
 * when the deployment can never serve (the model is refused by the workers themselves). */
int deployment_review(struct deployment *d, struct registry *r, struct pipeline *p,
                      enum deployment_event *ret_event, struct err *err);
/* Plans are to do without the worker (a name), or may have it again. ERR_NOT_FOUND;
 * ERR_UNAVAILABLE: nothing serves without it. */
int deployment_drain(struct deployment *d, struct registry *r, const char *worker, struct err *err);
int deployment_resume(struct deployment *d, struct registry *r, const char *worker,
                      struct err *err);
/* What keeps those who are left from serving on. */
struct deployment_missing {
    int64_t memory_bytes; /* that one more worker must offer; 0: nothing is missing */
    int workers;          /* or so many like the one that was lost last */
};
void deployment_find_missing(const struct deployment *d, const struct registry *r,
                             struct deployment_missing *ret_missing);
/* Requests wait for it, for it has served and is not in service now. */
bool deployment_is_degraded(const struct deployment *d);
/* A sentence on what it waits for. */
void deployment_explain(const struct deployment *d, const struct registry *r, char *to,
                        size_t size);

#endif
