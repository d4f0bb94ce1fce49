#include "worker/workspace.h"

#include "kernels/rope.h"

int workspace_max_columns(const struct model_config *c)
{
    int q = c->n_heads * c->head_dim;
    int widest = c->hidden_size > q ? c->hidden_size : q;
    return widest > c->intermediate_size ? widest : c->intermediate_size;
}

void workspace_place(struct workspace *w, const struct model_config *c,
                     const struct attention_shape *shape, const struct batch_limits *limits,
                     int threads, struct region *r)
{
    size_t rows = limits->max_rows;
    size_t mlp_rows = rows < WORKSPACE_MLP_ROWS ? rows : WORKSPACE_MLP_ROWS;
    size_t hidden = (size_t)c->hidden_size * sizeof(float);
    size_t q = (size_t)c->n_heads * (size_t)c->head_dim * sizeof(float);
    size_t kv = (size_t)c->n_kv_heads * (size_t)c->head_dim * sizeof(float);
    size_t inner = (size_t)c->intermediate_size * sizeof(float);
    size_t half = (size_t)c->rope_dim / 2;
    w->rows = region_take(r, rows, sizeof *w->rows);
    w->cos = region_take(r, rows, half * sizeof(float));
    w->sin = region_take(r, rows, half * sizeof(float));
    w->x = region_take(r, rows, hidden);
    w->normed = region_take(r, rows, hidden);
    w->q = region_take(r, rows, q);
    w->k = region_take(r, rows, kv);
    w->v = region_take(r, rows, kv);
    w->mixed = region_take(r, rows, q);
    w->gate = region_take(r, mlp_rows, inner);
    w->up = region_take(r, mlp_rows, inner);
    w->attention = region_take(
        r, 1,
        attention_scratch_bytes(shape, (int)limits->max_rows, (int)limits->max_context, threads));
    w->inverse_frequencies = region_take(r, half, sizeof(double));
}

void workspace_prepare(struct workspace *w, const struct kernels *k, const struct model_config *c,
                       struct activations *a)
{
    w->kernels = k;
    w->model = c;
    w->activations = a;
    struct rope_spec rope = {
        .dim = c->rope_dim,
        .base = c->rope_base,
        .yarn_factor = c->yarn_factor,
        .original_context = c->yarn_original_context,
        .beta_fast = c->yarn_beta_fast > 0 ? c->yarn_beta_fast : 32,
        .beta_slow = c->yarn_beta_slow > 0 ? c->yarn_beta_slow : 1,
        .attention_factor = c->yarn_attention_factor,
    };
    rope_prepare(&rope, w->inverse_frequencies, &w->rope_magnitude);
}

void workspace_begin(struct workspace *w, const struct batch *b, const struct kv_store *kv)
{
    w->n_rows = (int)b->n_rows;
    int row = 0;
    for (uint32_t i = 0; i < b->n_sequences; i++) {
        const struct batch_sequence *s = &b->sequences[i];
        const uint32_t *blocks = kv_store_table(kv, s->sequence);
        for (uint32_t j = 0; j < s->count; j++, row++) {
            w->rows[row].blocks = blocks;
            w->rows[row].position = (int)(s->position + j);
        }
    }
    int dim = w->model->rope_dim;
    size_t half = (size_t)dim / 2;
#pragma omp parallel for if (w->n_rows > 16)
    for (int i = 0; i < w->n_rows; i++)
        rope_angles(w->inverse_frequencies, w->rope_magnitude, dim, w->rows[i].position,
                    w->cos + (size_t)i * half, w->sin + (size_t)i * half);
}
