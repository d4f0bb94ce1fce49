/* conf.h - settings described once, as data.
 *
 * From one table come the command line, the libconfig file, the environment, --help and
 * --print-config, so they cannot drift apart. Order of precedence: command line, environment,
 * file, default. For an option named "api-key-file": flag --api-key-file, key api_key_file,
 * environment variable PACELINE_API_KEY_FILE. */
#ifndef PACELINE_BASE_CONF_H
#define PACELINE_BASE_CONF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum conf_type {
    CONF_FLAG,   /* bool; the flag takes no value, --no-NAME turns it off */
    CONF_INT,    /* int64_t, within min..max */
    CONF_REAL,   /* double, within min..max */
    CONF_SIZE,   /* int64_t bytes: "512MiB", "8G", "1073741824" */
    CONF_STRING, /* char *, owned by the settings, NULL when absent */
    CONF_CHOICE  /* int: index into choices */
};

struct conf_option {
    const char *name;
    char letter; /* short flag, or 0 */
    enum conf_type type;
    size_t offset;              /* of the field in the settings struct */
    const char *value;          /* what --help calls the value: "HOST:PORT" */
    const char *initial;        /* default, as text; NULL: zero, false or NULL */
    double min, max;            /* CONF_INT, CONF_REAL, CONF_SIZE; both 0: no limit */
    const char *const *choices; /* CONF_CHOICE, NULL-terminated */
    /* CONF_STRING: refuses a value in words, or NULL; so a bad one is named with its place. */
    int (*check)(const char *text, struct err *err);
    const char *help; /* one line, with units */
    bool command_line_only;
};

struct conf_program {
    const char *name;     /* "paceline-worker", "paceline fetch" */
    const char *synopsis; /* "[OPTION...] MODEL" */
    const char *summary;  /* one or two sentences under the usage line */
    const char *epilogue; /* examples, after the options; may be NULL */
    const char *file;     /* default configuration file (read if it exists), or NULL */
    const char *group;    /* name of the file's group that belongs to this program, or NULL: top */
    const struct conf_option *options;
    size_t n_options;
    int min_positionals, max_positionals;
    const char *const *groups; /* with group: all groups the file may hold, NULL-terminated */
};

enum conf_outcome { CONF_RUN, CONF_EXIT }; /* CONF_EXIT: --help and such were answered; exit 0 */

/* Fills `settings` (zeroed by the caller) and leaves the positionals in ret_positionals (borrowed
 * from argv; room for max_positionals). --help, --version, --config FILE and --print-config are
 * understood without standing in the table. On failure *err names the flag, or file and line and
 * key, and the valid choices. Call conf_clear on success and failure alike. */
int conf_read(const struct conf_program *program, void *settings, int argc, char **argv,
              const char **ret_positionals, int *ret_n_positionals, enum conf_outcome *ret_outcome,
              struct err *err);
/* Frees the strings in settings. */
void conf_clear(const struct conf_program *program, void *settings);
/* Parses "HOST:PORT" (also "[::1]:PORT"); host must have room for 256 bytes. */
int conf_endpoint(const char *text, char *ret_host, int *ret_port, struct err *err);
/* The same as a check of an option. */
int conf_check_endpoint(const char *text, struct err *err);
/* The same for an address to listen at: a numeric one, or localhost. */
int conf_check_numeric(const char *text, struct err *err);
/* true for 127.0.0.0/8, ::1 and "localhost" */
bool conf_host_is_loopback(const char *host);

#endif
