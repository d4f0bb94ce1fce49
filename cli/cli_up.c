#include "cli/cli.h"

#include "cli/cluster_options.h"
#include "cli/model_fetch.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct up_settings {
    struct cluster_options cluster;
    char *http, *alias, *api_key_file, *tls_cert, *tls_key, *cors_origins;
    int64_t context, concurrency, kv_tokens, queue, tenant_requests, request_timeout_s;
    int prefix_cache; /* index into up_switch */
};

static const char *const up_switch[] = {"on", "off", NULL};

#define FIELD(name) offsetof(struct up_settings, name)

static const struct conf_option up_options[] = {
    {.name = "http",
     .type = CONF_STRING,
     .offset = FIELD(http),
     .check = conf_check_numeric,
     .value = "HOST:PORT",
     .initial = "127.0.0.1:8080",
     .help = "where the API listens; port 0: any free one"},
    CLUSTER_OPTIONS(struct up_settings, "0"),
    {.name = "context",
     .letter = 'c',
     .type = CONF_INT,
     .offset = FIELD(context),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = CLUSTER_CONTEXT_MAX,
     .help = "tokens of a conversation; 0: automatic"},
    {.name = "concurrency",
     .type = CONF_INT,
     .offset = FIELD(concurrency),
     .value = "C",
     .initial = "0",
     .min = 0,
     .max = CLUSTER_CONCURRENCY_MAX,
     .help = "requests served at once; 0: automatic"},
    {.name = "kv-tokens",
     .type = CONF_INT,
     .offset = FIELD(kv_tokens),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = 1 << 30,
     .help = "positions that the KV cache holds, of all requests; 0: automatic"},
    {.name = "prefix-cache",
     .type = CONF_CHOICE,
     .offset = FIELD(prefix_cache),
     .value = "on|off",
     .initial = "on",
     .choices = up_switch,
     .help = "keep the keys and values of prompts for requests that begin alike"},
    {.name = "queue",
     .type = CONF_INT,
     .offset = FIELD(queue),
     .value = "N",
     .initial = "256",
     .min = 0,
     .max = CLUSTER_QUEUE_MAX,
     .help = "requests that may wait; past them clients get status 429"},
    {.name = "tenant-requests",
     .type = CONF_INT,
     .offset = FIELD(tenant_requests),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = CLUSTER_QUEUE_MAX,
     .help = "requests of one tenant at once, past them it gets status 429; 0: no limit"},
    {.name = "request-timeout",
     .type = CONF_INT,
     .offset = FIELD(request_timeout_s),
     .value = "SECONDS",
     .initial = "0",
     .min = 0,
     .max = CLUSTER_TIMEOUT_MAX_S,
     .help = "a request that takes longer ends with status 504; 0: never"},
    {.name = "api-key-file",
     .type = CONF_STRING,
     .offset = FIELD(api_key_file),
     .value = "FILE",
     .help =
         "keys that clients must have, one a line: KEY [TENANT [WEIGHT]] (needed beyond loopback)"},
    {.name = "tls-cert",
     .type = CONF_STRING,
     .offset = FIELD(tls_cert),
     .value = "FILE",
     .help = "certificate of the API in PEM: HTTPS alone is spoken"},
    {.name = "tls-key",
     .type = CONF_STRING,
     .offset = FIELD(tls_key),
     .value = "FILE",
     .help = "its private key in PEM"},
    {.name = "cors-origin",
     .type = CONF_STRING,
     .offset = FIELD(cors_origins),
     .value = "ORIGIN,…",
     .help = "web pages that may use the API: https://example.org, several with commas between "
             "them, or * for all"},
    {.name = "alias",
     .type = CONF_STRING,
     .offset = FIELD(alias),
     .value = "NAME",
     .help = "name of the model in the API"},
};

static const struct conf_program up_program = {
    .name = "paceline up",
    .synopsis = "[OPTION...] [MODEL]",
    .summary =
        "Starts a coordinator and workers on this machine and serves MODEL: a GGUF file or "
        "a name of the\ncatalogue, which is fetched if it is missing (default: the "
        "catalogue's first). Prints one line\nthat begins with \"ready\" when it serves; "
        "Ctrl-C stops everything when the requests\nthat run are finished; a second one stops "
        "at once.",
    .epilogue = "Example:\n  paceline up qwen2.5-coder-0.5b --workers 2",
    .file = VERB_CONFIG_FILE,
    .group = "up",
    .groups = verb_groups,
    .options = up_options,
    .n_options = sizeof up_options / sizeof *up_options,
    .max_positionals = 1,
};

/* What clients call the model: the first that /v1/models lists, else the file's name. */
static void up_model_name(const struct http_client *client, const char *path, char *ret_name,
                          size_t size)
{
    struct err ignored;
    json_t *models = NULL;
    const char *slash = strrchr(path, '/'), *name = NULL;
    if (http_client_get(client, "/v1/models", 5000, &models, &ignored) == 0)
        name = json_string_value(
            json_object_get(json_array_get(json_object_get(models, "data"), 0), "id"));
    snprintf(ret_name, size, "%s", name ? name : slash ? slash + 1 : path);
    json_decref(models);
}

static int up_wait(struct local_cluster *cluster, struct err *err)
{
    int rc = 0;
    while (rc == 0 && !stop_signal_is_raised()) {
        usleep(50000);
        rc = local_cluster_check(cluster, err);
    }
    return rc;
}

static int up_run(const struct up_settings *s, const char *model, struct err *err)
{
    char *path = NULL, name[256];
    struct local_cluster *cluster = NULL;
    int rc = cluster_options_check(&s->cluster, err);
    if (rc == 0)
        rc = model_fetch_resolve(model, s->cluster.models_file, &path, err);
    if (rc == 0) {
        struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
        settings.http = s->http;
        settings.alias = s->alias;
        settings.api_key_file = s->api_key_file;
        settings.tls_cert = s->tls_cert;
        settings.tls_key = s->tls_key;
        settings.cors_origins = s->cors_origins;
        settings.context = s->context;
        settings.concurrency = s->concurrency;
        settings.kv_tokens = s->kv_tokens;
        settings.no_prefix_cache = s->prefix_cache != 0;
        settings.queue = s->queue;
        settings.tenant_requests = s->tenant_requests;
        settings.request_timeout_s = s->request_timeout_s;
        rc = local_cluster_start(&cluster, &settings, err);
    }
    if (rc == 0) {
        const struct http_client *client = local_cluster_client(cluster);
        up_model_name(client, path, name, sizeof name);
        printf("ready %s model=%s workers=%d threads=%d\n", client->base, name,
               local_cluster_workers(cluster), local_cluster_threads(cluster));
        fflush(stdout);
        rc = up_wait(cluster, err);
    }
    if (rc == 0)
        rc = local_cluster_drain(cluster, err);
    local_cluster_stop(cluster);
    free(path);
    return rc == ERR_CANCELLED ? 0 : rc;
}

int cli_up(int argc, char **argv)
{
    struct up_settings s = {0};
    struct err err = {0};
    const char *model = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&up_program, &s, argc, argv, &model, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = up_run(&s, model, &err);
        curl_global_cleanup();
    }
    conf_clear(&up_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
