/* bench_samples.h - measured values, and what is said of them. */
#ifndef PACELINE_CLI_BENCH_SAMPLES_H
#define PACELINE_CLI_BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

struct bench_samples {
    double *values; /* owned */
    size_t n, capacity;
};

struct bench_summary {
    size_t n;
    double mean, min, p50, p95, p99, max; /* all 0 when n is */
};

/* false: no memory for it. */
bool bench_samples_add(struct bench_samples *s, double value);
void bench_samples_clear(struct bench_samples *s);
/* The value of the nearest rank: the smallest that at least `percent` (1 to 100) in a hundred do
 * not exceed. Sorted, n > 0. */
double bench_samples_percentile(const double *sorted, size_t n, unsigned percent);
/* Sorts the values. */
struct bench_summary bench_samples_summary(struct bench_samples *s);

#endif
