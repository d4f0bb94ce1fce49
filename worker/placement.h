/* placement.h - on which cores a worker's threads compute.
 *
 * Threads take physical cores that this process may use (cpuset and affinity), the fastest kind
 * first, one thread on each. A core is claimed by binding a name of Linux's abstract socket
 * namespace: the claim ends with the process however that ends, no user may take it from another,
 * and there is no file to create, to guard or to clean up. Workers in containers with a network of
 * their own don't see each other's claims. */
#ifndef PACELINE_WORKER_PLACEMENT_H
#define PACELINE_WORKER_PLACEMENT_H

#include "base/err.h"

#include <hwloc.h>
#include <stdbool.h>

struct placement;

struct placement_spec {
    hwloc_topology_t topology; /* borrowed, or NULL: this machine's, as far as it may be used */
    const char *claims;        /* prefix of the names of claims, or NULL: the one for all workers */
};

int placement_open(struct placement **ret_placement, const struct placement_spec *spec,
                   struct err *err);
/* Gives the claims back; NULL is fine. */
void placement_close(struct placement *p);

/* One for each core, or fewer where a quota of CPU time (control groups) allows less. */
int placement_default_threads(const struct placement *p);
int placement_cores(const struct placement *p);
/* Of these, those of a kind that is not the fastest; and the memory nodes that they are on. */
int placement_efficient_cores(const struct placement *p);
int placement_numa_nodes(const struct placement *p);
/* The operating system's number of the processor that stands for core i, fastest first. */
int placement_processor(const struct placement *p, int i);
/* Claims at most n cores that no other worker has; returns how many. */
int placement_claim(struct placement *p, int n);
/* Binds the calling thread to the claimed core `thread`; without effect when there is none: such a
 * thread runs wherever the system likes. false: the system refuses. */
bool placement_pin(const struct placement *p, int thread);

/* Whole CPUs of a quota, at least 1; 0: no limit. text is a control group's cpu.max ("150000
 * 100000", "max 100000"). A part of a CPU does not count: threads that wait for each other would
 * all stand still until the period ends. */
int placement_read_quota(const char *text);

#endif
