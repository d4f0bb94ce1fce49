#include "worker/attention_layer.h"

#include "kernels/norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

/* After the product of q, k or v: bias (Qwen2) or norm of each head (Qwen3). */
static void attention_layer_finish(struct workspace *w, float *y, int heads, const float *bias,
                                   const float *norm)
{
    int head_dim = w->model->head_dim;
    int width = heads * head_dim;
    if (bias)
        bias_add(w->kernels, y, (size_t)width, bias, w->n_rows, width);
    if (norm) /* the heads of all rows are one run of short rows */
        rmsnorm(w->kernels, y, (size_t)head_dim, y, (size_t)head_dim, norm, w->n_rows * heads,
                head_dim, w->model->rms_eps);
}

static void attention_layer_project(struct workspace *w, const struct layer_weights *weights)
{
    const struct model_config *c = w->model;
    const struct matmul_part parts[] = {
        {&weights->q, w->q, (size_t)weights->q.rows},
        {&weights->k, w->k, (size_t)weights->k.rows},
        {&weights->v, w->v, (size_t)weights->v.rows},
    };
    activations_load(w->activations, w->normed, w->n_rows, c->hidden_size);
    matmul_parts(w->kernels, parts, 3, w->activations);
    attention_layer_finish(w, w->q, c->n_heads, weights->q_bias, weights->q_norm);
    attention_layer_finish(w, w->k, c->n_kv_heads, weights->k_bias, weights->k_norm);
    attention_layer_finish(w, w->v, c->n_kv_heads, weights->v_bias, NULL);
}

static void attention_layer_rotate(struct workspace *w)
{
    const struct model_config *c = w->model;
    size_t half = (size_t)c->rope_dim / 2;
    size_t q_width = (size_t)c->n_heads * (size_t)c->head_dim;
    size_t k_width = (size_t)c->n_kv_heads * (size_t)c->head_dim;
#pragma omp parallel for if (w->n_rows > 16)
    for (int i = 0; i < w->n_rows; i++) {
        const float *cos = w->cos + (size_t)i * half;
        const float *sin = w->sin + (size_t)i * half;
        rope_rotate(w->kernels, w->q + (size_t)i * q_width, c->n_heads, c->head_dim, c->rope_dim,
                    cos, sin);
        rope_rotate(w->kernels, w->k + (size_t)i * k_width, c->n_kv_heads, c->head_dim, c->rope_dim,
                    cos, sin);
    }
}

void attention_layer(struct workspace *w, const struct layer_weights *weights, struct kv_store *kv,
                     int layer)
{
    const struct model_config *c = w->model;
    size_t q_width = (size_t)c->n_heads * (size_t)c->head_dim;
    size_t kv_width = (size_t)c->n_kv_heads * (size_t)c->head_dim;
    void *blocks = kv_store_layer(kv, layer);

    attention_layer_project(w, weights);
    attention_layer_rotate(w);

    /* All rows are written before any is read: a row sees itself and the earlier ones of its
     * sequence, whether they came in this step or in another. */
    kv_write(w->kernels, &kv->shape, blocks, kv->block_stride, w->rows, w->n_rows, w->k, kv_width,
             w->v, kv_width);
    attention(w->kernels, &kv->shape, w->mixed, q_width, w->q, q_width, blocks, kv->block_stride,
              w->rows, w->n_rows, w->attention);

    activations_load(w->activations, w->mixed, w->n_rows, (int)q_width);
    matmul(w->kernels, w->normed, (size_t)c->hidden_size, &weights->attention_output,
           w->activations);
}
