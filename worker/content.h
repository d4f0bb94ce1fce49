/* content.h - where a stage's tensors come from: a model file of this machine with the same
 * content, the cache, the coordinator, or another worker. From a Load it makes a weight file whose
 * tensors appear when they are needed, each chunk verified; and it gives to others what it has. */
#ifndef PACELINE_WORKER_CONTENT_H
#define PACELINE_WORKER_CONTENT_H

#include "base/err.h"
#include "model/model_config.h"
#include "model/weight_file.h"
#include "proto/cluster.pb-c.h"
#include "proto/keys.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct content;

/* For the process, once, before threads: memory of a few chunks that are done with is kept for the
 * next ones, which would have to be faulted in anew each time. content_give_memory_back() ends it
 * for the moment: when a load is over. */
void content_keep_memory(void);
void content_give_memory_back(void);

struct content_spec {
    void *zmq;                    /* wire_context(), borrowed */
    const struct key_pair *own;   /* borrowed; NULL: plain links */
    const char *coordinator_host; /* stands in for "*" in the endpoints of a Load */
    const char *host;             /* to listen on; NULL: nothing is given to others */
    const char *advertised_host;  /* what others are told; NULL: host */
    const char *models_dir;       /* or NULL */
    const char *cache_dir;        /* or NULL */
    int64_t cache_bytes;          /* 0: no cache; CONTENT_CACHE_AUTO */
    bool ignores_files;           /* neither the coordinator's path nor models_dir is looked at */
    bool ships;                   /* what is not here is fetched */
    int stall_ms, give_up_ms;     /* of content_fetch.h; 0: its defaults */
    /* Words for the log, from any thread; may be NULL. */
    void (*tell)(bool is_fault, const char *text);
};

/* Strings of the spec are copied. A cache that cannot be used is told, and done without. */
int content_open(struct content **ret_content, const struct content_spec *spec, struct err *err);
/* After all weight files that it made are closed. NULL is fine. */
void content_close(struct content *c);
/* "tcp://HOST:PORT" where it gives tensors to others, or "". */
const char *content_endpoint(const struct content *c);

/* The model's configuration, and its tensors of the stage. They are closed with
 * weight_file_close(), which ends what is fetched. `load` is copied; `cancelled` (may be NULL) is
 * borrowed as long as tensors are provided. ERR_MODEL, ERR_NETWORK: what the Load says does not fit
 * together, or there is no file and nothing is fetched. */
int content_load(struct content *c, const Paceline__Load *load, const atomic_bool *cancelled,
                 struct model_config *ret_config, struct weight_file **ret_file, struct err *err);

/* Of the load that began last, and is not closed. */
struct content_progress {
    unsigned serial; /* of this process's loads; a load that keeps its stage has none */
    uint32_t deployment;
    uint64_t epoch;
    int64_t fetch_bytes, fetched_bytes, bytes_per_second;
    int64_t coordinator_bytes; /* of those fetched */
};
bool content_progress(struct content *c, struct content_progress *ret_progress);
/* With keys: to whom alone parts are given from now on. */
int content_let_in(struct content *c, const unsigned char (*keys)[KEYS_BYTES], size_t n,
                   struct err *err);
int64_t content_sent_bytes(const struct content *c); /* to others */

/* Changes whenever there is more to give. */
unsigned content_generation(const struct content *c);
/* Digests of what it can give whole: from the loads of now, then from the cache. */
#define CONTENT_MAX_HAVE 4096
size_t content_have(struct content *c, unsigned char (*to)[32], size_t most);

#endif
