/* histogram.h - how often values fell into which range, as Prometheus counts them. */
#ifndef PACELINE_COORDINATOR_HISTOGRAM_H
#define PACELINE_COORDINATOR_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BOUNDS = 24 };

struct histogram {
    const double *bounds; /* [n] ascending, borrowed; the range above the last has no bound */
    int n;
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* values ≤ bounds[i], and above bounds[i - 1] */
    double sum;
};

/* n ≤ HISTOGRAM_BOUNDS */
void histogram_init(struct histogram *h, const double *bounds, int n);
void histogram_add(struct histogram *h, double value);

#endif
