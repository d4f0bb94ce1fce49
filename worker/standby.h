/* standby.h - layers of an idle worker, packed before a plan needs them: a stage of them is made at
 * once, so that after a loss only tokens have to be replayed. No KV, no working memory. */
#ifndef PACELINE_WORKER_STANDBY_H
#define PACELINE_WORKER_STANDBY_H

#include "base/err.h"
#include "proto/cluster.pb-c.h"
#include "worker/content.h"
#include "worker/packs.h"
#include "worker/weights.h"

#include <stdint.h>

struct standby;

struct standby_spec {
    const Paceline__Load *load;
    struct content *content;    /* borrowed; outlives the standby */
    struct packs *packs;        /* the same */
    int64_t memory_bytes;       /* offered; 0: no limit */
    struct weights_watch watch; /* for the call */
    /* Called once what is packed already is held, before what nobody holds is freed; may be NULL.
     */
    void (*claimed)(void *context);
    void *context;
};

/* Has the layers of the load provided, verified and packed. On failure what is packed stays until
 * packs_trim(). ERR_MEMORY: they are more than is offered. */
int standby_new(struct standby **ret_standby, const struct standby_spec *spec, struct err *err);
void standby_free(struct standby *s); /* its packs stay until packs_trim(); NULL is fine */
uint64_t standby_epoch(const struct standby *s);
int64_t standby_bytes(const struct standby *s); /* of memory */

#endif
