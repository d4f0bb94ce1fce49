#include "worker/stage.h"

#include "worker/embed.h"
#include "worker/head.h"
#include "worker/kv_store.h"
#include "worker/layer.h"
#include "worker/region.h"
#include "worker/sampler.h"
#include "worker/weights.h"
#include "worker/workspace.h"

#include <limits.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define STAGE_MAX_HEAD_DIM 256 /* what attention() takes */

/* The stage's own bytes, by what they are for. */
struct stage_bytes {
    int64_t weights, kv, working, total;
};

struct stage {
    struct model_config model;
    struct batch_limits limits;
    int first_layer, end_layer;
    struct region region; /* KV blocks, then working memory; weights are in packs */
    struct stage_bytes bytes;
    struct weights weights;
    struct kv_store kv;
    struct workspace work;
    struct head head;
};

static int stage_threads(void)
{
    int threads = omp_get_max_threads();
    int processors = omp_get_num_procs();
    return threads > processors ? threads : processors;
}

bool stage_is_first(const struct stage *s)
{
    return s->first_layer == 0;
}

bool stage_is_last(const struct stage *s)
{
    return s->end_layer == s->model.n_layers;
}

bool stage_is_sound(const struct stage *s)
{
    return weights_are_sound(&s->weights);
}

int64_t stage_claimed_bytes(const struct stage *s)
{
    return s->bytes.total;
}

int64_t stage_own_bytes(const struct stage *s)
{
    return s->bytes.kv + s->bytes.working;
}

static int stage_check_spec(const struct stage_spec *spec, struct err *err)
{
    const struct model_config *c = spec->model;
    const struct batch_limits *l = &spec->limits;
    if (spec->first_layer < 0 || spec->first_layer >= spec->end_layer ||
        spec->end_layer > c->n_layers)
        return err_set(err, ERR_INPUT, "layers %d to %d are not a range of the model's %d",
                       spec->first_layer, spec->end_layer, c->n_layers);
    if (c->head_dim < 2 || c->head_dim > STAGE_MAX_HEAD_DIM || c->n_kv_heads < 1 ||
        c->n_heads % c->n_kv_heads != 0 || c->rope_dim > c->head_dim)
        return err_set(err, ERR_MODEL,
                       "attention of %d heads of %d on %d heads of keys is not supported",
                       c->n_heads, c->head_dim, c->n_kv_heads);
    if ((int)spec->kv_type < 0 || spec->kv_type >= KV_TYPES)
        return err_set(err, ERR_INPUT, "KV type %d is unknown", (int)spec->kv_type);
    if (spec->kv_type == KV_Q8_0 && c->head_dim % KV_Q8_0_GROUP != 0)
        return err_set(err, ERR_INPUT,
                       "keys and values of q8_0 come in groups of %d, and the model's heads have "
                       "%d elements",
                       KV_Q8_0_GROUP, c->head_dim);
    if (l->max_rows < 1 || l->max_sequences < 1 || l->max_outputs < 1 || l->max_context < 1 ||
        l->kv_blocks < 1)
        return err_set(err, ERR_INPUT,
                       "rows, sequences, outputs, context and KV blocks of a stage must be at "
                       "least 1");
    if (l->max_rows > INT_MAX / 4096 || l->max_context > INT_MAX / 2 ||
        l->max_sequences > INT_MAX / 2 || l->kv_blocks == UINT32_MAX)
        return err_set(err, ERR_INPUT,
                       "limits of the stage are beyond reason: %u rows, %u "
                       "sequences, context %u",
                       l->max_rows, l->max_sequences, l->max_context);
    if (l->vocabulary != (uint32_t)c->vocabulary_size)
        return err_set(err, ERR_INPUT, "a vocabulary of %u is announced, the model has %d",
                       l->vocabulary, c->vocabulary_size);
    return 0;
}

/* Gives every array its place; all are NULL as long as the region is only measured. */
static void stage_place(struct stage *s, struct stage_bytes *ret_bytes)
{
    struct region *r = &s->region;
    size_t weights = weights_bytes(&s->weights);
    kv_store_place(&s->kv, &s->limits, r);
    size_t kv_end = r->used;
    workspace_place(&s->work, &s->model, &s->kv.shape, &s->limits, stage_threads(), r);
    if (stage_is_last(s))
        head_place(&s->head, &s->model, &s->limits, r);
    size_t working = r->used - kv_end + sizeof *s + weights_table_bytes(&s->weights) +
                     activations_memory((int)s->limits.max_rows, workspace_max_columns(&s->model));
    if (stage_is_last(s))
        working += sampler_memory(s->model.vocabulary_size, s->limits.max_sequences,
                                  s->limits.max_context);
    if (weights > SIZE_MAX / 4)
        r->overflow = true;
    ret_bytes->weights = (int64_t)weights;
    ret_bytes->kv = (int64_t)kv_end;
    ret_bytes->working = (int64_t)working;
    ret_bytes->total = (int64_t)(weights + kv_end + working);
}

/* Everything but memory: binds the tensors and measures. */
static int stage_plan(struct stage *s, const struct stage_spec *spec, struct err *err)
{
    int rc = stage_check_spec(spec, err);
    if (rc != 0)
        return rc;
    s->model = *spec->model;
    s->limits = spec->limits;
    s->first_layer = spec->first_layer;
    s->end_layer = spec->end_layer;
    rc = weights_init(&s->weights, &s->model, spec->weights, spec->first_layer, spec->end_layer,
                      err);
    if (rc != 0)
        return rc;
    kv_store_init(&s->kv, &s->model, spec->kv_type, s->weights.n_layers, &s->limits);
    stage_place(s, &s->bytes);
    if (s->region.overflow)
        return err_set(err, ERR_MEMORY, "layers %d to %d with these limits exceed any memory",
                       s->first_layer, s->end_layer - 1);
    return 0;
}

static int64_t stage_mebibytes(int64_t bytes)
{
    return (bytes + (1 << 20) - 1) >> 20;
}

static int stage_check_offer(const struct stage *s, int64_t offered, struct err *err)
{
    const struct stage_bytes *b = &s->bytes;
    if (offered <= 0 || b->total <= offered)
        return 0;
    return err_set(err, ERR_MEMORY,
                   "layers %d to %d need %lld bytes of memory (weights %lld MiB, keys and values "
                   "%lld MiB, working memory %lld MiB), but %lld bytes are offered: offer at least "
                   "%lldMiB with --memory",
                   s->first_layer, s->end_layer - 1, (long long)b->total,
                   (long long)stage_mebibytes(b->weights), (long long)stage_mebibytes(b->kv),
                   (long long)stage_mebibytes(b->working), (long long)offered,
                   (long long)stage_mebibytes(b->total));
}

static struct weights_watch stage_watch(const struct stage_spec *spec)
{
    return (struct weights_watch){
        .digest_of = spec->digest_of,
        .progress = spec->progress,
        .context = spec->context,
        .cancelled = spec->cancelled,
    };
}

/* With what stays beside it, and shares with it what is equal. Nothing has been touched yet. */
static int stage_check_beside(const struct stage *s, const struct stage_spec *spec, struct err *err)
{
    if (!spec->packs || spec->memory_bytes <= 0 || spec->memory_beside == 0)
        return 0;
    int64_t total = packs_bytes(spec->packs) + s->bytes.kv + s->bytes.working + spec->memory_beside;
    if (total <= spec->memory_bytes)
        return 0;
    return err_set(err, ERR_MEMORY,
                   "layers %d to %d beside the stage that serves need %lld MiB, %lld MiB are "
                   "offered",
                   s->first_layer, s->end_layer - 1, (long long)stage_mebibytes(total),
                   (long long)stage_mebibytes(spec->memory_bytes));
}

static int stage_claim(struct stage *s, const struct stage_spec *spec, struct err *err)
{
    const struct weights_watch watch = stage_watch(spec);
    int rc = weights_claim(&s->weights, spec->packs, &watch, err);
    if (rc == 0 && spec->claimed)
        spec->claimed(spec->context);
    if (rc == 0 && spec->packs)
        packs_trim(spec->packs); /* what the last plan left and this one does not need */
    if (rc == 0)
        rc = stage_check_beside(s, spec, err);
    if (rc == 0)
        rc = region_claim(&s->region, err);
    if (rc != 0)
        return rc;
    stage_place(s, &s->bytes);
    struct activations *a =
        activations_new((int)s->limits.max_rows, workspace_max_columns(&s->model));
    if (!a)
        return err_set(err, ERR_MEMORY, "no memory for the activations of %u rows",
                       s->limits.max_rows);
    workspace_prepare(&s->work, spec->kernels, &s->model, a);
    if (stage_is_last(s))
        rc = sampler_new(&s->head.sampler, spec->kernels, s->model.vocabulary_size,
                         s->limits.max_sequences, s->limits.max_context, err);
    return rc;
}

static int stage_fill(struct stage *s, const struct stage_spec *spec, struct err *err)
{
    const struct weights_watch watch = stage_watch(spec);
    int rc = weights_load(&s->weights, spec->weights, &watch, err);
    if (rc == 0)
        region_populate(&s->region, 0);
    return rc;
}

int64_t stage_memory(const struct stage_spec *spec)
{
    struct stage s;
    memset(&s, 0, sizeof s);
    int rc = stage_plan(&s, spec, NULL);
    weights_clear(&s.weights);
    return rc == 0 ? s.bytes.total : rc;
}

int stage_new(struct stage **ret_stage, const struct stage_spec *spec, struct err *err)
{
    struct stage *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for a stage");
    int rc = stage_plan(s, spec, err);
    if (rc == 0)
        rc = stage_check_offer(s, spec->memory_bytes, err);
    if (rc == 0)
        rc = stage_claim(s, spec, err);
    if (rc == 0)
        rc = stage_fill(s, spec, err);
    if (rc == 0) {
        *ret_stage = s;
        s = NULL;
    }
    stage_free(s);
    return rc;
}

void stage_free(struct stage *s)
{
    if (!s)
        return;
    sampler_free(s->head.sampler);
    activations_free(s->work.activations);
    weights_clear(&s->weights);
    region_release(&s->region);
    free(s);
}

/* Hidden states at the entrance: the embedding's, or the neighbour's. */
static void stage_enter(struct stage *s, const struct batch *b, const float *in)
{
    if (stage_is_first(s))
        embed_tokens(s->weights.embedding, b->tokens, (int)b->n_rows, s->work.x);
    else
        memcpy(s->work.x, in, (size_t)b->n_rows * (size_t)s->model.hidden_size * sizeof *in);
}

int stage_forward(struct stage *s, const struct batch *b, const float *in,
                  struct stage_output *ret_output, struct err *err)
{
    if (stage_is_first(s) != (in == NULL))
        return err_set(err, ERR_INPUT,
                       stage_is_first(s) ? "the first stage takes tokens, not hidden states"
                                         : "the hidden states of %u rows are missing",
                       b->n_rows);
    int rc = kv_store_update(&s->kv, b, err);
    if (rc != 0)
        return rc;
    workspace_begin(&s->work, b, &s->kv);
    stage_enter(s, b, in);
    for (int i = 0; i < s->weights.n_layers; i++)
        layer_forward(&s->work, &s->weights.layers[i], &s->kv, i);

    memset(ret_output, 0, sizeof *ret_output);
    if (!stage_is_last(s)) {
        ret_output->hidden = s->work.x;
        return 0;
    }
    head_forward(&s->head, &s->work, &s->weights, b, &ret_output->n_values);
    ret_output->n_results = b->n_outputs;
    ret_output->results = s->head.results;
    ret_output->rows = s->head.rows;
    return 0;
}
