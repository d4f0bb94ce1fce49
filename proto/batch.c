#include "proto/batch.h"

#include "kernels/attention.h"
#include "proto/token_mask.h"

#include <math.h>
#include <stddef.h>

static int batch_check_shape(const struct batch *b, const struct batch_limits *l, struct err *err)
{
    if (b->n_rows < 1 || b->n_rows > l->max_rows)
        return err_set(err, ERR_INPUT, "a batch has %u rows, 1 to %u are possible", b->n_rows,
                       l->max_rows);
    if (b->n_sequences < 1 || b->n_sequences > l->max_sequences || b->n_sequences > b->n_rows)
        return err_set(err, ERR_INPUT, "a batch of %u rows has %u sequences, 1 to %u are possible",
                       b->n_rows, b->n_sequences, l->max_sequences);
    if (b->n_outputs > l->max_outputs || b->n_outputs > b->n_rows)
        return err_set(err, ERR_INPUT, "a batch of %u rows has %u outputs, at most %u are possible",
                       b->n_rows, b->n_outputs, l->max_outputs);
    if (!b->tokens || !b->sequences || (b->n_outputs > 0 && !b->outputs))
        return err_set(err, ERR_INPUT, "a batch has counts without content");
    for (uint32_t i = 0; i < b->n_rows; i++)
        if (b->tokens[i] >= l->vocabulary)
            return err_set(err, ERR_INPUT, "token %u of row %u is not in the vocabulary of %u",
                           b->tokens[i], i, l->vocabulary);
    return 0;
}

static int batch_check_sequence(const struct batch_sequence *s, const struct batch_limits *l,
                                struct err *err)
{
    uint32_t table_length = l->max_context / KV_BLOCK_TOKENS + 1;
    if (s->sequence >= l->max_sequences)
        return err_set(err, ERR_INPUT, "sequence %u is not below %u", s->sequence,
                       l->max_sequences);
    if (s->count < 1)
        return err_set(err, ERR_INPUT, "sequence %u has no token in the batch", s->sequence);
    if ((uint64_t)s->position + s->count > l->max_context)
        return err_set(err, ERR_INPUT, "sequence %u would have %llu positions, %u are possible",
                       s->sequence, (unsigned long long)s->position + s->count, l->max_context);
    if (s->n_blocks > 0 && !s->blocks)
        return err_set(err, ERR_INPUT, "sequence %u has a count of blocks without blocks",
                       s->sequence);
    if ((uint64_t)s->first_block + s->n_blocks > table_length)
        return err_set(err, ERR_INPUT,
                       "sequence %u has KV blocks up to entry %llu of a table of %u", s->sequence,
                       (unsigned long long)s->first_block + s->n_blocks, table_length);
    for (uint32_t i = 0; i < s->n_blocks; i++)
        if (s->blocks[i] >= l->kv_blocks)
            return err_set(err, ERR_INPUT, "sequence %u names KV block %u of %u", s->sequence,
                           s->blocks[i], l->kv_blocks);
    if (s->copy_from > l->kv_blocks || (s->copy_from && !s->n_blocks))
        return err_set(err, ERR_INPUT, "sequence %u copies KV block %u of %u into %u new ones",
                       s->sequence, s->copy_from - 1, l->kv_blocks, s->n_blocks);
    return 0;
}

static int batch_check_sequences(const struct batch *b, const struct batch_limits *l,
                                 struct err *err)
{
    uint64_t rows = 0;
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        int rc = batch_check_sequence(&b->sequences[i], l, err);
        if (rc != 0)
            return rc;
        rows += b->sequences[i].count;
        for (uint32_t j = 0; j < i; j++)
            if (b->sequences[j].sequence == b->sequences[i].sequence)
                return err_set(err, ERR_INPUT, "sequence %u is twice in the batch",
                               b->sequences[i].sequence);
    }
    if (rows != b->n_rows)
        return err_set(err, ERR_INPUT, "a batch of %u rows has sequences of %llu tokens together",
                       b->n_rows, (unsigned long long)rows);
    return 0;
}

static int batch_check_lists(const struct batch_sampling *s, const struct batch_limits *l,
                             struct err *err)
{
    if (s->n_bias > BATCH_BIASES || s->n_forbidden > BATCH_FORBIDDEN ||
        s->n_counts > 2 * (uint64_t)l->max_context)
        return err_set(err, ERR_INPUT,
                       "sampling lists are too long: %u biases, %u counts, %u forbidden tokens",
                       s->n_bias, s->n_counts, s->n_forbidden);
    if ((s->n_bias > 0 && !s->bias) || (s->n_counts > 0 && !s->counts) ||
        (s->n_forbidden > 0 && !s->forbidden))
        return err_set(err, ERR_INPUT, "a sampling list has a length without content");
    for (uint32_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].token >= l->vocabulary || !isfinite(s->bias[i].bias))
            return err_set(err, ERR_INPUT, "bias %g of token %u is impossible",
                           (double)s->bias[i].bias, s->bias[i].token);
    for (uint32_t i = 0; i < s->n_counts; i++)
        if (s->counts[i].token >= l->vocabulary)
            return err_set(err, ERR_INPUT, "a count names token %u, not in the vocabulary of %u",
                           s->counts[i].token, l->vocabulary);
    for (uint32_t i = 0; i < s->n_forbidden; i++)
        if (s->forbidden[i] >= l->vocabulary)
            return err_set(err, ERR_INPUT, "forbidden token %u is not in the vocabulary of %u",
                           s->forbidden[i], l->vocabulary);
    if (s->n_mask > 0 && !s->mask)
        return err_set(err, ERR_INPUT, "a token mask has a length without content");
    return s->n_mask ? token_mask_check(s->mask, s->n_mask, l->vocabulary, err) : 0;
}

/* Comparisons are written so that a NaN fails them. */
int batch_check_sampling(const struct batch_sampling *s, const struct batch_limits *l,
                         struct err *err)
{
    if (!(s->temperature >= 0 && isfinite(s->temperature)))
        return err_set(err, ERR_INPUT, "temperature %g is not 0 or more", (double)s->temperature);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return err_set(err, ERR_INPUT, "top_p %g is not between 0 and 1", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return err_set(err, ERR_INPUT, "min_p %g is not between 0 and 1", (double)s->min_p);
    if (!(s->repetition_penalty > 0 && isfinite(s->repetition_penalty)))
        return err_set(err, ERR_INPUT, "repetition penalty %g is not above 0",
                       (double)s->repetition_penalty);
    if (!isfinite(s->frequency_penalty) || !isfinite(s->presence_penalty))
        return err_set(err, ERR_INPUT, "penalties %g and %g are not finite",
                       (double)s->frequency_penalty, (double)s->presence_penalty);
    if (s->top_logprobs > BATCH_TOP_LOGPROBS)
        return err_set(err, ERR_INPUT, "%u top log-probabilities, at most %d are possible",
                       s->top_logprobs, BATCH_TOP_LOGPROBS);
    return batch_check_lists(s, l, err);
}

uint32_t batch_row_values(enum batch_output_kind kind, uint32_t vocabulary, uint32_t hidden)
{
    return kind == BATCH_LOGITS ? vocabulary : kind == BATCH_EMBED ? hidden : 0;
}

static int batch_check_output(const struct batch_output *o, const struct batch_limits *l,
                              struct err *err)
{
    switch (o->kind) {
    case BATCH_SAMPLE:
        return batch_check_sampling(&o->sampling, l, err);
    case BATCH_LOGITS:
    case BATCH_EMBED:
        return 0;
    case BATCH_SCORE:
        if (o->sampling.top_logprobs > BATCH_TOP_LOGPROBS)
            return err_set(err, ERR_INPUT, "%u top log-probabilities, at most %d are possible",
                           o->sampling.top_logprobs, BATCH_TOP_LOGPROBS);
        if (o->target < l->vocabulary)
            return 0;
        return err_set(err, ERR_INPUT, "target %u is not in the vocabulary of %u", o->target,
                       l->vocabulary);
    }
    return err_set(err, ERR_INPUT, "an output is of the unknown kind %d", (int)o->kind);
}

/* Outputs ascend, and so do the rows of the sequences: one walk along both. */
static int batch_check_outputs(const struct batch *b, const struct batch_limits *l, struct err *err)
{
    uint32_t at = 0;
    uint32_t end = b->sequences[0].count; /* first row after sequence `at` */
    uint32_t logit_rows = 0;
    for (uint32_t i = 0; i < b->n_outputs; i++) {
        const struct batch_output *o = &b->outputs[i];
        if (o->row >= b->n_rows || (i > 0 && o->row <= b->outputs[i - 1].row))
            return err_set(err, ERR_INPUT,
                           "output %u names row %u: rows must ascend and stay below %u", i, o->row,
                           b->n_rows);
        while (o->row >= end)
            end += b->sequences[++at].count;
        if (o->sequence != b->sequences[at].sequence)
            return err_set(err, ERR_INPUT, "output %u says that row %u is of sequence %u, not %u",
                           i, o->row, o->sequence, b->sequences[at].sequence);
        int rc = batch_check_output(o, l, err);
        if (rc != 0)
            return rc;
        logit_rows += o->kind == BATCH_LOGITS || o->kind == BATCH_EMBED;
    }
    if (logit_rows > BATCH_LOGIT_ROWS)
        return err_set(err, ERR_INPUT,
                       "%u rows of logits or hidden states are wanted at once, %d are possible",
                       logit_rows, BATCH_LOGIT_ROWS);
    return 0;
}

int batch_check(const struct batch *b, const struct batch_limits *limits, struct err *err)
{
    int rc = batch_check_shape(b, limits, err);
    if (rc == 0)
        rc = batch_check_sequences(b, limits, err);
    if (rc == 0)
        rc = batch_check_outputs(b, limits, err);
    return rc;
}
