/* self_test.h - a step with a known answer: a small made-up model of every tensor type, computed by
 * the kernels in use, as layers of a real one are. Each thread of the OpenMP team computes all of
 * it alone, so that one core that errs is found. */
#ifndef PACELINE_WORKER_SELF_TEST_H
#define PACELINE_WORKER_SELF_TEST_H

#include "base/err.h"
#include "kernels/kernels.h"

#include <stdint.h>

enum { SELF_TEST_ANSWERS = 8 };

struct self_test_answer {
    uint64_t answer;
    int n_threads; /* that gave it */
    int processor; /* on which the first of them ran; -1: not known */
};

struct self_test_result {
    uint32_t round;
    int n_answers; /* different ones; beyond SELF_TEST_ANSWERS the last one counts for all */
    struct self_test_answer answers[SELF_TEST_ANSWERS];
    struct err failure; /* code != 0: there is no answer */
};

/* round < KNOWN_ANSWERS: its input. Some milliseconds; memory is claimed for the call. */
void self_test_run(const struct kernels *k, uint32_t round, struct self_test_result *ret_result);

#endif
