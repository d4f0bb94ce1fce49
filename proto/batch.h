/* batch.h - the rows of one step, as plain arrays: what the scheduler fills, what forward.proto
 * carries, and what a stage executes. */
#ifndef PACELINE_PROTO_BATCH_H
#define PACELINE_PROTO_BATCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define BATCH_TOP_LOGPROBS 20
/* BATCH_LOGITS and BATCH_EMBED outputs of one batch: the last stage keeps all their rows. */
#define BATCH_LOGIT_ROWS 32
#define BATCH_BIASES     1024
#define BATCH_FORBIDDEN  64

struct batch_sequence {
    uint32_t sequence;    /* slot */
    uint32_t position;    /* of its first token in this batch */
    uint32_t count;       /* tokens in this batch, at least 1 */
    uint32_t first_block; /* blocks[] replace the block table from this index on */
    uint32_t n_blocks;
    const uint32_t *blocks;
    uint32_t copy_from; /* 1 + block to be copied into the last of blocks[] first; 0: none */
};

struct batch_bias {
    uint32_t token;
    float bias;
};

struct batch_count {
    uint32_t token;
    uint32_t generated; /* absolute */
    bool in_prompt;
};

/* Meaning and order of operations: docs/numerics.md, "Sampling". */
struct batch_sampling {
    uint64_t seed;
    uint32_t choice;
    float temperature, top_p, min_p;
    uint32_t top_k;
    float repetition_penalty, frequency_penalty, presence_penalty;
    uint32_t n_bias;
    const struct batch_bias *bias;
    bool counts_reset;
    uint32_t n_counts;
    const struct batch_count *counts;
    bool logprobs;
    uint32_t top_logprobs;
    uint32_t n_forbidden;
    const uint32_t *forbidden;
    uint32_t n_mask;           /* bytes; 0: every token is possible */
    const unsigned char *mask; /* proto/token_mask.h */
};

/* = OutputKind on the wire */
enum batch_output_kind { BATCH_SAMPLE, BATCH_LOGITS, BATCH_SCORE, BATCH_EMBED };

struct batch_output {
    uint32_t row; /* of the batch, strictly ascending */
    uint32_t sequence;
    enum batch_output_kind kind;
    uint64_t position;              /* of the token to be chosen */
    uint32_t target;                /* BATCH_SCORE */
    struct batch_sampling sampling; /* BATCH_SAMPLE; BATCH_SCORE: top_logprobs alone */
};

struct batch {
    uint32_t deployment;
    uint64_t epoch, step;
    uint32_t n_rows;
    const uint32_t *tokens; /* [n_rows] */
    uint32_t n_sequences;
    const struct batch_sequence *sequences;
    uint32_t n_outputs;
    const struct batch_output *outputs;
};

struct batch_limits {
    uint32_t max_rows, max_sequences, max_outputs, max_context, kv_blocks, vocabulary;
};

/* Floats of the row that an output of the kind brings back. */
uint32_t batch_row_values(enum batch_output_kind kind, uint32_t vocabulary, uint32_t hidden);

struct batch_token_logprob {
    uint32_t token;
    float logprob;
};

struct batch_result {
    uint32_t row, sequence;
    enum batch_output_kind kind;
    uint32_t token;
    float logprob;
    uint32_t n_top;
    struct batch_token_logprob top[BATCH_TOP_LOGPROBS];
    bool not_a_number;
};

/* Every number against the limits, rows against sequences, outputs against rows: a batch that
 * passes cannot make a stage read or write where it should not. */
int batch_check(const struct batch *b, const struct batch_limits *limits, struct err *err);

/* The same for the sampling parameters alone: what fails here must not be scheduled. */
int batch_check_sampling(const struct batch_sampling *s, const struct batch_limits *limits,
                         struct err *err);

#endif
