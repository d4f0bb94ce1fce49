/* worker_runner.h - the compute thread: loads a stage, receives steps, runs them, sends them on.
 *
 * It owns the data sockets; the control thread talks to it through an inproc pair, by value. */
#ifndef PACELINE_WORKER_WORKER_RUNNER_H
#define PACELINE_WORKER_WORKER_RUNNER_H

#include "base/err.h"
#include "kernels/kernels.h"
#include "proto/cluster.pb-c.h"
#include "worker/placement.h"

#include <stdint.h>

struct worker_runner;

struct worker_runner_spec {
    void *zmq;                     /* context, borrowed */
    const struct kernels *kernels; /* borrowed */
    int threads;
    const struct placement *placement; /* borrowed; NULL: threads run anywhere */
    int64_t memory_bytes;
    const char *models_dir;       /* or NULL */
    const char *coordinator_host; /* stands in for "*" in the endpoints of a Load */
    const char *data_host;        /* to listen on */
    int data_port;                /* 0: any */
};

enum worker_news_kind { WORKER_PROGRESS, WORKER_READY, WORKER_FAILED };
struct worker_news {
    enum worker_news_kind kind;
    uint32_t deployment;
    uint64_t epoch;
    int64_t bytes_done, bytes_total; /* WORKER_PROGRESS */
    int64_t memory_bytes;            /* WORKER_READY */
    struct err failure;              /* WORKER_FAILED */
};

struct worker_counters {
    uint64_t steps, busy_us, epoch;
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
/* Takes the message. An older load under way is given up. */
int worker_runner_load(struct worker_runner *r, Paceline__Control *load, struct err *err);
/* Stages of this epoch and older are freed. */
int worker_runner_unload(struct worker_runner *r, uint64_t epoch, struct err *err);
void worker_runner_counters(const struct worker_runner *r, struct worker_counters *ret_counters);

#endif
