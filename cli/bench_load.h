/* bench_load.h - runs a load: many requests at once to one server, each answer's events timed as
 * they come (libcurl's multi interface, in the caller's thread). */
#ifndef PACELINE_CLI_BENCH_LOAD_H
#define PACELINE_CLI_BENCH_LOAD_H

#include "cli/bench_samples.h"
#include "cli/bench_workload.h"
#include "cli/http_client.h"

enum { BENCH_CLIENTS_MAX = 16384, BENCH_REQUESTS_MAX = 10000000 };

struct bench_load_plan {
    const struct http_client *client; /* its watch is asked now and then */
    const char *model;                /* name in the requests, or NULL */
    struct bench_workload work;
    int64_t clients;  /* requests at once, at most; 0 (with a rate): no limit but our own */
    int64_t requests; /* in all */
    bool is_chat;     /* /v1/chat/completions; wants texts */
    bool quiet;       /* no progress */
};

struct bench_load_result {
    double seconds; /* first request to last answer */
    int64_t completed, failed, unfinished;
    int64_t prompt_tokens, output_tokens;            /* prompts: of answers that were completed */
    int64_t cached_tokens;                           /* -1: the server does not say */
    json_t *failures;                                /* {"http_429": 3, ...}, owned */
    char first_error[256];                           /* or "" */
    struct bench_samples first_ms, gap_ms, whole_ms; /* not of answers that failed */
    bool interrupted;
};

/* A stop signal ends the run: 0, with `interrupted` and what was measured until then. Requests
 * that fail are counted; only what makes measuring impossible is an error. bench_load_clear on
 * success and failure alike. */
int bench_load_run(const struct bench_load_plan *p, struct bench_load_result *ret_result,
                   struct err *err);
void bench_load_clear(struct bench_load_result *r);

#endif
