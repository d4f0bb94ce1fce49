/* layer.h - one decoder layer: norm, mixer, residual, norm, feed-forward, residual.
 * What a later architecture brings (experts, recurrent mixers) is chosen here. */
#ifndef PACELINE_WORKER_LAYER_H
#define PACELINE_WORKER_LAYER_H

#include "worker/kv_store.h"
#include "worker/weights.h"
#include "worker/workspace.h"

/* workspace.x → workspace.x. `layer` counts from the stage's first. */
void layer_forward(struct workspace *w, const struct layer_weights *weights, struct kv_store *kv,
                   int layer);

#endif
