/* worker_measure.h - "paceline-worker --measure": what this machine does with a model's layers. */
#ifndef PACELINE_WORKER_WORKER_MEASURE_H
#define PACELINE_WORKER_WORKER_MEASURE_H

#include "kernels/kernels.h"
#include "worker/placement.h"
#include "worker/worker_settings.h"

/* Prints one JSON object. */
int worker_measure(const struct worker_settings *s, const struct kernels *kernels,
                   const struct placement *placement, struct err *err);

#endif
