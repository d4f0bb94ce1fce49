#include "cli/cli.h"

#include "base/clock.h"
#include "cli/http_client.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

enum { ANSWER_MS = 10000, ASK_EVERY_MS = 100 };

struct drain_settings {
    char *url, *api_key_file, *ca_file;
    int64_t wait_s;
    bool resume;
};

#define FIELD(name) offsetof(struct drain_settings, name)

static const struct conf_option drain_options[] = {
    VERB_SERVER_OPTIONS(struct drain_settings),
    {.name = "resume",
     .type = CONF_FLAG,
     .offset = FIELD(resume),
     .help = "the worker may be used again"},
    {.name = "wait",
     .type = CONF_INT,
     .offset = FIELD(wait_s),
     .value = "SECONDS",
     .initial = "600",
     .min = 0,
     .max = 86400,
     .help = "how long to wait until it is empty; 0: not at all"},
};

static const struct conf_program drain_program = {
    .name = "paceline drain",
    .synopsis = "WORKER [OPTION...]",
    .summary = "Empties a worker of a running server: the others take its layers while it serves "
               "on, and no\nrequest is lost. Then it may be stopped. (SIGTERM to a worker does the "
               "same before it ends.)",
    .epilogue = "Examples:\n"
                "  paceline drain desk-12\n"
                "  paceline drain desk-12 --resume",
    .file = VERB_CONFIG_FILE,
    .group = "drain",
    .groups = verb_groups,
    .min_positionals = 1,
    .max_positionals = 1,
    .options = drain_options,
    .n_options = sizeof drain_options / sizeof *drain_options,
};

/* The worker's state, or "" when the server does not name it; *ret_why: of the change under way. */
static int drain_ask(const struct http_client *client, const char *worker, char ret_state[32],
                     char ret_why[256], struct err *err)
{
    json_t *answer = NULL;
    int rc = http_client_get(client, "/cluster", ANSWER_MS, &answer, err);
    const char *why = json_string_value(json_object_get(json_object_get(answer, "change"), "why"));
    snprintf(ret_why, 256, "%s", why ? why : "");
    ret_state[0] = '\0';
    const json_t *workers = json_object_get(answer, "workers");
    for (size_t i = 0; rc == 0 && i < json_array_size(workers); i++) {
        const json_t *w = json_array_get(workers, i);
        const char *name = json_string_value(json_object_get(w, "name"));
        const char *state = json_string_value(json_object_get(w, "state"));
        if (name && state && strcmp(name, worker) == 0)
            snprintf(ret_state, 32, "%s", state);
    }
    json_decref(answer);
    return rc;
}

static int drain_wait(const struct http_client *client, const char *worker, int64_t wait_s,
                      struct err *err)
{
    struct progress progress;
    int64_t begin_ms = clock_now_ms();
    char state[32] = "draining", why[256];
    int rc = 0;
    progress_start(&progress);
    while (rc == 0 && strcmp(state, "draining") == 0) {
        if (stop_signal_is_raised())
            rc = err_set(err, ERR_CANCELLED, "not waited for: worker %s is being drained", worker);
        else if (clock_now_ms() - begin_ms > 1000 * wait_s)
            rc = err_set(err, ERR_TIMEOUT,
                         "worker %s is still in use after %" PRId64
                         " s: it is emptied all the same; "
                         "\"paceline drain %s --resume\" takes that back",
                         worker, wait_s, worker);
        else
            rc = drain_ask(client, worker, state, why, err);
        progress_say(&progress, "%s: waiting until it is empty%s%s", worker, why[0] ? "; " : "",
                     why);
        if (rc == 0 && strcmp(state, "draining") == 0)
            poll(NULL, 0, ASK_EVERY_MS);
    }
    progress_end(&progress);
    if (rc == 0 && !state[0])
        return err_set(err, ERR_NOT_FOUND, "worker %s is gone", worker);
    if (rc == 0)
        printf("%s is %s: it may be stopped\n", worker, state);
    return rc;
}

static int drain_run(const struct drain_settings *s, const char *worker, struct err *err)
{
    struct http_client client = {0};
    json_t *request = json_pack("{s:s}", "worker", worker), *answer = NULL;
    int rc = request ? 0 : err_set(err, ERR_INPUT, "a worker's name is UTF-8");
    if (rc == 0)
        rc = http_client_init(&client, s->url, s->api_key_file, s->ca_file, err);
    if (rc == 0)
        rc = http_client_post(&client, s->resume ? "/cluster/resume" : "/cluster/drain", request,
                              &answer, err);
    if (rc == 0 && s->resume)
        printf("%s may be used again\n", worker);
    else if (rc == 0 && s->wait_s)
        rc = drain_wait(&client, worker, s->wait_s, err);
    json_decref(request);
    json_decref(answer);
    http_client_clear(&client);
    return rc;
}

int cli_drain(int argc, char **argv)
{
    struct drain_settings s = {0};
    struct err err = {0};
    enum conf_outcome outcome = CONF_EXIT;
    const char *worker = NULL;
    int n = 0, rc = conf_read(&drain_program, &s, argc, argv, &worker, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = drain_run(&s, worker, &err);
        curl_global_cleanup();
    }
    conf_clear(&drain_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
