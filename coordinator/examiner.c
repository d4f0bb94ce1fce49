#include "coordinator/examiner.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/known_answers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A second damaged tensor is no chance. */
#define MOST_DAMAGES 1

static void examiner_expel(struct registry *r, struct worker_entry *w, const char *why)
{
    if (w->expelled[0])
        return;
    snprintf(w->expelled, sizeof w->expelled, "%s", why);
    w->unfit = true;
    w->unfit_until_ms = 0;
    log_error("worker %s is expelled: %s", w->name, why);
    err_set(&r->expulsion, ERR_DAMAGED, "worker %s is expelled: %s", w->name, why);
    Paceline__Expelled expelled = PACELINE__EXPELLED__INIT;
    expelled.reason = w->expelled;
    registry_send(r, w, PACELINE__CONTROL__BODY_EXPELLED, &expelled);
    registry_lose_stage(r, w, WORKER_LEFT); /* no request's fault */
}

/* false: *ret_why says what is wrong. */
static bool examiner_judge(const Paceline__Examined *exam, char *ret_why, size_t size)
{
    uint32_t n_threads = 0;
    const Paceline__ExamAnswer *wrong = NULL;
    const uint64_t known = known_answers[exam->round % KNOWN_ANSWERS];
    for (size_t i = 0; i < exam->n_answers; i++) {
        n_threads += exam->answers[i]->threads;
        if (exam->answers[i]->answer != known)
            wrong = exam->answers[i];
    }
    if (wrong) {
        int n = snprintf(ret_why, size,
                         "its arithmetic is wrong: %" PRIu32 " of %" PRIu32
                         " threads answered self-test %" PRIu32 " with %016" PRIx64
                         " where %016" PRIx64 " is right",
                         wrong->threads, n_threads, exam->round, wrong->answer, known);
        if (wrong->processor && n > 0 && (size_t)n < size)
            snprintf(ret_why + n, size - (size_t)n, ", the first of them on processor %" PRIu32,
                     wrong->processor - 1);
        return false;
    }
    if (!exam->n_answers)
        snprintf(ret_why, size, "its self-test could not be computed: %.100s",
                 exam->failure[0] ? exam->failure : "it tells no answer");
    return exam->n_answers > 0;
}

static void examiner_take_answer(struct registry *r, struct worker_entry *w,
                                 const Paceline__Examined *exam)
{
    char why[sizeof w->expelled], since[96] = "";
    int64_t now = clock_now_ms();
    if (examiner_judge(exam, why, sizeof why)) {
        w->n_exams++;
        w->passed_ms = now;
        return;
    }
    if (w->passed_ms) {
        snprintf(since, sizeof since, "; what it computed in the last %" PRId64 " s may be wrong",
                 (now - w->passed_ms + 999) / 1000);
        strncat(why, since, sizeof why - strlen(why) - 1);
    }
    examiner_expel(r, w, why);
}

void examiner_take_hello(struct registry *r, struct worker_entry *w, const Paceline__Examined *exam)
{
    static const Paceline__Examined none = PACELINE__EXAMINED__INIT;
    w->asked_ms = clock_now_ms();
    w->asked_round = (uint32_t)(w->incarnation % KNOWN_ANSWERS);
    examiner_take_answer(r, w, exam && exam->round < KNOWN_ANSWERS ? exam : &none);
}

void examiner_take(struct registry *r, struct worker_entry *w, const Paceline__Examined *exam)
{
    if (exam->round == w->asked_round)
        examiner_take_answer(r, w, exam);
}

void examiner_ask(struct registry *r, struct worker_entry *w, int64_t now_ms)
{
    if (!r->exam_every_ms || w->expelled[0] || now_ms - w->asked_ms < r->exam_every_ms)
        return;
    Paceline__Examine examine = PACELINE__EXAMINE__INIT;
    w->asked_ms = now_ms;
    w->asked_round = examine.round = (w->asked_round + 1) % KNOWN_ANSWERS;
    registry_send(r, w, PACELINE__CONTROL__BODY_EXAMINE, &examine);
}

void examiner_note_damage(struct registry *r, struct worker_entry *w, const char *words)
{
    char why[sizeof w->expelled];
    if (++w->n_damaged_tensors <= MOST_DAMAGES)
        return;
    snprintf(why, sizeof why,
             "%" PRIu64 " tensors have changed in its memory, and one may be chance: %s",
             w->n_damaged_tensors, words);
    examiner_expel(r, w, why);
}
