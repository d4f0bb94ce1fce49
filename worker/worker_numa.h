/* worker_numa.h - one worker for each NUMA node: a parent that starts them, passes signals on and
 * ends when they have ended. */
#ifndef PACELINE_WORKER_WORKER_NUMA_H
#define PACELINE_WORKER_WORKER_NUMA_H

#include "base/err.h"
#include "worker/worker_settings.h"

#include <stdbool.h>

/* On a machine with one node: returns 0, and the caller goes on as the only worker. With more, a
 * child for each returns like that, bound to the node's cores and memory; the parent returns when
 * all have ended: 0, or the code of the first that failed. One that ends by itself ends the others.
 * Children are NAME-0, NAME-1 …, listen on the port of `data` plus their number, and share what
 * memory the machine offers. */
int worker_numa(struct worker_settings *settings, bool *ret_is_parent, struct err *err);

#endif
