/* suspects.h - which request is it that ends workers?
 *
 * Rows whose step has come back are proven. When a plan breaks because a worker's program ended,
 * the choices whose other rows were under way are suspects; where the worker could say in which
 * step it happened, those of that step alone. After the next plan has begun, everybody's proven
 * rows are computed again as usual, but what a suspect had under way beyond them goes alone: with
 * nobody else's unproven rows in the pipeline, one suspect after the other, longest waiting first.
 * So each is cleared, or the next end names its cause. */
#ifndef PACELINE_COORDINATOR_SUSPECTS_H
#define PACELINE_COORDINATOR_SUSPECTS_H

#include "coordinator/request.h"

#include <stdbool.h>

/* The step of these tokens, up to `end`, has come back. */
void suspects_prove(struct choice *c, int end);
/* A worker's end broke the plan; lost_end of each choice says what it had in the lost steps, and is
 * forgotten. is_seen: the worker itself named the step. Returns whether there are suspects;
 * *ret_guilty: a choice that must not be tried again, for it was alone when a second worker named
 * its step, or two in a row ended without a word; or NULL. */
bool suspects_note(struct choice *const *slots, int n_slots, bool is_seen,
                   struct choice **ret_guilty);
bool suspects_are_left(struct choice *const *slots, int n_slots);
/* The suspect that goes alone now, or NULL while none is ready to. *ret_is_free: nobody else's
 * unproven rows are under way. */
struct choice *suspects_turn(struct choice *const *slots, int n_slots, bool *ret_is_free);
/* How many of the next `count` rows of c may be sent. turn, is_free: of suspects_turn(). */
int suspects_allow(const struct choice *c, int count, const struct choice *turn, bool is_free);

#endif
