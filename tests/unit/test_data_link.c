/* Steps between two sockets: what arrives is what was sent, or is told. */
#include "proto/block_sum.h"
#include "proto/data_link.h"
#include "proto/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pair {
    void *zmq, *out, *in;
};

static int pair_open(void **state)
{
    static struct pair p;
    struct err err;
    bool ok = wire_context(&p.zmq, &err) == 0 &&
              wire_socket(&p.out, p.zmq, ZMQ_PUSH, NULL, &err) == 0 &&
              wire_socket(&p.in, p.zmq, ZMQ_PULL, NULL, &err) == 0 &&
              zmq_bind(p.in, "inproc://link") == 0 && zmq_connect(p.out, "inproc://link") == 0;
    *state = &p;
    return ok ? 0 : -1;
}

static int pair_close(void **state)
{
    struct pair *p = *state;
    zmq_close(p->out);
    zmq_close(p->in);
    zmq_ctx_term(p->zmq);
    return 0;
}

static void send_step(struct pair *p, const char *envelope, size_t n, bool is_plain)
{
    zmq_msg_t parts[2];
    struct err err = {0};
    unsigned char bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * i);
    assert_int_equal(wire_frame(&parts[0], envelope, strlen(envelope), &err), 0);
    assert_int_equal(wire_frame(&parts[1], bytes, n, &err), 0);
    assert_int_equal(data_link_send(p->out, &parts[0], &parts[1], is_plain, &err), 0);
}

static int receive(struct pair *p, bool is_plain, struct err *err)
{
    zmq_msg_t envelope, frame;
    int rc = data_link_receive(p->in, &envelope, &frame, is_plain, err);
    if (rc == 1) {
        zmq_msg_close(&envelope);
        zmq_msg_close(&frame);
    }
    return rc;
}

static void what_was_sent_arrives(void **state)
{
    struct pair *p = *state;
    struct err err = {0};
    for (int is_plain = 0; is_plain < 2; is_plain++)
        for (size_t n = 0; n <= 1000; n += 250) {
            zmq_msg_t envelope, frame;
            send_step(p, "step", n, is_plain);
            assert_int_equal(data_link_receive(p->in, &envelope, &frame, is_plain, &err), 1);
            assert_int_equal(zmq_msg_size(&frame), n);
            assert_memory_equal(zmq_msg_data(&envelope), "step", 4);
            zmq_msg_close(&envelope);
            zmq_msg_close(&frame);
            assert_int_equal(receive(p, is_plain, &err), 0);
        }
}

/* Every bit of all three parts. */
static void every_damaged_bit_is_seen(void **state)
{
    struct pair *p = *state;
    const char envelope[] = "an envelope";
    for (size_t bit = 0; bit < 8 * (11 + 40 + 16); bit++) {
        struct err err = {0};
        send_step(p, envelope, 40, true);
        const size_t sizes[] = {11, 40, 16};
        size_t at = bit / 8;
        for (int i = 0; i < 3; i++) {
            unsigned char part[64];
            assert_int_equal(zmq_recv(p->in, part, sizeof part, 0), sizes[i]);
            if (at < sizes[i])
                part[at] ^= (unsigned char)(1 << bit % 8);
            at -= sizes[i]; /* wraps: no part after it is touched */
            zmq_send(p->out, part, sizes[i], i < 2 ? ZMQ_SNDMORE : 0);
        }
        assert_int_equal(receive(p, true, &err), ERR_DAMAGED);
        assert_non_null(strstr(err.text, bit < 8 * 11 ? "envelope" : "checksum"));
        assert_int_equal(receive(p, true, &err), 0);
    }
}

static void send_parts(struct pair *p, const size_t *sizes, int n)
{
    static const char bytes[64];
    for (int i = 0; i < n; i++)
        assert_true(zmq_send(p->out, bytes, sizes[i], i + 1 < n ? ZMQ_SNDMORE : 0) >= 0);
}

static void what_is_no_step_is_refused(void **state)
{
    static const struct {
        bool is_plain;
        int n;
        size_t sizes[4];
    } cases[] = {{true, 1, {5}},        {true, 2, {5, 5}},        {true, 3, {5, 5, 15}},
                 {true, 3, {5, 5, 17}}, {true, 4, {5, 5, 16, 1}}, {true, 4, {5, 5, 1, 16}},
                 {false, 1, {5}},       {false, 3, {5, 5, 16}},   {false, 4, {5, 5, 16, 1}},
                 {true, 3, {5, 5, 0}}};
    struct pair *p = *state;
    struct err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        send_parts(p, cases[i].sizes, cases[i].n);
        assert_int_equal(receive(p, cases[i].is_plain, &err), ERR_NETWORK);
        send_step(p, "next", 8, cases[i].is_plain);
        assert_int_equal(receive(p, cases[i].is_plain, &err), 1);
    }
    static char much[WIRE_MAX_ENVELOPE + 1];
    zmq_send(p->out, much, sizeof much, ZMQ_SNDMORE);
    send_parts(p, (const size_t[]){5, 16}, 2);
    assert_int_equal(receive(p, true, &err), ERR_NETWORK);
}

/* Published test vectors of the algorithm: of no bytes, and the order of bytes on the wire. */
static void sums_are_the_same_everywhere(void **state)
{
    unsigned char bytes[BLOCK_SUM_BYTES];
    assert_true(block_sum("", 0) == 0x2d06800538d394c2u);
    block_sum_write(0x0123456789abcdefu, bytes);
    assert_memory_equal(bytes, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8);
    assert_true(block_sum_read(bytes) == 0x0123456789abcdefu);
}

static void sums_in_pieces_are_the_same(void **state)
{
    struct block_summer *s = block_summer_new();
    unsigned char bytes[5000];
    assert_non_null(s);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t piece = 1; piece <= sizeof bytes; piece = 3 * piece + 1) {
        block_summer_begin(s);
        for (size_t at = 0; at < sizeof bytes; at += piece)
            block_summer_add(s, bytes + at, at + piece < sizeof bytes ? piece : sizeof bytes - at);
        assert_true(block_summer_end(s) == block_sum(bytes, sizeof bytes));
    }
    block_summer_free(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_open, pair_close)
    const struct CMUnitTest tests[] = {
        TEST(what_was_sent_arrives),
        TEST(every_damaged_bit_is_seen),
        TEST(what_is_no_step_is_refused),
        cmocka_unit_test(sums_are_the_same_everywhere),
        cmocka_unit_test(sums_in_pieces_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
