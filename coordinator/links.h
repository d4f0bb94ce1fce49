/* links.h - what lies between the coordinator and its workers, and between neighbours: probed when
 * a worker joins, one at a time, and seen in steps once it has a stage.
 *
 * The planner takes the network for a star: each worker has one link. Whatever was seen to pass
 * over a link, it carries; so the best that a worker's probe and its hops have shown counts. */
#ifndef PACELINE_COORDINATOR_LINKS_H
#define PACELINE_COORDINATOR_LINKS_H

#include "coordinator/registry.h"
#include "coordinator/timeline.h"

/* On this machine: nothing is probed, for nothing limits it but computing. */
bool links_are_near(const struct worker_entry *w);
/* Begins the next probe, if none is under way, and ends those that take too long. Call whenever a
 * worker has joined or left, and a few times a second. */
void links_keep(struct registry *r);
/* A probe's message that came back. */
void links_on_probe(struct registry *r, struct worker_entry *w, const Paceline__Probe *probe);
/* Not known yet, and worth waiting for. */
bool links_are_awaited(const struct worker_entry *w);
/* Looks at the steps that have come back, for the stages of the plan in service. row_bytes: of
 * activations. */
void links_watch_hops(struct registry *r, const struct timeline *t, size_t row_bytes);
/* Bytes a second, 0 where nothing was measured: what the probe found, and with what hops showed. */
double links_probed(const struct worker_entry *w);
double links_rate(const struct worker_entry *w);
/* There and back, the shortest that was seen; 0: nothing was yet. */
int64_t links_round_trip_us(const struct worker_entry *w);

#endif
