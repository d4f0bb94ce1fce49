/* measure.h - how fast the actual kernels are here with layers of given shapes: seconds of a layer
 * of each kind, and of the head, at some numbers of rows; of attention, for each position; bytes
 * read a second. Weights are cold, as they are when a whole model passes through. At most about
 * three seconds; what there is no time for is in proportion to what was measured. */
#ifndef PACELINE_WORKER_MEASURE_H
#define PACELINE_WORKER_MEASURE_H

#include "base/err.h"
#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "model/model_shape.h"

#include <stdatomic.h>

#define MEASURE_KINDS  6
#define MEASURE_HEAD   MEASURE_KINDS
#define MEASURE_POINTS 5

extern const int measure_rows[MEASURE_POINTS]; /* 1, 4, 16, 64, 512 */

struct measure_spec {
    struct model_config config;
    int n_kinds;
    unsigned char types[MEASURE_KINDS][MODEL_SHAPE_MATRICES]; /* enum tensor_type */
    int head_type;
    enum kv_type kv_type;
    const struct kernels *kernels;
    int64_t memory_bytes;         /* what may be claimed for it; 0: no limit */
    const atomic_bool *cancelled; /* or NULL */
};

struct measure_result {
    double seconds[MEASURE_KINDS + 1][MEASURE_POINTS];
    double attend_s, attend_many_s; /* a row of decode, of a prompt: for each position and layer */
    double read_one, read_all;      /* bytes a second with one thread, with all */
    double int8_ops;                /* operations a second, in the widest step */
};

/* With OpenMP's threads as they are set. ERR_INPUT: shapes that cannot be; ERR_MEMORY: it takes
 * more than it may; ERR_CANCELLED. */
int measure_run(const struct measure_spec *spec, struct measure_result *ret_result,
                struct err *err);
/* One layer of the first kind at one row alone, in seconds: a fifth of a second of work. */
int measure_glance(const struct measure_spec *spec, double *ret_layer_s, struct err *err);
/* The same, remembered in `folder` (created if it is missing; NULL: not at all) by processor,
 * instruction set, threads, program and shapes; a short measurement says whether it still holds. */
int measure_remembered(const struct measure_spec *spec, const char *folder,
                       struct measure_result *ret_result, struct err *err);

#endif
