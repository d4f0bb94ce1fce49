/* worker_finder.h - hears beacons of coordinators (beacon.h) and judges which one to believe: of
 * the coordinator that this worker has enrolled at, or with --insecure of a plain cluster of its
 * name. Those of others are told once. */
#ifndef PACELINE_WORKER_WORKER_FINDER_H
#define PACELINE_WORKER_WORKER_FINDER_H

#include "proto/beacon.h"
#include "worker/worker_settings.h"

struct worker_finder {
    int fd; /* -1: it hears nothing */
    bool told_foreign, told_locked;
};

/* Listens if the settings want it and name no coordinator. */
void worker_finder_open(struct worker_finder *f, const struct worker_settings *s);
void worker_finder_close(struct worker_finder *f);
/* Takes what was heard. true: a believed coordinator is at another address than the settings say.
 */
bool worker_finder_look(struct worker_finder *f, const struct worker_settings *s,
                        char ret_host[BEACON_HOST], int *ret_port);
/* The judgement alone. */
bool worker_finder_believes(struct worker_finder *f, const struct worker_settings *s,
                            const struct beacon *b, const char *host);

#endif
