#include "worker/mlp.h"

#include "kernels/swiglu.h"

void mlp(struct workspace *w, const struct layer_weights *weights)
{
    int hidden = w->model->hidden_size;
    int inner = w->model->intermediate_size;
    for (int first = 0; first < w->n_rows; first += WORKSPACE_MLP_ROWS) {
        int n = w->n_rows - first < WORKSPACE_MLP_ROWS ? w->n_rows - first : WORKSPACE_MLP_ROWS;
        float *rows = w->normed + (size_t)first * (size_t)hidden;
        activations_load(w->activations, rows, n, hidden);
        matmul(w->kernels, w->gate, (size_t)inner, &weights->gate, w->activations);
        matmul(w->kernels, w->up, (size_t)inner, &weights->up, w->activations);
        swiglu(w->kernels, w->gate, w->gate, w->up, (size_t)n * (size_t)inner);
        activations_load(w->activations, w->gate, n, inner);
        matmul(w->kernels, rows, (size_t)hidden, &weights->down, w->activations);
    }
}
