#include "worker/head.h"

#include "kernels/norm.h"

#include <string.h>

/* Rows of logits that exist at once: enough to share one reading of the head's weights, which are
 * the largest matrix of most models. */
#define HEAD_ROWS 16

static uint32_t head_smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void head_place(struct head *h, const struct model_config *c, const struct batch_limits *limits,
                struct region *r)
{
    h->vocabulary = (size_t)c->vocabulary_size;
    size_t row = h->vocabulary * sizeof(float);
    size_t rows = head_smaller(limits->max_outputs, HEAD_ROWS);
    h->gathered = region_take(r, rows, (size_t)c->hidden_size * sizeof(float));
    h->tile = region_take(r, rows, row);
    h->logits = region_take(r, head_smaller(limits->max_outputs, BATCH_LOGIT_ROWS), row);
    h->results = region_take(r, limits->max_outputs, sizeof *h->results);
}

static void head_answer(struct head *h, const struct batch_output *o, const float *logits,
                        struct batch_result *result, size_t *n_logit_rows)
{
    memset(result, 0, sizeof *result);
    switch (o->kind) {
    case BATCH_SAMPLE:
        sampler_choose(h->sampler, o, logits, result);
        break;
    case BATCH_SCORE:
        sampler_score(h->sampler, o, logits, result);
        break;
    case BATCH_LOGITS:
        memcpy(h->logits + *n_logit_rows * h->vocabulary, logits, h->vocabulary * sizeof *logits);
        (*n_logit_rows)++;
        break;
    }
    result->row = o->row;
    result->sequence = o->sequence;
    result->kind = o->kind;
}

void head_forward(struct head *h, struct workspace *w, const struct weights *weights,
                  const struct batch *b, size_t *ret_n_logit_rows)
{
    size_t hidden = (size_t)w->model->hidden_size;
    size_t n_logit_rows = 0;
    for (uint32_t first = 0; first < b->n_outputs; first += HEAD_ROWS) {
        uint32_t n = head_smaller(b->n_outputs - first, HEAD_ROWS);
        const struct batch_output *outputs = b->outputs + first;
        for (uint32_t i = 0; i < n; i++)
            memcpy(h->gathered + i * hidden, w->x + outputs[i].row * hidden,
                   hidden * sizeof *h->gathered);
        rmsnorm(w->kernels, h->gathered, hidden, h->gathered, hidden, weights->output_norm, (int)n,
                (int)hidden, w->model->rms_eps);
        activations_load(w->activations, h->gathered, (int)n, (int)hidden);
        matmul(w->kernels, h->tile, h->vocabulary, &weights->head, w->activations);
        for (uint32_t i = 0; i < n; i++)
            head_answer(h, &outputs[i], h->tile + i * h->vocabulary, &h->results[first + i],
                        &n_logit_rows);
    }
    *ret_n_logit_rows = n_logit_rows;
}
