#include "cli/cli.h"

#include "cli/http_client.h"
#include "cli/verb.h"
#include "proto/allow_list.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ANSWER_MS = 3000 };

struct workers_settings {
    char *url, *api_key_file, *ca_file, *trust;
    bool json;
};

#define FIELD(name) offsetof(struct workers_settings, name)

static const struct conf_option workers_options[] = {
    VERB_SERVER_OPTIONS(struct workers_settings),
    {.name = "trust",
     .type = CONF_STRING,
     .offset = FIELD(trust),
     .value = "DIR",
     .help = "folder of the coordinator's keys (default: $PACELINE_HOME/trust)"},
    {.name = "json", .type = CONF_FLAG, .offset = FIELD(json), .help = "print JSON"},
};

static const struct conf_program workers_program = {
    .name = "paceline workers",
    .synopsis = "[OPTION...] [revoke NAME]",
    .summary = "Lists the workers that may join, and what the server says of those that are here. "
               "\"revoke NAME\" takes\none off the list: within two seconds the coordinator goes "
               "on without it. Run it where the\ncoordinator runs, as its user.",
    .epilogue = "Example:\n"
                "  paceline workers\n"
                "  paceline workers revoke desk-17",
    .file = VERB_CONFIG_FILE,
    .group = "workers",
    .groups = verb_groups,
    .options = workers_options,
    .n_options = sizeof workers_options / sizeof *workers_options,
    .max_positionals = 2,
};

/* An enrolled worker as an object: `here` is what the server says of it, or NULL. */
static json_t *workers_row(const struct allow_worker *w, const json_t *here, const char *else_state)
{
    char key[KEYS_TEXT_BYTES], date[32];
    const time_t since = (time_t)w->since_s;
    struct tm when;
    keys_format(w->key, key);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&since, &when));
    json_t *row = here ? json_copy((json_t *)here)
                       : json_pack("{s:s, s:s, s:s, s:n, s:n}", "name", w->name, "state",
                                   else_state, "key", key, "stage", "layers");
    json_object_set_new(row, "enrolled", json_string(date));
    json_object_set_new(row, "enrolled_as", json_string(w->name));
    return row;
}

/* The list joined with what the server says: by key, since one key may be several workers'. */
static json_t *workers_join(const struct allow_list *list, const json_t *cluster)
{
    json_t *rows = json_array(), *here;
    const json_t *present = json_object_get(cluster, "workers");
    size_t k;
    for (size_t i = 0; i < list->n_workers; i++) {
        char key[KEYS_TEXT_BYTES];
        keys_format(list->workers[i].key, key);
        bool is_here = false;
        json_array_foreach(present, k, here)
        {
            const char *its = json_string_value(json_object_get(here, "key"));
            if (!its || strcmp(its, key) != 0)
                continue;
            json_array_append_new(rows, workers_row(&list->workers[i], here, NULL));
            is_here = true;
        }
        if (!is_here)
            json_array_append_new(
                rows, workers_row(&list->workers[i], NULL, cluster ? "away" : "unknown"));
    }
    json_array_foreach(present, k, here)
    {
        if (json_is_string(json_object_get(here, "key")))
            continue;
        json_t *row = json_copy(here); /* it came over a plain link */
        json_object_set_new(row, "enrolled", json_null());
        json_object_set_new(row, "enrolled_as", json_null());
        json_array_append_new(rows, row);
    }
    return rows;
}

static const char *workers_word(const json_t *row, const char *field)
{
    const char *text = json_string_value(json_object_get(row, field));
    return text ? text : "-";
}

/* The layers that it computes; in brackets those that it has packed in case it must. */
static void workers_write_layers(const json_t *row, char to[32])
{
    const json_t *range = json_object_get(row, "layers");
    const json_t *standby = json_object_get(row, "standby");
    bool stands_by = json_is_true(json_object_get(standby, "ready"));
    if (stands_by)
        range = json_object_get(standby, "layers");
    snprintf(to, 32, "-");
    if (json_array_size(range) == 2)
        snprintf(to, 32, stands_by ? "(%d-%d)" : "%d-%d",
                 (int)json_integer_value(json_array_get(range, 0)),
                 (int)json_integer_value(json_array_get(range, 1)) - 1);
}

/* And for how long it is kept out. */
static void workers_write_state(const json_t *row, char to[32])
{
    const json_t *out = json_object_get(row, "kept_out");
    const char *state = json_string_value(json_object_get(row, "state"));
    int n = snprintf(to, 32, "%.16s", state ? state : "-");
    if (json_is_object(out))
        snprintf(to + n, 32 - (size_t)n, " %.0fs",
                 json_number_value(json_object_get(out, "seconds")));
}

/* To the coordinator: what it carries, and the time there and back. */
static void workers_write_link(const json_t *row, char to[32])
{
    const json_t *rate = json_object_get(row, "link_bytes_per_second");
    const json_t *round_trip = json_object_get(row, "round_trip_us");
    int n = snprintf(to, 32, "-");
    if (json_is_number(rate))
        n = snprintf(to, 32, "%.4g MB/s", json_number_value(rate) / 1e6);
    if (json_is_number(round_trip))
        snprintf(to + n, 32 - (size_t)n, ", %.2f ms", json_number_value(round_trip) / 1e3);
}

static void workers_print(const json_t *rows)
{
    size_t i;
    const json_t *row;
    if (!json_array_size(rows)) {
        puts("no worker is enrolled: \"paceline invite\" makes a line for one");
        return;
    }
    printf("%-24s %-13s %-9s %-20s %-21s %s\n", "NAME", "STATE", "LAYERS", "LINK", "ENROLLED",
           "KEY");
    json_array_foreach(rows, i, row)
    {
        char layers[32], state[32], link[32];
        workers_write_layers(row, layers);
        workers_write_state(row, state);
        workers_write_link(row, link);
        printf("%-24s %-13s %-9s %-20s %-21s %.8s\n", workers_word(row, "name"), state, layers,
               link, workers_word(row, "enrolled"), workers_word(row, "key"));
        const char *why = json_string_value(json_object_get(row, "expelled"));
        if (why)
            printf("    %s\n", why);
    }
}

static int workers_list(const struct workers_settings *s, const struct allow_list *list,
                        struct err *err)
{
    struct http_client client = {0};
    json_t *cluster = NULL;
    struct err silence = {0};
    int rc = http_client_init(&client, s->url, s->api_key_file, s->ca_file, err);
    if (rc != 0)
        return rc;
    if (http_client_get(&client, "/cluster", ANSWER_MS, &cluster, &silence) != 0)
        fprintf(stderr, "paceline: who is here is not known: %s\n", silence.text);
    json_t *rows = workers_join(list, cluster);
    if (s->json) {
        json_t *all = json_pack("{s:b, s:O}", "reachable", cluster != NULL, "workers", rows);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else {
        workers_print(rows);
    }
    json_decref(rows);
    json_decref(cluster);
    http_client_clear(&client);
    return 0;
}

static int workers_revoke(const struct workers_settings *s, struct allow_list *list,
                          const char *name, struct err *err)
{
    int rc = allow_list_revoke(list, name, err);
    if (rc == 0 && s->json)
        printf("{\"revoked\": \"%s\"}\n", name); /* a name of the list: nothing to escape */
    else if (rc == 0)
        printf("%s is revoked\n", name);
    return rc;
}

static int workers_run(const struct workers_settings *s, const char *const *words, int n,
                       struct err *err)
{
    struct trust_store store;
    struct allow_list list;
    if (n && (n != 2 || strcmp(words[0], "revoke") != 0))
        return err_set(err, ERR_USAGE,
                       "\"paceline workers\" lists, \"paceline workers revoke "
                       "NAME\" takes one off the list");
    int rc = trust_store_locate(&store, s->trust, err);
    if (rc == 0)
        rc = allow_list_open(&list, &store, err);
    if (rc != 0)
        return rc;
    rc = n ? workers_revoke(s, &list, words[1], err) : workers_list(s, &list, err);
    allow_list_close(&list);
    return rc;
}

int cli_workers(int argc, char **argv)
{
    struct workers_settings s = {0};
    struct err err = {0};
    const char *words[2] = {NULL};
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&workers_program, &s, argc, argv, words, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = workers_run(&s, words, n, &err);
        curl_global_cleanup();
    }
    conf_clear(&workers_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
