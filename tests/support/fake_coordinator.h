/* fake_coordinator.h - coordinator.h without workers: it brings given tokens, so that the HTTP
 * server is tested over real sockets before, and without, a cluster. */
#ifndef PACELINE_TESTS_SUPPORT_FAKE_COORDINATOR_H
#define PACELINE_TESTS_SUPPORT_FAKE_COORDINATOR_H

#include "coordinator/coordinator.h"

struct fake_coordinator_spec {
    const char *model_path; /* a GGUF file: its tokenizer, template and sizes are used */
    const char *alias;      /* NULL: "tiny" */
    int context;
    int most_requests; /* more at once: the queue is full */
};

struct coordinator *fake_coordinator_new(const struct fake_coordinator_spec *spec);
void fake_coordinator_free(struct coordinator *c);

/* What every choice will answer; after it comes the end of the text. */
void fake_coordinator_answer(struct coordinator *c, const uint32_t *tokens, int n_tokens);
void fake_coordinator_set_ready(struct coordinator *c, bool is_ready);
/* It has served and does not now, for want of a worker. */
void fake_coordinator_degrade(struct coordinator *c);
/* Requests stay where they are until released: clients wait. */
void fake_coordinator_hold(struct coordinator *c, bool is_held);
/* Every request fails after so many tokens of its first choice; -1: none does. */
void fake_coordinator_fail_after(struct coordinator *c, int n_tokens);
/* One token for each choice that is open, or one row of a probe. */
void fake_coordinator_step(struct coordinator *c);
int fake_coordinator_open(const struct coordinator *c);      /* requests that it works on */
int fake_coordinator_cancelled(const struct coordinator *c); /* so far */
/* Tokens that its first choice had when it was submitted. */
int fake_coordinator_last_tokens(const struct coordinator *c);
/* The newest request that was submitted, as it was; NULL before the first. */
const struct request *fake_coordinator_last(const struct coordinator *c);

#endif
