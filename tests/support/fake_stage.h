/* fake_stage.h - the only stage of a pipeline, made of hashes instead of weights.
 *
 * What attention would leave in a KV block is a hash of all the tokens up to that position, read
 * and written through the block tables that the steps bring. A sampled token is a function of that
 * hash and of the counts that the penalties use, so it is right only if every token before it was
 * computed once, in order, into blocks that nobody else wrote to. */
#ifndef PACELINE_TESTS_SUPPORT_FAKE_STAGE_H
#define PACELINE_TESTS_SUPPORT_FAKE_STAGE_H

#include "coordinator/request.h"
#include "proto/step_message.h"

#define FAKE_STAGE_QUEUE  160
#define FAKE_STAGE_HIDDEN 7

struct fake_sequence {
    uint32_t *table; /* [blocks of a whole context] */
    uint32_t n_blocks;
    uint32_t *generated; /* [vocabulary] */
    bool *in_prompt;     /* [vocabulary] */
};

struct fake_stage {
    struct batch_limits limits;
    void *in, *out;
    uint64_t *kv; /* [kv_blocks][KV_BLOCK_TOKENS] */
    struct fake_sequence *sequences;
    struct step_message queue[FAKE_STAGE_QUEUE]; /* received and checked, not yet computed */
    int n_queued;
    uint64_t n_rows; /* computed so far */
    bool damages;    /* the next results, on their way */
    bool is_blind;   /* a step was lost: what comes out is nonsense until forget() */
};

/* Binds `in` to the endpoint. */
void fake_stage_open(struct fake_stage *s, void *zmq, const struct batch_limits *limits,
                     const char *endpoint);
/* Where results go; what is in the queue is dropped. */
void fake_stage_connect(struct fake_stage *s, void *zmq, const char *results);
void fake_stage_close(struct fake_stage *s);
/* A new plan: blocks hold garbage, tables and counts are gone. */
void fake_stage_forget(struct fake_stage *s);
/* Takes all the steps that are there into the queue, each checked as a worker would; how many. */
int fake_stage_receive(struct fake_stage *s);
/* Computes the oldest step of the queue and sends its results. false: there is none. */
bool fake_stage_answer(struct fake_stage *s);
/* As if it were n_stages of them that took so long. */
bool fake_stage_answer_timed(struct fake_stage *s, const uint32_t *compute_us,
                             const uint32_t *wait_us, int n_stages);
/* The oldest step is lost; later ones are answered as a stage would that has not noticed. */
void fake_stage_lose(struct fake_stage *s);

/* What the stage must have answered, computed from the tokens alone. */
uint32_t fake_stage_token(const uint32_t *tokens, int n_tokens, int n_prompt,
                          const struct batch_sampling *sampling, int choice, uint32_t vocabulary);
float fake_stage_score(const uint32_t *tokens, int n_tokens, uint32_t target);
/* The hidden state: [FAKE_STAGE_HIDDEN]. */
void fake_stage_state(const uint32_t *tokens, int n_tokens, float *to);
void fake_stage_logits(const uint32_t *tokens, int n_tokens, float *to, uint32_t vocabulary);

#endif
