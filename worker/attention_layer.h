/* attention_layer.h - the mixer of dense layers: grouped-query attention with rotary positions.
 * Another mixer (a recurrent one) stands beside it, with the same arguments. */
#ifndef PACELINE_WORKER_ATTENTION_LAYER_H
#define PACELINE_WORKER_ATTENTION_LAYER_H

#include "worker/kv_store.h"
#include "worker/weights.h"
#include "worker/workspace.h"

/* workspace.normed → workspace.normed. `layer` counts from the stage's first. */
void attention_layer(struct workspace *w, const struct layer_weights *weights, struct kv_store *kv,
                     int layer);

#endif
