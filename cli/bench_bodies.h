/* bench_bodies.h - the bodies of a load's requests, made ahead by a thread of their own: a client
 * that made a long prompt between two reads would count that time as the server's. */
#ifndef PACELINE_CLI_BENCH_BODIES_H
#define PACELINE_CLI_BENCH_BODIES_H

#include "cli/bench_load.h"

#include <pthread.h>

struct bench_bodies {
    const struct bench_load_plan *plan; /* borrowed */
    pthread_t maker;
    bool has_maker;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t made, taken;
    char **ahead; /* ring of `most`: made, not taken */
    int most, first, n;
    size_t bytes;   /* in them */
    int64_t n_made; /* in all */
    bool is_stopping, is_done, has_failed;
};

/* Begins to make at most so many ahead, and no more than 64 MiB of them. bench_bodies_close on
 * success and failure alike. */
int bench_bodies_open(struct bench_bodies *b, const struct bench_load_plan *plan, int most,
                      struct err *err);
/* Returns when as many have been made as may be. */
void bench_bodies_wait(struct bench_bodies *b);
/* The next one, in the order of the requests; the caller frees it. NULL: it is not made yet. */
int bench_bodies_take(struct bench_bodies *b, char **ret_body, struct err *err);
void bench_bodies_close(struct bench_bodies *b);

#endif
