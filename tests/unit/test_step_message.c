/* A step survives the wire, grows a stage time on the way, and no cut or flipped message crashes.
 */
#include "proto/step_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint32_t tokens[] = {5, 6, 7, 8, 9};
static const uint32_t blocks[] = {11, 12, 0};
static const struct batch_bias bias[] = {{3, -1.5f}, {4, 2.0f}};
static const struct batch_count counts[] = {{8, 2, true}};
static const struct batch_sequence sequences[] = {{0, 64, 4, 1, 2, blocks, 8},
                                                  {3, 0, 1, 0, 1, blocks + 2, 0}};

static const unsigned char mask[] = {1, 0, 200, 3};

static struct batch example(struct batch_output outputs[2])
{
    outputs[0] = (struct batch_output){.row = 3,
                                       .sequence = 0,
                                       .kind = BATCH_SAMPLE,
                                       .position = 68,
                                       .sampling = {.seed = 0x123456789abcdef0u,
                                                    .choice = 2,
                                                    .temperature = 0.7f,
                                                    .top_p = 0.9f,
                                                    .min_p = 0.05f,
                                                    .top_k = 40,
                                                    .repetition_penalty = 1.1f,
                                                    .frequency_penalty = 0.2f,
                                                    .presence_penalty = -0.3f,
                                                    .n_bias = 2,
                                                    .bias = bias,
                                                    .counts_reset = true,
                                                    .n_counts = 1,
                                                    .counts = counts,
                                                    .logprobs = true,
                                                    .top_logprobs = 5,
                                                    .n_mask = sizeof mask,
                                                    .mask = mask}};
    outputs[1] = (struct batch_output){.row = 4, .sequence = 3, .kind = BATCH_SCORE, .target = 77};
    outputs[1].sampling.top_logprobs = 3;
    return (struct batch){1, 9, 1ull << 40, 5, tokens, 2, sequences, 2, outputs};
}

static void check_equal(const struct batch *a, const struct batch *b)
{
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->step, b->step);
    assert_int_equal(a->n_rows, b->n_rows);
    assert_memory_equal(a->tokens, b->tokens, a->n_rows * sizeof *a->tokens);
    assert_int_equal(a->n_sequences, b->n_sequences);
    for (uint32_t i = 0; i < a->n_sequences; i++) {
        const struct batch_sequence *s = &a->sequences[i], *t = &b->sequences[i];
        assert_int_equal(s->sequence, t->sequence);
        assert_int_equal(s->position, t->position);
        assert_int_equal(s->count, t->count);
        assert_int_equal(s->first_block, t->first_block);
        assert_int_equal(s->n_blocks, t->n_blocks);
        assert_int_equal(s->copy_from, t->copy_from);
        assert_memory_equal(s->blocks, t->blocks, s->n_blocks * sizeof *s->blocks);
    }
    assert_int_equal(a->n_outputs, b->n_outputs);
    for (uint32_t i = 0; i < a->n_outputs; i++) {
        struct batch_output s = a->outputs[i], t = b->outputs[i];
        assert_int_equal(s.sampling.n_bias, t.sampling.n_bias);
        assert_int_equal(s.sampling.n_counts, t.sampling.n_counts);
        for (uint32_t k = 0; k < s.sampling.n_bias; k++) {
            assert_int_equal(s.sampling.bias[k].token, t.sampling.bias[k].token);
            assert_true(s.sampling.bias[k].bias == t.sampling.bias[k].bias);
        }
        for (uint32_t k = 0; k < s.sampling.n_counts; k++) {
            assert_int_equal(s.sampling.counts[k].token, t.sampling.counts[k].token);
            assert_int_equal(s.sampling.counts[k].generated, t.sampling.counts[k].generated);
            assert_int_equal(s.sampling.counts[k].in_prompt, t.sampling.counts[k].in_prompt);
        }
        assert_int_equal(s.row, t.row);
        assert_int_equal(s.sequence, t.sequence);
        assert_int_equal(s.kind, t.kind);
        assert_int_equal(s.position, t.position);
        assert_int_equal(s.target, t.target);
        assert_int_equal(s.sampling.seed, t.sampling.seed);
        assert_int_equal(s.sampling.choice, t.sampling.choice);
        assert_true(s.sampling.temperature == t.sampling.temperature);
        assert_true(s.sampling.top_p == t.sampling.top_p);
        assert_true(s.sampling.min_p == t.sampling.min_p);
        assert_int_equal(s.sampling.top_k, t.sampling.top_k);
        assert_true(s.sampling.repetition_penalty == t.sampling.repetition_penalty);
        assert_true(s.sampling.frequency_penalty == t.sampling.frequency_penalty);
        assert_true(s.sampling.presence_penalty == t.sampling.presence_penalty);
        assert_int_equal(s.sampling.counts_reset, t.sampling.counts_reset);
        assert_int_equal(s.sampling.logprobs, t.sampling.logprobs);
        assert_int_equal(s.sampling.top_logprobs, t.sampling.top_logprobs);
        assert_int_equal(s.sampling.n_mask, t.sampling.n_mask);
        if (s.sampling.n_mask)
            assert_memory_equal(s.sampling.mask, t.sampling.mask, s.sampling.n_mask);
    }
}

static void steps_survive_the_wire(void **state)
{
    struct batch_output outputs[2];
    struct batch b = example(outputs);
    struct err err = {0};
    zmq_msg_t first, second;
    assert_int_equal(step_message_pack(&b, &first, &err), 0);
    struct step_message m;
    assert_int_equal(step_message_unpack(&m, zmq_msg_data(&first), zmq_msg_size(&first), &err), 0);
    check_equal(&b, &m.batch);
    Paceline__StageTime time = PACELINE__STAGE_TIME__INIT;
    time.stage = 0;
    time.compute_us = 1234;
    assert_int_equal(step_message_forward(&m, &time, &second, &err), 0);
    step_message_clear(&m);
    assert_int_equal(step_message_unpack(&m, zmq_msg_data(&second), zmq_msg_size(&second), &err),
                     0);
    check_equal(&b, &m.batch);
    assert_int_equal(m.proto->n_times, 1);
    assert_int_equal(m.proto->times[0]->compute_us, 1234);
    step_message_clear(&m);
    zmq_msg_close(&first);
    zmq_msg_close(&second);
}

static void results_survive_the_wire(void **state)
{
    struct batch_output outputs[2];
    struct batch b = example(outputs);
    struct err err = {0};
    zmq_msg_t step, envelope;
    assert_int_equal(step_message_pack(&b, &step, &err), 0);
    struct step_message m;
    assert_int_equal(step_message_unpack(&m, zmq_msg_data(&step), zmq_msg_size(&step), &err), 0);
    struct batch_result rows[2] = {
        {.row = 3,
         .sequence = 0,
         .kind = BATCH_SAMPLE,
         .token = 151643,
         .logprob = -0.25f,
         .n_top = 2,
         .top = {{151643, -0.25f}, {17, -2.5f}}},
        {.row = 4, .sequence = 3, .kind = BATCH_SCORE, .logprob = -7.0f, .not_a_number = true}};
    Paceline__StageTime time = PACELINE__STAGE_TIME__INIT;
    assert_int_equal(step_result_pack(&m, &time, rows, 2, &envelope, &err), 0);
    Paceline__StepResult *r = NULL;
    assert_int_equal(step_result_unpack(&r, zmq_msg_data(&envelope), zmq_msg_size(&envelope), &err),
                     0);
    assert_int_equal(r->step, b.step);
    assert_int_equal(r->n_results, 2);
    struct batch_result row;
    step_result_row(r->results[0], &row);
    assert_int_equal(row.token, 151643);
    assert_int_equal(row.n_top, 2);
    assert_int_equal(row.top[1].token, 17);
    assert_true(row.top[1].logprob == -2.5f);
    step_result_row(r->results[1], &row);
    assert_true(row.not_a_number);
    assert_true(row.logprob == -7.0f);
    paceline__step_result__free_unpacked(r, NULL);
    step_message_clear(&m);
    zmq_msg_close(&step);
    zmq_msg_close(&envelope);
}

static void broken_steps_do_not_crash(void **state)
{
    struct batch_output outputs[2];
    struct batch b = example(outputs);
    struct err err = {0};
    zmq_msg_t whole;
    assert_int_equal(step_message_pack(&b, &whole, &err), 0);
    size_t size = zmq_msg_size(&whole);
    for (size_t cut = 0; cut < size; cut++) {
        struct step_message m;
        unsigned char *copy = malloc(cut + 1);
        memcpy(copy, zmq_msg_data(&whole), cut);
        if (step_message_unpack(&m, copy, cut, &err) == 0)
            step_message_clear(&m);
        free(copy);
    }
    unsigned seed = 1;
    for (int round = 0; round < 20000; round++) {
        unsigned char *copy = malloc(size);
        memcpy(copy, zmq_msg_data(&whole), size);
        for (int flips = 0; flips < 3; flips++) {
            seed = seed * 1664525u + 1013904223u;
            copy[(seed >> 8) % size] = (unsigned char)(seed >> 24);
        }
        struct step_message m;
        if (step_message_unpack(&m, copy, size, &err) == 0)
            step_message_clear(&m);
        free(copy);
    }
    zmq_msg_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_survive_the_wire),
        cmocka_unit_test(results_survive_the_wire),
        cmocka_unit_test(broken_steps_do_not_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
