#include "cli/local_cluster.h"

#include "base/clock.h"
#include "base/conf.h"
#include "cli/child.h"
#include "cli/local_keys.h"
#include "cli/paths.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STOP_GRACE_MS = 5000, LOOK_EVERY_MS = 50, HEALTH_TIMEOUT_MS = 2000, ARGUMENTS = 64 };
enum { LOG_DAYS = 7, DRAIN_QUIET_MS = 300 };
enum { MAX_BARS = 16, BAR_LINE_BYTES = 120 };

struct local_cluster {
    struct child *children; /* [0] is the coordinator */
    int n_children, workers, threads;
    char *folder; /* logs and the ready file */
    char *ready_file;
    char *trust; /* folder of keys, or NULL */
    char *cluster_address;
    struct http_client client;
    struct progress progress;
    char activity[128]; /* what a request is for, or "" */
    bool quiet, verbose, failed;
    char bars[MAX_BARS][BAR_LINE_BYTES]; /* how far each worker is, while they load */
    int n_bars;
};

/* ---- the folder of logs ---- */

static void logs_remove(const char *folder)
{
    char trust[4096]; /* of a run that was killed */
    if ((size_t)snprintf(trust, sizeof trust, "%s/trust", folder) < sizeof trust)
        local_keys_remove(trust);
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strstr(e->d_name, ".log") || strstr(e->d_name, ".json"))
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(folder);
}

/* Folders of failed runs are kept for some days. */
static void logs_sweep(const char *parent)
{
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char *end, path[4096];
        long pid = strtol(e->d_name, &end, 10);
        struct stat st;
        if (pid <= 0 || *end || kill((pid_t)pid, 0) == 0 ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
            st.st_mtime > time(NULL) - LOG_DAYS * 86400)
            continue;
        snprintf(path, sizeof path, "%s/%s", parent, e->d_name);
        logs_remove(path);
    }
    if (dir)
        closedir(dir);
}

static int cluster_make_folder(struct local_cluster *c, struct err *err)
{
    char *parent;
    int rc = paths_home(&parent, "logs", err);
    if (rc < 0)
        return rc;
    logs_sweep(parent);
    rc = paths_format(&c->folder, err, "%s/%ld", parent, (long)getpid());
    if (rc == 0)
        logs_remove(c->folder); /* of a process that had our number before */
    if (rc == 0)
        rc = paths_make_folder(c->folder, 0700, err);
    if (rc == 0)
        rc = paths_format(&c->ready_file, err, "%s/ready.json", c->folder);
    free(parent);
    return rc;
}

/* ---- starting ---- */

static int cluster_start_child(struct local_cluster *c, const char *program, const char *name,
                               const char **arguments, struct err *err)
{
    char *path = NULL, *log = NULL;
    int rc = paths_program(&path, program, err);
    if (rc == 0 && !c->verbose)
        rc = paths_format(&log, err, "%s/%s.log", c->folder, name);
    if (rc == 0) {
        arguments[0] = path;
        rc = child_start(&c->children[c->n_children++], name, arguments, log, err);
    }
    free(log);
    free(path);
    return rc;
}

static int cluster_start_coordinator(struct local_cluster *c,
                                     const struct local_cluster_settings *s, struct err *err)
{
    char workers[24], context[24], concurrency[24], kv_tokens[24], queue[24], connections[24];
    char tenant_requests[24], timeout[24];
    const char *a[ARGUMENTS] = {NULL};
    int n = 1;
    snprintf(workers, sizeof workers, "%d", c->workers);
    snprintf(context, sizeof context, "%" PRId64, s->context);
    snprintf(concurrency, sizeof concurrency, "%" PRId64, s->concurrency);
    snprintf(kv_tokens, sizeof kv_tokens, "%" PRId64, s->kv_tokens);
    snprintf(queue, sizeof queue, "%" PRId64, s->queue);
    snprintf(connections, sizeof connections, "%" PRId64, s->connections);
    snprintf(tenant_requests, sizeof tenant_requests, "%" PRId64, s->tenant_requests);
    snprintf(timeout, sizeof timeout, "%" PRId64, s->request_timeout_s);
    /* The machine's own coordinator.cfg is not meant for this one. */
    const char *const always[] = {"--config",   "/dev/null",    "--model",
                                  s->model,     "--http",       s->http ? s->http : "127.0.0.1:0",
                                  "--cluster",  "127.0.0.1:0",  "--workers",
                                  workers,      "--ready-file", c->ready_file,
                                  "--no-beacon"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        a[n++] = always[i];
    const char *const maybe[][2] = {
        {"--alias", s->alias},
        {"--context", s->context ? context : NULL},
        {"--concurrency", s->concurrency ? concurrency : NULL},
        {"--kv-tokens", s->kv_tokens ? kv_tokens : NULL},
        {"--queue", s->queue >= 0 ? queue : NULL},
        {"--tenant-requests", s->tenant_requests ? tenant_requests : NULL},
        {"--request-timeout", s->request_timeout_s ? timeout : NULL},
        {"--prefix-cache", s->no_prefix_cache ? "off" : NULL},
        {"--max-connections", s->connections ? connections : NULL},
        {"--kv", s->kv},
        {"--cuts", s->cuts},
        {"--encryption", c->trust ? "on" : "off"},
        {"--trust", c->trust},
        {"--api-key-file", s->api_key_file},
        {"--tls-cert", s->tls_cert},
        {"--tls-key", s->tls_key},
        {"--cors-origin", s->cors_origins}};
    for (size_t i = 0; i < sizeof maybe / sizeof *maybe; i++) {
        if (!maybe[i][1])
            continue;
        a[n++] = maybe[i][0];
        a[n++] = maybe[i][1];
    }
    if (s->verbose)
        a[n++] = "--verbose";
    return cluster_start_child(c, "paceline-coordinator", "coordinator", a, err);
}

static int cluster_start_worker(struct local_cluster *c, int number, struct err *err)
{
    char threads[24], name[32];
    snprintf(threads, sizeof threads, "%d", c->threads);
    snprintf(name, sizeof name, "worker-%d", number);
    const char *a[ARGUMENTS] = {
        NULL,    "--config", "/dev/null", "--coordinator", c->cluster_address,     "--threads",
        threads, "--name",   name,        "--encryption",  c->trust ? "on" : "off"};
    int n = 11;
    if (c->trust) {
        a[n++] = "--trust";
        a[n++] = c->trust;
    }
    if (c->verbose)
        a[n++] = "--verbose";
    return cluster_start_child(c, "paceline-worker", name, a, err);
}

static void cluster_say(struct local_cluster *c, const char *what)
{
    char first[512];
    const char *lines[1 + MAX_BARS] = {first};
    snprintf(first, sizeof first, "%s (%.0f s)", what,
             (double)(clock_now_ms() - c->progress.start_ms) / 1000);
    for (int i = 0; i < c->n_bars; i++)
        lines[1 + i] = c->bars[i];
    if (c->n_bars)
        progress_block(&c->progress, lines, 1 + c->n_bars);
    else
        progress_say(&c->progress, "%s", first);
}

/* Sleeps a moment; says what is awaited; 0: go on waiting. */
static int cluster_wait(struct local_cluster *c, const char *what, struct err *err)
{
    if (!c->quiet)
        cluster_say(c, what);
    usleep(LOOK_EVERY_MS * 1000);
    if (stop_signal_is_raised())
        return err_set(err, ERR_CANCELLED, "stopped");
    return local_cluster_check(c, err);
}

/* The coordinator has bound its ports: takes them from the file that it wrote. */
static int cluster_wait_bound(struct local_cluster *c, const struct local_cluster_settings *s,
                              struct err *err)
{
    json_t *ready = NULL;
    int rc = 0;
    while (rc == 0 && !(ready = json_load_file(c->ready_file, 0, NULL)))
        rc = cluster_wait(c, "starting the coordinator", err);
    if (rc < 0)
        return rc;
    const char *http = json_string_value(json_object_get(ready, "http"));
    const char *cluster = json_string_value(json_object_get(ready, "cluster"));
    char host[256];
    int port = 0;
    if (!http || !cluster)
        rc = err_set(err, ERR_INTERNAL, "%s does not hold both addresses", c->ready_file);
    if (rc == 0)
        rc = conf_endpoint(http, host, &port, err);
    /* "All addresses" is nothing that one can connect to. */
    bool any = rc == 0 && (!strcmp(host, "0.0.0.0") || !strcmp(host, "::"));
    char base[320];
    snprintf(base, sizeof base, strchr(host, ':') && !any ? "http%s://[%s]:%d" : "http%s://%s:%d",
             s->tls_cert ? "s" : "", any ? "127.0.0.1" : host, port);
    if (rc == 0)
        rc = http_client_init(&c->client, base, s->api_key_file, s->tls_cert, err);
    c->client.takes_any_name = true; /* the certificate is known; this address need not be in it */
    if (rc == 0)
        rc = paths_format(&c->cluster_address, err, "%s", cluster);
    if (rc == 0 && c->trust)
        rc = local_keys_tell(c->trust, cluster, err);
    json_decref(ready);
    return rc;
}

static int64_t cluster_integer(const json_t *worker, const char *key)
{
    return json_integer_value(json_object_get(worker, key));
}

/* What comes over the network is the slower part, so it is shown while it lasts. */
static void cluster_add_bar(struct local_cluster *c, const json_t *worker)
{
    const char *name = json_string_value(json_object_get(worker, "name"));
    int64_t done = cluster_integer(worker, "fetch_done");
    int64_t total = cluster_integer(worker, "fetch_total");
    int64_t rate = cluster_integer(worker, "fetch_bytes_per_second");
    char bar[PROGRESS_BAR_BYTES], left[40] = "";
    bool fetches = done < total;
    if (c->n_bars == MAX_BARS || !name)
        return;
    if (!fetches) {
        done = cluster_integer(worker, "load_done");
        total = cluster_integer(worker, "load_total");
    } else if (rate > 0) {
        int64_t seconds = (total - done) / rate;
        snprintf(left, sizeof left, ", %.0f MB/s, %d:%02d left", (double)rate / 1e6,
                 (int)(seconds / 60), (int)(seconds % 60));
    }
    snprintf(c->bars[c->n_bars++], BAR_LINE_BYTES, "%-12.24s %s %.0f of %.0f MB %s%s", name,
             progress_bar(done, total, bar), (double)done / 1e6, (double)total / 1e6,
             fetches ? "fetched" : "packed", left);
}

/* While it starts: what /health says, but where it speaks to people who start workers by hand. */
static void cluster_explain(struct local_cluster *c, const char *reason, char *ret_text,
                            size_t size)
{
    struct err ignored;
    json_t *state = NULL, *worker;
    int64_t done = 0, total = 0;
    size_t i, joined = 0;
    int loading = 0, serving = 0, silent = 0;
    c->n_bars = 0;
    if (http_client_get(&c->client, "/cluster", HEALTH_TIMEOUT_MS, &state, &ignored) == 0)
        joined = json_array_size(json_object_get(state, "workers"));
    json_array_foreach(json_object_get(state, "workers"), i, worker)
    {
        const char *text = json_string_value(json_object_get(worker, "state"));
        const bool is_loading = text && !strcmp(text, "loading");
        const bool is_serving = text && !strcmp(text, "serving");
        const int64_t bytes = json_integer_value(json_object_get(worker, "load_total"));
        loading += is_loading;
        serving += is_serving;
        silent += is_loading && !bytes;
        if (is_loading)
            cluster_add_bar(c, worker);
        total += bytes;
        done += is_serving ? bytes : json_integer_value(json_object_get(worker, "load_done"));
    }
    char amount[64] = "";
    if (!silent) /* else the sum would grow as they say how much they have to read */
        snprintf(amount, sizeof amount, ", %.0f of %.0f MB done", (double)done / 1e6,
                 (double)total / 1e6);
    if (state && joined < (size_t)c->workers)
        snprintf(ret_text, size, "starting: %zu of %d worker%s joined", joined, c->workers,
                 c->workers == 1 ? " has" : "s have");
    else if (loading)
        snprintf(ret_text, size, "starting: %d worker%s loading weights%s", loading + serving,
                 loading + serving == 1 ? " is" : "s are", amount);
    else
        snprintf(ret_text, size, "starting: %.380s", reason);
    json_decref(state);
}

static int cluster_wait_healthy(struct local_cluster *c, struct err *err)
{
    int rc;
    for (;;) {
        struct err reason = {0};
        rc = http_client_get(&c->client, "/health", HEALTH_TIMEOUT_MS, NULL, &reason);
        if (rc == 0)
            return 0;
        char what[400];
        if (rc == ERR_UNAVAILABLE)
            cluster_explain(c, reason.text, what, sizeof what);
        else
            snprintf(what, sizeof what, "starting: %.380s", reason.text);
        if (rc != ERR_UNAVAILABLE)
            c->n_bars = 0;
        rc = cluster_wait(c, what, err);
        if (rc < 0)
            return rc;
    }
}

static int cluster_watch(void *context, struct err *err)
{
    struct local_cluster *c = context;
    if (*c->activity && !c->quiet)
        progress_say(&c->progress, "%s", c->activity);
    return local_cluster_check(c, err);
}

void local_cluster_say(struct local_cluster *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->activity, sizeof c->activity, format, args);
    va_end(args);
    if (!*c->activity)
        progress_end(&c->progress);
}

static int64_t cluster_count_cuts(const char *cuts)
{
    int64_t n = 1;
    for (const char *p = cuts; p && *p; p++)
        n += *p == ',';
    return cuts && *cuts ? n + 1 : 1;
}

int local_cluster_start(struct local_cluster **ret_cluster, const struct local_cluster_settings *s,
                        struct err *err)
{
    struct local_cluster *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "no memory for a cluster");
    c->quiet = s->quiet || s->verbose;
    c->verbose = s->verbose;
    c->workers = (int)(s->workers ? s->workers : cluster_count_cuts(s->cuts));
    int share = verb_physical_cores() / c->workers;
    c->threads = s->threads ? (int)s->threads : share > 1 ? share : 1;
    progress_start(&c->progress);
    c->children = calloc((size_t)c->workers + 1, sizeof *c->children);
    int rc = c->children ? 0 : err_set(err, ERR_MEMORY, "no memory for a cluster");
    if (rc == 0 && s->api_key_file) { /* before anything runs: the option is named here */
        char *key;
        rc = http_client_read_key(s->api_key_file, &key, err);
        if (rc == 0)
            free(key);
    }
    if (rc == 0)
        rc = cluster_make_folder(c, err);
    if (rc == 0 && s->encryption) {
        rc = paths_format(&c->trust, err, "%s/trust", c->folder);
        rc = rc == 0 ? local_keys_make(c->trust, err) : rc;
    }
    if (rc == 0)
        rc = cluster_start_coordinator(c, s, err);
    if (rc == 0)
        rc = cluster_wait_bound(c, s, err);
    for (int i = 1; i <= c->workers && rc == 0; i++)
        rc = cluster_start_worker(c, i, err);
    if (rc == 0)
        rc = cluster_wait_healthy(c, err);
    progress_end(&c->progress);
    if (rc == 0) {
        c->client.watch = cluster_watch;
        c->client.watch_context = c;
        *ret_cluster = c;
        c = NULL;
    }
    local_cluster_stop(c);
    return rc;
}

const struct http_client *local_cluster_client(const struct local_cluster *c)
{
    return &c->client;
}

int local_cluster_workers(const struct local_cluster *c)
{
    return c->workers;
}

int local_cluster_threads(const struct local_cluster *c)
{
    return c->threads;
}

/* 0: all children from that one on run. */
static int cluster_check_from(struct local_cluster *c, int first, struct err *err)
{
    for (int i = first; i < c->n_children; i++) {
        if (!child_has_ended(&c->children[i]))
            continue;
        int rc = child_report(&c->children[i], err);
        c->failed = c->failed || rc != ERR_CONFIG;
        return rc;
    }
    return 0;
}

int local_cluster_check(struct local_cluster *c, struct err *err)
{
    return cluster_check_from(c, 0, err);
}

int local_cluster_drain(struct local_cluster *c, struct err *err)
{
    struct child *coordinator = &c->children[0];
    int64_t say_ms = clock_now_ms() + DRAIN_QUIET_MS; /* mostly nothing runs */
    kill(coordinator->pid, SIGTERM);
    int rc = 0;
    while (rc == 0 && !child_has_ended(coordinator) && !stop_signal_is_repeated()) {
        if (!c->quiet && clock_now_ms() >= say_ms)
            progress_say(&c->progress, "stopping: requests that run are finished first; Ctrl-C "
                                       "once more stops at once");
        usleep(LOOK_EVERY_MS * 1000);
        rc = cluster_check_from(c, 1, err);
    }
    progress_end(&c->progress);
    if (rc == 0 && coordinator->ended && coordinator->status != 0)
        rc = cluster_check_from(c, 0, err);
    return rc;
}

void local_cluster_stop(struct local_cluster *c)
{
    if (!c)
        return;
    /* With a worker that goes first, the coordinator would look for another plan. */
    if (c->n_children)
        child_stop_all(c->children, 1, STOP_GRACE_MS);
    if (c->n_children > 1)
        child_stop_all(c->children + 1, c->n_children - 1, STOP_GRACE_MS);
    for (int i = 0; i < c->n_children; i++)
        child_clear(&c->children[i]);
    free(c->children);
    if (c->trust)
        local_keys_remove(c->trust);
    if (c->folder && !c->failed)
        logs_remove(c->folder);
    else if (c->ready_file)
        unlink(c->ready_file);
    http_client_clear(&c->client);
    free(c->cluster_address);
    free(c->trust);
    free(c->ready_file);
    free(c->folder);
    free(c);
}
