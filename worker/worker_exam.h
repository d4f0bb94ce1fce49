/* worker_exam.h - a self-test's result as the coordinator wants to hear it. */
#ifndef PACELINE_WORKER_WORKER_EXAM_H
#define PACELINE_WORKER_WORKER_EXAM_H

#include "proto/cluster.pb-c.h"
#include "worker/self_test.h"

/* message points into the struct, which therefore stays where it is. */
struct worker_exam {
    Paceline__Examined message;
    Paceline__ExamAnswer answers[SELF_TEST_ANSWERS], *list[SELF_TEST_ANSWERS];
    char failure[512];
};

void worker_exam_set(struct worker_exam *exam, const struct self_test_result *result);

#endif
