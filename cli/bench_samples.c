#include "cli/bench_samples.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

bool bench_samples_add(struct bench_samples *s, double value)
{
    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 256;
        if (capacity > SIZE_MAX / sizeof *s->values)
            return false;
        double *longer = realloc(s->values, capacity * sizeof *longer);
        if (!longer)
            return false;
        s->values = longer;
        s->capacity = capacity;
    }
    s->values[s->n++] = value;
    return true;
}

void bench_samples_clear(struct bench_samples *s)
{
    free(s->values);
    *s = (struct bench_samples){0};
}

double bench_samples_percentile(const double *sorted, size_t n, unsigned percent)
{
    assert(n && percent && percent <= 100);
    /* n * percent could overflow only where no such array fits into memory. */
    return sorted[(n * percent + 99) / 100 - 1];
}

static int samples_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_summary bench_samples_summary(struct bench_samples *s)
{
    struct bench_summary r = {.n = s->n};
    if (!s->n)
        return r;
    qsort(s->values, s->n, sizeof *s->values, samples_compare);
    for (size_t i = 0; i < s->n; i++)
        r.mean += s->values[i] / (double)s->n;
    r.min = s->values[0];
    r.p50 = bench_samples_percentile(s->values, s->n, 50);
    r.p95 = bench_samples_percentile(s->values, s->n, 95);
    r.p99 = bench_samples_percentile(s->values, s->n, 99);
    r.max = s->values[s->n - 1];
    return r;
}
