#include "coordinator/step_builder.h"

#include "coordinator/planner.h"
#include "kernels/attention.h"
#include "proto/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What is not a sequence's or an output's: numbers of the step, and the time of each stage that it
 * gets on its way. */
#define MESSAGE_HEAD (64 + 32 * PLANNER_MAX_STAGES)

int step_builder_init(struct step_builder *b, int max_rows, int max_sequences, int max_outputs,
                      uint32_t vocabulary, struct err *err)
{
    *b = (struct step_builder){.max_sequences = (uint32_t)max_sequences,
                               .max_outputs = (uint32_t)max_outputs,
                               .vocabulary = vocabulary};
    b->tokens = calloc((size_t)max_rows, sizeof *b->tokens);
    b->sequences = calloc((size_t)max_sequences, sizeof *b->sequences);
    b->outputs = calloc((size_t)max_outputs, sizeof *b->outputs);
    b->first_count = calloc((size_t)max_outputs, sizeof *b->first_count);
    if (!b->tokens || !b->sequences || !b->outputs || !b->first_count)
        return err_set(err, ERR_MEMORY, "no memory for steps of %d rows", max_rows);
    return 0;
}

void step_builder_clear(struct step_builder *b)
{
    free(b->items);
    free(b->tokens);
    free(b->sequences);
    free(b->outputs);
    free(b->first_count);
    free(b->counts);
    *b = (struct step_builder){0};
}

int step_builder_begin(struct step_builder *b, struct err *err)
{
    if (!b->items)
        b->items = calloc(b->max_sequences, sizeof *b->items);
    if (!b->items)
        return err_set(err, ERR_MEMORY, "no memory for a step");
    b->batch = (struct batch){
        .deployment = 1, .tokens = b->tokens, .sequences = b->sequences, .outputs = b->outputs};
    b->n_decode_rows = b->n_row_outputs = 0;
    b->n_counts = 0;
    b->message_bytes = MESSAGE_HEAD;
    return 0;
}

static bool step_builder_penalises(const struct batch_sampling *p)
{
    return p->repetition_penalty != 1.0f || p->frequency_penalty != 0.0f ||
           p->presence_penalty != 0.0f;
}

static bool step_builder_reserve_counts(struct step_builder *b, size_t count)
{
    size_t capacity = b->counts_capacity ? b->counts_capacity : 1024;
    while (capacity < b->n_counts + count)
        capacity *= 2;
    if (capacity == b->counts_capacity)
        return true;
    struct batch_count *grown = realloc(b->counts, capacity * sizeof *grown);
    if (!grown)
        return false;
    b->counts = grown;
    b->counts_capacity = capacity;
    return true;
}

/* What the sampler must know of the choice's tokens: all of them the first time, afterwards the
 * newest, which is the only one whose count has changed. */
static int step_builder_fill_counts(struct step_builder *b, struct choice *c,
                                    struct batch_sampling *to, struct err *err)
{
    uint32_t newest = c->tokens[c->n_tokens - 1];
    assert(newest < b->vocabulary);
    if (!choice_counts_update(&c->counts, c->tokens, c->n_tokens, c->request->n_prompt))
        return err_set(err, ERR_MEMORY, "no memory for token counts");
    const struct batch_count *counts =
        c->counts_told ? choice_counts_find(&c->counts, newest) : c->counts.entries;
    to->counts_reset = !c->counts_told;
    to->n_counts = c->counts_told ? 1 : c->counts.n;
    if (!step_builder_reserve_counts(b, to->n_counts))
        return err_set(err, ERR_MEMORY, "no memory for token counts");
    memcpy(b->counts + b->n_counts, counts, to->n_counts * sizeof *counts);
    b->n_counts += to->n_counts;
    c->counts_told = true;
    return 0;
}

static enum batch_output_kind step_builder_output_kind(const struct request *r)
{
    switch (r->kind) {
    case REQUEST_LOGITS:
        return BATCH_LOGITS;
    case REQUEST_SCORE:
        return BATCH_SCORE;
    case REQUEST_EMBED:
        return BATCH_EMBED;
    default:
        return BATCH_SAMPLE;
    }
}

static int step_builder_add_outputs(struct step_builder *b, struct choice *c, uint32_t first_row,
                                    int first_position, int count, struct err *err)
{
    const struct request *r = c->request;
    for (int i = 0; i < count; i++) {
        int position = first_position + i;
        bool last = position + 1 == c->n_tokens;
        if (request_wants_every_row(r) ? position < r->n_replayed : !last)
            continue;
        if (r->kind == REQUEST_SCORE && last)
            continue;
        struct batch_output *o = &b->outputs[b->batch.n_outputs];
        *o = (struct batch_output){.row = first_row + (uint32_t)i,
                                   .sequence = (uint32_t)c->slot,
                                   .kind = step_builder_output_kind(r),
                                   .position = (uint64_t)position + 1};
        b->first_count[b->batch.n_outputs] = b->n_counts;
        b->batch.n_outputs++;
        if (o->kind == BATCH_LOGITS || o->kind == BATCH_EMBED) {
            b->n_row_outputs++;
        } else if (o->kind == BATCH_SCORE) {
            o->target = c->tokens[position + 1];
            o->sampling.top_logprobs = r->sampling.top_logprobs;
        } else {
            o->sampling = r->sampling;
            o->sampling.choice = (uint32_t)c->index;
            o->sampling.mask = (const unsigned char *)c->mask.data; /* stays until its result */
            o->sampling.n_mask = (uint32_t)c->mask.length;
            if (step_builder_penalises(&r->sampling)) {
                int rc = step_builder_fill_counts(b, c, &o->sampling, err);
                if (rc != 0)
                    return rc;
            }
        }
    }
    return 0;
}

/* Bytes on the wire, at most: varints of 32 bits take 5, of 64 bits 10, and each field a tag. */
static size_t step_builder_bytes(const struct step_builder *b, const struct choice *c, int count)
{
    const struct batch_sampling *p = &c->request->sampling;
    int end = (c->n_computed + count) / KV_BLOCK_TOKENS + 1;
    size_t blocks = (size_t)((c->n_blocks > end ? c->n_blocks : end) - c->n_blocks_told);
    size_t bytes = 48 + 5 * (size_t)count + 5 * blocks;
    bool is_sampled = c->request->kind == REQUEST_GENERATE;
    bytes += (request_wants_every_row(c->request) ? (size_t)count : 1) * 64;
    if (!is_sampled || c->n_computed + count < c->n_tokens)
        return bytes;
    /* Tokens take 3 bytes: no vocabulary has 2^21. */
    size_t counts = (size_t)c->n_tokens < b->vocabulary ? (size_t)c->n_tokens : b->vocabulary;
    if (c->counts_told)
        counts = 1;
    if (!step_builder_penalises(p))
        counts = 0;
    return bytes + 96 + 13 * p->n_bias + 5 * p->n_forbidden + 12 * counts + c->mask.length;
}

bool step_builder_fits(const struct step_builder *b, const struct choice *c, int count)
{
    return !b->batch.n_rows ||
           b->message_bytes + step_builder_bytes(b, c, count) <= WIRE_MAX_ENVELOPE;
}

int step_builder_add(struct step_builder *b, struct choice *c, int count, struct err *err)
{
    int end = c->n_computed + count;
    assert(count > 0 && end <= c->n_tokens && c->n_blocks * KV_BLOCK_TOKENS >= end);
    b->message_bytes += step_builder_bytes(b, c, count);
    uint32_t first_row = b->batch.n_rows, outputs_before = b->batch.n_outputs;
    memcpy(b->tokens + first_row, c->tokens + c->n_computed, (size_t)count * sizeof *b->tokens);
    b->sequences[b->batch.n_sequences] =
        (struct batch_sequence){.sequence = (uint32_t)c->slot,
                                .position = (uint32_t)c->n_computed,
                                .count = (uint32_t)count,
                                .first_block = (uint32_t)c->n_blocks_told,
                                .n_blocks = (uint32_t)(c->n_blocks - c->n_blocks_told),
                                .blocks = c->blocks + c->n_blocks_told,
                                .copy_from = c->copy_from};
    int rc = step_builder_add_outputs(b, c, first_row, c->n_computed, count, err);
    if (rc != 0)
        return rc;
    b->items[b->batch.n_sequences] =
        (struct pipeline_item){.choice = c,
                               .slot = (uint32_t)c->slot,
                               .end = end,
                               .n_outputs = (int)(b->batch.n_outputs - outputs_before),
                               .kind = step_builder_output_kind(c->request)};
    b->batch.n_sequences++;
    b->batch.n_rows += (uint32_t)count;
    c->n_computed = end;
    c->n_blocks_told = c->n_blocks;
    c->copy_from = 0;
    c->in_flight++;
    return 0;
}

int step_builder_send(struct step_builder *b, struct pipeline *p, struct err *err)
{
    if (!b->batch.n_rows)
        return 0;
    for (uint32_t i = 0; i < b->batch.n_outputs; i++)
        b->outputs[i].sampling.counts = b->counts + b->first_count[i];
    struct pipeline_item *items = b->items;
    b->items = NULL;
    int rc = pipeline_send(p, &b->batch, items, (int)b->batch.n_sequences, b->n_decode_rows, err);
    return rc == 0 ? 1 : rc;
}
