/* examiner.h - workers whose arithmetic, or whose memory, is not what it should be: they compute a
 * self-test when they start and every so often, the coordinator knows the answer
 * (proto/known_answers.h), and who gives another one is expelled: it stays in sight, with the
 * reason, and no plan uses it until it joins anew. */
#ifndef PACELINE_COORDINATOR_EXAMINER_H
#define PACELINE_COORDINATOR_EXAMINER_H

#include "coordinator/registry.h"

/* What a worker says in its hello: exam may be NULL, which is no answer. */
void examiner_take_hello(struct registry *r, struct worker_entry *w,
                         const Paceline__Examined *exam);
/* The answer to a round that was asked for. */
void examiner_take(struct registry *r, struct worker_entry *w, const Paceline__Examined *exam);
/* Asks those for whom it is time. */
void examiner_ask(struct registry *r, struct worker_entry *w, int64_t now_ms);
/* It told, in these words, of a tensor that has changed in its memory: once may be chance. */
void examiner_note_damage(struct registry *r, struct worker_entry *w, const char *words);

#endif
