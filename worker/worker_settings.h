/* worker_settings.h - command line, environment and file of paceline-worker → one struct, once. */
#ifndef PACELINE_WORKER_WORKER_SETTINGS_H
#define PACELINE_WORKER_WORKER_SETTINGS_H

#include "base/conf.h"
#include "proto/keys.h"

enum { WORKER_ENCRYPTION_AUTO, WORKER_ENCRYPTION_ON, WORKER_ENCRYPTION_OFF };

enum worker_policy { WORKER_ALWAYS, WORKER_IDLE };

struct worker_settings {
    char *coordinator;   /* HOST:PORT, or NULL: where it is enrolled, else on this machine */
    char *join;          /* a line of `paceline invite`, or NULL */
    char *trust;         /* folder of keys, or NULL */
    char *cluster_name;  /* of beacons to believe */
    int64_t beacon_port; /* UDP */
    int encryption_choice;
    char *data;               /* HOST:PORT to listen on for the neighbour upstream, or NULL */
    char *advertise;          /* HOST:PORT, or NULL: where data listens */
    char *name;               /* NULL: the host's */
    char *models;             /* folder, or NULL */
    int64_t threads;          /* 0: placement_default_threads() */
    int64_t memory_bytes;     /* 0: memory_share of what is available */
    int64_t memory_share;     /* percent of what is available, where memory_bytes is not set */
    bool model_files;         /* files of this machine are looked at */
    bool ship;                /* weights that are not here are fetched */
    char *cache;              /* a size, or "auto" */
    double scrub_gb_per_hour; /* 0: weights are not looked at again */
    int64_t nice;
    int policy_choice; /* enum worker_policy */
    char *hours;       /* as hours_read() takes them, or NULL */
    int64_t idle_load; /* percent of all processors */
    int64_t idle_after_s;
    char *idle_probe;    /* command, or NULL */
    bool pin;            /* bind threads to cores */
    bool numa;           /* one worker for each NUMA node */
    bool beacon;         /* find the coordinator by it */
    char *measure;       /* a model: print how fast its layers are here, and end; or NULL */
    char *measure_quant; /* of a model that is named */
    bool insecure;
    bool verbose;
    int log_format_choice; /* 0: text, 1: JSON */

    /* derived */
    bool is_child; /* one of the workers that worker_numa() started */
    char coordinator_host[256];
    int coordinator_port;
    char data_host[256];
    int data_port;
    char advertise_host[256];
    int advertise_port;  /* 0: data's */
    int64_t cache_bytes; /* CONTENT_CACHE_AUTO: a fifth of what is free; 0: none */

    /* derived by worker_join(), and the address of a coordinator that is not named */
    bool is_encrypted;
    bool is_hearsay; /* a beacon named the address, and nobody has answered there yet */
    struct key_pair own;
    unsigned char coordinator_key[KEYS_BYTES];
};

extern const struct conf_program worker_program;

/* As conf_read(); also checks what belongs together and fills the derived fields. */
int worker_settings_read(struct worker_settings *ret_settings, int argc, char **argv,
                         enum conf_outcome *ret_outcome, struct err *err);
/* Any address of this machine: one to listen on, not to connect to. */
bool worker_settings_is_wildcard(const char *host);
void worker_settings_clear(struct worker_settings *s);

#endif
