#include "chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { CHAIN_CONTEXT = 384, CHAIN_TABLE = CHAIN_CONTEXT / KV_BLOCK_TOKENS + 1 };

void chain_open_model(struct chain_model *m, const char *path)
{
    struct err err = {0};
    memset(m, 0, sizeof *m);
    if (weight_file_open(&m->file, path, &err) != 0 ||
        model_config_read(&m->config, m->file, &err) != 0)
        fail_msg("%s: %s", path, err.text);
}

void chain_close_model(struct chain_model *m)
{
    weight_file_close(m->file);
    memset(m, 0, sizeof *m);
}

void chain_open(struct chain *c, const struct chain_model *m, const char *isa, int n_stages,
                enum kv_type kv_type)
{
    struct err err = {0};
    memset(c, 0, sizeof *c);
    c->model = m;
    if (kernels_select(&c->kernels, isa, &err) != 0)
        fail_msg("%s", err.text);
    c->limits = (struct batch_limits){
        .max_rows = CHAIN_ROWS,
        .max_sequences = CHAIN_SLOTS,
        .max_outputs = BATCH_LOGIT_ROWS + CHAIN_SLOTS,
        .max_context = CHAIN_CONTEXT,
        .kv_blocks = CHAIN_SLOTS * CHAIN_TABLE,
        .vocabulary = (uint32_t)m->config.vocabulary_size,
    };
    assert_true(n_stages <= CHAIN_STAGES);
    for (int i = 0; i < n_stages; i++) {
        struct stage_spec spec = {
            .kernels = &c->kernels,
            .model = &m->config,
            .weights = m->file,
            .first_layer = i * m->config.n_layers / n_stages,
            .end_layer = (i + 1) * m->config.n_layers / n_stages,
            .limits = c->limits,
            .kv_type = kv_type,
        };
        if (stage_new(&c->stages[i], &spec, &err) != 0)
            fail_msg("stage %d: %s", i, err.text);
        c->n_stages++;
    }
}

void chain_close(struct chain *c)
{
    for (int i = 0; i < c->n_stages; i++)
        stage_free(c->stages[i]);
    memset(c, 0, sizeof *c);
}

/* Blocks of a sequence are neither in order nor side by side. */
static uint32_t chain_block(uint32_t slot, uint32_t index)
{
    return (CHAIN_TABLE - 1 - index) * CHAIN_SLOTS + (slot * 5 + 1) % CHAIN_SLOTS;
}

static void chain_give_blocks(struct chain *c, const struct chain_part *p, uint32_t *blocks,
                              struct batch_sequence *s)
{
    uint32_t have = p->position == 0 ? 0 : c->n_blocks[p->slot];
    uint32_t need = (p->position + p->count + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    assert_true(need <= CHAIN_TABLE);
    for (uint32_t i = have; i < need; i++)
        blocks[i - have] = chain_block(p->slot, i);
    *s = (struct batch_sequence){
        .sequence = p->slot,
        .position = p->position,
        .count = p->count,
        .first_block = have,
        .n_blocks = need > have ? need - have : 0,
        .blocks = blocks,
    };
    c->n_blocks[p->slot] = need > have ? need : have;
}

void chain_step(struct chain *c, const struct chain_part *parts, uint32_t n_parts,
                const struct batch_output *outputs, uint32_t n_outputs,
                struct stage_output *ret_output)
{
    struct batch_sequence sequences[CHAIN_SLOTS];
    uint32_t blocks[CHAIN_SLOTS][CHAIN_TABLE];
    uint32_t tokens[CHAIN_ROWS];
    struct batch b = {.tokens = tokens,
                      .n_sequences = n_parts,
                      .sequences = sequences,
                      .outputs = outputs,
                      .n_outputs = n_outputs};
    assert_true(n_parts <= CHAIN_SLOTS);
    for (uint32_t i = 0; i < n_parts; i++) {
        assert_true(b.n_rows + parts[i].count <= CHAIN_ROWS);
        chain_give_blocks(c, &parts[i], blocks[i], &sequences[i]);
        memcpy(tokens + b.n_rows, parts[i].tokens, parts[i].count * sizeof *tokens);
        b.n_rows += parts[i].count;
    }
    struct err err = {0};
    const float *in = NULL;
    if (batch_check(&b, &c->limits, &err) != 0)
        fail_msg("the batch is refused: %s", err.text);
    for (int i = 0; i < c->n_stages; i++) {
        if (stage_forward(c->stages[i], &b, in, ret_output, &err) != 0)
            fail_msg("stage %d: %s", i, err.text);
        in = ret_output->hidden;
        c->hidden[i] = in;
        assert_int_equal(in == NULL, i == c->n_stages - 1);
    }
    assert_int_equal(ret_output->n_results, n_outputs);
    for (uint32_t i = 0; i < n_outputs; i++) {
        assert_int_equal(ret_output->results[i].row, outputs[i].row);
        assert_int_equal(ret_output->results[i].sequence, outputs[i].sequence);
    }
}

void chain_prompt_logits(struct chain *c, uint32_t slot, const uint32_t *ids, int n, int chunk,
                         float *to)
{
    size_t vocabulary = c->limits.vocabulary;
    for (int at = 0; at < n; at += chunk) {
        int count = n - at < chunk ? n - at : chunk;
        struct chain_part part = {slot, (uint32_t)at, (uint32_t)count, ids + at};
        for (int first = 0; first < count; first += BATCH_LOGIT_ROWS) {
            struct batch_output outputs[BATCH_LOGIT_ROWS] = {0};
            uint32_t n_outputs = 0;
            for (int row = first; row < count && row < first + BATCH_LOGIT_ROWS; row++)
                outputs[n_outputs++] = (struct batch_output){
                    .row = (uint32_t)row, .sequence = slot, .kind = BATCH_LOGITS};
            struct stage_output o;
            chain_step(c, &part, 1, outputs, n_outputs, &o);
            assert_int_equal(o.n_values, n_outputs * vocabulary);
            memcpy(to + (size_t)(at + first) * vocabulary, o.rows,
                   n_outputs * vocabulary * sizeof *to);
        }
    }
}

struct batch_result chain_greedy(struct chain *c, uint32_t slot, uint32_t position,
                                 const uint32_t *tokens, uint32_t count)
{
    struct chain_part part = {slot, position, count, tokens};
    struct batch_output output = {
        .row = count - 1,
        .sequence = slot,
        .kind = BATCH_SAMPLE,
        .position = position + count,
        .sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1, .logprobs = true},
    };
    struct stage_output o;
    chain_step(c, &part, 1, &output, 1, &o);
    return o.results[0];
}
