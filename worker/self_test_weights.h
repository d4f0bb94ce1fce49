/* self_test_weights.h - the made-up model of the self-test: the same bytes on every machine. */
#ifndef PACELINE_WORKER_SELF_TEST_WEIGHTS_H
#define PACELINE_WORKER_SELF_TEST_WEIGHTS_H

#include "model/model_config.h"
#include "worker/region.h"
#include "worker/weights.h"

enum { SELF_TEST_LAYERS = 4, SELF_TEST_LOGITS = 64 };

struct self_test_weights {
    struct model_config model;
    struct layer_weights layers[SELF_TEST_LAYERS];
    struct matrix head; /* [SELF_TEST_LOGITS, hidden] */
    struct region region;
};

/* Every type that is computed with has a matrix at least. self_test_weights_clear() after success
 * and failure alike. */
int self_test_weights_make(struct self_test_weights *w, struct err *err);
void self_test_weights_clear(struct self_test_weights *w);
/* Uniform in [-1, 1), of this place in this sequence: for inputs too. */
float self_test_uniform(uint32_t sequence, uint32_t place);

#endif
