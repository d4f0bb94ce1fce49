/* coordinator_settings.h - command line, environment and file of paceline-coordinator → one
 * struct, once. */
#ifndef PACELINE_COORDINATOR_COORDINATOR_SETTINGS_H
#define PACELINE_COORDINATOR_COORDINATOR_SETTINGS_H

#include "base/conf.h"
#include "coordinator/planner.h"
#include "kernels/attention.h"

struct coordinator_settings {
    char *model;          /* path, or the beginning of a file name in the folder of models */
    char *alias;          /* what /v1/models says; NULL: the file's name without .gguf */
    char *http, *cluster; /* HOST:PORT */
    char *api_key_file;
    char *tls_cert, *tls_key; /* files, or NULL */
    char *cors_origins;       /* http_origin.h, or NULL */
    char *cuts_text;
    char *ready_file;
    double replan_gain_percent;
    int64_t replan_after_s;
    int64_t workers, context, concurrency, queue;
    int64_t self_test_every_s; /* 0: only when a worker joins */
    int64_t worker_silence_ms; /* after so much a worker is lost */
    int64_t kv_tokens;         /* 0: 4 contexts, or concurrency x context if that is less */
    int64_t tenant_requests;   /* 0: no limit */
    int64_t request_timeout_s; /* 0: never */
    int64_t max_body_bytes, max_header_bytes, max_connections;
    int64_t receive_timeout_s;
    char *journal;           /* a file, "off", or NULL */
    int64_t response_keep_s; /* 0: for ever */
    int64_t response_bytes;
    int64_t stop_grace_s;
    int kv_choice, prefix_cache_choice, objective_choice; /* enum planner_objective */
    int encryption_choice, standby_choice;
    char *trust; /* folder of keys, or NULL */
    char *cluster_name;
    int64_t beacon_port; /* UDP */
    bool beacon;
    int log_format_choice; /* 0: text, 1: JSON */
    bool insecure, verbose, measure;

    /* derived */
    bool is_encrypted; /* links of workers */
    char http_host[256], cluster_host[256];
    int http_port, cluster_port;
    int cuts[PLANNER_MAX_STAGES];
    int n_cuts;
    enum kv_type kv_type;
    bool prefix_cache, preloads;
    /* The program fills these from the key file; borrowed. 0 tenants: one, called "default". */
    int n_tenants;
    const char *const *tenant_names; /* [n_tenants] */
    const double *tenant_weights;    /* [n_tenants] */
    char home[2048];                 /* $PACELINE_HOME */
    char model_path[4096];
    char journal_path[4096]; /* "": off */
    const char *kv_name;
    char model_alias[256];
};

extern const struct conf_program coordinator_program;

int coordinator_settings_read(struct coordinator_settings *ret_settings, int argc, char **argv,
                              enum conf_outcome *ret_outcome, struct err *err);
void coordinator_settings_clear(struct coordinator_settings *s);

#endif
