/* trust.h - the coordinator's keys and its door: who may connect, who may enroll, who is out.
 *
 * Threads: the event loop's alone. It waits for the disk for as long as an edit of a small file
 * takes: when a worker enrolls, and when `paceline` has edited the list. */
#ifndef PACELINE_COORDINATOR_TRUST_H
#define PACELINE_COORDINATOR_TRUST_H

#include "proto/allow_list.h"
#include "proto/wire.h"
#include "proto/zap.h"

struct trust {
    struct trust_store store;
    struct key_pair own;
    struct allow_list list;
    struct zap zap;
    int64_t last_look_ms; /* at the files */
    int64_t last_told_ms; /* of strangers; 0: never */
    struct err failure;   /* of the last look; told once */
};

/* folder: as trust_store_locate(). Opens the door of the context, so before any socket is bound. */
int trust_open(struct trust *t, void *zmq, const char *folder, struct err *err);
void trust_close(struct trust *t); /* after the sockets */
/* Lets in who knocks, looks after the files a few times a second. true: the list has changed. */
bool trust_run(struct trust *t);
bool trust_knows(const struct trust *t, const unsigned char key[KEYS_BYTES]);
/* `sender` has the token of a live invite, or key is its own and known. NULL: not let in; else the
 * name under which it is enrolled, for the moment. */
const char *trust_enroll(struct trust *t, const unsigned char sender[KEYS_BYTES],
                         const unsigned char key[KEYS_BYTES], const char *name);
/* Tells `paceline invite` where workers find this coordinator. */
int trust_tell_address(const struct trust *t, const char *host, int port, struct err *err);

#endif
