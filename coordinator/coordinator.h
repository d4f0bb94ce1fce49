/* coordinator.h - the part of the coordinator that owns every request and every decision: it
 * knows workers and steps, and nothing of HTTP or JSON. */
#ifndef PACELINE_COORDINATOR_COORDINATOR_H
#define PACELINE_COORDINATOR_COORDINATOR_H

#include "base/err.h"
#include "coordinator/request.h"
#include "coordinator/timeline.h"
#include "model/model_config.h"
#include "model/weight_file.h"
#include "proto/keys.h"

#include <stdbool.h>
#include <stdint.h>

struct coordinator;
struct metrics;

/* ---- for the API (api_*.c) ---- */

/* Takes all n (1 or more) requests of one call, of one tenant, or none. From here on the
 * coordinator works on them; they stay the caller's to free once they are done. ERR_UNAVAILABLE
 * before the first plan is in service; afterwards requests wait where there is none. ERR_LIMIT when
 * the queue is full, ERR_QUOTA when the tenant has its share of requests, ERR_INPUT for what can
 * never be served. */
int coordinator_submit(struct coordinator *c, struct request *const *requests, size_t n,
                       struct err *err);
/* The client is gone. r is done when this returns and may be freed. */
void coordinator_cancel(struct coordinator *c, struct request *r);
/* The next request with news (text, records, finish), or NULL; each comes once per change. */
struct request *coordinator_take_changed(struct coordinator *c);
/* When the oldest results came since this was asked last; 0: none came. */
int64_t coordinator_take_answered_us(struct coordinator *c);

/* Seconds after which whoever was refused may find room: from what waits and how fast choices have
 * finished of late; 1 to 60. */
int coordinator_retry_after_s(const struct coordinator *c);

struct coordinator_tenant_status {
    const char *name;
    int running, waiting; /* choices */
};
struct coordinator_worker_status {
    /* "joined", "loading", "serving", "standby", "unfit", "expelled", "draining", "drained",
     * "kept-out" */
    char name[64], isa[16], address[128], state[16];
    int stage, first_layer, end_layer;                /* -1 without a stage */
    int next_stage, next_first_layer, next_end_layer; /* of the plan that is made ready */
    int standby_first, standby_end; /* layers that it packs beforehand; -1: none */
    bool standby_is_ready;          /* and has packed */
    int n_losses;                   /* in a row, for which it is kept out; 0: it is not */
    int64_t kept_out_ms;            /* for so long yet */
    int threads;
    int64_t memory_offered, memory_claimed;
    int64_t load_done, load_total;
    int64_t fetch_done, fetch_total, fetch_rate; /* over the network; bytes, and a second */
    uint64_t steps, busy_us, sent_bytes;         /* of steps and results */
    uint64_t damaged_messages;                   /* steps that came to it with a wrong checksum */
    uint64_t scrubbed_bytes;                     /* of weights that it has compared again */
    uint64_t n_damaged_tensors;
    uint64_t n_exams;    /* self-tests that it passed */
    char expelled[300];  /* why, or "" */
    int64_t memory_used; /* anonymous, of its process; 0: not known */
    bool has_temperature;
    double temperature_c;
    bool is_timed;           /* the two below are known */
    int64_t clock_offset_us; /* its monotonic clock minus ours */
    int64_t clock_uncertainty_us;
    char kernels[512];
    char key[KEYS_TEXT_BYTES];              /* public, as text; "" where links are plain */
    int cores, efficient_cores, numa_nodes; /* 0: not known */
    double read_one, read_all;              /* bytes a second; 0: not measured */
    double layer_us, layer_many_us;         /* of one layer, for a row and for 64 */
    int64_t round_trip_us;                  /* -1: not known */
    double
        link_rate; /* to the coordinator, probed, bytes a second; 0: not known, or the same host */
    double hop_rate;          /* to the next stage, as steps showed it; 0: not known */
    int64_t hop_us;           /* the least of a small message to the next stage; -1: not known */
    char standby_reason[256]; /* or "" */
};
struct coordinator_status {
    bool ready;
    bool is_degraded;      /* it has served and does not now: requests are taken, and wait */
    char waiting_for[512]; /* a sentence, when not ready */
    int64_t missing_bytes; /* that one more worker must offer; 0: nothing is missing, */
    int missing_workers;   /* or so many like the one that was lost last */
    uint64_t epoch;
    uint64_t next_epoch; /* of a plan that is made ready beside it; 0: none, */
    char change[200];    /* and why, a sentence */
    int n_stages, n_workers, n_tenants;
    int running, waiting;                             /* choices with and without a slot */
    uint64_t n_queue_full, n_tenant_limit, n_timeout; /* requests refused or ended so */
    int kv_blocks, kv_blocks_free;
    /* Since the start: choices that lost their blocks to others; tokens of prompts that were
     * looked up in the prefix cache, and those of them that were found. */
    uint64_t n_preemptions, n_looked_up_tokens, n_found_tokens;
    uint64_t n_damaged_results; /* with a wrong checksum */
};
void coordinator_status(const struct coordinator *c, struct coordinator_status *ret_status);
/* to: [n_tenants] */
void coordinator_tenants(const struct coordinator *c, struct coordinator_tenant_status *to);
/* index < n_workers; pipeline order first, then standby. */
bool coordinator_worker_status(const struct coordinator *c, int index,
                               struct coordinator_worker_status *ret_status);
/* Plans are to do without the worker, or may have it again. It serves until others have its layers.
 * ERR_NOT_FOUND; ERR_UNAVAILABLE: nothing serves without it. */
int coordinator_drain_worker(struct coordinator *c, const char *worker, struct err *err);
int coordinator_resume_worker(struct coordinator *c, const char *worker, struct err *err);
const struct timeline *coordinator_timeline(const struct coordinator *c); /* of all steps */
const struct metrics *coordinator_metrics(const struct coordinator *c);
const struct model_config *coordinator_model(const struct coordinator *c);
const char *coordinator_model_alias(const struct coordinator *c); /* what /v1/models says */
const struct tokenizer *coordinator_tokenizer(const struct coordinator *c);
struct constraint_store *coordinator_constraints(const struct coordinator *c);
const struct weight_file *coordinator_weights(const struct coordinator *c);
int coordinator_context(const struct coordinator *c);             /* positions of one sequence */
const char *coordinator_fingerprint(const struct coordinator *c); /* "fp_…": weights and numerics */

#endif
