/* Hostile batches: each differs from a good one in a single number, and must be refused. */
#include "proto/batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A good batch of three sequences, five rows and three outputs, to be spoiled. */
struct sample {
    struct batch_limits limits;
    uint32_t tokens[5];
    uint32_t blocks[3];
    struct batch_sequence sequences[3];
    struct batch_bias bias[2];
    struct batch_count counts[2];
    uint32_t forbidden[2];
    struct batch_output outputs[3];
    struct batch batch;
};

static void sample_fill(struct sample *s)
{
    memset(s, 0, sizeof *s);
    s->limits = (struct batch_limits){
        .max_rows = 8,
        .max_sequences = 4,
        .max_outputs = 4,
        .max_context = 128,
        .kv_blocks = 10,
        .vocabulary = 100,
    };
    memcpy(s->tokens, (uint32_t[]){0, 99, 5, 6, 7}, sizeof s->tokens);
    memcpy(s->blocks, (uint32_t[]){9, 0, 3}, sizeof s->blocks);
    s->sequences[0] = (struct batch_sequence){.sequence = 3,
                                              .position = 125,
                                              .count = 3,
                                              .first_block = 0,
                                              .n_blocks = 3,
                                              .blocks = s->blocks};
    s->sequences[1] = (struct batch_sequence){.sequence = 0, .position = 10, .count = 1};
    s->sequences[2] = (struct batch_sequence){.sequence = 1,
                                              .position = 64,
                                              .count = 1,
                                              .first_block = 1,
                                              .n_blocks = 1,
                                              .blocks = s->blocks};
    s->bias[0] = (struct batch_bias){.token = 99, .bias = -100};
    s->bias[1] = (struct batch_bias){.token = 0, .bias = 100};
    s->counts[0] = (struct batch_count){.token = 99, .generated = 2};
    s->counts[1] = (struct batch_count){.token = 4, .in_prompt = true};
    s->forbidden[0] = 99;
    s->outputs[0] = (struct batch_output){.row = 2, .sequence = 3, .kind = BATCH_LOGITS};
    s->outputs[1] =
        (struct batch_output){.row = 3, .sequence = 0, .kind = BATCH_SCORE, .target = 99};
    s->outputs[2] = (struct batch_output){.row = 4,
                                          .sequence = 1,
                                          .kind = BATCH_SAMPLE,
                                          .position = 65,
                                          .sampling = {.temperature = 0,
                                                       .top_p = 1,
                                                       .repetition_penalty = 1,
                                                       .n_bias = 2,
                                                       .bias = s->bias,
                                                       .n_counts = 2,
                                                       .counts = s->counts,
                                                       .n_forbidden = 2,
                                                       .forbidden = s->forbidden,
                                                       .logprobs = true,
                                                       .top_logprobs = 20}};
    s->batch = (struct batch){.n_rows = 5,
                              .tokens = s->tokens,
                              .n_sequences = 3,
                              .sequences = s->sequences,
                              .n_outputs = 3,
                              .outputs = s->outputs};
}

static void passes(const struct sample *s)
{
    struct err err = {0};
    int rc = batch_check(&s->batch, &s->limits, &err);
    if (rc != 0)
        fail_msg("refused: %s", err.text);
}

/* Refused, with a sentence that holds `word`: by the check that was meant, not by another. */
static void refused(const struct sample *s, const char *word)
{
    struct err err = {0};
    assert_int_equal(batch_check(&s->batch, &s->limits, &err), ERR_INPUT);
    if (!strstr(err.text, word))
        fail_msg("refused, but not for \"%s\": %s", word, err.text);
}

#define SPOILED(word, change)                                                                      \
    do {                                                                                           \
        struct sample s;                                                                           \
        sample_fill(&s);                                                                           \
        change;                                                                                    \
        refused(&s, word);                                                                         \
    } while (0)

static void test_good(void **state)
{
    struct sample s;
    sample_fill(&s);
    passes(&s);
    s.batch.n_outputs = 0; /* a chunk in the middle of a prompt */
    s.batch.outputs = NULL;
    passes(&s);
}

static void test_shape(void **state)
{
    SPOILED("are possible", s.batch.n_rows = 0);
    SPOILED("are possible", s.batch.n_rows = 9);
    SPOILED("are possible", s.batch.n_rows = UINT32_MAX);
    SPOILED("together", s.batch.n_rows = 4; s.batch.n_outputs = 2);
    SPOILED("sequences", s.batch.n_sequences = 0);
    SPOILED("sequences", s.batch.n_sequences = UINT32_MAX);
    SPOILED("sequences", s.limits.max_sequences = 2);
    SPOILED("outputs", s.batch.n_outputs = 5);
    SPOILED("outputs", s.limits.max_outputs = 2);
    SPOILED("content", s.batch.tokens = NULL);
    SPOILED("content", s.batch.sequences = NULL);
    SPOILED("content", s.batch.outputs = NULL);
    SPOILED("vocabulary", s.tokens[4] = 100);
    SPOILED("vocabulary", s.tokens[0] = UINT32_MAX);
}

static void test_sequences(void **state)
{
    SPOILED("below", s.sequences[0].sequence = 4);
    SPOILED("below", s.sequences[1].sequence = UINT32_MAX);
    SPOILED("twice", s.sequences[2].sequence = 3; s.outputs[2].sequence = 3);
    SPOILED("no token", s.sequences[1].count = 0);
    SPOILED("together", s.sequences[1].count = 2);
    SPOILED("together", s.sequences[0].count = 2);
    SPOILED("positions", s.sequences[0].position = 126);
    SPOILED("positions", s.sequences[0].position = UINT32_MAX);
    SPOILED("positions", s.sequences[1].count = UINT32_MAX);
    SPOILED("KV block", s.blocks[1] = 10);
    SPOILED("KV block", s.blocks[2] = UINT32_MAX);
    SPOILED("entry", s.sequences[0].first_block = 1);
    SPOILED("entry", s.sequences[2].first_block = UINT32_MAX);
    SPOILED("entry", s.sequences[2].n_blocks = UINT32_MAX);
    SPOILED("copies", s.sequences[2].copy_from = 11);
    SPOILED("copies", s.sequences[1].copy_from = 1);
    SPOILED("blocks", s.sequences[0].blocks = NULL);
}

static void test_outputs(void **state)
{
    SPOILED("ascend", s.outputs[2].row = 5);
    SPOILED("ascend", s.outputs[2].row = UINT32_MAX);
    SPOILED("ascend", s.outputs[1].row = 2);
    SPOILED("ascend", s.outputs[0].row = 4; s.outputs[0].sequence = 1);
    SPOILED("is of sequence", s.outputs[0].row = 3; s.batch.n_outputs = 1);
    SPOILED("is of sequence", s.outputs[1].sequence = 3);
    SPOILED("is of sequence", s.outputs[2].sequence = UINT32_MAX);
    SPOILED("kind", s.outputs[1].kind = (enum batch_output_kind)4);
    SPOILED("kind", s.outputs[1].kind = (enum batch_output_kind) - 1);
    SPOILED("target", s.outputs[1].target = 100);
    SPOILED("top log-probabilities", s.outputs[1].sampling.top_logprobs = 21);
}

static void test_sampling(void **state)
{
#define SPOILED_SAMPLING(word, field, value) SPOILED(word, s.outputs[2].sampling.field = (value))
    const float wrong[] = {-0.5F, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        SPOILED_SAMPLING("temperature", temperature, wrong[i]);
        SPOILED_SAMPLING("top_p", top_p, wrong[i]);
        SPOILED_SAMPLING("min_p", min_p, wrong[i]);
        SPOILED_SAMPLING("repetition", repetition_penalty, wrong[i]);
    }
    for (size_t i = 1; i < sizeof wrong / sizeof *wrong; i++) {
        SPOILED_SAMPLING("penalties", frequency_penalty, wrong[i]);
        SPOILED_SAMPLING("penalties", presence_penalty, wrong[i]);
        SPOILED("bias", s.bias[1].bias = wrong[i]);
    }
    SPOILED_SAMPLING("top_p", top_p, -0.001F);
    SPOILED_SAMPLING("top_p", top_p, 1.001F);
    SPOILED_SAMPLING("min_p", min_p, 1.001F);
    SPOILED_SAMPLING("repetition", repetition_penalty, 0);
    SPOILED_SAMPLING("top log", top_logprobs, 21);
    SPOILED_SAMPLING("too long", n_bias, 1025);
    SPOILED_SAMPLING("too long", n_counts, 257);
    SPOILED_SAMPLING("too long", n_counts, UINT32_MAX);
    SPOILED_SAMPLING("too long", n_forbidden, 65);
    SPOILED_SAMPLING("content", bias, NULL);
    SPOILED_SAMPLING("content", counts, NULL);
    SPOILED_SAMPLING("content", forbidden, NULL);
    SPOILED("bias", s.bias[0].token = 100);
    SPOILED("count names", s.counts[1].token = 100);
    SPOILED("forbidden", s.forbidden[1] = 100);
    static const unsigned char mask[] = {1, 100};
    SPOILED_SAMPLING("mask has a length", n_mask, 3);
    SPOILED("mask names a token", s.outputs[2].sampling.mask = mask;
            s.outputs[2].sampling.n_mask = sizeof mask);
}

/* As many rows of logits as the last stage keeps, and one more. */
static void test_logit_rows(void **state)
{
    enum { ROWS = BATCH_LOGIT_ROWS + 1 };
    uint32_t tokens[ROWS] = {0};
    struct batch_output outputs[ROWS];
    for (uint32_t i = 0; i < ROWS; i++)
        outputs[i] = (struct batch_output){.row = i, .sequence = 0, .kind = BATCH_LOGITS};
    struct sample s;
    sample_fill(&s);
    s.limits.max_rows = s.limits.max_outputs = ROWS;
    s.sequences[0] = (struct batch_sequence){.sequence = 0, .count = ROWS};
    s.batch = (struct batch){.n_rows = ROWS,
                             .tokens = tokens,
                             .n_sequences = 1,
                             .sequences = s.sequences,
                             .n_outputs = ROWS - 1,
                             .outputs = outputs};
    passes(&s);
    s.batch.n_outputs = ROWS;
    refused(&s, "logits");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),      cmocka_unit_test(test_shape),
        cmocka_unit_test(test_sequences), cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_sampling),  cmocka_unit_test(test_logit_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
