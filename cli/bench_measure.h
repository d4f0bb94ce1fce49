/* bench_measure.h - what `paceline bench` measures: a list of cases, each timed in several runs by
 * requests to a cluster, as any client would send them. */
#ifndef PACELINE_CLI_BENCH_MEASURE_H
#define PACELINE_CLI_BENCH_MEASURE_H

#include "cli/cluster_options.h"
#include "cli/local_cluster.h"

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_RUNS_MAX = 1000, BENCH_CASES_MAX = 64, BENCH_STREAMS_MAX = 64 };
enum { BENCH_TOKENS_MAX = CLUSTER_CONTEXT_MAX - 2 }; /* beside those that are not counted */

/* Prefill: a prompt of `tokens`. Decode: `tokens` steps of `streams` requests together, each
 * `depth` tokens behind its beginning when the clock starts. */
struct bench_case {
    bool is_prefill;
    int64_t tokens, depth, streams;
    double rates[BENCH_RUNS_MAX]; /* tokens a second, of all streams together */
};

struct bench_plan {
    struct bench_case *cases; /* owned */
    int n_cases;
    int64_t runs;
    int64_t vocabulary;
    double load_seconds; /* from the start of the programs to the first token */
};

/* One case for each number of prompts (0: none), for each depth if `streams` has a 1, and for each
 * other number of streams, at depth 0. Lists as people write them: "512,2048". */
int bench_plan_init(struct bench_plan *p, const char *prompts, const char *depths,
                    const char *streams, int64_t generate, int64_t runs, struct err *err);
/* The lists of prompts and depths, and of streams, as checks of options. */
int bench_plan_check_tokens(const char *text, struct err *err);
int bench_plan_check_streams(const char *text, struct err *err);
void bench_plan_clear(struct bench_plan *p);
/* What the cluster must hold for it. */
int64_t bench_plan_context(const struct bench_plan *p);
int64_t bench_plan_concurrency(const struct bench_plan *p);
/* First one token, which ends the load that began at start_us; then all cases in turn, once for
 * each run. No two prompts are alike, so that no cache can help. */
int bench_plan_measure(struct bench_plan *p, struct local_cluster *cluster, int64_t start_us,
                       struct err *err);

#endif
