/* worker_loader.h - a thread that makes a stage, or a standby, from a Load, beside the one that
 * computes, and ends.
 *
 * It ends because its OpenMP team must go: while two teams outnumber the cores, the one that
 * computes would wait asleep. */
#ifndef PACELINE_WORKER_WORKER_LOADER_H
#define PACELINE_WORKER_WORKER_LOADER_H

#include "worker/assignment.h"
#include "worker/standby.h"
#include "worker/worker_runner.h"

#include <stdatomic.h>

struct worker_loader;

struct worker_loader_spec {
    const struct worker_runner_spec *runner; /* borrowed */
    struct packs *packs;                     /* borrowed */
    Paceline__Control *message;              /* the loader's from here on */
    const char *news_endpoint;               /* inproc PULL for struct worker_news */

    /* The rest are of the compute thread, called from the loader's, with `context`. */
    void *context;
    /* A hold on a stage of this key, or NULL; and what the stages there hold beside packs. */
    struct made_stage *(*find)(void *context, const unsigned char key[DIGEST_BYTES],
                               int64_t *ret_own_bytes);
    /* Has every stage dropped; returns when it is done. */
    void (*retire)(void *context);
    /* Takes the assignment over. */
    void (*install)(void *context, struct assignment *a);
    /* Takes the standby over, in the place of the one that is there; NULL: that one goes. */
    void (*stand_by)(void *context, struct standby *s);
};

int worker_loader_start(struct worker_loader **ret_loader, const struct worker_loader_spec *spec,
                        struct err *err);
uint64_t worker_loader_epoch(const struct worker_loader *l);
bool worker_loader_is_standby(const struct worker_loader *l); /* it makes no stage */
/* What is being loaded is not wanted any more. */
void worker_loader_cancel(struct worker_loader *l);
/* Waits for the thread, which has said WORKER_LOADED, or was cancelled; NULL is fine. */
void worker_loader_join(struct worker_loader *l);

#endif
