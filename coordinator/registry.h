/* registry.h - who is there, what they offer, which layers they have, when they were last heard.
 * It owns the control socket; deployment.c decides what the workers do. */
#ifndef PACELINE_COORDINATOR_REGISTRY_H
#define PACELINE_COORDINATOR_REGISTRY_H

#include "base/err.h"
#include "coordinator/clock_offset.h"
#include "coordinator/hop_times.h"
#include "coordinator/link_probe.h"
#include "coordinator/losses.h"
#include "coordinator/plan_cost.h"
#include "coordinator/trust.h"
#include "proto/wire.h"

#include <stdbool.h>
#include <stdint.h>

enum worker_state { WORKER_JOINED, WORKER_LOADING, WORKER_SERVING };

/* How a worker went. */
enum worker_end {
    WORKER_LEFT,    /* in order, or it was revoked */
    WORKER_SILENT,  /* not heard any more: the machine or the network */
    WORKER_ENDED,   /* its program is gone: the connection closed, or it was started again */
    WORKER_CRASHED, /* and could say so */
};

enum worker_measure { MEASURE_UNASKED, MEASURE_ASKED, MEASURE_KNOWN, MEASURE_FAILED };

struct worker_entry {
    struct wire_identity identity;
    uint64_t incarnation;
    char name[64], isa[16], address[128]; /* address: its data endpoint */
    char asked[64];                       /* the name that it gave */
    unsigned char key[KEYS_BYTES];        /* public; where links are encrypted */
    int threads;
    int64_t memory_bytes; /* offered */
    int cores, efficient_cores, numa_nodes, most_threads;
    uint32_t had_stage;  /* + 1, when it joined: it has these layers still; 0: none */
    uint32_t had_stages; /* of the plan that this one is of; at most 1024 */
    int64_t joined_ms;
    int64_t last_heard_ms;
    int fd;                  /* of its connection; -1: unknown */
    int64_t disconnected_ms; /* since when it has none; 0: it has one */
    int64_t last_busy_ms;    /* when its counters last said that it computes */

    /* how fast it is with the layers of deployment's model */
    enum worker_measure measure;
    int64_t measure_asked_ms;
    struct plan_speed speed; /* MEASURE_KNOWN; without the link */
    double read_one, read_all;
    double slower; /* than measured, as its steps showed; 0: none were seen since */
    int64_t slower_ms;
    /* self-tests (examiner.h) */
    char expelled[300]; /* why, or "" */
    int64_t asked_ms, passed_ms;
    uint32_t asked_round;
    uint64_t n_exams; /* that it passed */

    char standby_reason[256]; /* why the newest plan has no stage for it, or "" */

    /* the stage it was given, of deployment's newest plan */
    enum worker_state state;
    bool unfit;             /* it could not load a stage: not asked again until it joins anew ... */
    int64_t unfit_until_ms; /* ... or this has passed; 0: for good */
    int n_unfit;            /* times */
    int stage, first_layer, end_layer; /* -1: none */
    uint64_t epoch;
    int64_t load_done, load_total;
    int64_t fetch_done, fetch_total, fetch_rate; /* of these bytes, what comes over the network */
    int64_t memory_claimed;
    int beats_astray; /* heartbeats in a row that do not know the newest of these plans */
    /* the stage of the plan that is made ready beside the one that serves; -1: none */
    int next_stage, next_first_layer, next_end_layer;
    uint64_t next_epoch;
    bool next_is_ready;
    int64_t next_claimed;
    /* what it packs beforehand, or has packed, while it has no stage */
    uint64_t standby_epoch; /* of the Load that asked for it; 0: none did */
    int standby_first, standby_end;
    bool standby_is_ready, standby_failed;
    int last_stage;            /* that it had in the plan that broke; -1: none */
    int64_t kept_out_until_ms; /* plans are to do without it, for it was lost ... */
    int n_losses;              /* ... so often in a row; 0: they may use it */
    bool is_draining;          /* plans are to do without it */
    bool is_leaving;           /* it asked for that itself, and waits for its Released */
    char kernels[1024];
    uint64_t steps, busy_us, sent_bytes, damaged_messages, scrubbed_bytes;
    uint64_t n_damaged_tensors; /* that it told of */
    int64_t memory_used;        /* anonymous */
    uint32_t temperature_mk;    /* of its processors, millikelvin; 0: not known */
    char content_address[128];  /* where it gives tensors to others; "": it does not */
    unsigned char *have;        /* digests of those that it can give, ascending, 32 bytes each */
    size_t n_have;
    struct clock_offset clock; /* its monotonic clock against ours */
    struct link_probe link;    /* to the coordinator */
    struct hop_times hop;      /* to the next stage, of the plan in service */
    double link_seen;          /* the best that its hops have shown, bytes a second; 0: nothing */
    struct worker_entry *next;
};

struct registry {
    void *socket;                 /* ROUTER */
    void *monitor;                /* its connections that end */
    struct trust *trust;          /* borrowed; NULL: plain links */
    struct worker_entry *workers; /* in the order of joining, those with a stage in their order */
    int n_workers;
    struct losses losses;
    int64_t exam_every_ms; /* self-tests of each worker; 0: only when it joins */
    int64_t silence_ms;    /* after so much of it a worker is taken for lost */
    int64_t last_time_ms;  /* of registry_keep_time() */
    /* what happened since the deployment last looked */
    bool has_new_peers; /* somebody came or went, and the others were not told yet */
    bool joined;
    bool measured;
    bool stage_ready;
    bool stage_lost; /* a worker with a stage is gone */
    char lost_name[64];
    enum worker_end lost_end;
    uint64_t lost_epoch, lost_step;     /* WORKER_CRASHED: in which step, or 0 */
    char lost_fault[80];                /* and how */
    int64_t lost_bytes;                 /* of memory that it offered; 0: none was lost yet */
    bool stage_failed;                  /* a worker could not load or execute its stage */
    uint64_t failed_epoch, failed_step; /* step 0: it could not be made */
    struct err failure;
    bool next_lost; /* a worker with a stage of the next plan is gone */
    bool next_failed;
    struct err next_failure;
    struct err expulsion; /* code != 0: the last one */
};

/* trust: borrowed; NULL: plain, anybody may join. */
int registry_open(struct registry *r, void *zmq, const char *host, int port, struct trust *trust,
                  int *ret_port, struct err *err);
void registry_close(struct registry *r);
/* Takes at most 64 messages, never waits. */
void registry_receive(struct registry *r);
/* Heartbeats to all, and farewell to those not heard for too long. Call a few times a second. */
void registry_keep_time(struct registry *r);
/* The list of keys has changed: who is not on it any more is gone. */
void registry_review_trust(struct registry *r);
/* The plans that have the worker cannot go on with it. */
void registry_lose_stage(struct registry *r, const struct worker_entry *w, enum worker_end end);
void registry_send(struct registry *r, const struct worker_entry *w,
                   Paceline__Control__BodyCase kind, void *body);
struct worker_entry *registry_stage(const struct registry *r, int stage);
struct worker_entry *registry_named(const struct registry *r, const char *name); /* or NULL */

#endif
