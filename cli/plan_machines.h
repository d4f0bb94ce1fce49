/* plan_machines.h - machines of a plan: described in a file, or this one, measured. */
#ifndef PACELINE_CLI_PLAN_MACHINES_H
#define PACELINE_CLI_PLAN_MACHINES_H

#include "base/err.h"
#include "coordinator/plan_machine.h"

/* workers = ( { name, count, memory_gib, read_gb_per_s, int8_gops, link_mbit_per_s, link_ms }, … ).
 * ERR_CONFIG names file, line and key. */
int plan_machines_read(struct plan_machines *ret_machines, const char *path, struct err *err);
/* This machine as a worker of its own: "paceline-worker --measure" says what it does. */
int plan_machines_measure(struct plan_machines *ret_machines, const char *model, const char *mix,
                          struct err *err);

#endif
