/* memory_limits.h - how much memory this process may take, and how much of it is free: the
 * machine's, and that of its control groups (of either version), which containers are. */
#ifndef PACELINE_WORKER_MEMORY_LIMITS_H
#define PACELINE_WORKER_MEMORY_LIMITS_H

#include <stdint.h>

struct memory_limits {
    int64_t total; /* bytes; 0: not known */
    int64_t free;  /* of them, that can be had without swapping */
};

/* root: "" for this machine; a folder that stands in for "/" in tests. */
struct memory_limits memory_limits_read(const char *root);

#endif
