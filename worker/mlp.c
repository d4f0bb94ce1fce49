#include "worker/mlp.h"

void mlp(struct workspace *w, const struct layer_weights *weights)
{
    int hidden = w->model->hidden_size;
    int inner = w->model->intermediate_size;
    for (int first = 0; first < w->n_rows; first += WORKSPACE_MLP_ROWS) {
        int n = w->n_rows - first < WORKSPACE_MLP_ROWS ? w->n_rows - first : WORKSPACE_MLP_ROWS;
        float *rows = w->normed + (size_t)first * (size_t)hidden;
        activations_load(w->activations, rows, n, hidden);
        matmul_swiglu(w->kernels, w->gate, w->up, (size_t)inner, &weights->gate, &weights->up,
                      w->activations);
        activations_load(w->activations, w->gate, n, inner);
        matmul(w->kernels, rows, (size_t)hidden, &weights->down, w->activations);
    }
}
