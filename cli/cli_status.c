#include "cli/cli.h"

#include "cli/cluster_view.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>

struct status_settings {
    char *url, *api_key_file, *ca_file;
    bool json;
};

static const struct conf_option status_options[] = {
    VERB_SERVER_OPTIONS(struct status_settings),
    {.name = "json",
     .type = CONF_FLAG,
     .offset = offsetof(struct status_settings, json),
     .help = "print what the server says as JSON"},
};

static const struct conf_program status_program = {
    .name = "paceline status",
    .synopsis = "[OPTION...]",
    .summary =
        "Tells what a server serves, on which machines, and what they do. The exit code is 0 "
        "while the model\nis in service, and 4 when it is not or nobody answers.",
    .epilogue = "Example:\n"
                "  paceline status --url http://office:8080",
    .file = VERB_CONFIG_FILE,
    .group = "status",
    .groups = verb_groups,
    .options = status_options,
    .n_options = sizeof status_options / sizeof *status_options,
};

static int status_run(const struct status_settings *s, bool *ret_is_ready, struct err *err)
{
    struct http_client client = {0};
    struct cluster_view view = {0};
    struct buf text;
    buf_init(&text);
    int rc = http_client_init(&client, s->url, s->api_key_file, s->ca_file, err);
    if (rc == 0)
        rc = cluster_view_ask(&view, &client, err);
    if (rc == 0 && s->json) {
        json_dumpf(view.cluster, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (rc == 0) {
        cluster_view_print(&text, &view, NULL);
        if (buf_failed(&text))
            rc = err_set(err, ERR_MEMORY, "no memory to print");
        else
            fputs(buf_text(&text), stdout);
    }
    *ret_is_ready = rc == 0 && cluster_view_is_ready(&view);
    buf_clear(&text);
    cluster_view_clear(&view);
    http_client_clear(&client);
    return rc;
}

int cli_status(int argc, char **argv)
{
    struct status_settings s = {0};
    struct err err = {0};
    bool is_ready = true;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&status_program, &s, argc, argv, NULL, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = status_run(&s, &is_ready, &err);
        curl_global_cleanup();
    }
    conf_clear(&status_program, &s);
    if (rc < 0)
        return verb_fail(&err);
    return is_ready ? 0 : err_exit_code(ERR_UNAVAILABLE);
}
