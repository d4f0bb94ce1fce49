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
    h->hidden = (size_t)c->hidden_size;
    size_t row = h->vocabulary * sizeof(float), state = h->hidden * sizeof(float);
    size_t rows = head_smaller(limits->max_outputs, HEAD_ROWS);
    h->gathered = region_take(r, rows, state);
    h->tile = region_take(r, rows, row);
    h->rows = region_take(r, head_smaller(limits->max_outputs, BATCH_LOGIT_ROWS),
                          row > state ? row : state);
    h->results = region_take(r, limits->max_outputs, sizeof *h->results);
}

static void head_keep_row(struct head *h, const float *values, size_t n)
{
    memcpy(h->rows + h->n_values, values, n * sizeof *values);
    h->n_values += n;
}

/* logits: nothing for BATCH_EMBED, which wants the state itself. */
static void head_answer(struct head *h, const struct batch_output *o, const float *state,
                        const float *logits, struct batch_result *result)
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
        head_keep_row(h, logits, h->vocabulary);
        break;
    case BATCH_EMBED:
        head_keep_row(h, state, h->hidden);
        break;
    }
    result->row = o->row;
    result->sequence = o->sequence;
    result->kind = o->kind;
}

/* The outputs' rows after the final norm: those that want logits, of which there are so many as it
 * returns, come first. ret_place[i]: where output i's is. */
static uint32_t head_gather(struct head *h, struct workspace *w, const struct weights *weights,
                            const struct batch_output *outputs, uint32_t n,
                            uint32_t ret_place[HEAD_ROWS])
{
    uint32_t n_logits = 0, last = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = outputs[i].kind == BATCH_EMBED ? --last : n_logits++;
        memcpy(h->gathered + at * h->hidden, w->x + outputs[i].row * h->hidden,
               h->hidden * sizeof *h->gathered);
        ret_place[i] = at;
    }
    rmsnorm(w->kernels, h->gathered, h->hidden, h->gathered, h->hidden, weights->output_norm,
            (int)n, (int)h->hidden, w->model->rms_eps);
    return n_logits;
}

void head_forward(struct head *h, struct workspace *w, const struct weights *weights,
                  const struct batch *b, size_t *ret_n_values)
{
    uint32_t place[HEAD_ROWS];
    h->n_values = 0;
    for (uint32_t first = 0; first < b->n_outputs; first += HEAD_ROWS) {
        uint32_t n = head_smaller(b->n_outputs - first, HEAD_ROWS);
        const struct batch_output *outputs = b->outputs + first;
        uint32_t n_logits = head_gather(h, w, weights, outputs, n, place);
        if (n_logits) {
            activations_load(w->activations, h->gathered, (int)n_logits, (int)h->hidden);
            matmul(w->kernels, h->tile, h->vocabulary, &weights->head, w->activations);
        }
        for (uint32_t i = 0; i < n; i++)
            head_answer(h, &outputs[i], h->gathered + place[i] * h->hidden,
                        h->tile + place[i] * h->vocabulary, &h->results[first + i]);
    }
    *ret_n_values = h->n_values;
}
