/* plan_cost.h - what layers cost in time and memory: what the planner weighs. Pure functions.
 *
 * Layers are of a few kinds (the types of their matrices); what a worker needs for a layer of each
 * kind, and for the head, is known at some numbers of rows, measured there or derived from what a
 * machine is said to do, and a line between them. Attention comes on top, by positions. */
#ifndef PACELINE_COORDINATOR_PLAN_COST_H
#define PACELINE_COORDINATOR_PLAN_COST_H

#include "base/err.h"
#include "kernels/attention.h"
#include "model/model_shape.h"
#include "proto/batch.h"

#include <stdint.h>

#define PLAN_POINTS   5 /* numbers of rows: plan_cost_rows[] */
#define PLAN_KINDS    6 /* of layers; a further one counts as the last, by its bytes */
#define PLAN_HEAD     PLAN_KINDS
#define PLAN_MATRICES MODEL_SHAPE_MATRICES

extern const int plan_cost_rows[PLAN_POINTS];

struct plan_kind {
    unsigned char types[PLAN_MATRICES]; /* enum tensor_type; of the head: the first alone */
    int64_t bytes, elements;            /* of the packed matrices; 0: no such kind */
};

struct plan_model {
    int n_layers, n_kinds, hidden_size;
    struct plan_kind kinds[PLAN_KINDS + 1];
    unsigned char *kind;   /* [n_layers] */
    double *scale;         /* [n_layers] its cost over its kind's; nearly always 1 */
    int64_t *weight_bytes; /* [n_layers] packed */
    int64_t *kv_bytes;     /* [n_layers] for all positions that are configured */
    int64_t head_bytes, head_working_bytes; /* with the last layer */
    int64_t working_bytes;                  /* of any stage ... */
    int64_t thread_bytes;                   /* ... and for each thread */
    double position_bytes;                  /* of keys and values, one layer */
    double position_ops;                    /* f32 operations of a row, one layer */
};

/* limits: what every worker is told with its layers. plan_model_clear() after success and failure
 * alike. */
int plan_model_of_shape(struct plan_model *ret_model, const struct model_shape *shape,
                        const struct batch_limits *limits, enum kv_type kv_type, struct err *err);
void plan_model_clear(struct plan_model *m);
/* Bytes that a worker claims for layers [first, end): as worker/stage.c lays them out. */
int64_t plan_model_memory(const struct plan_model *m, int threads, int first_layer, int end_layer);

/* What one worker needs for this model, in seconds. */
struct plan_speed {
    double seconds[PLAN_KINDS + 1][PLAN_POINTS]; /* a layer of the kind, or the head, for rows */
    double attend_s;                             /* a decoding row, for each position and layer */
    double attend_many_s;                        /* a prompt's row, for each position and layer */
    double link_s;           /* one way between it and the coordinator, handling a step included */
    double link_bytes_per_s; /* 0: without limit */
};

/* What handling a step takes at a stage beside computing: messages, tables, waking threads. */
#define PLAN_HANDLING_S 60e-6

/* A machine by its figures: bytes it reads and int8 operations its kernels do, a second. */
struct plan_speed plan_speed_of_figures(const struct plan_model *m, double read_bytes,
                                        double int8_ops);
/* All that it computes takes so many times as long. */
void plan_speed_scale(struct plan_speed *s, double factor);
/* Seconds of layers [first, end), with the head if the last one is among them. context: positions
 * that each row looks back upon. Head rows: of decode all, of a prompt none. */
double plan_cost_decode(const struct plan_model *m, const struct plan_speed *s, int first, int end,
                        double rows, double context);
double plan_cost_prefill(const struct plan_model *m, const struct plan_speed *s, int first, int end,
                         double rows, double context);
/* Seconds that activations of so many rows are on the way to or from a worker; and what they keep
 * its link busy for. */
double plan_cost_link(const struct plan_model *m, const struct plan_speed *s, double rows);
double plan_cost_transfer(const struct plan_model *m, const struct plan_speed *s, double rows);

#endif
