/* bench_workload.h - which requests a load is made of: lengths, prompts, times of arrival. All of
 * it follows from the seed and the number of the request, whatever the order of the answers. */
#ifndef PACELINE_CLI_BENCH_WORKLOAD_H
#define PACELINE_CLI_BENCH_WORKLOAD_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { BENCH_LENGTH_MAX = 1 << 20 };

struct bench_range {
    int64_t min, max;
};

struct bench_workload {
    struct bench_range input, output; /* tokens; words, in texts */
    int64_t shared_prefix;            /* so many at the beginning are those of the group */
    int64_t prefixes;                 /* groups, at least 1; requests belong to them in turn */
    int64_t vocabulary;               /* ids are below it */
    double rate;                      /* arrivals a second, or 0 */
    uint64_t seed;
    bool is_text; /* prompts are words, not ids */
};

/* "128" or "64-256". */
int bench_range_read(const char *text, struct bench_range *ret_range, struct err *err);
int bench_range_check(const char *text, struct err *err); /* as a check of options */

int64_t bench_workload_input(const struct bench_workload *w, int64_t request);
int64_t bench_workload_output(const struct bench_workload *w, int64_t request);
/* Seconds between the arrivals of the request before and this one: exponential, 1 / rate in the
 * mean. */
double bench_workload_gap(const struct bench_workload *w, int64_t request);
/* An array of ids, or a string. NULL: no memory. */
json_t *bench_workload_prompt(const struct bench_workload *w, int64_t request);

#endif
