#include "cli/cli.h"

#include "base/clock.h"
#include "cli/bench_load.h"
#include "cli/bench_load_report.h"
#include "cli/bench_measure.h"
#include "cli/bench_options.h"
#include "cli/bench_report.h"
#include "cli/model_fetch.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"
#include "model/weight_file.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

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

static int bench_cases(const struct bench_settings *s, const char *model, struct err *err)
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
        /* several streams begin at depth 0; a lone one may fill the context */
        settings.kv_tokens = settings.context + settings.concurrency * (s->generate + 128);
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

/* ---- a load ---- */

enum { LOAD_KV_TOKENS = 1 << 16, LOAD_OPEN_CONCURRENCY = 16, LOAD_VOCABULARY = 30000 };
enum { LOAD_ASK_MS = 5000, LOAD_TEMPLATE_TOKENS = 64, LOAD_BLOCK_TOKENS = 64 };

/* Short enough to be typed again. */
static int load_seed(int64_t given, uint64_t *ret_seed, struct err *err)
{
    uint32_t random;
    if (given < 0 && getrandom(&random, sizeof random, 0) != sizeof random)
        return err_set(err, ERR_IO, "no random number for a seed: %s", strerror(errno));
    *ret_seed = given < 0 ? random : (uint64_t)given;
    return 0;
}

static int load_plan(const struct bench_settings *s, struct bench_load_plan *ret_plan,
                     struct err *err)
{
    const bool is_open = s->rate > 0;
    const int64_t clients = s->clients || is_open ? s->clients : 1;
    *ret_plan = (struct bench_load_plan){
        .clients = clients,
        .requests = s->requests ? s->requests
                    : is_open   ? 100
                                : 10 * clients,
        .is_chat = s->chat,
        .quiet = s->cluster.verbose,
        .work = {.shared_prefix = s->shared_prefix,
                 .prefixes = s->prefixes,
                 .vocabulary = LOAD_VOCABULARY,
                 .rate = s->rate,
                 .is_text = s->text || s->chat},
    };
    int rc = bench_range_read(s->input_len ? s->input_len : "128", &ret_plan->work.input, err);
    if (rc == 0)
        rc = bench_range_read(s->output_len ? s->output_len : "128", &ret_plan->work.output, err);
    if (rc == 0)
        rc = load_seed(s->seed, &ret_plan->work.seed, err);
    if (rc == 0 && s->shared_prefix > ret_plan->work.input.min)
        rc = err_set_param(err, ERR_USAGE, "shared-prefix",
                           "--shared-prefix %" PRId64 " does not fit into prompts of %" PRId64
                           " tokens; --input-len makes them longer",
                           s->shared_prefix, ret_plan->work.input.min);
    return rc;
}

/* Room for what is sent: all of it in memory at once if that is not much. */
static int load_start(const struct bench_settings *s, const struct bench_load_plan *p,
                      const char *path, struct local_cluster **ret_cluster, struct err *err)
{
    struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
    /* Some words are two tokens. */
    const int64_t input =
        p->work.is_text ? 2 * p->work.input.max + LOAD_TEMPLATE_TOKENS : p->work.input.max;
    settings.context = input + p->work.output.max;
    if (settings.context > CLUSTER_CONTEXT_MAX)
        return err_set(err, ERR_USAGE, "%" PRId64 " tokens are more than a context can hold, %d",
                       settings.context, CLUSTER_CONTEXT_MAX);
    settings.concurrency = s->concurrency ? s->concurrency
                           : p->clients   ? p->clients
                                          : LOAD_OPEN_CONCURRENCY;
    if (settings.concurrency > CLUSTER_CONCURRENCY_MAX)
        settings.concurrency = CLUSTER_CONCURRENCY_MAX;
    /* Prefixes stay when their requests have ended; a block may be filled in part. */
    settings.kv_tokens = settings.concurrency * (settings.context + LOAD_BLOCK_TOKENS);
    if (p->work.shared_prefix)
        settings.kv_tokens += p->work.prefixes * (p->work.shared_prefix + LOAD_BLOCK_TOKENS);
    if (settings.kv_tokens > LOAD_KV_TOKENS)
        settings.kv_tokens = settings.context > LOAD_KV_TOKENS ? settings.context : LOAD_KV_TOKENS;
    settings.queue = p->requests < CLUSTER_QUEUE_MAX ? p->requests : CLUSTER_QUEUE_MAX;
    settings.connections = (p->clients ? p->clients : BENCH_CLIENTS_MAX) + 16;
    settings.api_key_file = s->api_key_file;
    return local_cluster_start(ret_cluster, &settings, err);
}

/* The first request of all waits for pages of the file; it does not count. */
static int load_warm_up(const struct local_cluster *cluster, struct err *err)
{
    json_t *request =
        json_pack("{s:[i,i],s:i,s:b}", "prompt", 1, 2, "max_tokens", 1, "ignore_eos", 1);
    if (!request)
        return err_set(err, ERR_MEMORY, "no memory for a request");
    int rc = http_client_post(local_cluster_client(cluster), "/v1/completions", request, NULL, err);
    json_decref(request);
    return rc;
}

/* What the server says of its model, if it does. ret_models keeps the name. */
static void load_ask(struct bench_load_plan *p, json_t **ret_models)
{
    struct err ignored; /* a server that is not there says so to every request */
    if (http_client_get(p->client, "/v1/models", LOAD_ASK_MS, ret_models, &ignored) < 0)
        return;
    const json_t *model = json_array_get(json_object_get(*ret_models, "data"), 0);
    const json_t *vocabulary = json_object_get(json_object_get(model, "meta"), "n_vocab");
    p->model = json_string_value(json_object_get(model, "id"));
    if (json_integer_value(vocabulary) > 0)
        p->work.vocabulary = json_integer_value(vocabulary);
}

static int load_measure(const struct bench_settings *s, const struct bench_load_plan *p,
                        struct err *err)
{
    struct bench_load_result result;
    int rc = bench_load_run(p, &result, err);
    if (rc == 0)
        rc = bench_load_report_print(p, &result, s->json, err);
    if (rc == 0 && result.interrupted)
        rc = err_set(err, ERR_CANCELLED, "stopped before all requests had ended");
    else if (rc == 0 && !result.completed)
        rc = err_set(err, ERR_LIMIT, "all %" PRId64 " requests failed: %s", result.failed,
                     result.first_error);
    bench_load_clear(&result);
    return rc;
}

static int bench_load(const struct bench_settings *s, const char *model, struct err *err)
{
    struct local_cluster *cluster = NULL;
    struct http_client client = {0};
    struct bench_load_plan plan;
    json_t *models = NULL;
    char *path = NULL;
    int rc = cluster_options_check(&s->cluster, err);
    if (rc == 0)
        rc = load_plan(s, &plan, err);
    if (rc == 0 && s->url) {
        rc = http_client_init(&client, s->url, s->api_key_file, s->ca_file, err);
        plan.client = &client;
    } else if (rc == 0) {
        rc = model_fetch_resolve(model, s->cluster.models_file, &path, err);
        if (rc == 0)
            rc = bench_vocabulary(path, &plan.work.vocabulary, err);
        if (rc == 0)
            rc = load_start(s, &plan, path, &cluster, err);
        if (rc == 0)
            rc = load_warm_up(cluster, err);
        plan.client = cluster ? local_cluster_client(cluster) : NULL;
    }
    if (rc == 0 && s->url)
        load_ask(&plan, &models);
    if (rc == 0)
        rc = load_measure(s, &plan, err);
    json_decref(models);
    http_client_clear(&client);
    local_cluster_stop(cluster);
    free(path);
    return rc;
}

static int bench_run(const struct bench_settings *s, const struct bench_settings *said,
                     const char *model, struct err *err)
{
    if (s->url && model)
        return err_set(err, ERR_USAGE,
                       "--url is for a server that runs, MODEL starts one; give one of the two");
    if (!s->url && !model)
        return err_set(err, ERR_USAGE, "there is no MODEL; see paceline bench --help");
    int rc = bench_options_check(s, said, err);
    if (rc != 0)
        return rc;
    return bench_options_load(s) ? bench_load(s, model, err) : bench_cases(s, model, err);
}

int cli_bench(int argc, char **argv)
{
    struct bench_settings s = {0}, said = {0};
    struct err err = {0};
    const char *model = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&bench_options_program, &s, argc, argv, &model, &n, &outcome, &err);
    const bool runs = rc == 0 && outcome == CONF_RUN;
    if (runs)
        rc = verb_read_command_line(&bench_options_program, &said, argc, argv, &err);
    if (runs && rc == 0) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = bench_run(&s, &said, model, &err);
        curl_global_cleanup();
    }
    conf_clear(&bench_options_program, &said);
    conf_clear(&bench_options_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
