/* region.h - the memory of a stage, laid out twice by the same code: first to measure it, then to
 * hand it out. So what a plan is told that a stage needs is what the stage takes. */
#ifndef PACELINE_WORKER_REGION_H
#define PACELINE_WORKER_REGION_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct region {
    unsigned char *base; /* NULL while measuring */
    size_t used;         /* bytes handed out, a multiple of 64 */
    size_t size;         /* bytes of the mapping */
    bool overflow;       /* some product did not fit size_t */
};

/* count × item_bytes, 64-byte aligned and zero; NULL while measuring. */
void *region_take(struct region *r, size_t count, size_t item_bytes);
/* Ends the measuring: maps what was measured, aligned to large pages, and hands out from the start
 * again. */
int region_claim(struct region *r, struct err *err);
/* Touches [from, used), so that memory that the machine lacks is missed now and not later; with
 * OpenMP threads. */
void region_populate(struct region *r, size_t from);
void region_release(struct region *r);

#endif
