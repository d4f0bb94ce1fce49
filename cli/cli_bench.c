#include "cli/cli.h"

#include "base/clock.h"
#include "cli/bench_measure.h"
#include "cli/bench_report.h"
#include "cli/cluster_options.h"
#include "cli/model_fetch.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"
#include "model/weight_file.h"

#include <curl/curl.h>
#include <stdlib.h>

struct bench_settings {
    struct cluster_options cluster;
    char *prompts, *depths, *streams;
    int64_t generate, runs;
    bool json;
};

#define FIELD(name) offsetof(struct bench_settings, name)

static const struct conf_option bench_options[] = {
    {.name = "prompt",
     .letter = 'p',
     .type = CONF_STRING,
     .offset = FIELD(prompts),
     .check = bench_plan_check_tokens,
     .value = "LIST",
     .initial = "512",
     .help = "tokens of the prompts for prefill: 512,2048; 0: none"},
    {.name = "generate",
     .letter = 'n',
     .type = CONF_INT,
     .offset = FIELD(generate),
     .value = "N",
     .initial = "128",
     .min = 1,
     .max = BENCH_TOKENS_MAX,
     .help = "tokens to generate for decode"},
    {.name = "depth",
     .letter = 'd',
     .type = CONF_STRING,
     .offset = FIELD(depths),
     .check = bench_plan_check_tokens,
     .value = "LIST",
     .initial = "0",
     .help = "tokens before those that are generated: 0,4096"},
    {.name = "streams",
     .letter = 's',
     .type = CONF_STRING,
     .offset = FIELD(streams),
     .check = bench_plan_check_streams,
     .value = "LIST",
     .initial = "1",
     .help = "requests that decode together: 1,4,16; above 1 at depth 0"},
    {.name = "runs",
     .letter = 'r',
     .type = CONF_INT,
     .offset = FIELD(runs),
     .value = "N",
     .initial = "5",
     .min = 1,
     .max = BENCH_RUNS_MAX,
     .help = "runs of each, in turn; the median counts"},
    {.name = "json", .type = CONF_FLAG, .offset = FIELD(json), .help = "print a JSON object"},
    CLUSTER_OPTIONS(struct bench_settings, "0"),
};

static const struct conf_program bench_program = {
    .name = "paceline bench",
    .synopsis = "[OPTION...] MODEL",
    .summary = "Measures tokens per second on this machine: prefill of prompts of random tokens, "
               "decode of one\nstream and of several together; median and spread of several runs.",
    .epilogue = "Examples:\n"
                "  paceline bench qwen2.5-coder-0.5b -p 512 -n 128 --workers 2 --threads 1\n"
                "  paceline bench qwen2.5-coder-0.5b -p 512,2048 -d 0,4096 -s 1,4,16 --json",
    .file = VERB_CONFIG_FILE,
    .group = "bench",
    .groups = verb_groups,
    .options = bench_options,
    .n_options = sizeof bench_options / sizeof *bench_options,
    .min_positionals = 1,
    .max_positionals = 1,
};

static int bench_vocabulary(const char *path, int64_t *ret_count, struct err *err)
{
    struct weight_file *file = NULL;
    int rc = weight_file_open(&file, path, err);
    if (rc < 0)
        return rc;
    *ret_count = weight_file_array_count(file, "tokenizer.ggml.tokens");
    weight_file_close(file);
    if (*ret_count < 1)
        return err_set(err, ERR_MODEL, "%s: it has no vocabulary (tokenizer.ggml.tokens)", path);
    return 0;
}

static int bench_run(const struct bench_settings *s, const char *model, struct err *err)
{
    struct local_cluster *cluster = NULL;
    struct bench_plan plan = {0};
    char *path = NULL;
    int64_t start_us = 0;
    int rc = cluster_options_check(&s->cluster, err);
    if (rc == 0)
        rc = bench_plan_init(&plan, s->prompts, s->depths, s->streams, s->generate, s->runs, err);
    if (rc == 0)
        rc = model_fetch_resolve(model, s->cluster.models_file, &path, err);
    if (rc == 0)
        rc = bench_vocabulary(path, &plan.vocabulary, err);
    if (rc == 0) {
        struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
        settings.context = bench_plan_context(&plan);
        settings.concurrency = bench_plan_concurrency(&plan);
        start_us = clock_now_us();
        rc = local_cluster_start(&cluster, &settings, err);
    }
    if (rc == 0)
        rc = bench_plan_measure(&plan, cluster, start_us, err);
    if (rc == 0)
        rc = bench_report_print(&plan, cluster, path, s->json, err);
    local_cluster_stop(cluster);
    bench_plan_clear(&plan);
    free(path);
    return rc;
}

int cli_bench(int argc, char **argv)
{
    struct bench_settings s = {0};
    struct err err = {0};
    const char *model = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&bench_program, &s, argc, argv, &model, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = bench_run(&s, model, &err);
        curl_global_cleanup();
    }
    conf_clear(&bench_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
