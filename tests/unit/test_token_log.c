/* Tokens and log-probabilities come back as they were; what is damaged is told. */
#include "coordinator/token_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_plain(void **state)
{
    struct buf log;
    struct batch_result r;
    size_t at = 0;
    (void)state;
    buf_init(&log);
    for (uint32_t i = 0; i < 100; i++)
        token_log_append(&log, i * 7919, false, NULL);
    assert_int_equal(log.length, 400);
    assert_int_equal(token_log_count(log.data, log.length, false), 100);
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(token_log_next(log.data, log.length, &at, false, &r));
        assert_int_equal(r.token, i * 7919);
        assert_int_equal(r.n_top, 0);
        assert_int_equal(r.kind, BATCH_SAMPLE);
    }
    assert_false(token_log_next(log.data, log.length, &at, false, &r));
    assert_int_equal(at, log.length);
    assert_int_equal(token_log_count(log.data, 398, false), -1);
    assert_int_equal(token_log_count(NULL, 0, false), 0);
    buf_clear(&log);
}

static void test_with_records(void **state)
{
    struct buf log;
    struct batch_result r;
    struct batch_token_logprob top[BATCH_TOP_LOGPROBS];
    size_t at = 0, whole;
    (void)state;
    buf_init(&log);
    for (uint32_t i = 0; i < BATCH_TOP_LOGPROBS; i++)
        top[i] = (struct batch_token_logprob){.token = i, .logprob = -(float)i / 3};
    for (uint32_t n = 0; n <= BATCH_TOP_LOGPROBS; n++) {
        struct token_record record = {.token = n, .logprob = -0.1f, .n_top = n, .top = top};
        token_log_append(&log, n, true, &record);
    }
    whole = log.length;
    token_log_append(&log, 99, true, NULL);
    assert_int_equal(token_log_count(log.data, log.length, true), BATCH_TOP_LOGPROBS + 2);
    for (uint32_t n = 0; n <= BATCH_TOP_LOGPROBS; n++) {
        assert_true(token_log_next(log.data, log.length, &at, true, &r));
        assert_int_equal(r.token, n);
        assert_true(r.logprob == -0.1f && r.n_top == n);
        assert_memory_equal(r.top, top, n * sizeof top[0]);
    }
    assert_int_equal(at, whole);
    assert_true(token_log_next(log.data, log.length, &at, true, &r));
    assert_true(r.token == 99 && r.n_top == 0);
    /* Every length that ends within a token is seen. */
    for (size_t cut = whole - 1; cut > whole - 12 - BATCH_TOP_LOGPROBS * sizeof top[0]; cut--)
        assert_int_equal(token_log_count(log.data, cut, true), -1);
    uint32_t too_many = BATCH_TOP_LOGPROBS + 1;
    for (int i = 0; i < 30; i++) /* what follows would be taken for it */
        token_log_append(&log, 1, true, NULL);
    memcpy(log.data + whole + 8, &too_many, sizeof too_many);
    assert_int_equal(token_log_count(log.data, log.length, true), -1);
    buf_clear(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_with_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
