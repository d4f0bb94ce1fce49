/* plan_machines.h - machines of a plan: described in a file, or this one, measured. */
#ifndef PACELINE_CLI_PLAN_MACHINES_H
#define PACELINE_CLI_PLAN_MACHINES_H

#include "base/err.h"
#include "coordinator/plan_cost.h"

#include <stdbool.h>

enum { PLAN_MACHINE_KINDS = 32, PLAN_MACHINES = 256 };

struct plan_machine_kind {
    char name[48];
    int count;
    double memory_bytes;       /* offered */
    double read_bytes;         /* a second */
    double int8_ops;           /* a second */
    double link_bytes, link_s; /* a second; one way */
    int threads;
    bool is_measured; /* speed is what was measured, for one model in one mix */
    struct plan_speed speed;
};

struct plan_machines {
    int n_kinds;
    struct plan_machine_kind kinds[PLAN_MACHINE_KINDS];
};

/* workers = ( { name, count, memory_gib, read_gb_per_s, int8_gops, link_mbit_per_s, link_ms }, … ).
 * ERR_CONFIG names file, line and key. */
int plan_machines_read(struct plan_machines *ret_machines, const char *path, struct err *err);
/* This machine as a worker of its own: "paceline-worker --measure" says what it does. */
int plan_machines_measure(struct plan_machines *ret_machines, const char *model, const char *mix,
                          struct err *err);
int plan_machines_count(const struct plan_machines *m);

#endif
