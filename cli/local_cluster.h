/* local_cluster.h - a coordinator and workers on this machine, as child processes: for `up`, and
 * for verbs that need real workers for a moment. */
#ifndef PACELINE_CLI_LOCAL_CLUSTER_H
#define PACELINE_CLI_LOCAL_CLUSTER_H

#include "base/err.h"
#include "cli/http_client.h"

#include <stdbool.h>
#include <stdint.h>

struct local_cluster_settings {
    const char *model;         /* path of the file */
    const char *alias;         /* name in the API, or NULL */
    int64_t workers;           /* 0: as many as the cuts make, or 1 */
    int64_t threads;           /* of each worker; 0: physical cores / workers */
    const char *http;          /* "HOST:PORT"; NULL: a free port on loopback */
    int64_t context;           /* tokens; 0: the coordinator's default */
    int64_t concurrency;       /* 0: the coordinator's default */
    int64_t kv_tokens;         /* 0: the coordinator's default */
    int64_t queue;             /* sequences that may wait; -1: the coordinator's default */
    int64_t tenant_requests;   /* of one tenant at once; 0: no limit */
    int64_t request_timeout_s; /* 0: never */
    bool no_prefix_cache;
    int64_t connections;      /* HTTP, at once; 0: the coordinator's default */
    const char *kv, *cuts;    /* or NULL */
    const char *api_key_file; /* or NULL; these too */
    const char *tls_cert, *tls_key, *cors_origins;
    bool encryption; /* links of the workers, with keys of their own */
    bool verbose;    /* logs of the children on standard error */
    bool quiet;      /* no progress while nothing is wrong */
};

struct local_cluster;
/* Returns when it serves. ERR_CANCELLED: a stop signal; otherwise the code is that of the program
 * that failed, and the sentence its own. Nothing is left running then. */
int local_cluster_start(struct local_cluster **ret_cluster,
                        const struct local_cluster_settings *settings, struct err *err);
const struct http_client *local_cluster_client(const struct local_cluster *c);
int local_cluster_workers(const struct local_cluster *c);
int local_cluster_threads(const struct local_cluster *c); /* of each worker */
/* 0: all run. Otherwise one has ended, and *err says which and why. */
int local_cluster_check(struct local_cluster *c, struct err *err);
/* What the progress display says while an answer is awaited; "" ends it. */
void local_cluster_say(struct local_cluster *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Ends the coordinator in order: it finishes the requests that run, while the workers stay. Returns
 * when it has ended, or a stop signal is repeated; then local_cluster_stop ends what is left. */
int local_cluster_drain(struct local_cluster *c, struct err *err);
/* Stops everything, the coordinator first, and frees. The logs stay if a program failed. NULL is
 * fine. */
void local_cluster_stop(struct local_cluster *c);

#endif
