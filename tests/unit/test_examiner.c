/* Who is expelled, why, and who is not. */
#include "coordinator/examiner.h"

#include "base/clock.h"
#include "proto/known_answers.h"
#include "tests/support/exam_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A registry with one worker that nobody listens for: what is sent to it is lost. */
struct desk {
    void *zmq;
    struct registry registry;
    struct worker_entry worker;
};

static int desk_open(void **state)
{
    static struct desk d;
    struct err err;
    int port;
    d = (struct desk){.worker = {.name = "desk-3", .stage = -1, .next_stage = -1}};
    d.worker.identity = (struct wire_identity){.bytes = "w", .size = 1};
    *state = &d;
    return wire_context(&d.zmq, &err) == 0 &&
                   registry_open(&d.registry, d.zmq, "127.0.0.1", 0, NULL, &port, &err) == 0
               ? 0
               : -1;
}

static int desk_close(void **state)
{
    struct desk *d = *state;
    registry_close(&d->registry);
    zmq_ctx_term(d->zmq);
    return 0;
}

static void who_is_right_is_welcome(void **state)
{
    struct desk *d = *state;
    for (uint32_t round = 0; round < KNOWN_ANSWERS; round++)
        examiner_take_hello(&d->registry, &d->worker, exam_message(round, 0));
    assert_int_equal(d->worker.n_exams, KNOWN_ANSWERS);
    assert_string_equal(d->worker.expelled, "");
    assert_false(d->worker.unfit);
}

static void expect_expelled(struct desk *d, const char *words)
{
    if (!strstr(d->worker.expelled, words))
        fail_msg("\"%s\" says nothing of \"%s\"", d->worker.expelled, words);
    assert_true(d->worker.unfit);
    assert_int_equal(d->registry.expulsion.code, ERR_DAMAGED);
    assert_non_null(strstr(d->registry.expulsion.text, "worker desk-3 is expelled: "));
}

static void who_errs_is_expelled(void **state)
{
    struct desk *d = *state;
    char words[200];
    examiner_take_hello(&d->registry, &d->worker, exam_message(4, 1));
    snprintf(
        words, sizeof words,
        "1 of 2 threads answered self-test 4 with %016llx where %016llx is right, the first of "
        "them on processor 1",
        (unsigned long long)known_answers[4] ^ 1, (unsigned long long)known_answers[4]);
    expect_expelled(d, words);
    assert_null(strstr(d->worker.expelled, "may be wrong")); /* it has computed nothing yet */
    assert_false(d->registry.stage_lost);
    /* It stays so, whatever it says next. */
    examiner_take_hello(&d->registry, &d->worker, exam_message(4, 0));
    assert_true(d->worker.expelled[0]);
}

static void who_does_not_answer_is_not_used(void **state)
{
    struct desk *d = *state;
    Paceline__Examined strange = PACELINE__EXAMINED__INIT;
    examiner_take_hello(&d->registry, &d->worker, NULL);
    expect_expelled(d, "it tells no answer");
    d->worker.expelled[0] = '\0';
    strange.failure = (char *)"no memory for the self-test";
    examiner_take_hello(&d->registry, &d->worker, &strange);
    expect_expelled(d, "could not be computed: no memory for the self-test");
    d->worker.expelled[0] = '\0';
    strange.round = 4000000000u;
    examiner_take_hello(&d->registry, &d->worker, &strange);
    expect_expelled(d, "it tells no answer");
}

static void a_stage_of_the_expelled_is_lost(void **state)
{
    struct desk *d = *state;
    examiner_take_hello(&d->registry, &d->worker, exam_message(0, 0));
    d->worker.stage = 1;
    d->worker.next_stage = 0;
    d->worker.asked_round = 7;
    examiner_take(&d->registry, &d->worker, exam_message(6, 1)); /* of a round from before */
    assert_string_equal(d->worker.expelled, "");
    examiner_take(&d->registry, &d->worker, exam_message(7, 1));
    expect_expelled(d, "self-test 7");
    expect_expelled(d, "; what it computed in the last ");
    assert_true(d->registry.stage_lost && d->registry.next_lost);
    assert_string_equal(d->registry.lost_name, "desk-3");
}

static void rounds_are_asked_for_in_their_time(void **state)
{
    struct desk *d = *state;
    d->worker.incarnation = KNOWN_ANSWERS * 3 + 15;
    examiner_take_hello(&d->registry, &d->worker, exam_message(15, 0));
    int64_t now = clock_now_ms();
    assert_int_equal(d->worker.asked_round, 15);
    examiner_ask(&d->registry, &d->worker, now + 1000000); /* switched off */
    assert_int_equal(d->worker.asked_round, 15);
    d->registry.exam_every_ms = 60000;
    examiner_ask(&d->registry, &d->worker, now + 50000);
    assert_int_equal(d->worker.asked_round, 15);
    examiner_ask(&d->registry, &d->worker, now + 70000);
    assert_int_equal(d->worker.asked_round, 0);
    examiner_ask(&d->registry, &d->worker, now + 100000);
    assert_int_equal(d->worker.asked_round, 0);
    examiner_ask(&d->registry, &d->worker, now + 140000); /* whether it has answered or not */
    assert_int_equal(d->worker.asked_round, 1);
}

static void one_damaged_tensor_may_be_chance(void **state)
{
    struct desk *d = *state;
    examiner_note_damage(&d->registry, &d->worker, "tensor a is damaged");
    assert_string_equal(d->worker.expelled, "");
    examiner_note_damage(&d->registry, &d->worker, "tensor b is damaged");
    expect_expelled(d, "2 tensors have changed in its memory");
    expect_expelled(d, "tensor b");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, desk_open, desk_close)
    const struct CMUnitTest tests[] = {
        TEST(who_is_right_is_welcome),
        TEST(who_errs_is_expelled),
        TEST(who_does_not_answer_is_not_used),
        TEST(a_stage_of_the_expelled_is_lost),
        TEST(rounds_are_asked_for_in_their_time),
        TEST(one_damaged_tensor_may_be_chance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
