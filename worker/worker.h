/* worker.h - the control thread: hello, heartbeats, plans in, news out, signals. */
#ifndef PACELINE_WORKER_WORKER_H
#define PACELINE_WORKER_WORKER_H

#include "base/err.h"
#include "kernels/kernels.h"
#include "worker/placement.h"
#include "worker/worker_settings.h"

/* settings: after worker_join(); a coordinator that moved is followed, and its address kept there.
 * placement: as the compute threads take it; NULL: they run anywhere.
 * Runs until SIGTERM or SIGINT (0), or until the coordinator refuses it (ERR_NETWORK). */
int worker_run(struct worker_settings *settings, const struct kernels *kernels,
               const struct placement *placement, struct err *err);

#endif
