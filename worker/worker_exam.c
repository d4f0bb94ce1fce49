#include "worker/worker_exam.h"

#include <stdio.h>

void worker_exam_set(struct worker_exam *exam, const struct self_test_result *result)
{
    paceline__examined__init(&exam->message);
    snprintf(exam->failure, sizeof exam->failure, "%s",
             result->failure.code ? result->failure.text : "");
    exam->message.round = result->round;
    exam->message.failure = exam->failure;
    exam->message.n_answers = (size_t)result->n_answers;
    exam->message.answers = exam->list;
    for (int i = 0; i < result->n_answers; i++) {
        const struct self_test_answer *from = &result->answers[i];
        paceline__exam_answer__init(&exam->answers[i]);
        exam->answers[i].answer = from->answer;
        exam->answers[i].threads = (uint32_t)from->n_threads;
        exam->answers[i].processor = from->processor < 0 ? 0 : (uint32_t)from->processor + 1;
        exam->list[i] = &exam->answers[i];
    }
}
