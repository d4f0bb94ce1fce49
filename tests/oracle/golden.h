/* golden.h - expected logits, hidden states and continuations of one model file, and how far a
 * result is from them. */
#ifndef PACELINE_TESTS_ORACLE_GOLDEN_H
#define PACELINE_TESTS_ORACLE_GOLDEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct golden_prompt {
    int n;
    uint32_t *ids;
    size_t logits_row; /* of its first token */
    int n_greedy;
    uint32_t *greedy; /* continuation by argmax */
    double *margin;   /* best logit minus second, at each step */
};

struct golden {
    int vocabulary;
    size_t rows;
    float *logits; /* [rows, vocabulary] */
    int n_prompts;
    struct golden_prompt *prompts;
    int hidden_entries, hidden_rows, hidden_size; /* entries 0: no hidden states */
    float *hidden;                                /* [entries, rows, size] */
};

/* Fail the test when a file is not what it should be. */
void golden_read(struct golden *g, const char *path);
void golden_clear(struct golden *g);
/* prompts: a JSON array of objects with ids, greedy and greedy_margin. */
struct golden_prompt *golden_read_prompts(const json_t *prompts, int *ret_n);
void golden_clear_prompts(struct golden_prompt *prompts, int n);

struct golden_distance {
    double max_abs;         /* |Δlogit| */
    double max_relative;    /* |Δlogit| / the row's range */
    double mean_kl, max_kl; /* KL(golden ‖ other) */
    size_t rows, same_argmax;
    size_t wrong_argmax; /* another argmax where the margin is above `margin` */
};

void golden_measure(const struct golden *g, const float *logits, double margin,
                    struct golden_distance *ret_distance);
int golden_argmax(const float *row, int n);

#endif
