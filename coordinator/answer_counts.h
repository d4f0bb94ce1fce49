/* answer_counts.h - how many answers of which status each endpoint has given. */
#ifndef PACELINE_COORDINATOR_ANSWER_COUNTS_H
#define PACELINE_COORDINATOR_ANSWER_COUNTS_H

#include <stddef.h>
#include <stdint.h>

enum { ANSWER_COUNTS = 512 };

struct answer_count {
    const char *path; /* a route's, borrowed for good */
    int status;
    uint64_t n;
};

struct answer_counts {
    struct answer_count list[ANSWER_COUNTS];
    size_t n;
};

/* Beyond ANSWER_COUNTS different ones the new are not counted. */
void answer_counts_add(struct answer_counts *a, const char *path, int status);

#endif
