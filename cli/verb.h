/* verb.h - what every verb of the command does alike: read options, say an error, know paths. */
#ifndef PACELINE_CLI_VERB_H
#define PACELINE_CLI_VERB_H

#include "base/conf.h"

#define VERB_CONFIG_FILE "/etc/paceline/paceline.cfg"

/* The groups of that file, one for each verb, NULL-terminated. */
extern const char *const verb_groups[];

/* The options of verbs that ask a server, as rows of their tables: their settings have `url`,
 * `api_key_file` and `ca_file`. */
/* clang-format off */
#define VERB_SERVER_OPTIONS(settings)                                                              \
    {.name = "url", .letter = 'u', .type = CONF_STRING, .value = "URL",                            \
     .initial = "http://127.0.0.1:8080", .offset = offsetof(settings, url), .help = "the server"}, \
    {.name = "api-key-file", .type = CONF_STRING, .value = "FILE",                                 \
     .offset = offsetof(settings, api_key_file),                                                   \
     .help = "its first key is the one that the server wants"},                                    \
    {.name = "ca-file", .type = CONF_STRING, .value = "FILE",                                      \
     .offset = offsetof(settings, ca_file),                                                        \
     .help = "certificates in PEM, instead of the system's, that an https server's leads to"}
/* clang-format on */

/* Prints "paceline: sentence" and returns the exit code that belongs to it. */
int verb_fail(const struct err *err);
/* Reads into `settings` (zeroed by the caller) what stands on the command line alone, without
 * defaults, environment and file; after a conf_read() of the same that said CONF_RUN. conf_clear()
 * it on success and failure alike. */
int verb_read_command_line(const struct conf_program *program, void *settings, int argc,
                           char **argv, struct err *err);
/* A whole number of physical cores that this process may use, at least 1. */
int verb_physical_cores(void);
/* Reads all of a file (or standard input, for "-") that is at most `limit` bytes long. *ret_text:
 * malloc'd, NUL-terminated. */
int verb_read_file(const char *path, size_t limit, char **ret_text, size_t *ret_length,
                   struct err *err);
/* Reads numbers separated by commas or white space. *ret_ids: malloc'd. `where` names the source
 * in errors. An empty list is an error. */
int verb_read_ids(const char *text, const char *where, uint32_t **ret_ids, size_t *ret_count,
                  struct err *err);

#endif
