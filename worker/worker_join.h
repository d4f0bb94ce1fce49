/* worker_join.h - before a worker runs: which coordinator it belongs to, and with which keys. */
#ifndef PACELINE_WORKER_WORKER_JOIN_H
#define PACELINE_WORKER_WORKER_JOIN_H

#include "worker/worker_settings.h"

/* With an invite (--join) enrolls first, which waits for the coordinator for some seconds. Then
 * fills the derived fields of the settings: address, encryption, keys. ERR_CONFIG: connections
 * would be plain beyond this machine, or the worker is enrolled nowhere; ERR_NETWORK: the
 * coordinator does not answer the invite. */
int worker_join(struct worker_settings *s, struct err *err);
/* The coordinator that it has enrolled at is at s->coordinator_host from now on. */
int worker_join_keep_address(const struct worker_settings *s, struct err *err);

#endif
