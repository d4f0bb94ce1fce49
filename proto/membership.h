/* membership.h - what a worker knows of the cluster that it was enrolled in: the file `cluster` of
 * its trust folder, one line "HOST:PORT KEY NAME". */
#ifndef PACELINE_PROTO_MEMBERSHIP_H
#define PACELINE_PROTO_MEMBERSHIP_H

#include "proto/trust_store.h"

struct membership {
    char host[256]; /* of the coordinator */
    int port;
    unsigned char coordinator_key[KEYS_BYTES];
    char name[64]; /* as the cluster calls this worker */
};

/* 1: *ret_membership is filled; 0: this worker is enrolled nowhere. */
int membership_read(const struct trust_store *s, struct membership *ret_membership,
                    struct err *err);
int membership_write(const struct trust_store *s, const struct membership *m, struct err *err);

#endif
