/* metrics_text.h - Prometheus' text form, version 0.0.4: families of samples. */
#ifndef PACELINE_COORDINATOR_METRICS_TEXT_H
#define PACELINE_COORDINATOR_METRICS_TEXT_H

#include "base/buf.h"
#include "coordinator/histogram.h"

#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics_label {
    const char *name, *value; /* the value may be any bytes; "": the label is left out */
};

struct metrics_text {
    struct buf *out;
    struct metrics_label every[2]; /* on all samples until they are changed; name NULL: none */
    const char *family;
};

/* What the samples that follow are called. type: "counter", "gauge", "histogram". */
void metrics_text_family(struct metrics_text *t, const char *name, const char *type,
                         const char *help);
/* labels: [n]. A value without a fraction is written with all its digits. */
void metrics_text_sample(struct metrics_text *t, const struct metrics_label *labels, int n,
                         double value);
/* Buckets, sum and count. */
void metrics_text_histogram(struct metrics_text *t, const struct metrics_label *labels, int n,
                            const struct histogram *h);
/* A family of one sample without labels of its own. */
void metrics_text_one(struct metrics_text *t, const char *name, const char *type, const char *help,
                      double value);

#endif
