#include "coordinator/histogram.h"

#include <assert.h>

void histogram_init(struct histogram *h, const double *bounds, int n)
{
    assert(n <= HISTOGRAM_BOUNDS);
    *h = (struct histogram){.bounds = bounds, .n = n};
}

void histogram_add(struct histogram *h, double value)
{
    int i = 0;
    while (i < h->n && value > h->bounds[i])
        i++;
    h->counts[i]++;
    h->sum += value;
}
