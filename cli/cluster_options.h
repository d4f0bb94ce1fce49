/* cluster_options.h - the options that all verbs with a local cluster share, as rows of their
 * option tables. The settings struct must embed `struct cluster_options` as `cluster`. */
#ifndef PACELINE_CLI_CLUSTER_OPTIONS_H
#define PACELINE_CLI_CLUSTER_OPTIONS_H

#include "base/conf.h"
#include "cli/local_cluster.h"

/* The limits of the coordinator's own settings. */
enum { CLUSTER_WORKERS_MAX = 256, CLUSTER_CONTEXT_MAX = 1 << 20, CLUSTER_CONCURRENCY_MAX = 1024 };
enum { CLUSTER_QUEUE_MAX = 100000, CLUSTER_TIMEOUT_MAX_S = 1000000 };

struct cluster_options {
    int64_t workers, threads;
    int kv;         /* index into cluster_options_kv */
    int encryption; /* index into cluster_options_switch */
    char *cuts, *models_file;
    bool verbose;
};

extern const char *const cluster_options_kv[], *const cluster_options_switch[];

#define CLUSTER_FIELD(settings, name)                                                              \
    (offsetof(settings, cluster) + offsetof(struct cluster_options, name))
/* clang-format off */
#define CLUSTER_OPTIONS(settings, default_workers)                                                 \
    {.name = "workers", .letter = 'w', .type = CONF_INT, .value = "N", .initial = default_workers, \
     .offset = CLUSTER_FIELD(settings, workers), .min = 0, .max = CLUSTER_WORKERS_MAX,             \
     .help = "worker processes; 0: as --cuts says, or 1"},                                         \
    {.name = "threads", .letter = 't', .type = CONF_INT, .value = "T",                             \
     .offset = CLUSTER_FIELD(settings, threads), .min = 0, .max = 1024, .initial = "0",            \
     .help = "threads of each worker; 0: physical cores / workers"},                               \
    {.name = "cuts", .type = CONF_STRING, .value = "LIST",                                         \
     .offset = CLUSTER_FIELD(settings, cuts),                                                      \
     .help = "first layers of stages 2, 3 ...: 3,5 = three workers"},                              \
    {.name = "kv", .type = CONF_CHOICE, .value = "f16|f32|q8_0", .choices = cluster_options_kv,         \
     .initial = "f16", .offset = CLUSTER_FIELD(settings, kv),                                      \
     .help = "type of cached keys and values"},                                                    \
    {.name = "encryption", .type = CONF_CHOICE, .value = "on|off", .initial = "off",               \
     .choices = cluster_options_switch, .offset = CLUSTER_FIELD(settings, encryption),             \
     .help = "keys for the links of the workers, though all are on this machine"},                 \
    {.name = "models-file", .type = CONF_STRING, .value = "FILE",                                  \
     .offset = CLUSTER_FIELD(settings, models_file),                                               \
     .help = "another catalogue than the shipped models.cfg"},                                     \
    {.name = "verbose", .letter = 'v', .type = CONF_FLAG,                                          \
     .offset = CLUSTER_FIELD(settings, verbose),                                                   \
     .help = "show the logs of coordinator and workers"}
/* clang-format on */

/* Refuses what contradicts itself, before anything is fetched or started. */
int cluster_options_check(const struct cluster_options *o, struct err *err);
/* What local_cluster_start needs, from the options. The strings are borrowed. */
struct local_cluster_settings cluster_options_settings(const struct cluster_options *o,
                                                       const char *model_path);

#endif
