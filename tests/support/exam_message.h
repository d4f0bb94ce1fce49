/* exam_message.h - what a worker says of a self-test, for hellos of made-up workers. */
#ifndef PACELINE_TESTS_SUPPORT_EXAM_MESSAGE_H
#define PACELINE_TESTS_SUPPORT_EXAM_MESSAGE_H

#include "proto/cluster.pb-c.h"
#include "proto/known_answers.h"

/* Two threads, the second of which gave an answer that differs in these bits. Good until the next
 * call. */
static inline Paceline__Examined *exam_message(uint32_t round, uint64_t wrong_bits)
{
    static Paceline__Examined exam;
    static Paceline__ExamAnswer answers[2], *list[2] = {&answers[0], &answers[1]};
    paceline__examined__init(&exam);
    exam.round = round;
    exam.answers = list;
    exam.n_answers = 2;
    for (int i = 0; i < 2; i++) {
        paceline__exam_answer__init(&answers[i]);
        answers[i].answer = known_answers[round] ^ (i ? wrong_bits : 0);
        answers[i].threads = 1;
        answers[i].processor = (uint32_t)i + 1;
    }
    return &exam;
}

#endif
