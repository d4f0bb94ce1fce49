#include "coordinator/coordinator_settings.h"

#include "coordinator/http_origin.h"
#include "proto/beacon.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIELD(name) offsetof(struct coordinator_settings, name)

static const char *const kv_choices[] = {"f16", "f32", "q8_0", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const switch_choices[] = {"on", "off", NULL};
static const char *const standby_choices[] = {"auto", "off", NULL};
enum { ENCRYPTION_AUTO, ENCRYPTION_ON, ENCRYPTION_OFF };
static const char *const encryption_choices[] = {"auto", "on", "off", NULL};

static int coordinator_check_cuts(const char *text, struct err *err)
{
    int cuts[PLANNER_MAX_STAGES], n;
    return planner_parse_cuts(text, cuts, PLANNER_MAX_STAGES - 1, &n, err);
}

static const struct conf_option coordinator_options[] = {
    {.name = "model",
     .letter = 'm',
     .type = CONF_STRING,
     .offset = FIELD(model),
     .value = "FILE|NAME",
     .help = "GGUF file, or the beginning of a file name in $PACELINE_HOME/models"},
    {.name = "alias",
     .type = CONF_STRING,
     .offset = FIELD(alias),
     .value = "NAME",
     .help = "name of the model in the API (default: the file's name)"},
    {.name = "http",
     .type = CONF_STRING,
     .offset = FIELD(http),
     .check = conf_check_numeric,
     .value = "HOST:PORT",
     .initial = "127.0.0.1:8080",
     .help = "address of the API; port 0: any free one"},
    {.name = "cluster",
     .type = CONF_STRING,
     .offset = FIELD(cluster),
     .check = conf_check_endpoint,
     .value = "HOST:PORT",
     .initial = "127.0.0.1:7470",
     .help = "address that workers join; results come back on the next port, and weights are "
             "given out on the one after"},
    {.name = "workers",
     .type = CONF_INT,
     .offset = FIELD(workers),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = PLANNER_MAX_STAGES,
     .help = "workers to wait for before the first plan; if they cannot hold the model, that is an "
             "error (0, default: as many as can hold it)"},
    {.name = "worker-silence",
     .type = CONF_INT,
     .offset = FIELD(worker_silence_ms),
     .value = "MS",
     .initial = "1000",
     .min = 500,
     .max = 600000,
     .help = "a worker not heard for so many milliseconds is taken for lost"},
    {.name = "self-test-every",
     .type = CONF_INT,
     .offset = FIELD(self_test_every_s),
     .value = "SECONDS",
     .initial = "300",
     .min = 0,
     .max = 1000000,
     .help = "have each worker compute a step with a known answer so often; whose answer is wrong "
             "is expelled (0: only when it joins)"},
    {.name = "context",
     .letter = 'c',
     .type = CONF_INT,
     .offset = FIELD(context),
     .value = "N",
     .min = 0,
     .max = 1 << 20,
     .help = "tokens of one sequence, prompt and answer (default 0: 4096, or the model's if less)"},
    {.name = "concurrency",
     .type = CONF_INT,
     .offset = FIELD(concurrency),
     .value = "C",
     .initial = "16",
     .min = 1,
     .max = 1024,
     .help = "sequences computed at once"},
    {.name = "kv-tokens",
     .type = CONF_INT,
     .offset = FIELD(kv_tokens),
     .value = "N",
     .min = 0,
     .max = 1 << 30,
     .help = "positions that all sequences together may hold in the KV cache, claimed at load "
             "(default 0: 4 contexts, or concurrency x context if that is less)"},
    {.name = "prefix-cache",
     .type = CONF_CHOICE,
     .offset = FIELD(prefix_cache_choice),
     .value = "on|off",
     .initial = "on",
     .choices = switch_choices,
     .help = "keep the keys and values of prompts for requests that begin alike"},
    {.name = "queue",
     .type = CONF_INT,
     .offset = FIELD(queue),
     .value = "N",
     .initial = "256",
     .min = 0,
     .max = 100000,
     .help = "sequences that may wait; past them clients get status 429"},
    {.name = "tenant-requests",
     .type = CONF_INT,
     .offset = FIELD(tenant_requests),
     .value = "N",
     .min = 0,
     .max = 100000,
     .help = "requests of one tenant at once, running and waiting; past them it gets status 429 "
             "(default 0: no limit)"},
    {.name = "request-timeout",
     .type = CONF_INT,
     .offset = FIELD(request_timeout_s),
     .value = "SECONDS",
     .min = 0,
     .max = 1000000,
     .help = "a request that takes longer ends with status 504 (default 0: never)"},
    {.name = "kv",
     .type = CONF_CHOICE,
     .offset = FIELD(kv_choice),
     .value = "f16|f32|q8_0",
     .initial = "f16",
     .choices = kv_choices,
     .help = "type of the KV cache"},
    {.name = "cuts",
     .type = CONF_STRING,
     .offset = FIELD(cuts_text),
     .check = coordinator_check_cuts,
     .value = "LIST",
     .help = "first layers of stages 2, 3 …: 3,5 = three workers (default: planned)"},
    {.name = "objective",
     .type = CONF_CHOICE,
     .offset = FIELD(objective_choice),
     .value = "balanced|latency|throughput",
     .initial = "balanced",
     .choices = planner_objectives,
     .help = "what a plan is for: latency (one user), throughput (many), or the most throughput "
             "with at most a tenth more latency than the least"},
    {.name = "measure",
     .type = CONF_FLAG,
     .offset = FIELD(measure),
     .initial = "true",
     .help = "have workers time layers of the model before they are planned with (default); "
             "otherwise, and for models below 128 MiB, their threads count"},
    {.name = "replan-gain",
     .type = CONF_REAL,
     .offset = FIELD(replan_gain_percent),
     .value = "PERCENT",
     .initial = "15",
     .min = 0,
     .max = 1000,
     .help = "another plan is taken when, by observed times, it would give so much more"},
    {.name = "replan-after",
     .type = CONF_INT,
     .offset = FIELD(replan_after_s),
     .value = "SECONDS",
     .initial = "60",
     .min = 1,
     .max = 86400,
     .help = "and has promised so for that long"},
    {.name = "standby-preload",
     .type = CONF_CHOICE,
     .offset = FIELD(standby_choice),
     .value = "auto|off",
     .initial = "auto",
     .choices = standby_choices,
     .help = "workers without a stage pack layers beforehand, so that after a loss nothing has to "
             "be loaded: the whole model where it fits, else a stage"},
    {.name = "api-key-file",
     .type = CONF_STRING,
     .offset = FIELD(api_key_file),
     .value = "FILE",
     .help = "accepted API keys, a line each: KEY [TENANT [WEIGHT]]; needed when --http is "
             "reachable from elsewhere"},
    {.name = "tls-cert",
     .type = CONF_STRING,
     .offset = FIELD(tls_cert),
     .value = "FILE",
     .help = "certificate of the API in PEM, then those between it and the root: HTTPS alone is "
             "spoken"},
    {.name = "tls-key",
     .type = CONF_STRING,
     .offset = FIELD(tls_key),
     .value = "FILE",
     .help = "its private key in PEM, without a passphrase"},
    {.name = "cors-origin",
     .type = CONF_STRING,
     .offset = FIELD(cors_origins),
     .check = http_origin_check,
     .value = "ORIGIN,…",
     .help = "web pages that may use the API besides this server's own: https://example.org, "
             "several with commas between them, or * for all"},
    {.name = "max-body",
     .type = CONF_SIZE,
     .offset = FIELD(max_body_bytes),
     .value = "SIZE",
     .initial = "8MiB",
     .min = 1024,
     .max = 1e9,
     .help = "largest request body"},
    {.name = "max-header",
     .type = CONF_SIZE,
     .offset = FIELD(max_header_bytes),
     .value = "SIZE",
     .initial = "32KiB",
     .min = 4096,
     .max = 1 << 20,
     .help = "largest sum of a request's headers"},
    {.name = "receive-timeout",
     .type = CONF_INT,
     .offset = FIELD(receive_timeout_s),
     .value = "SECONDS",
     .initial = "60",
     .min = 1,
     .max = 86400,
     .help =
         "a request's headers must have come after so long, and then its body; else status 408, "
         "or for whoever was idle the end"},
    {.name = "max-connections",
     .type = CONF_INT,
     .offset = FIELD(max_connections),
     .value = "N",
     .initial = "1024",
     .min = 1,
     .max = 65536,
     .help = "HTTP connections at once; others take the place of idle ones, or get status 503"},
    {.name = "journal",
     .type = CONF_STRING,
     .offset = FIELD(journal),
     .value = "FILE|off",
     .help = "where streams and responses are written down, so that they outlive a restart "
             "(default: $PACELINE_HOME/journal/PORT.db, with the port of --cluster; off with port "
             "0)"},
    {.name = "response-keep",
     .type = CONF_INT,
     .offset = FIELD(response_keep_s),
     .value = "SECONDS",
     .initial = "86400",
     .min = 0,
     .max = 1e9,
     .help = "how long finished responses can be asked for (0: as long as there is room)"},
    {.name = "response-memory",
     .type = CONF_SIZE,
     .offset = FIELD(response_bytes),
     .value = "SIZE",
     .initial = "64MiB",
     .min = 0,
     .max = 1e12,
     .help = "and how much memory all of them take; the oldest go first"},
    {.name = "stop-grace",
     .type = CONF_INT,
     .offset = FIELD(stop_grace_s),
     .value = "SECONDS",
     .initial = "60",
     .min = 0,
     .max = 86400,
     .help = "after SIGTERM requests may take so long to finish; the rest stays in the journal"},
    {.name = "encryption",
     .type = CONF_CHOICE,
     .offset = FIELD(encryption_choice),
     .value = "auto|on|off",
     .initial = "auto",
     .choices = encryption_choices,
     .help = "keys for all links of workers; auto: when --cluster is reachable from elsewhere"},
    {.name = "trust",
     .type = CONF_STRING,
     .offset = FIELD(trust),
     .value = "DIR",
     .help = "folder of keys and of the list of workers (default: $PACELINE_HOME/trust)"},
    {.name = "beacon",
     .type = CONF_FLAG,
     .offset = FIELD(beacon),
     .initial = "true",
     .help = "tell the local network where this cluster is (default)"},
    {.name = "cluster-name",
     .type = CONF_STRING,
     .offset = FIELD(cluster_name),
     .check = beacon_check_name,
     .value = "NAME",
     .initial = "paceline",
     .help = "tells clusters on one network apart"},
    {.name = "beacon-port",
     .type = CONF_INT,
     .offset = FIELD(beacon_port),
     .value = "PORT",
     .initial = "7470",
     .min = 1,
     .max = 65535,
     .help = "UDP port of beacons"},
    {.name = "insecure",
     .type = CONF_FLAG,
     .offset = FIELD(insecure),
     .help =
         "allow plain, keyless worker connections beyond this machine: on a trusted network only"},
    {.name = "ready-file",
     .type = CONF_STRING,
     .offset = FIELD(ready_file),
     .value = "FILE",
     .help = "written once the ports are bound: {\"http\": \"HOST:PORT\", \"cluster\": …}",
     .command_line_only = true},
    {.name = "verbose",
     .letter = 'v',
     .type = CONF_FLAG,
     .offset = FIELD(verbose),
     .help = "log more, such as every step"},
    {.name = "log-format",
     .type = CONF_CHOICE,
     .offset = FIELD(log_format_choice),
     .value = "text|json",
     .initial = "text",
     .choices = log_formats,
     .help = "form of the log: sentences, or one JSON object a line"},
};

const struct conf_program coordinator_program = {
    .name = "paceline-coordinator",
    .synopsis = "[OPTION...] --model FILE|NAME",
    .summary = "Serves a Qwen model over HTTP (OpenAI's API) with the workers that join it: splits "
               "the layers over them and owns every decision.",
    .epilogue = "Exit status: 0 stopped in order, 1 usage, 2 configuration, 3 model refused, "
                "4 network, 5 out of memory.",
    .file = "/etc/paceline/coordinator.cfg",
    .options = coordinator_options,
    .n_options = sizeof coordinator_options / sizeof coordinator_options[0],
};

/* NAME: the one file in the folder of models whose name begins so. */
static int coordinator_find_model(struct coordinator_settings *s, struct err *err)
{
    if (strchr(s->model, '/') || access(s->model, R_OK) == 0) {
        char *absolute = realpath(s->model, NULL);
        if (!absolute)
            return err_set(err, ERR_MODEL, "%s: no such file: check the path", s->model);
        snprintf(s->model_path, sizeof s->model_path, "%s", absolute);
        free(absolute);
        return 0;
    }
    char folder[2100];
    snprintf(folder, sizeof folder, "%s/models", s->home);
    DIR *d = opendir(folder);
    int found = 0;
    size_t length = strlen(s->model);
    for (const struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n < 5 || strcmp(e->d_name + n - 5, ".gguf") != 0 ||
            strncasecmp(e->d_name, s->model, length) != 0)
            continue;
        found++;
        snprintf(s->model_path, sizeof s->model_path, "%s/%s", folder, e->d_name);
    }
    if (d)
        closedir(d);
    if (found == 1)
        return 0;
    if (found)
        return err_set(err, ERR_MODEL, "%d files in %s begin with \"%s\": name one of them", found,
                       folder, s->model);
    return err_set(err, ERR_MODEL,
                   "\"%s\" is neither a file nor the beginning of a name in %s: \"paceline fetch "
                   "%s\" may get it",
                   s->model, folder, s->model);
}

static void coordinator_name_model(struct coordinator_settings *s)
{
    const char *slash = strrchr(s->model_path, '/');
    snprintf(s->model_alias, sizeof s->model_alias, "%s",
             s->alias ? s->alias
             : slash  ? slash + 1
                      : s->model_path);
    size_t n = strlen(s->model_alias);
    if (!s->alias && n > 5 && strcmp(s->model_alias + n - 5, ".gguf") == 0)
        s->model_alias[n - 5] = '\0';
}

/* Workers do not find a coordinator again whose port is any free one. */
static void coordinator_locate_journal(struct coordinator_settings *s)
{
    if (!s->journal && s->cluster_port)
        snprintf(s->journal_path, sizeof s->journal_path, "%s/journal/%d.db", s->home,
                 s->cluster_port);
    else if (s->journal && strcmp(s->journal, "off") != 0)
        snprintf(s->journal_path, sizeof s->journal_path, "%s", s->journal);
}

static int coordinator_settings_check(struct coordinator_settings *s, struct err *err)
{
    const char *home = getenv("PACELINE_HOME"), *user = getenv("HOME");
    if (home && home[0])
        snprintf(s->home, sizeof s->home, "%s", home);
    else
        snprintf(s->home, sizeof s->home, "%s/.cache/paceline", user ? user : "");
    if (!s->model)
        return err_set(err, ERR_USAGE, "which model? Give --model FILE or --model NAME");
    if (conf_endpoint(s->http, s->http_host, &s->http_port, err) != 0)
        return err_prefix(err, "http");
    if (conf_endpoint(s->cluster, s->cluster_host, &s->cluster_port, err) != 0)
        return err_prefix(err, "cluster");
    if (!conf_host_is_loopback(s->http_host) && !s->api_key_file)
        return err_set(err, ERR_CONFIG,
                       "http %s can be reached from elsewhere: give --api-key-file, or listen on "
                       "127.0.0.1",
                       s->http);
    if (!s->tls_cert != !s->tls_key)
        return err_set(err, ERR_CONFIG, "tls-cert and tls-key belong together: give %s too",
                       s->tls_cert ? "--tls-key" : "--tls-cert");
    const bool is_local = conf_host_is_loopback(s->cluster_host);
    if (!is_local && s->encryption_choice == ENCRYPTION_OFF && !s->insecure)
        return err_set(err, ERR_CONFIG,
                       "cluster %s can be reached from elsewhere, and without encryption anybody "
                       "there may join and listen: leave encryption out, or set insecure = true "
                       "(--insecure) if the network is trusted",
                       s->cluster);
    s->is_encrypted = s->encryption_choice == ENCRYPTION_ON ||
                      (s->encryption_choice == ENCRYPTION_AUTO && !is_local && !s->insecure);
    if (s->cuts_text) {
        int rc = planner_parse_cuts(s->cuts_text, s->cuts, PLANNER_MAX_STAGES - 1, &s->n_cuts, err);
        if (rc != 0)
            return rc;
    }
    coordinator_locate_journal(s);
    s->kv_name = kv_choices[s->kv_choice];
    s->kv_type = (enum kv_type)s->kv_choice; /* kv_choices stand in its order */
    s->prefix_cache = s->prefix_cache_choice == 0;
    s->preloads = s->standby_choice == 0;
    int rc = coordinator_find_model(s, err);
    if (rc == 0)
        coordinator_name_model(s);
    return rc;
}

int coordinator_settings_read(struct coordinator_settings *ret_settings, int argc, char **argv,
                              enum conf_outcome *ret_outcome, struct err *err)
{
    *ret_settings = (struct coordinator_settings){0};
    int n = 0;
    int rc = conf_read(&coordinator_program, ret_settings, argc, argv, NULL, &n, ret_outcome, err);
    if (rc == 0 && *ret_outcome == CONF_RUN)
        rc = coordinator_settings_check(ret_settings, err);
    return rc;
}

void coordinator_settings_clear(struct coordinator_settings *s)
{
    conf_clear(&coordinator_program, s);
}
