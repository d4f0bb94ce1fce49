#include "coordinator/scheduler.h"

#include "base/clock.h"
#include "kernels/attention.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Rows of prompt in one step. While others decode, a chunk is small, so that they keep their
 * rhythm; over several stages it is small enough that the stages work at the same time. */
#define CHUNK_BESIDE_DECODE 64
#define CHUNK_PIPELINED     128
/* Bytes of logits that wait for a slow reader, before its request has to wait for him. */
#define LOGITS_UNTAKEN ((size_t)64 << 20)

int scheduler_init(struct scheduler *s, const struct scheduler_spec *spec, struct err *err)
{
    /* a step must hold a row of every sequence */
    assert(spec->max_rows >= spec->n_slots && spec->max_outputs >= spec->n_slots);
    *s = (struct scheduler){.spec = *spec};
    int blocks_each = (spec->context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    int rc = kv_blocks_init(&s->blocks, blocks_each * spec->n_slots, err);
    if (rc != 0)
        return rc;
    s->slots = calloc((size_t)spec->n_slots, sizeof(struct choice *));
    s->tokens = calloc((size_t)spec->max_rows, sizeof *s->tokens);
    s->sequences = calloc((size_t)spec->n_slots, sizeof *s->sequences);
    s->outputs = calloc((size_t)spec->max_outputs, sizeof *s->outputs);
    s->first_count = calloc((size_t)spec->max_outputs, sizeof *s->first_count);
    s->count_of = calloc(spec->vocabulary, sizeof *s->count_of);
    if (!s->slots || !s->tokens || !s->sequences || !s->outputs || !s->first_count || !s->count_of)
        return err_set(err, ERR_MEMORY, "no memory for a scheduler of %d sequences", spec->n_slots);
    return 0;
}

void scheduler_clear(struct scheduler *s)
{
    kv_blocks_clear(&s->blocks);
    free(s->slots);
    free(s->tokens);
    free(s->sequences);
    free(s->outputs);
    free(s->first_count);
    free(s->counts);
    free(s->count_of);
    *s = (struct scheduler){0};
}

int scheduler_add(struct scheduler *s, struct request *r, struct err *err)
{
    int most = s->spec.max_waiting + s->spec.n_slots;
    if (r->n_choices > most)
        return err_set(err, ERR_INPUT, "%d choices were asked for, at most %d are possible here",
                       r->n_choices, most);
    if (r->n_choices > most - s->n_running - s->n_waiting)
        return err_set(err, ERR_LIMIT, "%d requests wait already: try again later", s->n_waiting);
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *c = &r->choices[i];
        if (s->last_waiting)
            s->last_waiting->next_waiting = c;
        else
            s->first_waiting = c;
        s->last_waiting = c;
        s->n_waiting++;
    }
    return 0;
}

static void scheduler_unqueue(struct scheduler *s, struct choice *c)
{
    struct choice *before = NULL;
    for (struct choice *w = s->first_waiting; w; before = w, w = w->next_waiting) {
        if (w != c)
            continue;
        if (before)
            before->next_waiting = c->next_waiting;
        else
            s->first_waiting = c->next_waiting;
        if (s->last_waiting == c)
            s->last_waiting = before;
        c->next_waiting = NULL;
        s->n_waiting--;
        return;
    }
}

void scheduler_remove(struct scheduler *s, struct pipeline *p, struct choice *c)
{
    if (c->slot < 0) {
        scheduler_unqueue(s, c);
        return;
    }
    pipeline_forget(p, c);
    kv_blocks_give_back(&s->blocks, c->blocks, c->n_blocks);
    c->n_blocks = 0;
    s->slots[c->slot] = NULL;
    s->n_running--;
    c->slot = -1;
}

void scheduler_restart(struct scheduler *s)
{
    for (int i = 0; i < s->spec.n_slots; i++) {
        struct choice *c = s->slots[i];
        if (!c)
            continue;
        c->n_computed = 0;
        c->n_blocks_told = 0;
        c->counts_told = false;
        c->in_flight = 0;
        if (c->request->kind != REQUEST_GENERATE) /* rows that were delivered are not asked again */
            c->request->n_replayed = c->request->n_scored + c->request->n_logit_rows;
    }
}

/* Waiting choices move into free slots, in the order of arrival. */
static int scheduler_admit(struct scheduler *s, struct err *err)
{
    for (int i = 0; i < s->spec.n_slots && s->first_waiting; i++) {
        if (s->slots[i])
            continue;
        struct choice *c = s->first_waiting;
        int blocks_each = (s->spec.context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
        if (!c->blocks)
            c->blocks = calloc((size_t)blocks_each, sizeof *c->blocks);
        if (!c->blocks)
            return err_set(err, ERR_MEMORY, "no memory for a block table");
        scheduler_unqueue(s, c);
        c->slot = i;
        s->slots[i] = c;
        s->n_running++;
        if (!c->request->scheduled_us)
            c->request->scheduled_us = clock_now_us();
    }
    return 0;
}

static bool scheduler_penalises(const struct batch_sampling *p)
{
    return p->repetition_penalty != 1.0f || p->frequency_penalty != 0.0f ||
           p->presence_penalty != 0.0f;
}

static struct batch_count *scheduler_count(struct scheduler *s, uint32_t token)
{
    if (s->count_of[token])
        return &s->counts[s->count_of[token] - 1];
    if (s->n_counts == s->counts_capacity) {
        size_t capacity = s->counts_capacity ? 2 * s->counts_capacity : 1024;
        struct batch_count *grown = realloc(s->counts, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        s->counts = grown;
        s->counts_capacity = capacity;
    }
    s->counts[s->n_counts] = (struct batch_count){.token = token};
    s->count_of[token] = (uint32_t)++s->n_counts;
    return &s->counts[s->n_counts - 1];
}

/* What the sampler must know of the choice's tokens: all of them the first time, afterwards the
 * newest, which is the only one whose count has changed. */
static int scheduler_fill_counts(struct scheduler *s, struct choice *c, struct batch_sampling *to,
                                 struct err *err)
{
    size_t first = s->n_counts;
    int n_prompt = c->request->n_prompt;
    uint32_t newest = c->tokens[c->n_tokens - 1];
    int rc = 0;
    to->counts_reset = !c->counts_told;
    for (int i = 0; rc == 0 && i < c->n_tokens; i++) {
        if (c->counts_told && c->tokens[i] != newest)
            continue;
        struct batch_count *count = scheduler_count(s, c->tokens[i]);
        if (!count)
            rc = err_set(err, ERR_MEMORY, "no memory for token counts");
        else if (i < n_prompt)
            count->in_prompt = true;
        else
            count->generated++;
    }
    for (size_t i = first; i < s->n_counts; i++)
        s->count_of[s->counts[i].token] = 0;
    to->n_counts = (uint32_t)(s->n_counts - first);
    c->counts_told = true;
    return rc;
}

static enum batch_output_kind scheduler_output_kind(const struct request *r)
{
    return r->kind == REQUEST_LOGITS  ? BATCH_LOGITS
           : r->kind == REQUEST_SCORE ? BATCH_SCORE
                                      : BATCH_SAMPLE;
}

static int scheduler_add_outputs(struct scheduler *s, struct choice *c, struct batch *b,
                                 uint32_t first_row, int first_position, int count, struct err *err)
{
    const struct request *r = c->request;
    for (int i = 0; i < count; i++) {
        int position = first_position + i;
        bool last = position + 1 == c->n_tokens;
        if (r->kind == REQUEST_GENERATE ? !last : position < r->n_replayed)
            continue;
        if (r->kind == REQUEST_SCORE && last)
            continue;
        struct batch_output *o = &s->outputs[b->n_outputs];
        *o = (struct batch_output){.row = first_row + (uint32_t)i,
                                   .sequence = (uint32_t)c->slot,
                                   .kind = scheduler_output_kind(r),
                                   .position = (uint64_t)position + 1};
        s->first_count[b->n_outputs] = s->n_counts;
        b->n_outputs++;
        if (o->kind == BATCH_LOGITS) {
            s->n_logit_rows++;
        } else if (o->kind == BATCH_SCORE) {
            o->target = c->tokens[position + 1];
        } else {
            o->sampling = r->sampling;
            o->sampling.choice = (uint32_t)c->index;
            if (scheduler_penalises(&r->sampling)) {
                int rc = scheduler_fill_counts(s, c, &o->sampling, err);
                if (rc != 0)
                    return rc;
            }
        }
    }
    return 0;
}

/* The choice's next `count` tokens become part of the step. */
static int scheduler_take(struct scheduler *s, struct choice *c, int count, struct batch *b,
                          struct pipeline_item *items, struct err *err)
{
    int end = c->n_computed + count;
    while (c->n_blocks * KV_BLOCK_TOKENS < end) {
        if (!kv_blocks_take(&s->blocks, &c->blocks[c->n_blocks]))
            return err_set(err, ERR_INTERNAL, "KV blocks ran out, which the plan excludes");
        c->n_blocks++;
    }
    uint32_t first_row = b->n_rows;
    memcpy(s->tokens + first_row, c->tokens + c->n_computed, (size_t)count * sizeof *s->tokens);
    s->sequences[b->n_sequences] =
        (struct batch_sequence){.sequence = (uint32_t)c->slot,
                                .position = (uint32_t)c->n_computed,
                                .count = (uint32_t)count,
                                .first_block = (uint32_t)c->n_blocks_told,
                                .n_blocks = (uint32_t)(c->n_blocks - c->n_blocks_told),
                                .blocks = c->blocks + c->n_blocks_told};
    uint32_t outputs_before = b->n_outputs;
    int rc = scheduler_add_outputs(s, c, b, first_row, c->n_computed, count, err);
    if (rc != 0)
        return rc;
    items[b->n_sequences] =
        (struct pipeline_item){.choice = c,
                               .slot = (uint32_t)c->slot,
                               .n_outputs = (int)(b->n_outputs - outputs_before),
                               .kind = scheduler_output_kind(c->request)};
    b->n_sequences++;
    b->n_rows += (uint32_t)count;
    c->n_computed = end;
    c->n_blocks_told = c->n_blocks;
    c->in_flight++;
    return 0;
}

static bool choice_is_decoding(const struct choice *c)
{
    return c->request->kind == REQUEST_GENERATE && c->n_computed + 1 == c->n_tokens &&
           c->in_flight == 0;
}

/* Choices that generate: a row of theirs is due, or on its way. */
static int scheduler_count_decoding(const struct scheduler *s)
{
    int n = 0;
    for (int i = 0; i < s->spec.n_slots; i++) {
        const struct choice *c = s->slots[i];
        n += c && c->request->kind == REQUEST_GENERATE && c->n_tokens - c->n_computed <= 1;
    }
    return n;
}

/* All decoding slots over the stages in even parts: as many steps in flight as there are stages,
 * and no more, so that who comes later joins the others instead of travelling alone. Together they
 * hold everybody, so nobody has to wait for a turn. */
static int scheduler_add_decodes(struct scheduler *s, const struct pipeline *p, int n_stages,
                                 int n_decoding, struct batch *b, struct pipeline_item *items,
                                 struct err *err)
{
    if (p->n_decode_steps >= n_stages)
        return 0;
    int share = (n_decoding + n_stages - 1) / n_stages;
    for (int i = 0; i < s->spec.n_slots && (int)b->n_rows < share; i++) {
        struct choice *c = s->slots[i];
        if (!c || !choice_is_decoding(c))
            continue;
        int rc = scheduler_take(s, c, 1, b, items, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* How many rows of this choice's prompt may join the step. */
static int scheduler_prefill_rows(const struct scheduler *s, const struct choice *c,
                                  const struct batch *b, int budget)
{
    const struct request *r = c->request;
    int left = c->n_tokens - c->n_computed, room = s->spec.max_outputs - (int)b->n_outputs;
    int count = left < budget ? left : budget;
    if (r->kind == REQUEST_GENERATE) /* its last row needs an output, the others none */
        return count == left && room == 0 ? count - 1 : count;
    if (r->kind == REQUEST_LOGITS && r->logits.length > LOGITS_UNTAKEN)
        return 0;
    if (r->kind == REQUEST_LOGITS && room > BATCH_LOGIT_ROWS - s->n_logit_rows)
        room = BATCH_LOGIT_ROWS - s->n_logit_rows;
    int silent = r->n_replayed > c->n_computed ? r->n_replayed - c->n_computed : 0;
    return count < silent + room ? count : silent + room;
}

static int scheduler_add_prefills(struct scheduler *s, int n_stages, int n_decoding,
                                  struct batch *b, struct pipeline_item *items, struct err *err)
{
    int budget = s->spec.max_rows - (int)b->n_rows;
    int wanted = n_decoding ? CHUNK_BESIDE_DECODE : n_stages > 1 ? CHUNK_PIPELINED : budget;
    if (budget > wanted)
        budget = wanted;
    int first = s->prefill_turn;
    for (int i = 0; i < s->spec.n_slots && budget > 0; i++) {
        int slot = (first + i) % s->spec.n_slots;
        struct choice *c = s->slots[slot];
        if (!c || c->n_computed >= c->n_tokens || choice_is_decoding(c))
            continue;
        int count = scheduler_prefill_rows(s, c, b, budget);
        if (count == 0)
            continue;
        int rc = scheduler_take(s, c, count, b, items, err);
        if (rc != 0)
            return rc;
        budget -= count;
        s->prefill_turn = (slot + 1) % s->spec.n_slots;
    }
    return 0;
}

/* 1: a step was sent; 0: there is nothing to do now */
static int scheduler_send_one(struct scheduler *s, struct pipeline *p, int n_stages,
                              struct err *err)
{
    struct pipeline_item *items = calloc((size_t)s->spec.n_slots, sizeof *items);
    if (!items)
        return err_set(err, ERR_MEMORY, "no memory for a step");
    struct batch b = {
        .deployment = 1, .tokens = s->tokens, .sequences = s->sequences, .outputs = s->outputs};
    int n_decoding = scheduler_count_decoding(s);
    s->n_counts = 0;
    s->n_logit_rows = 0;
    int rc = scheduler_add_decodes(s, p, n_stages, n_decoding, &b, items, err);
    bool has_decodes = b.n_rows > 0;
    if (rc == 0)
        rc = scheduler_add_prefills(s, n_stages, n_decoding, &b, items, err);
    if (rc != 0 || b.n_rows == 0) {
        free(items);
        return rc;
    }
    for (uint32_t i = 0; i < b.n_outputs; i++)
        s->outputs[i].sampling.counts = s->counts + s->first_count[i];
    rc = pipeline_send(p, &b, items, (int)b.n_sequences, has_decodes, err);
    return rc == 0 ? 1 : rc;
}

int scheduler_step(struct scheduler *s, struct pipeline *p, int n_stages, struct err *err)
{
    int rc = scheduler_admit(s, err);
    /* One step more than stages: the next one is there when a stage has finished. */
    while (rc == 0 && p->n_in_flight < n_stages + 1) {
        rc = scheduler_send_one(s, p, n_stages, err);
        if (rc <= 0)
            break;
        rc = 0;
    }
    return rc;
}
