/* content_plan.h - which chunk is asked for next, and of whom: what is missing, what somebody
 * waits for, and what the coordinator said of who was given a chunk before. A table without a
 * lock, for content_fetch.c. */
#ifndef PACELINE_WORKER_CONTENT_PLAN_H
#define PACELINE_WORKER_CONTENT_PLAN_H

#include "worker/content_fetch.h"

enum content_chunk_state {
    CONTENT_DONE, /* or never wanted */
    CONTENT_WANTED,
    CONTENT_ASKED,
    CONTENT_HELD /* arrived, and being verified */
};

#define CONTENT_PLAN_HURRIED 256
#define CONTENT_PLAN_HINTS   256

struct content_hint {
    size_t at; /* chunk, counted over all tensors */
    int source;
    int64_t coming_since_ms; /* since when it says that it is coming; 0: it was not asked yet */
    int64_t not_before_ms;
};

struct content_plan {
    size_t n_tensors;
    size_t *firsts;        /* [n_tensors + 1]: each tensor's first chunk, counted over all */
    unsigned char *states; /* [chunks], with a flag for those on which the coordinator must give */
    size_t n_wanted;
    /* Where each worker begins: this one, when it asks the coordinator, and the others. So they do
     * not all ask for the same, and are asked for what they are likely to have. */
    size_t starts[CONTENT_FETCH_MAX_SOURCES];
    bool shares, turn, only_hurried;
    size_t hurried[CONTENT_PLAN_HURRIED];
    size_t n_hurried;
    struct content_hint hints[CONTENT_PLAN_HINTS];
    size_t n_hints;
};

struct content_pick {
    size_t tensor, chunk;
    bool insist;
};

/* endpoints: this worker's, then those of other workers that can be asked, by source. */
int content_plan_init(struct content_plan *p, const struct content_fetch_tensor *tensors,
                      size_t n_tensors, const char *const *endpoints, int n_endpoints,
                      struct err *err);
void content_plan_clear(struct content_plan *p);
enum content_chunk_state content_plan_state(const struct content_plan *p, size_t tensor,
                                            size_t chunk);
void content_plan_set(struct content_plan *p, size_t tensor, size_t chunk,
                      enum content_chunk_state state);
bool content_plan_wants(const struct content_plan *p); /* anything */
size_t content_plan_first_wanted(const struct content_plan *p);
void content_plan_hurry(struct content_plan *p, size_t tensor, bool hurry);
/* A wanted chunk for this source; blind: also one of which nobody knows that this worker has it. */
bool content_plan_pick(struct content_plan *p, int source, bool blind, int64_t now_ms,
                       struct content_pick *ret_pick);
/* The coordinator gave this chunk to that source; -1: to one that is unknown here, so that the
 * coordinator is asked again at once. */
void content_plan_hint(struct content_plan *p, size_t tensor, size_t chunk, int source,
                       int64_t now_ms);
/* It does not have it yet: until then it is not asked for it. false: it was not said to have it. */
bool content_plan_defer(struct content_plan *p, size_t tensor, size_t chunk, int source,
                        int64_t now_ms, int64_t until_ms);
void content_plan_forget_source(struct content_plan *p, int source);

#endif
