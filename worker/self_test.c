#include "worker/self_test.h"

#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "proto/block_sum.h"
#include "worker/layer.h"
#include "worker/self_test_weights.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* A piece of a prompt, across the end of a block, then a token behind it: the kernels for many rows
 * and those for one, and the merging of blocks. The positions before hold zeros. */
enum {
    PROMPT_FIRST = 56,
    PROMPT_ROWS = 18,
    MOST_ROWS = PROMPT_ROWS,
    BLOCKS = 2,
    INPUT_SEQUENCE = 1 << 20
};

/* One thread's own. */
struct self_test_bench {
    const struct self_test_weights *weights;
    struct region region;
    struct kv_store kv;
    struct workspace work;
    struct activations *activations;
    float *logits;            /* [SELF_TEST_LOGITS] */
    struct block_summer *sum; /* of all that is computed */
};

static const struct batch_limits self_test_limits = {.max_rows = MOST_ROWS,
                                                     .max_sequences = 1,
                                                     .max_outputs = 1,
                                                     .max_context = BLOCKS * KV_BLOCK_TOKENS,
                                                     .kv_blocks = BLOCKS,
                                                     .vocabulary = SELF_TEST_LOGITS};

static void self_test_place(struct self_test_bench *b)
{
    const struct model_config *c = &b->weights->model;
    kv_store_init(&b->kv, c, KV_F16, SELF_TEST_LAYERS, &self_test_limits);
    kv_store_place(&b->kv, &self_test_limits, &b->region);
    workspace_place(&b->work, c, &b->kv.shape, &self_test_limits, 1, &b->region);
    b->logits = region_take(&b->region, SELF_TEST_LOGITS, sizeof(float));
}

static int self_test_open(struct self_test_bench *b, const struct self_test_weights *weights,
                          const struct kernels *k, struct err *err)
{
    const struct model_config *c = &weights->model;
    *b = (struct self_test_bench){.weights = weights};
    self_test_place(b);
    int rc = region_claim(&b->region, err);
    if (rc != 0)
        return rc;
    self_test_place(b);
    b->activations = activations_new(MOST_ROWS, workspace_max_columns(c));
    b->sum = block_summer_new();
    if (!b->activations || !b->sum)
        return err_set(err, ERR_MEMORY, "no memory for the self-test");
    workspace_prepare(&b->work, k, c, b->activations);
    block_summer_begin(b->sum);
    return 0;
}

static void self_test_close(struct self_test_bench *b)
{
    activations_free(b->activations);
    block_summer_free(b->sum);
    region_release(&b->region);
}

static void self_test_add(struct self_test_bench *b, const float *values, int columns)
{
    block_summer_add(b->sum, values, (size_t)b->work.n_rows * (size_t)columns * sizeof *values);
}

/* What a layer has left: rounding further on must not hide a bit that is wrong here. */
static void self_test_add_layer(struct self_test_bench *b)
{
    const struct model_config *c = &b->weights->model;
    const int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    self_test_add(b, b->work.q, q);
    self_test_add(b, b->work.k, kv);
    self_test_add(b, b->work.v, kv);
    self_test_add(b, b->work.mixed, q);
    self_test_add(b, b->work.gate, c->intermediate_size);
    self_test_add(b, b->work.up, c->intermediate_size);
    self_test_add(b, b->work.normed, c->hidden_size);
    self_test_add(b, b->work.x, c->hidden_size);
}

static int self_test_forward(struct self_test_bench *b, uint32_t round, uint32_t position,
                             uint32_t n_rows, struct err *err)
{
    static const uint32_t blocks[BLOCKS] = {0, 1};
    const struct batch_sequence sequence = {
        .position = position, .count = n_rows, .n_blocks = BLOCKS, .blocks = blocks};
    const struct batch batch = {.n_rows = n_rows, .n_sequences = 1, .sequences = &sequence};
    const size_t n = (size_t)n_rows * (size_t)b->weights->model.hidden_size;
    int rc = kv_store_update(&b->kv, &batch, err);
    if (rc != 0)
        return rc;
    workspace_begin(&b->work, &batch, &b->kv);
    for (size_t i = 0; i < n; i++)
        b->work.x[i] = self_test_uniform(INPUT_SEQUENCE + round, position << 16 | (uint32_t)i);
    for (int i = 0; i < SELF_TEST_LAYERS; i++) {
        layer_forward(&b->work, &b->weights->layers[i], &b->kv, i);
        self_test_add_layer(b);
    }
    return 0;
}

static void self_test_head(struct self_test_bench *b)
{
    const struct model_config *c = &b->weights->model;
    const size_t hidden = (size_t)c->hidden_size;
    rmsnorm(b->work.kernels, b->work.normed, hidden, b->work.x, hidden,
            b->weights->layers[0].attention_norm, 1, c->hidden_size, c->rms_eps);
    activations_load(b->activations, b->work.normed, 1, c->hidden_size);
    matmul(b->work.kernels, b->logits, SELF_TEST_LOGITS, &b->weights->head, b->activations);
    self_test_add(b, b->logits, SELF_TEST_LOGITS);
}

static int self_test_compute(const struct self_test_weights *weights, const struct kernels *k,
                             uint32_t round, uint64_t *ret_answer, struct err *err)
{
    struct self_test_bench b;
    int rc = self_test_open(&b, weights, k, err);
    if (rc == 0)
        rc = self_test_forward(&b, round, PROMPT_FIRST, PROMPT_ROWS, err);
    if (rc == 0)
        rc = self_test_forward(&b, round, PROMPT_FIRST + PROMPT_ROWS, 1, err);
    if (rc == 0) {
        self_test_head(&b);
        *ret_answer = block_summer_end(b.sum);
    }
    self_test_close(&b);
    return rc;
}

static void self_test_count(struct self_test_result *r, uint64_t answer, int processor)
{
    int i = 0;
    while (i < r->n_answers && r->answers[i].answer != answer)
        i++;
    if (i == SELF_TEST_ANSWERS)
        i--;
    else if (i == r->n_answers)
        r->answers[r->n_answers++] = (struct self_test_answer){answer, 0, processor};
    r->answers[i].n_threads++;
}

void self_test_run(const struct kernels *k, uint32_t round, struct self_test_result *ret_result)
{
    struct self_test_weights weights;
    struct self_test_result r = {.round = round};
    int rc = self_test_weights_make(&weights, &r.failure);
#pragma omp parallel if (rc == 0)
    if (rc == 0) {
        uint64_t answer = 0;
        struct err err = {0};
        omp_set_num_threads(1); /* for what the kernels open inside: all is this thread's */
        const int processor = sched_getcpu();
        const int failed = self_test_compute(&weights, k, round, &answer, &err);
#pragma omp critical(self_test_results)
        if (failed)
            r.failure = err;
        else
            self_test_count(&r, answer, processor);
    }
    self_test_weights_clear(&weights);
    *ret_result = r;
}
