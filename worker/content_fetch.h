/* content_fetch.h - gets chunks of tensors from the coordinator and from other workers, from
 * several at once: a thread with a DEALER socket for each source, which asks for as much as a
 * source answers in time. What arrives is queued, for others to verify and to store.
 *
 * The first source is the coordinator. It tells where a chunk went a moment ago, so that what many
 * need leaves it once and goes round between them. */
#ifndef PACELINE_WORKER_CONTENT_FETCH_H
#define PACELINE_WORKER_CONTENT_FETCH_H

#include "base/err.h"
#include "proto/content_message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTENT_FETCH_MAX_SOURCES 16
/* Chunks asked for or waiting to be verified: what is held in memory at most. */
#define CONTENT_FETCH_WINDOW 8

struct content_fetch_source {
    char endpoint[CONTENT_ENDPOINT_BYTES];
    char name[64];
    unsigned char server_key[32]; /* of an encrypted connection */
    bool has_key;
};

struct content_fetch_tensor {
    unsigned char digest[CONTENT_DIGEST_BYTES];
    const char *name;
    size_t bytes;
};

struct content_fetch_spec {
    void *zmq;                  /* context, borrowed */
    const char *own_endpoint;   /* where this worker gives what it has; borrowed */
    const struct key_pair *own; /* borrowed; NULL: plain links */
    size_t n_sources;
    const struct content_fetch_source *sources; /* copied */
    size_t n_tensors;
    const struct content_fetch_tensor *tensors; /* borrowed */
    int stall_ms;   /* a source that owes something and is silent for so long stalls; 0: 5 s */
    int give_up_ms; /* so long without a good chunk from anyone is a failure; 0: 60 s */
    /* Words for the log, from any thread. */
    void (*tell)(void *context, const char *text);
    void *context;
};

struct content_fetch;
int content_fetch_open(struct content_fetch **ret_fetch, const struct content_fetch_spec *spec,
                       struct err *err);
void content_fetch_close(struct content_fetch *f); /* NULL is fine */

/* This chunk is missing. Once for each. */
void content_fetch_want(struct content_fetch *f, size_t tensor, size_t chunk);
/* Somebody waits for this tensor: its chunks come first, until it is called with false. */
void content_fetch_hurry(struct content_fetch *f, size_t tensor, bool hurry);
/* From now on nothing is fetched for which nobody waits. */
void content_fetch_restrain(struct content_fetch *f);

struct content_arrival {
    size_t tensor, chunk;
    int source;
    zmq_msg_t frame; /* of exactly the chunk's size */
};
/* Waits for a chunk, or for anything else to change, up to wait_ms. true: *ret_arrival is the
 * caller's, to be settled. */
bool content_fetch_take(struct content_fetch *f, int wait_ms, struct content_arrival *ret_arrival);
/* Closes the frame. Not good: the source is not asked any more, and the chunk is missing again. */
void content_fetch_settle(struct content_fetch *f, struct content_arrival *a, bool good);
/* 0, or why what is missing will not come. */
int content_fetch_failure(struct content_fetch *f, struct err *err);

struct content_fetch_state {
    int64_t wanted_bytes, good_bytes, bytes_per_second;
    int64_t coordinator_bytes; /* good ones, from the first source */
    size_t n_sources;          /* that gave something */
};
void content_fetch_state(struct content_fetch *f, struct content_fetch_state *ret_state);

#endif
