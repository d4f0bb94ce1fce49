/* plan_machine.h - machines of a plan, existing or not, by the figures that people give. */
#ifndef PACELINE_COORDINATOR_PLAN_MACHINE_H
#define PACELINE_COORDINATOR_PLAN_MACHINE_H

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

enum plan_figure {
    PLAN_COUNT,
    PLAN_MEMORY_GIB,
    PLAN_READ_GB,
    PLAN_INT8_GOPS,
    PLAN_LINK_MBIT,
    PLAN_LINK_MS,
    PLAN_THREADS,
    PLAN_FIGURES
};

struct plan_figure_rule {
    const char *name; /* as it is written in files and bodies */
    double initial;   /* NAN: it must be given */
    double least, most;
    bool is_whole; /* fractions of it make no sense */
};
extern const struct plan_figure_rule plan_figure_rules[PLAN_FIGURES];

bool plan_figure_fits(enum plan_figure f, double value);
/* name: NULL or "": the kind is called by its number, from 1; of a longer one the beginning is
 * kept. */
void plan_machine_describe(struct plan_machine_kind *ret_kind, const char *name, int number,
                           const double figures[PLAN_FIGURES]);
/* Of all kinds together. */
int plan_machines_count(const struct plan_machines *m);

#endif
