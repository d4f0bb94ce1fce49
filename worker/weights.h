/* weights.h - the tensors of a run of layers as the kernels want them: matrices packed, norms and
 * biases as float32. The embedding stays in the file, of which a step reads only some rows. */
#ifndef PACELINE_WORKER_WEIGHTS_H
#define PACELINE_WORKER_WEIGHTS_H

#include "base/err.h"
#include "kernels/matmul.h"
#include "model/model_config.h"
#include "model/weight_file.h"
#include "worker/packs.h"
#include "worker/region.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct layer_weights {
    const float *attention_norm; /* [hidden] */
    struct matrix q, k, v;
    const float *q_bias, *k_bias, *v_bias; /* NULL where the architecture has none */
    const float *q_norm, *k_norm;          /* [head_dim], or NULL */
    struct matrix attention_output;
    const float *ffn_norm; /* [hidden] */
    struct matrix gate, up, down;
};

struct weight_slot;

struct weights {
    int first_layer, n_layers;
    struct layer_weights *layers;
    const struct tensor *embedding; /* first stage; borrowed from the file */
    const float *output_norm;       /* last stage, [hidden] */
    struct matrix head;             /* last stage */
    int64_t file_bytes;             /* of all these tensors in the file */
    size_t n_slots;
    struct weight_slot *slots; /* which tensor goes where */
    struct packs *packs;       /* borrowed; or NULL */
    struct pack **held;        /* [n_layers + 1]: of each layer, and of the model's ends */
    struct pack *watched;      /* the embedding, which stays in the file; or NULL */
};

struct weights_watch {
    const unsigned char *(*digest_of)(void *context, const char *tensor_name);
    void (*progress)(void *context, int64_t bytes_done, int64_t bytes_total);
    void *context;
    const atomic_bool *cancelled;
};

/* Finds every tensor of layers [first, end) and of the ends of the model that come with them, and
 * checks type and shape. weights_clear() after success and failure alike. */
int weights_init(struct weights *w, const struct model_config *c, const struct weight_file *f,
                 int first_layer, int end_layer, struct err *err);
void weights_clear(struct weights *w);
/* Bytes that weights_init() allocated. */
size_t weights_table_bytes(const struct weights *w);
/* Bytes of all that is packed; SIZE_MAX: beyond any memory. */
size_t weights_bytes(const struct weights *w);
/* Takes memory for all that is packed: from `packs` (borrowed, or NULL) where its content is there
 * already. */
int weights_claim(struct weights *w, struct packs *packs, const struct weights_watch *watch,
                  struct err *err);
/* Has each tensor provided, verifies its digest where one is known, packs it to its place and lets
 * its file pages go, with OpenMP threads; progress() is called from the caller's alone. What is
 * filled already is left as it is. ERR_MODEL: other content than the digest's; ERR_CANCELLED. */
int weights_load(struct weights *w, const struct weight_file *f, const struct weights_watch *watch,
                 struct err *err);
/* false: a pack was spoilt since. Any thread. */
bool weights_are_sound(const struct weights *w);

#endif
