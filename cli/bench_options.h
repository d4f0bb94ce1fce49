/* bench_options.h - the options of `paceline bench`: those of its cases, and those of a load. */
#ifndef PACELINE_CLI_BENCH_OPTIONS_H
#define PACELINE_CLI_BENCH_OPTIONS_H

#include "cli/cluster_options.h"

struct bench_settings {
    struct cluster_options cluster;
    bool json;
    /* cases */
    char *prompts, *depths, *streams;
    int64_t generate, runs;
    /* a load */
    char *url, *api_key_file, *ca_file, *input_len, *output_len;
    int64_t clients, requests, shared_prefix, prefixes, seed, concurrency;
    double rate;
    bool text, chat;
};

extern const struct conf_program bench_options_program;

/* The first option that was given and that only a load has; NULL: none, no load is wanted. */
const char *bench_options_load(const struct bench_settings *s);
/* Refuses options of cases beside those of a load. said: what stands on the command line; a file
 * may hold both kinds. */
int bench_options_check(const struct bench_settings *s, const struct bench_settings *said,
                        struct err *err);

#endif
