/* planner.h - layers → workers. A pure function of costs and capacities. */
#ifndef PACELINE_COORDINATOR_PLANNER_H
#define PACELINE_COORDINATOR_PLANNER_H

#include "base/err.h"
#include "kernels/attention.h"
#include "model/layer_cost.h"
#include "model/model_config.h"
#include "model/weight_file.h"

#include <stdint.h>

#define PLANNER_MAX_STAGES 256

struct planner_model {
    int n_layers;
    const int64_t *layer_bytes;    /* [n_layers] weights */
    const int64_t *layer_work;     /* [n_layers] what a token costs, layer_cost_work() */
    const int64_t *kv_token_bytes; /* [n_layers] */
    int64_t head_bytes;            /* with the last layer */
    int64_t head_work;
    int64_t kv_tokens;          /* over all sequences together */
    int64_t scratch_bytes;      /* of any stage, activations and the like */
    int64_t head_scratch_bytes; /* of the last stage, more */
};

struct planner_worker {
    double speed;         /* relative: threads */
    int64_t memory_bytes; /* offered */
};

struct planner_stage {
    int worker; /* index */
    int first_layer, end_layer;
    int64_t memory_bytes; /* needed */
};

/* Bytes a worker needs for layers [first, end). */
int64_t planner_stage_memory(const struct planner_model *m, int first_layer, int end_layer);
/* Cuts the layers over all the workers, in their order, so that the slowest stage is as fast as
 * possible and every stage fits; workers beyond the number of layers are left out, as are those
 * without which the slowest stage is no slower. Exact: dynamic programming over the cuts.
 * ERR_MEMORY says how much is missing. stages: room for n_workers. */
int planner_plan(const struct planner_model *m, const struct planner_worker *workers, int n_workers,
                 struct planner_stage *ret_stages, int *ret_n_stages, struct err *err);
/* The same for given cuts: first layers of stages 2, 3 …; worker i takes stage i. */
int planner_plan_cuts(const struct planner_model *m, const struct planner_worker *workers,
                      int n_workers, const int *cuts, int n_cuts, struct planner_stage *ret_stages,
                      int *ret_n_stages, struct err *err);
/* "3,5" → {3, 5}: ascending, within the model (checked when planning). */
int planner_parse_cuts(const char *text, int *ret_cuts, int max_cuts, int *ret_n_cuts,
                       struct err *err);

#endif
