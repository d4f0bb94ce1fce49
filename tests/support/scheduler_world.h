/* scheduler_world.h - scheduler and pipeline over a fake stage, in one thread, for tests: requests
 * come, steps go, every answer is compared with the one that its tokens alone give. */
#ifndef PACELINE_TESTS_SUPPORT_SCHEDULER_WORLD_H
#define PACELINE_TESTS_SUPPORT_SCHEDULER_WORLD_H

#include "coordinator/scheduler.h"
#include "tests/support/fake_stage.h"

#include <stdint.h>

#define VOCABULARY     61 /* small, so that tokens repeat and counts grow */
#define WORLD_REQUESTS 24 /* at once */

struct world {
    void *zmq;
    struct pipeline pipeline;
    struct scheduler scheduler;
    struct fake_stage stage;
    struct batch_limits limits;
    int n_stages;
    uint64_t epoch;
    uint64_t random;
    struct request *requests[WORLD_REQUESTS];
    int n_requests;
    int n_finished, n_cancelled;
    struct choice *order[64]; /* that finished, as they did */
    const struct request *watched;
    int watched_n_cached; /* when it was finished */
};

/* A random number below that. */
uint32_t world_any(struct world *w, uint32_t below);
/* kv_blocks 0: a whole context for each slot */
struct scheduler_spec world_spec(int n_slots, int context, int max_rows, int max_outputs,
                                 int max_waiting, int kv_blocks);
/* Two tenants, unless the spec says how many. */
void world_open(struct world *w, uint64_t seed, int n_stages, struct scheduler_spec spec);
/* Nobody is there any more, and all blocks are back. */
void world_close(struct world *w);

/* A request of tokens that follow from the salt, which is also its seed. */
struct request *world_request(enum request_kind kind, int n_prompt, int max_tokens, int n_choices,
                              uint32_t salt);
/* One that generates, and whose prompt may be found again. */
struct request *world_request_cached(int n_prompt, int max_tokens, int n_choices, uint32_t salt);
/* The world's from now on; if it is refused (ERR_LIMIT, ERR_INPUT) it is gone. */
int world_add(struct world *w, struct request *r);
void world_drop(struct world *w, struct request *r); /* its client is gone */

void world_check(const struct world *w); /* blocks and slots are consistent */
void world_send(struct world *w);        /* the scheduler fills the pipeline */
void world_take(struct world *w);        /* what came back; the finished are verified and freed */
/* One step is sent, answered, taken. */
void world_turn(struct world *w);
/* Steps until all have finished; how many steps it took. */
int world_finish(struct world *w);
void world_renew(struct world *w); /* a new plan */

#endif
