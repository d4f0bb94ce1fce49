#include "cli/cli.h"

#include "cli/cluster_options.h"
#include "cli/model_fetch.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"
#include "model/weight_file.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 1000, WARM_UP_TOKENS = 16 };
enum { TOKENS_MAX = CLUSTER_CONTEXT_MAX - 2 }; /* with the tokens beside those that are counted */

struct bench_settings {
    struct cluster_options cluster;
    int64_t prompt, generate, runs;
    bool json;
};

#define FIELD(name) offsetof(struct bench_settings, name)

static const struct conf_option bench_options[] = {
    {.name = "prompt",
     .letter = 'p',
     .type = CONF_INT,
     .offset = FIELD(prompt),
     .value = "N",
     .initial = "512",
     .min = 1,
     .max = TOKENS_MAX,
     .help = "tokens of the prompt for prefill"},
    {.name = "generate",
     .letter = 'n',
     .type = CONF_INT,
     .offset = FIELD(generate),
     .value = "N",
     .initial = "128",
     .min = 1,
     .max = TOKENS_MAX,
     .help = "tokens to generate for decode"},
    {.name = "runs",
     .letter = 'r',
     .type = CONF_INT,
     .offset = FIELD(runs),
     .value = "N",
     .initial = "5",
     .min = 1,
     .max = RUNS_MAX,
     .help = "runs of each; the median counts"},
    {.name = "json", .type = CONF_FLAG, .offset = FIELD(json), .help = "print a JSON object"},
    CLUSTER_OPTIONS(struct bench_settings, "0"),
};

static const struct conf_program bench_program = {
    .name = "paceline bench",
    .synopsis = "[OPTION...] MODEL",
    .summary = "Measures tokens per second of a single stream on this machine: prefill of a prompt "
               "of random\ntokens, and decode of a short one; median and spread of several runs "
               "after one to warm up.",
    .epilogue =
        "Example:\n  paceline bench qwen2.5-coder-0.5b -p 512 -n 128 --workers 2 --threads 1",
    .file = VERB_CONFIG_FILE,
    .group = "bench",
    .groups = verb_groups,
    .options = bench_options,
    .n_options = sizeof bench_options / sizeof *bench_options,
    .min_positionals = 1,
    .max_positionals = 1,
};

struct bench {
    const struct bench_settings *settings;
    struct local_cluster *cluster;
    int64_t vocabulary;
    uint64_t random;
    double prefill[RUNS_MAX], decode[RUNS_MAX]; /* tokens a second */
};

/* Random ids; no two runs share a prompt, so that no cache can help. */
static uint32_t bench_token(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((b->random >> 33) % (uint64_t)b->vocabulary);
}

static int bench_vocabulary(struct bench *b, const char *path, struct err *err)
{
    struct weight_file *file = NULL;
    int rc = weight_file_open(&file, path, err);
    if (rc < 0)
        return rc;
    b->vocabulary = weight_file_array_count(file, "tokenizer.ggml.tokens");
    weight_file_close(file);
    if (b->vocabulary < 1)
        return err_set(err, ERR_MODEL, "%s: it has no vocabulary (tokenizer.ggml.tokens)", path);
    return 0;
}

/* One completion; *ret_rate is the field of its timings. */
static int bench_complete(struct bench *b, int64_t prompt, int64_t generate, const char *field,
                          double *ret_rate, struct err *err)
{
    json_t *tokens = json_array(), *answer = NULL;
    for (int64_t i = 0; i < prompt; i++)
        json_array_append_new(tokens, json_integer(bench_token(b)));
    json_t *request =
        json_pack("{s:o,s:I,s:b,s:f,s:b}", "prompt", tokens, "max_tokens", (json_int_t)generate,
                  "ignore_eos", 1, "temperature", 0.0, "cache_prompt", 0);
    if (!request)
        return err_set(err, ERR_MEMORY, "no memory for a prompt of %" PRId64 " tokens", prompt);
    int rc = http_client_post(local_cluster_client(b->cluster), "/v1/completions", request, &answer,
                              err);
    const json_t *rate = json_object_get(json_object_get(answer, "timings"), field);
    if (rc == 0 && !json_is_number(rate))
        rc = err_set(err, ERR_NETWORK, "the answer has no timings.%s", field);
    if (rc == 0)
        *ret_rate = json_number_value(rate);
    json_decref(answer);
    json_decref(request);
    return rc;
}

static int bench_measure(struct bench *b, struct err *err)
{
    const struct bench_settings *s = b->settings;
    double ignored;
    int64_t prompt = s->prompt < WARM_UP_TOKENS ? s->prompt : WARM_UP_TOKENS;
    local_cluster_say(b->cluster, "warming up");
    int rc = bench_complete(b, prompt, 4, "predicted_per_second", &ignored, err);
    for (int64_t i = 0; i < s->runs && rc == 0; i++) {
        local_cluster_say(b->cluster, "prefill of %" PRId64 " tokens, run %" PRId64 " of %" PRId64,
                          s->prompt, i + 1, s->runs);
        rc = bench_complete(b, s->prompt, 1, "prompt_per_second", &b->prefill[i], err);
    }
    /* The first token comes from the prompt; n more are n decode steps. */
    for (int64_t i = 0; i < s->runs && rc == 0; i++) {
        local_cluster_say(b->cluster, "decode of %" PRId64 " tokens, run %" PRId64 " of %" PRId64,
                          s->generate, i + 1, s->runs);
        rc = bench_complete(b, 1, s->generate + 1, "predicted_per_second", &b->decode[i], err);
    }
    local_cluster_say(b->cluster, "%s", "");
    return rc;
}

static int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* To three decimals; no clock tells more. */
static double bench_round(double rate)
{
    return round(rate * 1000) / 1000;
}

/* {"median", "min", "max", "runs": [in the order measured]} */
static json_t *bench_summary(const double *rates, int64_t n)
{
    double sorted[RUNS_MAX];
    memcpy(sorted, rates, (size_t)n * sizeof *rates);
    qsort(sorted, (size_t)n, sizeof *sorted, bench_compare);
    double median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    json_t *runs = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(runs, json_real(bench_round(rates[i])));
    return json_pack("{s:f,s:f,s:f,s:o}", "median", bench_round(median), "min",
                     bench_round(sorted[0]), "max", bench_round(sorted[n - 1]), "runs", runs);
}

/* What the workers report under a key, each value once: "avx512" or "avx2,avx512". */
static void bench_join(const json_t *workers, const char *key, char *ret_text, size_t size)
{
    size_t i, used = 0;
    json_t *worker;
    ret_text[0] = '\0';
    json_array_foreach(workers, i, worker)
    {
        const char *value = json_string_value(json_object_get(worker, key));
        if (value && !strstr(ret_text, value) && used + strlen(value) + 2 < size)
            used += (size_t)snprintf(ret_text + used, size - used, "%s%s", used ? "," : "", value);
    }
}

static void bench_print_text(const struct bench *b, const char *model, const char *isa,
                             const json_t *workers, const json_t *prefill, const json_t *decode)
{
    const char *names[] = {"prefill", "decode"};
    const json_t *parts[] = {prefill, decode};
    printf("%s, %d worker%s of %d thread%s, %s\n", model, local_cluster_workers(b->cluster),
           local_cluster_workers(b->cluster) == 1 ? "" : "s", local_cluster_threads(b->cluster),
           local_cluster_threads(b->cluster) == 1 ? "" : "s", isa);
    for (int i = 0; i < 2; i++)
        printf("%-8s %5" PRId64 " tokens  %9.2f tokens/s  (%.2f to %.2f in %" PRId64 " runs)\n",
               names[i], i ? b->settings->generate : b->settings->prompt,
               json_real_value(json_object_get(parts[i], "median")),
               json_real_value(json_object_get(parts[i], "min")),
               json_real_value(json_object_get(parts[i], "max")), b->settings->runs);
    size_t i;
    json_t *worker;
    json_array_foreach(workers, i, worker)
    {
        const char *name = json_string_value(json_object_get(worker, "name"));
        const char *kernels = json_string_value(json_object_get(worker, "kernels"));
        const json_t *layers = json_object_get(worker, "layers"); /* [first, end) */
        printf("%s: layers %lld to %lld, kernels ", name ? name : "worker",
               (long long)json_integer_value(json_array_get(layers, 0)),
               (long long)json_integer_value(json_array_get(layers, 1)) - 1);
        for (const char *p = kernels ? kernels : "unknown"; *p; p++)
            if (*p != '\n' || p[1]) /* one "kernel=isa" a line */
                putchar(*p == '\n' ? ' ' : *p);
        putchar('\n');
    }
}

static int bench_print(const struct bench *b, const char *path, struct err *err)
{
    json_t *cluster = NULL;
    int rc = http_client_get(local_cluster_client(b->cluster), "/cluster", 0, &cluster, err);
    if (rc < 0)
        return rc;
    json_t *workers = json_object_get(cluster, "workers");
    const char *slash = strrchr(path, '/'), *model = slash ? slash + 1 : path;
    char isa[128];
    bench_join(workers, "isa", isa, sizeof isa);
    json_t *prefill = bench_summary(b->prefill, b->settings->runs);
    json_t *decode = bench_summary(b->decode, b->settings->runs);
    if (b->settings->json) {
        json_t *report =
            json_pack("{s:s,s:i,s:i,s:s,s:O,s:O,s:O?}", "model", model, "workers",
                      local_cluster_workers(b->cluster), "threads",
                      local_cluster_threads(b->cluster), "isa", isa, "prefill_tokens_per_second",
                      prefill, "decode_tokens_per_second", decode, "stages", workers);
        if (!report || json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) < 0)
            rc = err_set(err, ERR_MEMORY, "no memory for the report");
        putchar('\n');
        json_decref(report);
    } else {
        bench_print_text(b, model, isa, workers, prefill, decode);
    }
    json_decref(prefill);
    json_decref(decode);
    json_decref(cluster);
    return rc;
}

static int bench_run(const struct bench_settings *s, const char *model, struct err *err)
{
    char *path = NULL;
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(err, ERR_MEMORY, "no memory for a measurement");
    b->settings = s;
    b->random = 1;
    int rc = cluster_options_check(&s->cluster, err);
    if (rc == 0)
        rc = model_fetch_resolve(model, s->cluster.models_file, &path, err);
    if (rc == 0)
        rc = bench_vocabulary(b, path, err);
    if (rc == 0) {
        struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
        /* A prompt and one token, or one token and those that are counted after the first. */
        settings.context = s->prompt > s->generate + 1 ? s->prompt + 1 : s->generate + 2;
        if (settings.context < 2 * WARM_UP_TOKENS)
            settings.context = 2 * WARM_UP_TOKENS;
        settings.concurrency = 1;
        rc = local_cluster_start(&b->cluster, &settings, err);
    }
    if (rc == 0)
        rc = bench_measure(b, err);
    if (rc == 0)
        rc = bench_print(b, path, err);
    local_cluster_stop(b->cluster);
    free(path);
    free(b);
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
