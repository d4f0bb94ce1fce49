/* worker_door.h - whom this worker's bound sockets let in: the neighbour upstream that the newest
 * plans name, and for content the workers that are here now. It belongs to the control thread,
 * which stays free while the other computes. */
#ifndef PACELINE_WORKER_WORKER_DOOR_H
#define PACELINE_WORKER_WORKER_DOOR_H

#include "proto/cluster.pb-c.h"
#include "proto/zap.h"

#include <stddef.h>

#define WORKER_DOOR_PLANS 2 /* the one in force, and the one that is to follow */

struct worker_door {
    struct zap zap;
    unsigned char coordinator_key[KEYS_BYTES];
    unsigned char upstream[WORKER_DOOR_PLANS][KEYS_BYTES]; /* the newest plan's first */
    int n_upstream;
    unsigned char (*peers)[KEYS_BYTES]; /* and the coordinator's; none until they are told */
    size_t n_peers;
    int64_t last_told_ms; /* of strangers; 0: never */
};

/* Before any socket of the context is bound. */
int worker_door_open(struct worker_door *d, void *zmq,
                     const unsigned char coordinator_key[KEYS_BYTES], struct err *err);
void worker_door_close(struct worker_door *d); /* after them */
/* Those of all workers, in place of those before. */
int worker_door_on_peers(struct worker_door *d, const ProtobufCBinaryData *keys, size_t n,
                         struct err *err);
int worker_door_on_load(struct worker_door *d, const Paceline__Load *load, struct err *err);
/* Lets in who may come; never waits. */
void worker_door_serve(struct worker_door *d);

#endif
