#include "tests/support/fake_stage.h"

#include "kernels/attention.h"
#include "proto/data_link.h"
#include "proto/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- the model ---- */

static uint64_t fake_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Looks back at two positions, so that one cannot be right while its block is overwritten. */
static uint64_t fake_next(uint64_t before, uint64_t half, uint32_t token)
{
    return fake_mix(before * 3 + half * 5 + token + 1);
}

static uint64_t fake_hash(const uint32_t *tokens, int n_tokens)
{
    uint64_t *hashes = test_calloc((size_t)n_tokens, sizeof *hashes);
    for (int i = 0; i < n_tokens; i++)
        hashes[i] = fake_next(i ? hashes[i - 1] : 0, i ? hashes[i / 2] : 0, tokens[i]);
    uint64_t hash = hashes[n_tokens - 1];
    test_free(hashes);
    return hash;
}

static bool fake_penalises(const struct batch_sampling *p)
{
    return p->repetition_penalty != 1.0f || p->frequency_penalty != 0.0f ||
           p->presence_penalty != 0.0f;
}

/* Of any order: the sum over the tokens that stand anywhere. */
static uint64_t fake_counts_hash(const uint32_t *generated, const bool *in_prompt, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (generated[i] || in_prompt[i])
            sum += fake_mix((uint64_t)i << 33 | (uint64_t)generated[i] << 1 | in_prompt[i]);
    return sum;
}

static uint32_t fake_choose(uint64_t hash, uint64_t counts, const struct batch_sampling *p,
                            uint64_t position, uint32_t vocabulary)
{
    return (uint32_t)(fake_mix(hash ^ counts ^ p->seed ^ (uint64_t)p->choice << 40 ^ position) %
                      vocabulary);
}

static float fake_score(uint64_t hash, uint32_t target)
{
    return -(float)(fake_mix(hash ^ target) % 4096);
}

static void fake_logits(uint64_t hash, float *to, uint32_t vocabulary)
{
    for (uint32_t i = 0; i < vocabulary; i++)
        to[i] = fake_score(hash, i);
}

static void fake_state(uint64_t hash, float *to)
{
    fake_logits(fake_mix(hash), to, FAKE_STAGE_HIDDEN);
}

void fake_stage_state(const uint32_t *tokens, int n_tokens, float *to)
{
    fake_state(fake_hash(tokens, n_tokens), to);
}

uint32_t fake_stage_token(const uint32_t *tokens, int n_tokens, int n_prompt,
                          const struct batch_sampling *sampling, int choice, uint32_t vocabulary)
{
    uint64_t counts = 0;
    struct batch_sampling p = *sampling;
    p.choice = (uint32_t)choice;
    if (fake_penalises(&p)) {
        uint32_t *generated = test_calloc(vocabulary, sizeof *generated);
        bool *in_prompt = test_calloc(vocabulary, sizeof *in_prompt);
        for (int i = 0; i < n_tokens; i++) {
            if (i < n_prompt)
                in_prompt[tokens[i]] = true;
            else
                generated[tokens[i]]++;
        }
        counts = fake_counts_hash(generated, in_prompt, vocabulary);
        test_free(generated);
        test_free(in_prompt);
    }
    return fake_choose(fake_hash(tokens, n_tokens), counts, &p, (uint64_t)n_tokens, vocabulary);
}

float fake_stage_score(const uint32_t *tokens, int n_tokens, uint32_t target)
{
    return fake_score(fake_hash(tokens, n_tokens), target);
}

void fake_stage_logits(const uint32_t *tokens, int n_tokens, float *to, uint32_t vocabulary)
{
    fake_logits(fake_hash(tokens, n_tokens), to, vocabulary);
}

/* ---- the stage ---- */

void fake_stage_open(struct fake_stage *s, void *zmq, const struct batch_limits *limits,
                     const char *endpoint)
{
    *s = (struct fake_stage){.limits = *limits};
    size_t table_length = limits->max_context / KV_BLOCK_TOKENS + 1;
    s->kv = test_calloc((size_t)limits->kv_blocks * KV_BLOCK_TOKENS, sizeof *s->kv);
    s->sequences = test_calloc(limits->max_sequences, sizeof *s->sequences);
    for (uint32_t i = 0; i < limits->max_sequences; i++) {
        s->sequences[i].table = test_calloc(table_length, sizeof(uint32_t));
        s->sequences[i].generated = test_calloc(limits->vocabulary, sizeof(uint32_t));
        s->sequences[i].in_prompt = test_calloc(limits->vocabulary, sizeof(bool));
    }
    struct err err;
    assert_int_equal(wire_socket(&s->in, zmq, ZMQ_PULL, NULL, &err), 0);
    assert_int_equal(zmq_bind(s->in, endpoint), 0);
    fake_stage_forget(s);
}

void fake_stage_connect(struct fake_stage *s, void *zmq, const char *results)
{
    struct err err;
    fake_stage_receive(s);
    while (s->n_queued)
        fake_stage_lose(s);
    if (s->out)
        zmq_close(s->out);
    assert_int_equal(wire_socket(&s->out, zmq, ZMQ_PUSH, NULL, &err), 0);
    assert_int_equal(zmq_connect(s->out, results), 0);
}

void fake_stage_lose(struct fake_stage *s)
{
    step_message_clear(&s->queue[0]);
    s->n_queued--;
    memmove(s->queue, s->queue + 1, (size_t)s->n_queued * sizeof s->queue[0]);
    s->is_blind = true;
}

void fake_stage_close(struct fake_stage *s)
{
    while (s->n_queued)
        fake_stage_lose(s);
    zmq_close(s->in);
    if (s->out)
        zmq_close(s->out);
    for (uint32_t i = 0; i < s->limits.max_sequences; i++) {
        test_free(s->sequences[i].table);
        test_free(s->sequences[i].generated);
        test_free(s->sequences[i].in_prompt);
    }
    test_free(s->sequences);
    test_free(s->kv);
}

void fake_stage_forget(struct fake_stage *s)
{
    s->is_blind = false;
    memset(s->kv, 0xaa, (size_t)s->limits.kv_blocks * KV_BLOCK_TOKENS * sizeof *s->kv);
    for (uint32_t i = 0; i < s->limits.max_sequences; i++) {
        s->sequences[i].n_blocks = 0;
        /* what was counted there is not what the next one means */
        memset(s->sequences[i].generated, 1, s->limits.vocabulary * sizeof(uint32_t));
    }
}

int fake_stage_receive(struct fake_stage *s)
{
    int n = 0;
    zmq_msg_t envelope, frame;
    struct err err = {0};
    while (data_link_receive(s->in, &envelope, &frame, true, &err) == 1) {
        assert_true(s->n_queued < FAKE_STAGE_QUEUE);
        struct step_message *m = &s->queue[s->n_queued++];
        assert_int_equal(
            step_message_unpack(m, zmq_msg_data(&envelope), zmq_msg_size(&envelope), &err), 0);
        assert_int_equal(zmq_msg_size(&frame), 0);
        zmq_msg_close(&envelope);
        zmq_msg_close(&frame);
        if (batch_check(&m->batch, &s->limits, &err) != 0)
            fail_msg("%s", err.text);
        n++;
    }
    return n;
}

static uint64_t *fake_slot(struct fake_stage *s, const struct fake_sequence *q, uint32_t position)
{
    assert_true(position / KV_BLOCK_TOKENS < q->n_blocks);
    return &s->kv[(size_t)q->table[position / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS +
                  position % KV_BLOCK_TOKENS];
}

static void fake_count(struct fake_sequence *q, const struct batch_sampling *p, uint32_t vocabulary)
{
    if (p->counts_reset) {
        memset(q->generated, 0, vocabulary * sizeof *q->generated);
        memset(q->in_prompt, 0, vocabulary * sizeof *q->in_prompt);
    }
    for (uint32_t i = 0; i < p->n_counts; i++) {
        q->generated[p->counts[i].token] = p->counts[i].generated;
        q->in_prompt[p->counts[i].token] = p->counts[i].in_prompt;
    }
}

static void fake_output(struct fake_stage *s, const struct batch_output *o, uint64_t hash,
                        struct batch_result *to, float *logits)
{
    struct fake_sequence *q = &s->sequences[o->sequence];
    *to = (struct batch_result){.row = o->row, .sequence = o->sequence, .kind = o->kind};
    if (o->kind == BATCH_SCORE) {
        to->logprob = fake_score(hash, o->target);
    } else if (o->kind == BATCH_LOGITS) {
        fake_logits(hash, logits, s->limits.vocabulary);
    } else if (o->kind == BATCH_EMBED) {
        fake_state(hash, logits);
    } else {
        uint64_t counts = 0;
        if (fake_penalises(&o->sampling)) {
            fake_count(q, &o->sampling, s->limits.vocabulary);
            counts = fake_counts_hash(q->generated, q->in_prompt, s->limits.vocabulary);
        }
        to->token = fake_choose(hash, counts, &o->sampling, o->position, s->limits.vocabulary);
    }
}

/* Rows in order, as attention would see them: each finds what the one before has left. */
static size_t fake_compute(struct fake_stage *s, const struct batch *b,
                           struct batch_result *results, float *rows)
{
    uint32_t row = 0, output = 0;
    size_t n_values = 0;
    for (uint32_t i = 0; i < b->n_sequences; i++) { /* all tables and copies before any row */
        const struct batch_sequence *from = &b->sequences[i];
        struct fake_sequence *q = &s->sequences[from->sequence];
        if (from->n_blocks) {
            assert_true(from->first_block == 0 || from->first_block == q->n_blocks);
            memcpy(q->table + from->first_block, from->blocks, from->n_blocks * sizeof *q->table);
            q->n_blocks = from->first_block + from->n_blocks;
        }
        if (from->copy_from)
            memcpy(&s->kv[(size_t)from->blocks[from->n_blocks - 1] * KV_BLOCK_TOKENS],
                   &s->kv[(size_t)(from->copy_from - 1) * KV_BLOCK_TOKENS],
                   KV_BLOCK_TOKENS * sizeof *s->kv);
    }
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const struct batch_sequence *from = &b->sequences[i];
        struct fake_sequence *q = &s->sequences[from->sequence];
        for (uint32_t k = 0; k < from->count; k++, row++) {
            uint32_t position = from->position + k;
            uint64_t before = position ? *fake_slot(s, q, position - 1) : 0;
            uint64_t half = position ? *fake_slot(s, q, position / 2) : 0;
            uint64_t hash = fake_next(before, half, b->tokens[row]);
            *fake_slot(s, q, position) = hash;
            if (output == b->n_outputs || b->outputs[output].row != row)
                continue;
            assert_int_equal(b->outputs[output].position, position + 1);
            fake_output(s, &b->outputs[output], hash, &results[output], rows + n_values);
            n_values +=
                batch_row_values(b->outputs[output].kind, s->limits.vocabulary, FAKE_STAGE_HIDDEN);
            output++;
        }
    }
    assert_int_equal(output, b->n_outputs);
    s->n_rows += row;
    return n_values;
}

static size_t fake_guess(const struct fake_stage *s, const struct batch *b,
                         struct batch_result *results)
{
    size_t n_values = 0;
    for (uint32_t i = 0; i < b->n_outputs; i++) {
        const struct batch_output *o = &b->outputs[i];
        results[i] = (struct batch_result){.row = o->row, .sequence = o->sequence, .kind = o->kind};
        n_values += batch_row_values(o->kind, s->limits.vocabulary, FAKE_STAGE_HIDDEN);
    }
    return n_values;
}

/* Those of the stages before the last travel in the step; they are freed with it. */
static void fake_put_times(struct step_message *m, const uint32_t *compute_us,
                           const uint32_t *wait_us, int n)
{
    m->proto->times = calloc((size_t)n + 1, sizeof(Paceline__StageTime *));
    assert_non_null(m->proto->times);
    for (int i = 0; i < n; i++) {
        Paceline__StageTime *time = malloc(sizeof *time);
        assert_non_null(time);
        paceline__stage_time__init(time);
        time->stage = (uint32_t)i;
        time->compute_us = compute_us[i];
        time->wait_us = wait_us[i];
        m->proto->times[m->proto->n_times++] = time;
    }
}

/* Checksums that are not those of the two parts. */
static void fake_send_damaged(struct fake_stage *s, zmq_msg_t *envelope, zmq_msg_t *frame)
{
    static const unsigned char sums[16] = {1};
    assert_true(zmq_msg_send(envelope, s->out, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_msg_send(frame, s->out, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(s->out, sums, sizeof sums, 0) >= 0);
    s->damages = false;
}

bool fake_stage_answer(struct fake_stage *s)
{
    return fake_stage_answer_timed(s, (uint32_t[]){0}, (uint32_t[]){0}, 1);
}

bool fake_stage_answer_timed(struct fake_stage *s, const uint32_t *compute_us,
                             const uint32_t *wait_us, int n_stages)
{
    if (!s->n_queued)
        return false;
    struct step_message m = s->queue[0];
    s->n_queued--;
    memmove(s->queue, s->queue + 1, (size_t)s->n_queued * sizeof s->queue[0]);
    struct batch_result *results = test_calloc(m.batch.n_outputs + 1, sizeof *results);
    float *rows =
        test_calloc(BATCH_LOGIT_ROWS, (s->limits.vocabulary + FAKE_STAGE_HIDDEN) * sizeof *rows);
    size_t n_values =
        s->is_blind ? fake_guess(s, &m.batch, results) : fake_compute(s, &m.batch, results, rows);
    Paceline__StageTime time = PACELINE__STAGE_TIME__INIT;
    fake_put_times(&m, compute_us, wait_us, n_stages - 1);
    time.stage = (uint32_t)n_stages - 1;
    time.compute_us = compute_us[n_stages - 1];
    time.wait_us = wait_us[n_stages - 1];
    zmq_msg_t envelope, frame;
    struct err err;
    assert_int_equal(step_result_pack(&m, &time, results, m.batch.n_outputs, &envelope, &err), 0);
    assert_int_equal(wire_frame(&frame, rows, n_values * sizeof *rows, &err), 0);
    if (s->damages)
        fake_send_damaged(s, &envelope, &frame);
    else
        assert_int_equal(data_link_send(s->out, &envelope, &frame, true, &err), 0);
    test_free(results);
    test_free(rows);
    step_message_clear(&m);
    return true;
}
