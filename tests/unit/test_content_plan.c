/* Which chunk is asked for next, and of whom; and messages of the content plane that are not. */
#include "worker/content_plan.h"

#include "proto/content.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHUNK CONTENT_CHUNK_BYTES

static const struct content_fetch_tensor tensors[] = {
    {.name = "a", .bytes = 3 * CHUNK}, {.name = "b", .bytes = CHUNK}, {.name = "c", .bytes = 5}};

static struct content_plan plan_of(int n_sources)
{
    static const char *const endpoints[] = {"tcp://here:1", "tcp://there:2"};
    struct content_plan p;
    struct err err;
    assert_int_equal(content_plan_init(&p, tensors, 3, endpoints, n_sources, &err), 0);
    for (size_t i = 0; i < 3; i++)
        content_plan_set(&p, 0, i, CONTENT_WANTED);
    content_plan_set(&p, 1, 0, CONTENT_WANTED);
    content_plan_set(&p, 2, 0, CONTENT_WANTED);
    return p;
}

static void expect(struct content_plan *p, int source, size_t tensor, size_t chunk)
{
    struct content_pick pick;
    assert_true(content_plan_pick(p, source, true, 1000, &pick));
    assert_int_equal(pick.tensor, tensor);
    assert_int_equal(pick.chunk, chunk);
    content_plan_set(p, tensor, chunk, CONTENT_ASKED);
}

static void in_order_but_what_is_awaited_first(void **state)
{
    (void)state;
    struct content_plan p = plan_of(1);
    struct content_pick pick;
    expect(&p, 0, 0, 0);
    content_plan_hurry(&p, 2, true);
    content_plan_hurry(&p, 1, true);
    expect(&p, 0, 2, 0);
    content_plan_hurry(&p, 2, false);
    expect(&p, 0, 1, 0);
    p.only_hurried = true;
    assert_false(content_plan_pick(&p, 0, true, 0, &pick));
    p.only_hurried = false;
    expect(&p, 0, 0, 1);
    content_plan_set(&p, 0, 0, CONTENT_WANTED); /* it did not come */
    expect(&p, 0, 0, 0);
    expect(&p, 0, 0, 2);
    assert_false(content_plan_pick(&p, 0, true, 0, &pick));
    assert_true(content_plan_wants(&p)); /* until it is here */
    content_plan_clear(&p);
}

static void a_chunk_elsewhere_is_asked_for_there(void **state)
{
    (void)state;
    struct content_plan p = plan_of(2);
    struct content_pick pick;
    for (size_t i = 0; i < 3; i++)
        content_plan_set(&p, 0, i, CONTENT_DONE);
    content_plan_set(&p, 2, 0, CONTENT_DONE);
    content_plan_hint(&p, 1, 0, 1, 1000);
    assert_false(content_plan_pick(&p, 0, true, 1000, &pick));
    assert_true(content_plan_pick(&p, 1, false, 1000, &pick)); /* though nothing is asked blindly */
    assert_int_equal(pick.tensor, 1);
    assert_true(content_plan_defer(&p, 1, 0, 1, 1000, 1020));
    assert_false(content_plan_pick(&p, 1, false, 1019, &pick));
    assert_true(content_plan_pick(&p, 1, false, 1020, &pick));
    /* It is said to be coming for too long. */
    assert_true(content_plan_pick(&p, 0, true, 9000, &pick));
    assert_true(pick.insist);
    /* The peer is gone. */
    content_plan_hint(&p, 1, 0, 1, 9000);
    content_plan_forget_source(&p, 1);
    assert_true(content_plan_pick(&p, 0, true, 9000, &pick));
    assert_true(pick.insist);
    content_plan_clear(&p);
    /* A peer of which this worker does not know. */
    p = plan_of(1);
    content_plan_hint(&p, 0, 0, -1, 0);
    assert_true(content_plan_pick(&p, 0, true, 0, &pick));
    assert_true(pick.insist && pick.tensor == 0 && pick.chunk == 0);
    content_plan_clear(&p);
}

/* Each begins elsewhere, and asks the others for what they began with. */
static void workers_share(void **state)
{
    (void)state;
    static const char *const names[] = {"tcp://10.0.0.1:7000", "tcp://10.0.0.2:7000"};
    const struct content_fetch_tensor large = {.name = "large", .bytes = 1000 * CHUNK};
    struct content_plan p;
    struct content_pick own, other;
    struct err err;
    assert_int_equal(content_plan_init(&p, &large, 1, names, 2, &err), 0);
    for (size_t i = 0; i < 1000; i++)
        content_plan_set(&p, 0, i, CONTENT_WANTED);
    assert_true(content_plan_pick(&p, 0, true, 0, &own));
    assert_true(content_plan_pick(&p, 1, true, 0, &other));
    assert_int_not_equal(own.chunk, other.chunk);
    content_plan_clear(&p);
}

static void messages_are_bounded(void **state)
{
    (void)state;
    struct content_request q = {.chunk = 7, .insist = true, .endpoint = "tcp://here:1"}, again;
    struct content_reply r = {.chunk = 7, .status = CONTENT_ELSEWHERE, .elsewhere = "x"}, other;
    zmq_msg_t m;
    struct err err;
    memset(q.digest, 5, sizeof q.digest);
    assert_int_equal(content_request_pack(&q, &m, &err), 0);
    assert_true(content_request_unpack(&again, zmq_msg_data(&m), zmq_msg_size(&m)));
    assert_memory_equal(&again.digest, &q.digest, sizeof q.digest);
    assert_string_equal(again.endpoint, q.endpoint);
    assert_true(again.insist && again.chunk == 7);
    for (size_t n = 0; n < zmq_msg_size(&m); n++) /* cut short: refused or another one, no crash */
        content_request_unpack(&again, zmq_msg_data(&m), n);
    zmq_msg_close(&m);
    assert_int_equal(content_reply_pack(&r, &m, &err), 0);
    assert_true(content_reply_unpack(&other, zmq_msg_data(&m), zmq_msg_size(&m)));
    assert_int_equal(other.status, CONTENT_ELSEWHERE);
    zmq_msg_close(&m);

    uint8_t bytes[1024], digest[40] = {0};
    char endpoint[CONTENT_ENDPOINT_BYTES + 1];
    memset(endpoint, 'e', sizeof endpoint - 1);
    endpoint[sizeof endpoint - 1] = '\0';
    Paceline__ContentReply bad = PACELINE__CONTENT_REPLY__INIT;
    bad.digest.data = digest;
    bad.digest.len = 31;
    size_t n = paceline__content_reply__pack(&bad, bytes);
    assert_false(content_reply_unpack(&other, bytes, n));
    bad.digest.len = 32;
    bad.status = CONTENT_STATUSES;
    n = paceline__content_reply__pack(&bad, bytes);
    assert_false(content_reply_unpack(&other, bytes, n));
    bad.status = 0;
    bad.elsewhere = endpoint;
    n = paceline__content_reply__pack(&bad, bytes);
    assert_false(content_reply_unpack(&other, bytes, n));
    assert_false(content_reply_unpack(&other, bytes, sizeof bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_but_what_is_awaited_first),
        cmocka_unit_test(a_chunk_elsewhere_is_asked_for_there),
        cmocka_unit_test(workers_share),
        cmocka_unit_test(messages_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
