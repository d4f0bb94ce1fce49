#include "worker/layer.h"

#include "kernels/norm.h"
#include "kernels/swiglu.h"
#include "worker/attention_layer.h"
#include "worker/mlp.h"

static void layer_norm(struct workspace *w, const float *weight)
{
    size_t hidden = (size_t)w->model->hidden_size;
    rmsnorm(w->kernels, w->normed, hidden, w->x, hidden, weight, w->n_rows, (int)hidden,
            w->model->rms_eps);
}

static void layer_add(struct workspace *w)
{
    residual_add(w->kernels, w->x, w->normed, (size_t)w->n_rows * (size_t)w->model->hidden_size);
}

void layer_forward(struct workspace *w, const struct layer_weights *weights, struct kv_store *kv,
                   int layer)
{
    layer_norm(w, weights->attention_norm);
    attention_layer(w, weights, kv, layer);
    layer_add(w);
    layer_norm(w, weights->ffn_norm);
    mlp(w, weights);
    layer_add(w);
}
