/* coordinator_main.c - paceline-coordinator: options, the event loop, signals, exit code. */
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/access.h"
#include "coordinator/coordinator_open.h"
#include "coordinator/http_server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct program {
    struct coordinator_settings settings;
    struct coordinator *coordinator;
    struct http_server *http;
    struct access_keys keys;
    struct http_tls tls;
    int signals;
    bool stopping, has_given_up;
    int64_t stop_at_ms; /* no later */
};

/* Answers that failed because of it are still sent. */
enum { PROGRAM_FAREWELL_MS = 2000 };
/* Open files beside those of HTTP connections: workers, libraries. */
enum { PROGRAM_OWN_FILES = 512 };

/* First SIGTERM or SIGINT: no new requests, the running ones are finished; a second one stops. */
static void program_read_signals(struct program *p)
{
    struct signalfd_siginfo info;
    while (read(p->signals, &info, sizeof info) == sizeof info) {
        if (p->stopping)
            _exit(128 + (int)info.ssi_signo);
        p->stopping = true;
        p->stop_at_ms = clock_now_ms() + 1000 * p->settings.stop_grace_s;
        log_info("stopping: running requests are finished first, within %lld s; once more stops at "
                 "once",
                 (long long)p->settings.stop_grace_s);
        http_server_drain(p->http);
    }
}

/* When time is up, or there is nobody to finish what runs: what is in the journal is finished after
 * the next start, the rest fails in words. */
static bool program_is_over(struct program *p)
{
    if (!p->stopping)
        return false;
    if (coordinator_is_idle(p->coordinator) && http_server_is_idle(p->http))
        return true;
    bool is_time = clock_now_ms() >= p->stop_at_ms;
    if (p->has_given_up)
        return is_time;
    if (!is_time && !coordinator_is_stranded(p->coordinator))
        return false;
    p->has_given_up = true;
    p->stop_at_ms = clock_now_ms() + PROGRAM_FAREWELL_MS;
    http_server_give_up(p->http);
    coordinator_give_up(p->coordinator);
    return false;
}

static int program_loop(struct program *p, struct err *err)
{
    void *control, *results, *door;
    coordinator_sockets(p->coordinator, &control, &results, &door);
    zmq_pollitem_t items[] = {{.socket = control, .events = ZMQ_POLLIN},
                              {.socket = results, .events = ZMQ_POLLIN},
                              {.fd = http_server_fd(p->http), .events = ZMQ_POLLIN},
                              {.fd = p->signals, .events = ZMQ_POLLIN},
                              {.socket = door, .events = ZMQ_POLLIN}};
    while (!program_is_over(p)) {
        int wait_ms = coordinator_wait_ms(p->coordinator), http_ms = http_server_wait_ms(p->http);
        if (http_ms >= 0 && http_ms < wait_ms)
            wait_ms = http_ms;
        if (zmq_poll(items, door ? 5 : 4, wait_ms) < 0 && errno != EINTR)
            return err_set(err, ERR_INTERNAL, "zmq_poll: %s", zmq_strerror(errno));
        program_read_signals(p);
        int rc = coordinator_run(p->coordinator, err);
        if (rc != 0)
            return rc;
        http_server_run(p->http);
        /* What the API has just submitted goes out now, not after the next wake-up. */
        rc = coordinator_run(p->coordinator, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Nobody reads them any more: a signal that comes while all is closed ends the program at once. */
static void program_end_signals(struct program *p)
{
    if (p->signals < 0)
        return;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    close(p->signals);
    p->signals = -1;
}

/* Scripts wait for this file, and read it whole: written beside, then renamed. */
static int program_write_ready_file(const struct program *p, struct err *err)
{
    const struct coordinator_settings *s = &p->settings;
    char beside[4096];
    snprintf(beside, sizeof beside, "%s.new", s->ready_file);
    FILE *f = fopen(beside, "w");
    if (!f)
        return err_set(err, ERR_IO, "%s: %s", beside, strerror(errno));
    fprintf(f, "{\"http\": \"%s:%d\", \"cluster\": \"%s:%d\", \"content\": \"%s:%d\"}\n",
            s->http_host, http_server_port(p->http), s->cluster_host,
            coordinator_cluster_port(p->coordinator), s->cluster_host,
            coordinator_content_port(p->coordinator));
    if (fclose(f) != 0 || rename(beside, s->ready_file) != 0)
        return err_set(err, ERR_IO, "%s: %s", s->ready_file, strerror(errno));
    return 0;
}

/* Keys, and a certificate: whatever is wrong with these is told before the model is opened. */
static int program_read_secrets(struct program *p, struct err *err)
{
    struct coordinator_settings *s = &p->settings;
    int rc = s->api_key_file ? access_read(&p->keys, s->api_key_file, err) : 0;
    if (rc == 0 && s->tls_cert)
        rc = http_tls_read(&p->tls, s->tls_cert, s->tls_key, err);
    if (rc != 0)
        return rc;
    if (p->keys.is_exposed)
        log_warning("%s can be read by other users of this machine: chmod 600 it", s->api_key_file);
    if (p->tls.is_exposed)
        log_warning("%s can be read by other users of this machine: chmod 600 it", s->tls_key);
    if (s->tls_cert && p->tls.days_left < 0)
        log_warning("the certificate in %s has expired: clients will refuse it", s->tls_cert);
    s->n_tenants = p->keys.n_tenants;
    s->tenant_names = (const char *const *)p->keys.names;
    s->tenant_weights = p->keys.weights;
    return 0;
}

/* Each connection is an open file, and the usual limit is no more than 1024. How many there can be.
 */
static int program_find_files(int connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + PROGRAM_OWN_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return connections;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == wanted)
        return connections;
    int left = limit.rlim_cur > 2 * PROGRAM_OWN_FILES ? (int)limit.rlim_cur - PROGRAM_OWN_FILES
                                                      : (int)limit.rlim_cur / 2;
    log_warning("this system allows %llu open files: at most %d HTTP connections instead of %d "
                "(LimitNOFILE=, ulimit -Hn)",
                (unsigned long long)limit.rlim_cur, left, connections);
    return left;
}

static int program_open(struct program *p, struct err *err)
{
    const struct coordinator_settings *s = &p->settings;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads exist: they inherit it */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error like a full disk */
    p->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (p->signals < 0)
        return err_set(err, ERR_IO, "signalfd: %s", strerror(errno));
    int rc = program_read_secrets(p, err);
    if (rc == 0)
        rc = coordinator_open(&p->coordinator, s, err);
    if (rc != 0)
        return rc;
    struct http_server_spec spec = {
        .host = s->http_host,
        .port = s->http_port,
        .api_keys = (const char *const *)p->keys.keys,
        .key_tenants = p->keys.tenants,
        .n_api_keys = p->keys.n,
        .cors_origins = s->cors_origins,
        .tls = s->tls_cert ? &p->tls : NULL,
        .max_body_bytes = s->max_body_bytes,
        .max_header_bytes = s->max_header_bytes,
        .receive_ms = 1000 * s->receive_timeout_s,
        .max_connections = program_find_files((int)s->max_connections),
        .coordinator = p->coordinator,
        .store = {.journal = s->journal_path[0] ? s->journal_path : NULL,
                  .keep_s = s->response_keep_s,
                  .most_bytes = s->response_bytes,
                  .kv_type = s->kv_name,
                  .tenant_names = s->tenant_names,
                  .n_tenants = s->n_tenants}};
    rc = http_server_open(&p->http, &spec, err);
    http_tls_clear(&p->tls);
    if (rc == 0 && s->ready_file)
        rc = program_write_ready_file(p, err);
    if (rc == 0)
        log_info("serving %s: API on http%s://%s:%d, workers join %s:%d", s->model_alias,
                 s->tls_cert ? "s" : "", s->http_host, http_server_port(p->http), s->cluster_host,
                 coordinator_cluster_port(p->coordinator));
    return rc;
}

int main(int argc, char **argv)
{
    struct program p = {.signals = -1};
    struct err err = {0};
    enum conf_outcome outcome = CONF_RUN;
    int rc = coordinator_settings_read(&p.settings, argc, argv, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        log_setup("paceline-coordinator", p.settings.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
                  p.settings.log_format_choice == 1);
        rc = program_open(&p, &err);
        if (rc == 0)
            rc = program_loop(&p, &err);
        if (rc == 0)
            log_info("stopped");
        program_end_signals(&p);
        http_server_close(p.http);
        coordinator_close(p.coordinator);
        access_clear(&p.keys);
        http_tls_clear(&p.tls);
    }
    if (rc != 0)
        fprintf(stderr, "paceline-coordinator: %s\n", err.text);
    coordinator_settings_clear(&p.settings);
    return err_exit_code(rc);
}
