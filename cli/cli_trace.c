#include "cli/cli.h"

#include "base/clock.h"
#include "cli/http_client.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"
#include "cli/trace_file.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 10000, ASK_EVERY_MS = 200 };

struct trace_settings {
    char *url, *output, *api_key_file, *ca_file;
    int64_t seconds;
};

#define FIELD(name) offsetof(struct trace_settings, name)

static const struct conf_option trace_options[] = {
    VERB_SERVER_OPTIONS(struct trace_settings),
    {.name = "seconds",
     .letter = 's',
     .type = CONF_INT,
     .offset = FIELD(seconds),
     .value = "N",
     .initial = "5",
     .min = 1,
     .max = 60,
     .help = "how long to look; Ctrl-C ends it earlier"},
    {.name = "output",
     .letter = 'o',
     .type = CONF_STRING,
     .offset = FIELD(output),
     .value = "FILE",
     .initial = "trace.json",
     .help = "where the trace goes; -: standard output"},
};

static const struct conf_program trace_program = {
    .name = "paceline trace",
    .synopsis = "[OPTION...]",
    .summary = "Records which worker computes which step when, and where it waits: a trace for "
               "https://ui.perfetto.dev\nor chrome://tracing, and a table of the stages.",
    .epilogue = "Example:\n"
                "  paceline trace --seconds 5 --output trace.json",
    .file = VERB_CONFIG_FILE,
    .group = "trace",
    .groups = verb_groups,
    .options = trace_options,
    .n_options = sizeof trace_options / sizeof *trace_options,
};

/* One answer. *next: where the following one begins; "" asks where the server is. */
static int trace_ask(const struct http_client *client, struct trace_file *trace, int64_t *next,
                     bool *ret_more, struct err *err)
{
    char path[64] = "/cluster/trace";
    if (*next >= 0)
        snprintf(path, sizeof path, "/cluster/trace?after=%" PRId64, *next);
    json_t *answer = NULL;
    int rc = http_client_get(client, path, ANSWER_MS, &answer, err);
    if (rc == 0)
        rc = trace_file_take(trace, answer, err);
    const json_t *number = json_object_get(answer, "next");
    if (rc == 0 && (!json_is_integer(number) || json_integer_value(number) < 0))
        rc = err_set(err, ERR_NETWORK, "the server's trace does not say where it goes on");
    if (rc == 0) {
        *next = json_integer_value(number);
        *ret_more = json_is_true(json_object_get(answer, "more"));
    }
    json_decref(answer);
    return rc;
}

/* 0 also when a signal ended it: then what has come is the trace. */
static int trace_collect(const struct http_client *client, struct trace_file *trace, int64_t next,
                         int64_t seconds, struct err *err)
{
    struct progress progress;
    int64_t start_ms = clock_now_ms(), end_ms = start_ms + 1000 * seconds;
    int rc = 0;
    bool more = false, is_last = false;
    progress_start(&progress);
    while (rc == 0 && !stop_signal_is_raised() && (!is_last || more)) {
        int64_t left_ms = end_ms - clock_now_ms();
        is_last = left_ms <= ASK_EVERY_MS;
        int64_t pause_ms = is_last ? left_ms : ASK_EVERY_MS;
        if (!more && pause_ms > 0)
            poll(NULL, 0, (int)pause_ms);
        if (!stop_signal_is_raised())
            rc = trace_ask(client, trace, &next, &more, err);
        if (more && clock_now_ms() > end_ms + ANSWER_MS)
            break; /* new steps come as fast as they are read */
        progress_say(&progress, "recording: %.1f s of %" PRId64 ", %zu steps",
                     (double)(clock_now_ms() - start_ms) / 1000, seconds, trace_file_steps(trace));
    }
    progress_end(&progress);
    return rc == ERR_CANCELLED ? 0 : rc;
}

static int trace_write(struct trace_file *trace, const char *path, FILE *out, struct err *err)
{
    int rc = trace_file_write(trace, out, err);
    bool is_written = fflush(out) == 0 && !ferror(out);
    if (out != stdout)
        is_written = fclose(out) == 0 && is_written;
    if (rc == 0 && !is_written)
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (rc != 0)
        return rc;
    trace_file_report(trace, out == stdout ? stderr : stdout);
    if (out != stdout)
        printf("%s: open it in https://ui.perfetto.dev\n", path);
    return 0;
}

static int trace_run(const struct trace_settings *s, struct err *err)
{
    struct http_client client = {0};
    struct trace_file *trace = NULL;
    FILE *out = NULL;
    int64_t next = -1;
    bool more, is_standard = !strcmp(s->output, "-");
    int rc = http_client_init(&client, s->url, s->api_key_file, s->ca_file, err);
    if (rc == 0)
        rc = trace_file_new(&trace, err);
    if (rc == 0)
        rc = trace_ask(&client, trace, &next, &more, err);
    if (rc == 0) {
        out = is_standard ? stdout : fopen(s->output, "we");
        if (!out)
            rc = err_set(err, ERR_IO, "%s: %s", s->output, strerror(errno));
    }
    if (rc == 0) {
        struct err written = {0};
        rc = trace_collect(&client, trace, next, s->seconds, err);
        /* A server that went away has said something before. */
        if (trace_write(trace, s->output, out, &written) != 0 && rc == 0) {
            *err = written;
            rc = err->code;
        }
    }
    trace_file_free(trace);
    http_client_clear(&client);
    return rc;
}

int cli_trace(int argc, char **argv)
{
    struct trace_settings s = {0};
    struct err err = {0};
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&trace_program, &s, argc, argv, NULL, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = trace_run(&s, &err);
        curl_global_cleanup();
    }
    conf_clear(&trace_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
