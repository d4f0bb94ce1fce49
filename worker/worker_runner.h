/* worker_runner.h - the compute thread: receives steps, runs them, sends them on. Stages are made
 * by another thread (worker_loader.h), so that one serves while the next one is loaded: a Load that
 * says `beside` keeps what serves until the first step of its own epoch comes.
 *
 * It owns the data sockets; the control thread talks to it through inproc sockets, by value. */
#ifndef PACELINE_WORKER_WORKER_RUNNER_H
#define PACELINE_WORKER_WORKER_RUNNER_H

#include "base/err.h"
#include "kernels/kernels.h"
#include "proto/cluster.pb-c.h"
#include "proto/keys.h"
#include "worker/content.h"
#include "worker/measure.h"
#include "worker/placement.h"
#include "worker/self_test.h"

#include <stdint.h>

struct worker_runner;

struct worker_runner_spec {
    void *zmq;                     /* context, borrowed */
    const struct kernels *kernels; /* borrowed */
    int threads;
    const struct placement *placement; /* borrowed; NULL: threads run anywhere */
    int64_t memory_bytes;
    double scrub_bytes_per_s;     /* of weights that are read through again; 0: none */
    struct content *content;      /* where weights come from, borrowed */
    const char *measures_dir;     /* where measurements are remembered, or NULL */
    const char *coordinator_host; /* stands in for "*" in the endpoints of a Load */
    const struct key_pair *own;   /* borrowed; NULL: plain links */
    const char *data_host;        /* to listen on */
    int data_port;                /* 0: any */
    uint32_t first_exam;          /* round of the self-test that is computed at once */
};

enum worker_news_kind {
    WORKER_PROGRESS,
    WORKER_READY,
    WORKER_FAILED,
    WORKER_MEASURED,
    WORKER_EXAMINED,
    WORKER_LOADED /* a loader ends; worker_runner_next_news() keeps it to itself */
};
struct worker_news {
    enum worker_news_kind kind;
    uint32_t deployment;
    uint64_t epoch;
    int64_t bytes_done, bytes_total; /* WORKER_PROGRESS */
    int64_t memory_bytes;            /* WORKER_READY: of a stage, or of a standby */
    uint64_t step;                   /* WORKER_FAILED: that could not be executed, or 0 */
    struct err failure;              /* WORKER_FAILED; WORKER_MEASURED: code 0, or why not */
    struct measure_result measured;  /* WORKER_MEASURED */
    struct self_test_result exam;    /* WORKER_EXAMINED */
};

struct worker_counters {
    uint64_t steps, busy_us;
    uint64_t sent_bytes; /* of steps and results */
    uint64_t damaged;    /* steps whose checksum was wrong */
    uint64_t scrubbed_bytes;
    uint64_t busy_epoch, busy_step; /* of the step under way; 0: none */
    uint64_t epoch;                 /* of the newest stage that is ready; 0: none */
    uint64_t standby_epoch;         /* of the standby Load whose layers are packed; 0: none are */
};

/* Listens on the data address, then starts the thread. */
int worker_runner_start(struct worker_runner **ret_runner, const struct worker_runner_spec *spec,
                        struct err *err);
void worker_runner_stop(struct worker_runner *r); /* ends the thread; NULL is fine */
int worker_runner_data_port(const struct worker_runner *r);
/* Readable when there is news. */
void *worker_runner_socket(const struct worker_runner *r);
/* true: *ret_news was filled. Never waits. */
bool worker_runner_next_news(struct worker_runner *r, struct worker_news *ret_news);
/* Takes the message, unless it fails. An older load under way is given up. */
int worker_runner_load(struct worker_runner *r, Paceline__Control *load, struct err *err);
/* Times layers of such shapes; a load ends it. */
int worker_runner_measure(struct worker_runner *r, const Paceline__Measure *m, struct err *err);
/* Computes the self-test of this round, between two steps. */
int worker_runner_examine(struct worker_runner *r, uint32_t round, struct err *err);
/* Stages of this epoch and older are freed; only: of this epoch alone; standby: and what is packed
 * for a plan to come. */
int worker_runner_unload(struct worker_runner *r, uint64_t epoch, bool only, bool standby,
                         struct err *err);
/* The next loads may be of lower epochs than what was unloaded: another coordinator counts anew. */
int worker_runner_forget(struct worker_runner *r, struct err *err);
/* Place in the pipeline of the newest stage that is ready, + 1, and how long the pipeline is; 0:
 * none. */
uint32_t worker_runner_stage(struct worker_runner *r, uint32_t *ret_stages);
void worker_runner_counters(const struct worker_runner *r, struct worker_counters *ret_counters);

#endif
