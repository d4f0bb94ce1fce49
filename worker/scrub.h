/* scrub.h - a thread that reads packed weights through again and again, slowly, and finds bytes
 * that have changed in memory: it compares checksums with those made when they were packed. */
#ifndef PACELINE_WORKER_SCRUB_H
#define PACELINE_WORKER_SCRUB_H

#include "base/err.h"
#include "worker/packs.h"

#include <stdint.h>

struct scrub;

struct scrub_spec {
    struct packs *packs; /* borrowed; freed after the scrub */
    double bytes_per_s;  /* > 0 */
    /* A tensor of a pack, which is spoilt by now; from the scrub's own thread. */
    void (*damaged)(void *context, const char *tensor);
    void *context;
};

int scrub_start(struct scrub **ret_scrub, const struct scrub_spec *spec, struct err *err);
void scrub_stop(struct scrub *s);            /* NULL is fine */
uint64_t scrub_bytes(const struct scrub *s); /* that were read since the start; NULL: 0 */

#endif
