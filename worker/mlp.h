/* mlp.h - the feed-forward of dense layers: Wdown · (silu(Wgate x) · (Wup x)). */
#ifndef PACELINE_WORKER_MLP_H
#define PACELINE_WORKER_MLP_H

#include "worker/weights.h"
#include "worker/workspace.h"

/* workspace.normed → workspace.normed. */
void mlp(struct workspace *w, const struct layer_weights *weights);

#endif
