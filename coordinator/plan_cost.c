#include "coordinator/plan_cost.h"

#include "kernels/matmul.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const int plan_cost_rows[PLAN_POINTS] = {1, 4, 16, 64, 512};

#define OPS_F32        16    /* int8 operations for one of attention, which is done in f32 */
#define MLP_ROWS       128   /* worker/workspace.h takes the feed-forward in such portions */
#define HEAD_ROWS      16    /* worker/head.c: rows of logits at once */
#define TABLE_OF_LAYER 1200  /* worker/weights.c: bytes of its tables for a layer */
#define SMALL_BYTES    16384 /* and of the stage itself */

static int64_t plan_round(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* ---- a model ---- */

/* Packed, as the worker has it; vectors become float32. */
static int64_t plan_tensor_bytes(const struct model_shape *s, enum model_tensor tensor, int layer,
                                 int64_t *ret_elements)
{
    int64_t dims[2];
    bool is_vector;
    int type = model_shape_type(s, tensor, layer);
    *ret_elements = 0;
    if (type < 0)
        return 0;
    model_tensor_shape(&s->config, tensor, dims, &is_vector);
    if (is_vector)
        return plan_round(dims[0] * (int64_t)sizeof(float));
    *ret_elements = dims[0] * dims[1];
    return plan_round((int64_t)matrix_bytes((enum tensor_type)type, (int)dims[1], (int)dims[0]));
}

static struct plan_kind plan_kind_of(const struct model_shape *s, int layer)
{
    struct plan_kind kind = {.bytes = 0};
    for (int i = 0; i < PLAN_MATRICES; i++) {
        int64_t elements;
        kind.types[i] = (unsigned char)model_shape_type(s, model_shape_matrices[i], layer);
        kind.bytes += plan_tensor_bytes(s, model_shape_matrices[i], layer, &elements);
        kind.elements += elements;
    }
    return kind;
}

static void plan_model_add_layers(struct plan_model *m, const struct model_shape *s)
{
    unsigned char types[PLAN_KINDS][PLAN_MATRICES];
    m->n_kinds = model_shape_kinds(s, PLAN_KINDS, types, m->kind);
    for (int layer = 0; layer < m->n_layers; layer++) {
        struct plan_kind own = plan_kind_of(s, layer), *kind = &m->kinds[m->kind[layer]];
        if (!kind->bytes)
            *kind = own;
        m->scale[layer] = (double)own.bytes / (double)kind->bytes;
        for (int tensor = MODEL_ATTENTION_NORM; tensor < MODEL_TENSOR_KINDS; tensor++) {
            int64_t elements;
            m->weight_bytes[layer] += plan_tensor_bytes(s, tensor, layer, &elements);
        }
    }
}

static void plan_model_add_head(struct plan_model *m, const struct model_shape *s)
{
    enum model_tensor head = s->config.tied_head ? MODEL_TOKEN_EMBEDDING : MODEL_OUTPUT;
    struct plan_kind *kind = &m->kinds[PLAN_HEAD];
    kind->types[0] = (unsigned char)model_shape_type(s, head, 0);
    kind->bytes = plan_tensor_bytes(s, head, 0, &kind->elements);
    m->head_bytes = kind->bytes + plan_round(s->config.hidden_size * (int64_t)sizeof(float));
}

/* As workspace_place() and head_place() take it, and what the sampler claims. */
static void plan_model_add_working(struct plan_model *m, const struct model_config *c,
                                   const struct batch_limits *l,
                                   const struct attention_shape *shape)
{
    const int64_t f = sizeof(float), rows = l->max_rows, vocabulary = c->vocabulary_size;
    int64_t mlp_rows = rows < MLP_ROWS ? rows : MLP_ROWS;
    int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    int64_t widest = c->intermediate_size > q ? c->intermediate_size : q;
    widest = widest > c->hidden_size ? widest : c->hidden_size;
    int64_t table = l->max_context / KV_BLOCK_TOKENS + 1;
    size_t for_two = attention_scratch_bytes(shape, (int)rows, (int)l->max_context, 2);
    size_t for_three = attention_scratch_bytes(shape, (int)rows, (int)l->max_context, 3);
    m->thread_bytes = (int64_t)(for_three - for_two);
    m->working_bytes = rows * (int64_t)sizeof(struct attention_row) + rows * c->rope_dim * f +
                       2 * rows * (c->hidden_size + q + kv) * f +
                       2 * mlp_rows * c->intermediate_size * f +
                       (int64_t)activations_memory((int)rows, (int)widest) +
                       (int64_t)l->max_sequences * (table + 1) * 4 + SMALL_BYTES +
                       (int64_t)for_two - 2 * m->thread_bytes;
    int64_t logit_rows = l->max_outputs < BATCH_LOGIT_ROWS ? l->max_outputs : BATCH_LOGIT_ROWS;
    int64_t row_values = vocabulary > c->hidden_size ? vocabulary : c->hidden_size;
    int64_t tile_rows = l->max_outputs < HEAD_ROWS ? l->max_outputs : HEAD_ROWS;
    int64_t counted = l->max_context < vocabulary ? l->max_context : vocabulary;
    int64_t slots = 16;
    while (slots < counted + counted / 2 + 1)
        slots *= 2;
    m->head_working_bytes =
        tile_rows * (c->hidden_size + vocabulary) * f + logit_rows * row_values * f +
        (int64_t)l->max_outputs * (int64_t)sizeof(struct batch_result) + vocabulary * 41 +
        (int64_t)l->max_sequences * (12 * counted + 4 * slots);
}

static void plan_model_fill(struct plan_model *m, const struct model_shape *shape,
                            const struct batch_limits *limits, enum kv_type kv_type)
{
    const struct model_config *c = &shape->config;
    struct attention_shape attention = {c->n_heads, c->n_kv_heads, c->head_dim, kv_type, 0.0f};
    int64_t block = (int64_t)kv_block_bytes(&attention);
    plan_model_add_layers(m, shape);
    for (int i = 0; i < m->n_layers; i++)
        m->kv_bytes[i] = block * limits->kv_blocks;
    plan_model_add_head(m, shape);
    plan_model_add_working(m, c, limits, &attention);
    m->position_bytes = (double)block / KV_BLOCK_TOKENS;
    m->position_ops = 4.0 * c->n_heads * c->head_dim;
}

int plan_model_of_shape(struct plan_model *ret_model, const struct model_shape *shape,
                        const struct batch_limits *limits, enum kv_type kv_type, struct err *err)
{
    size_t n = (size_t)shape->config.n_layers;
    *ret_model = (struct plan_model){.n_layers = (int)n,
                                     .hidden_size = shape->config.hidden_size,
                                     .kind = calloc(n, sizeof *ret_model->kind),
                                     .scale = calloc(n, sizeof *ret_model->scale),
                                     .weight_bytes = calloc(n, sizeof *ret_model->weight_bytes),
                                     .kv_bytes = calloc(n, sizeof *ret_model->kv_bytes)};
    if (!ret_model->kind || !ret_model->scale || !ret_model->weight_bytes || !ret_model->kv_bytes)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    plan_model_fill(ret_model, shape, limits, kv_type);
    return 0;
}

void plan_model_clear(struct plan_model *m)
{
    free(m->kind);
    free(m->scale);
    free(m->weight_bytes);
    free(m->kv_bytes);
    *m = (struct plan_model){0};
}

int64_t plan_model_memory(const struct plan_model *m, int threads, int first_layer, int end_layer)
{
    int64_t bytes = m->working_bytes + threads * m->thread_bytes;
    for (int i = first_layer; i < end_layer; i++)
        bytes += m->weight_bytes[i] + m->kv_bytes[i] + TABLE_OF_LAYER;
    if (end_layer == m->n_layers)
        bytes += m->head_bytes + m->head_working_bytes;
    return bytes;
}

/* ---- times ---- */

struct plan_speed plan_speed_of_figures(const struct plan_model *m, double read_bytes,
                                        double int8_ops)
{
    struct plan_speed s = {.attend_s = m->position_bytes / read_bytes,
                           .attend_many_s = m->position_ops * OPS_F32 / int8_ops};
    for (int kind = 0; kind <= PLAN_HEAD; kind++)
        for (int i = 0; i < PLAN_POINTS; i++)
            s.seconds[kind][i] =
                fmax((double)m->kinds[kind].bytes / read_bytes,
                     2.0 * plan_cost_rows[i] * (double)m->kinds[kind].elements / int8_ops);
    return s;
}

void plan_speed_scale(struct plan_speed *s, double factor)
{
    for (int kind = 0; kind <= PLAN_HEAD; kind++)
        for (int i = 0; i < PLAN_POINTS; i++)
            s->seconds[kind][i] *= factor;
    s->attend_s *= factor;
    s->attend_many_s *= factor;
}

/* On the line between the nearest points; beyond the last in proportion. */
static double plan_cost_at(const double *seconds, double rows)
{
    int i = 1;
    if (rows >= plan_cost_rows[PLAN_POINTS - 1])
        return seconds[PLAN_POINTS - 1] * rows / plan_cost_rows[PLAN_POINTS - 1];
    while (i < PLAN_POINTS - 1 && rows > plan_cost_rows[i])
        i++;
    double share = (rows - plan_cost_rows[i - 1]) / (plan_cost_rows[i] - plan_cost_rows[i - 1]);
    return seconds[i - 1] + fmax(share, 0) * (seconds[i] - seconds[i - 1]);
}

static double plan_cost_layers(const struct plan_model *m, const struct plan_speed *s, int first,
                               int end, double rows)
{
    double of_kind[PLAN_KINDS], sum = 0;
    for (int i = 0; i < m->n_kinds; i++)
        of_kind[i] = plan_cost_at(s->seconds[i], rows);
    for (int i = first; i < end; i++)
        sum += of_kind[m->kind[i]] * m->scale[i];
    return sum;
}

double plan_cost_decode(const struct plan_model *m, const struct plan_speed *s, int first, int end,
                        double rows, double context)
{
    double head = end == m->n_layers ? plan_cost_at(s->seconds[PLAN_HEAD], rows) : 0;
    return plan_cost_layers(m, s, first, end, rows) + head +
           (end - first) * rows * context * s->attend_s;
}

double plan_cost_prefill(const struct plan_model *m, const struct plan_speed *s, int first, int end,
                         double rows, double context)
{
    return plan_cost_layers(m, s, first, end, rows) +
           (end - first) * rows * context * s->attend_many_s;
}

double plan_cost_transfer(const struct plan_model *m, const struct plan_speed *s, double rows)
{
    double bytes = rows * m->hidden_size * (double)sizeof(float);
    return s->link_bytes_per_s > 0 ? bytes / s->link_bytes_per_s : 0;
}

double plan_cost_link(const struct plan_model *m, const struct plan_speed *s, double rows)
{
    return s->link_s + plan_cost_transfer(m, s, rows);
}
